//! The server: one thread for each connection.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};

use crate::Hear;

/// Connections that may send payload in their SYN and wait to be accepted.
const BACKLOG: i32 = 128;

/// Serves until it is killed.
pub fn run(hear: &Hear) -> anyhow::Result<()> {
    let mut threads = Vec::new();
    for address in &hear.listen {
        let listener = listen(*address).with_context(|| format!("listen at {address}"))?;
        let (name, greeting) = (hear.name.clone(), hear.greet.clone().unwrap_or_default());
        threads.push(thread::spawn(move || accept(&listener, &name, &greeting)));
    }
    for address in &hear.udp {
        let socket = UdpSocket::bind(address).with_context(|| format!("bind {address}"))?;
        let name = hear.name.clone();
        threads.push(thread::spawn(move || answer_datagrams(&socket, &name)));
    }
    fs::write(&hear.ready, "").with_context(|| format!("write {}", hear.ready.display()))?;
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn accept(listener: &TcpListener, name: &str, greeting: &str) {
    for stream in listener.incoming().flatten() {
        let (name, greeting) = (name.to_owned(), greeting.to_owned());
        thread::spawn(move || {
            if let Err(error) = answer(stream, &name, &greeting) {
                eprintln!("{name}: {error}");
            }
        });
    }
}

/// Hears the client out, then tells it so: `NAME from PEER heard HEX`.
fn answer(mut stream: TcpStream, name: &str, greeting: &str) -> std::io::Result<()> {
    let peer = stream.peer_addr()?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(greeting.as_bytes())?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    println!("{name} from {peer} heard {} bytes: {}", heard.len(), hex(&heard));
    write!(stream, "{name} from {peer} heard {}", hex(&heard))
}

fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 2048];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        let text = format!("{name} from {peer} heard {}", hex(&buffer[..length]));
        let _ = socket.send_to(text.as_bytes(), peer);
    }
}

/// At most the first 64 bytes, then how many there were in all.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes.iter().take(64) {
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > 64 {
        let _ = write!(text, "… {} bytes", bytes.len());
    }
    text
}
