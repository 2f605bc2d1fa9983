//! `serve`: any number of endpoints in one process. Each answers its name, then echoes until the
//! client goes. A waypoint endpoint first takes the metadata off what it is sent.
//!
//! It refuses to live for ever: it ends at its time limit, and takes no connection above its
//! limit of live ones until another ends. A waypoint hangs up on bytes that are no metadata.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::wire::NAME_MAX;

/// What `serve` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// An endpoint: ADDRESS:PORT=NAME; may be given many times
    #[arg(long, required_unless_present = "waypoint", value_parser = parse_listen)]
    listen: Vec<(SocketAddr, String)>,
    /// A waypoint, which expects Kmesh's TLV first: ADDRESS:PORT=NAME; may be given many times
    #[arg(long, value_parser = parse_listen)]
    waypoint: Vec<(SocketAddr, String)>,
    /// A file to make once every endpoint listens
    #[arg(long)]
    ready: Option<PathBuf>,
    /// Live connections at most, of all endpoints together
    #[arg(long, default_value_t = 10_000)]
    max_connections: usize,
    /// End after so many seconds
    #[arg(long, default_value_t = 1800)]
    max_seconds: u64,
}

fn parse_listen(text: &str) -> anyhow::Result<(SocketAddr, String)> {
    let (address, name) =
        text.split_once('=').ok_or_else(|| anyhow!("{text}: ADDRESS:PORT=NAME is expected"))?;
    if name.is_empty() || name.len() > NAME_MAX || name.contains('\n') {
        return Err(anyhow!("{text}: a name has 1 to {NAME_MAX} bytes and no newline"));
    }
    Ok((address.parse().with_context(|| format!("address {address}"))?, name.to_owned()))
}

/// Serves until the time limit.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let room = Arc::new(Semaphore::new(options.max_connections));
    let endpoints = options.listen.into_iter().map(|endpoint| (endpoint, false));
    let waypoints = options.waypoint.into_iter().map(|endpoint| (endpoint, true));
    for ((address, name), metadata) in endpoints.chain(waypoints) {
        let listener = listen(address).with_context(|| format!("listen at {address}"))?;
        let greeting = Arc::from(format!("{name}\n"));
        tokio::spawn(accept(listener, Endpoint { greeting, metadata }, Arc::clone(&room)));
    }
    if let Some(path) = options.ready {
        std::fs::write(&path, "").with_context(|| format!("write {}", path.display()))?;
    }
    tokio::time::sleep(Duration::from_secs(options.max_seconds)).await;
    Ok(())
}

/// A v6 wildcard takes v6 only: the v4 one is an endpoint of its own.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        set_v6_only(&socket)?;
    }
    socket.bind(address)?;
    socket.listen(1024)
}

fn set_v6_only(socket: &TcpSocket) -> std::io::Result<()> {
    rustix::net::sockopt::set_ipv6_v6only(socket, true).map_err(Into::into)
}

#[derive(Clone)]
struct Endpoint {
    greeting: Arc<str>,
    metadata: bool,
}

async fn accept(listener: TcpListener, endpoint: Endpoint, room: Arc<Semaphore>) {
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let endpoint = endpoint.clone();
                tokio::spawn(async move {
                    // A client that resets is how every probe ends.
                    let _ = converse(stream, &endpoint).await;
                    drop(permit);
                });
            }
            // Out of descriptors, or a connection that was reset in the queue.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn converse(mut stream: TcpStream, endpoint: &Endpoint) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(endpoint.greeting.as_bytes()).await?;
    if endpoint.metadata {
        take_metadata(&mut stream).await?;
    }
    let mut bytes = vec![0; 4096];
    loop {
        let read = stream.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..read]).await?;
    }
}

/// Type 01, length 6 or 18, address and port, end mark FE with length 0.
async fn take_metadata(stream: &mut TcpStream) -> std::io::Result<()> {
    let wrong = || std::io::Error::other("no metadata");
    if stream.read_u8().await? != 1 {
        return Err(wrong());
    }
    let length = stream.read_u32().await?;
    if length != 6 && length != 18 {
        return Err(wrong());
    }
    for _ in 0..length {
        stream.read_u8().await?;
    }
    if stream.read_u8().await? != 0xfe || stream.read_u32().await? != 0 {
        return Err(wrong());
    }
    Ok(())
}
