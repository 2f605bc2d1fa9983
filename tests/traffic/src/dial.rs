//! The client: one connection, opened as asked.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::send;
use crate::{Dial, Way};

const PATIENCE: Duration = Duration::from_secs(10);
/// `MSG_FASTOPEN` of <linux/socket.h>.
const MSG_FASTOPEN: i32 = 0x2000_0000;

/// One line: what the server answered, or the name of the error.
pub fn run(dial: &Dial) -> String {
    match attempt(dial) {
        Ok(answer) => answer,
        Err((step, error)) => format!("{step}: {error}"),
    }
}

type Step<T> = Result<T, (&'static str, io::Error)>;

fn attempt(dial: &Dial) -> Step<String> {
    let socket = open(dial).map_err(|error| ("socket", error))?;
    if let Some(first) = dial.first {
        // whether it stands or failed: the next connect() shall know nothing of it
        let _ = socket.connect(&first.into());
        rustix::net::connect_unspec(&socket).map_err(|error| ("disconnect", error.into()))?;
    }
    connect(dial, &socket).map_err(|error| ("connect", error))?;
    let peer = peer_of(&socket);
    exchange(dial, &socket).map(|answer| format!("{answer} peer {peer}"))
}

fn open(dial: &Dial) -> io::Result<Socket> {
    let (kind, protocol) = match dial.way {
        Way::Udp => (Type::DGRAM, Protocol::UDP),
        Way::Mptcp => (Type::STREAM, Protocol::MPTCP),
        _ => (Type::STREAM, Protocol::TCP),
    };
    let socket = Socket::new(Domain::for_address(dial.to), kind, Some(protocol))?;
    if dial.v6only {
        socket.set_only_v6(true)?;
    }
    if let Some(address) = dial.bind {
        socket.bind(&address.into())?;
    }
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn connect(dial: &Dial, socket: &Socket) -> io::Result<()> {
    let to = dial.to.into();
    match dial.way {
        Way::FastopenMsg => socket.send_to_with_flags(b"hello", &to, MSG_FASTOPEN).map(drop),
        Way::FastopenConnect => {
            set_fastopen_connect(socket)?;
            socket.connect(&to)
        }
        Way::Early => {
            socket.set_nonblocking(true)?;
            match socket.connect(&to) {
                Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
                other => return other,
            }
            socket.set_nonblocking(false)
        }
        _ => socket.connect(&to),
    }
}

/// No safe crate has this option; Debian's own perl sets it on the socket that it inherits.
fn set_fastopen_connect(socket: &Socket) -> io::Result<()> {
    const SCRIPT: &str = "setsockopt(STDIN, 6, 30, pack('i', 1)) or die $!";
    let status = Command::new("perl")
        .args(["-e", SCRIPT])
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone()?)))
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("TCP_FASTOPEN_CONNECT not set")) }
}

fn peer_of(socket: &Socket) -> String {
    socket
        .peer_addr()
        .ok()
        .and_then(|address| address.as_socket())
        .map_or_else(|| "none".to_owned(), |address: SocketAddr| address.to_string())
}

/// Speaks and listens, as the way of the connection has it.
fn exchange(dial: &Dial, socket: &Socket) -> Step<String> {
    match dial.way {
        Way::Udp => return exchange_datagram(socket).map_err(|error| ("datagram", error)),
        // what was to be said is said by connect() already
        Way::FastopenMsg | Way::Silent => {}
        Way::Listen => return read_some(socket).map_err(|error| ("receive", error)),
        Way::Hold => {
            socket.send(b"hello").map_err(|error| ("send", error))?;
            await_input();
        }
        Way::Wait => {
            await_input();
            send::payload(socket, dial.payload).map_err(|error| ("send", error))?;
        }
        _ => send::payload(socket, dial.payload).map_err(|error| ("send", error))?,
    }
    socket.shutdown(Shutdown::Write).map_err(|error| ("finish", error))?;
    let mut answer = String::new();
    (&mut &*socket).read_to_string(&mut answer).map_err(|error| ("receive", error))?;
    if answer.is_empty() { Ok("no answer".to_owned()) } else { Ok(answer) }
}

fn exchange_datagram(socket: &Socket) -> io::Result<String> {
    socket.send(b"hello")?;
    read_some(socket)
}

fn read_some(socket: &Socket) -> io::Result<String> {
    let mut buffer = [0; 2048];
    let length = (&mut &*socket).read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Says that the connection stands, and waits for standard input to end.
fn await_input() {
    println!("connected");
    let _ = io::stdin().read_to_end(&mut Vec::new());
}
