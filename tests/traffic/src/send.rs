//! The payload, sent by every call that can send.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use rustix::pipe::SpliceFlags;
use socket2::Socket;

use crate::Payload;

const MIB: usize = 1 << 20;
/// `MSG_MORE` and `MSG_OOB` of <linux/socket.h>.
const MSG_MORE: i32 = 0x8000;
const MSG_OOB: i32 = 1;

/// Sends the payload; it begins with "hello" in every case but one (`Urgent`).
pub fn payload(socket: &Socket, payload: Payload) -> io::Result<()> {
    match payload {
        Payload::Hello => all(socket, b"hello"),
        Payload::Empty => {
            socket.send(b"")?;
            all(socket, b"hello")
        }
        Payload::More => {
            socket.send_with_flags(b"hel", MSG_MORE)?;
            all(socket, b"lo")
        }
        Payload::Writev => writev(socket),
        Payload::Sendfile => sendfile(socket),
        Payload::Splice => splice(socket),
        Payload::Big => big(socket),
        Payload::Urgent => {
            socket.send_with_flags(b"!", MSG_OOB)?;
            all(socket, b"hello")
        }
        Payload::Twice => {
            all(socket, b"hello")?;
            thread::sleep(Duration::from_millis(50));
            all(socket, b"hello")
        }
    }
}

fn all(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    (&mut &*socket).write_all(bytes)
}

/// "hello", then zeros.
fn text(length: usize) -> Vec<u8> {
    let mut text = b"hello".to_vec();
    text.resize(length, 0);
    text
}

fn writev(socket: &Socket) -> io::Result<()> {
    let whole = text(100_000);
    let parts: Vec<IoSlice<'_>> = whole.chunks(1000).map(IoSlice::new).collect();
    let sent = socket.send_vectored(&parts)?;
    all(socket, &whole[sent..])
}

fn sendfile(socket: &Socket) -> io::Result<()> {
    let memory = rustix::fs::memfd_create("payload", rustix::fs::MemfdFlags::CLOEXEC)?;
    File::from(memory.try_clone()?).write_all(&text(MIB))?;
    let mut offset = 0;
    while offset < MIB as u64 {
        rustix::fs::sendfile(socket, &memory, Some(&mut offset), MIB)?;
    }
    Ok(())
}

fn splice(socket: &Socket) -> io::Result<()> {
    let (reader, writer) = rustix::pipe::pipe()?;
    File::from(writer).write_all(&text(4096))?;
    let mut left = 4096;
    while left > 0 {
        left -=
            rustix::pipe::splice(&reader, None, socket.as_fd(), None, left, SpliceFlags::empty())?;
    }
    Ok(())
}

/// The first send finds a send buffer that is soon full, and no patience to wait for it.
fn big(socket: &Socket) -> io::Result<()> {
    socket.set_send_buffer_size(4608)?;
    socket.set_nonblocking(true)?;
    let whole = text(MIB);
    let mut stream = TcpStream::from(socket.try_clone()?);
    let mut sent = 0;
    while sent < whole.len() {
        match stream.write(&whole[sent..]) {
            Ok(more) => sent += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
    socket.set_nonblocking(false)
}
