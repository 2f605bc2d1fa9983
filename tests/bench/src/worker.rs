//! What runs inside a pod: a process of its own, since a cgroup holds processes.
//!
//! Each worker first enters its cgroup and network namespace, then works for a bounded
//! time or count and prints one number. Traffic stays in the fixture's namespaces.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A worker's place and work.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The cgroup to enter (none: stay outside, ungoverned).
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// The network namespace to enter.
    #[arg(long)]
    netns: String,
    #[command(subcommand)]
    work: Work,
}

/// What a worker does.
#[derive(clap::Subcommand, Debug)]
enum Work {
    /// connect() to VIPs of `services` services at random, `count` times; nothing listens and no
    /// route leads anywhere, so that a call is hardly more than the hook. Prints ns per call.
    Dial {
        /// How many services there are.
        #[arg(long)]
        services: u32,
        /// How many calls.
        #[arg(long)]
        count: u32,
    },
    /// Accepts for `seconds`, reads what comes. Prints bytes.
    Sink {
        /// Where to listen.
        #[arg(long)]
        at: SocketAddrV4,
        /// How long.
        #[arg(long)]
        seconds: f64,
    },
    /// Accepts for `seconds` and hangs up at once. Prints connections.
    Accept {
        /// Where to listen.
        #[arg(long)]
        at: SocketAddrV4,
        /// How long.
        #[arg(long)]
        seconds: f64,
    },
    /// Sends to one connection for `seconds`. Prints MB/s.
    Stream {
        /// Where to connect to.
        #[arg(long)]
        to: SocketAddrV4,
        /// How long.
        #[arg(long)]
        seconds: f64,
        /// Bytes of each write.
        #[arg(long, default_value_t = 65_536)]
        size: u32,
    },
    /// Dials for `seconds`, on several threads; waits each time until the server hangs up, or for a
    /// refusal if that is what must come. Prints connections per second.
    Knock(Knock),
    /// Opens and resets connections, one after the other. Prints the median connect() in µs.
    Rate {
        /// Where to connect to.
        #[arg(long)]
        to: SocketAddrV4,
        /// How many.
        #[arg(long)]
        count: u32,
    },
}

/// How to knock.
#[derive(clap::Args, Debug)]
struct Knock {
    /// Where to connect to.
    #[arg(long)]
    to: SocketAddrV4,
    /// How long.
    #[arg(long)]
    seconds: f64,
    /// On how many threads.
    #[arg(long)]
    threads: u32,
    /// Connections a second at most, of all threads.
    #[arg(long)]
    rate: Option<u32>,
    /// Every connection must be refused; without this, none may be.
    #[arg(long)]
    refused: bool,
}

/// The VIP of the `i`-th service of a generated mesh.
#[must_use]
pub fn vip(i: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a40_0000 + i)
}

/// Does a worker's work.
pub fn main(args: &Args) -> anyhow::Result<()> {
    if let Some(cgroup) = &args.cgroup {
        let procs = cgroup.join("cgroup.procs");
        fs::write(&procs, std::process::id().to_string())
            .with_context(|| format!("enter {}", cgroup.display()))?;
    }
    enter(&args.netns)?;
    let figure = match &args.work {
        Work::Dial { services, count } => dial(*services, *count)?,
        Work::Sink { at, seconds } => sink(*at, *seconds)?,
        Work::Accept { at, seconds } => accept(*at, *seconds)?,
        Work::Stream { to, seconds, size } => stream(*to, *seconds, *size)?,
        Work::Knock(how) => knock(how)?,
        Work::Rate { to, count } => rate(*to, *count)?,
    };
    println!("{figure}");
    Ok(())
}

/// Takes the calling thread into a network namespace.
pub fn enter(netns: &str) -> anyhow::Result<()> {
    let netns = PathBuf::from("/run/netns").join(netns);
    let file = File::open(&netns).with_context(|| format!("open {}", netns.display()))?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("enter {}", netns.display()))
}

fn dial(services: u32, count: u32) -> anyhow::Result<f64> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
    let mut state = 0x9e37_79b9_u32;
    let start = Instant::now();
    for _ in 0..count {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let to = SocketAddrV4::new(vip(state % services), 80);
        match connect(&socket, &to) {
            Err(Errno::NETUNREACH | Errno::HOSTUNREACH) => {}
            other => bail!("connect to {to}: expected no route, got {other:?}"),
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / f64::from(count))
}

fn sink(at: SocketAddrV4, seconds: f64) -> anyhow::Result<f64> {
    let listener = TcpListener::bind(at).with_context(|| format!("listen on {at}"))?;
    listener.set_nonblocking(true)?;
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        while Instant::now() < end {
            match listener.accept() {
                Ok((connection, _)) => {
                    connection.set_nonblocking(false)?;
                    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
                    readers.push(scope.spawn(move || drain(connection)));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err(error) => return Err(error.into()),
            }
            if readers.len() > 64 {
                readers.retain(|reader| !reader.is_finished());
            }
        }
        Ok(readers.into_iter().filter_map(|reader| reader.join().ok()).sum())
    })
}

fn accept(at: SocketAddrV4, seconds: f64) -> anyhow::Result<f64> {
    let listener = TcpListener::bind(at).with_context(|| format!("listen on {at}"))?;
    // accept() waits this long, so that the end is seen.
    set_socket_timeout(&listener, Timeout::Recv, Some(Duration::from_millis(100)))?;
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut connections = 0.0;
    while Instant::now() < end {
        match listener.accept() {
            Ok(_) => connections += 1.0,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(connections)
}

#[expect(clippy::cast_precision_loss, reason = "a benchmark moves far fewer than 2^52 bytes")]
fn drain(mut connection: TcpStream) -> f64 {
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0_usize;
    while let Ok(n) = connection.read(&mut buffer) {
        if n == 0 {
            break;
        }
        total += n;
    }
    total as f64
}

fn stream(to: SocketAddrV4, seconds: f64, size: u32) -> anyhow::Result<f64> {
    let mut connection = patient(to)?;
    connection.set_nodelay(true)?;
    let buffer = vec![7; size as usize];
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let mut total = 0.0;
    while Instant::now() < end {
        connection.write_all(&buffer).context("send")?;
        total += f64::from(size);
    }
    Ok(total / 1e6 / start.elapsed().as_secs_f64())
}

fn knock(how: &Knock) -> anyhow::Result<f64> {
    let start = Instant::now();
    let each = how.rate.map(|rate| f64::from(rate) / f64::from(how.threads));
    let one = || -> anyhow::Result<f64> {
        let mut done = 0.0;
        while start.elapsed().as_secs_f64() < how.seconds {
            if each.is_some_and(|rate| done >= rate * start.elapsed().as_secs_f64()) {
                std::thread::sleep(Duration::from_micros(200));
                continue;
            }
            knock_once(how.to, how.refused)?;
            done += 1.0;
        }
        Ok(done)
    };
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..how.threads).map(|_| scope.spawn(one)).collect();
        let mut all = 0.0;
        for thread in threads {
            all += thread.join().unwrap_or_else(|_| bail!("a thread panicked"))?;
        }
        anyhow::Ok(all)
    })?;
    Ok(all / start.elapsed().as_secs_f64())
}

fn knock_once(to: SocketAddrV4, refused: bool) -> anyhow::Result<()> {
    match TcpStream::connect(to) {
        Err(error) if refused && error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(mut connection) if !refused => {
            anyhow::ensure!(connection.read(&mut [0])? == 0, "{to} said something");
            set_socket_linger(&connection, Some(Duration::ZERO))?;
            Ok(())
        }
        other => bail!("connect to {to}: {other:?}, refused was to be {refused}"),
    }
}

fn rate(to: SocketAddrV4, count: u32) -> anyhow::Result<f64> {
    drop(patient(to)?);
    let mut times = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let start = Instant::now();
        let connection = TcpStream::connect(to).with_context(|| format!("connect to {to}"))?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
        set_socket_linger(&connection, Some(Duration::ZERO))?;
    }
    Ok(crate::report::median(times))
}

/// Connects; waits a little for the server to be there.
fn patient(to: SocketAddrV4) -> anyhow::Result<TcpStream> {
    for _ in 0..200 {
        if let Ok(connection) = TcpStream::connect(to) {
            return Ok(connection);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("nothing answers at {to}")
}
