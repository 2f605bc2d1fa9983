//! What client and server say: the server speaks first, its name and a newline; then it echoes
//! every byte. A client that is done resets the connection, so that no port waits.
//!
//! It refuses names longer than [`NAME_MAX`].

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest name that a client takes, in bytes.
pub(crate) const NAME_MAX: usize = 64;

/// How long a client waits for any answer. Three SYNs fit in it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

/// A connection that was answered.
pub(crate) struct Answered {
    /// The connection, ready to echo.
    pub(crate) stream: TcpStream,
    /// Who answered.
    pub(crate) name: String,
    /// When `connect()` had returned: its destination was chosen before.
    pub(crate) connected: Instant,
}

/// Connects and reads the name.
pub(crate) async fn ask(target: SocketAddr) -> io::Result<Answered> {
    patiently("no answer to the connect", async {
        let mut stream = TcpStream::connect(target).await?;
        let connected = Instant::now();
        stream.set_nodelay(true)?;
        let name = read_name(&mut stream).await?;
        Ok(Answered { stream, name, connected })
    })
    .await
}

async fn read_name(stream: &mut TcpStream) -> io::Result<String> {
    let mut name = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return String::from_utf8(name).map_err(io::Error::other),
            _ if name.len() == NAME_MAX => return Err(io::Error::other("the name is too long")),
            byte => name.push(byte),
        }
    }
}

/// Sends a number and waits until it comes back.
pub(crate) async fn echo(stream: &mut TcpStream, number: u64) -> io::Result<()> {
    patiently("no echo", async {
        stream.write_all(&number.to_be_bytes()).await?;
        let back = stream.read_u64().await?;
        if back == number {
            return Ok(());
        }
        Err(io::Error::other(format!("echo of {number} came back as {back}")))
    })
    .await
}

/// Ends a connection without a `TIME_WAIT`.
pub(crate) fn hang_up(stream: TcpStream) {
    // A failure leaves a port waiting for a minute: nothing a probe's result depends on.
    let _ = stream.set_zero_linger();
    drop(stream);
}

async fn patiently<T>(
    what: &'static str,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match timeout(PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, what)),
    }
}
