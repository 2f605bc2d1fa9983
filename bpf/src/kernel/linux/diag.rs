//! `NETLINK_SOCK_DIAG`: TCP sockets of a namespace, and `SOCK_DESTROY`. The structures are those of
//! `include/uapi/linux/inet_diag.h` and `netlink.h`.
//!
//! A thread of its own enters the namespace, makes the netlink socket there and ends; the socket
//! speaks of that namespace wherever it is used.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use bytemuck::{Pod, Zeroable};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink, recv, send, socket};

use super::Linux;
use super::sys::netns_cookie;
use crate::kernel::{KernelError, Sockets, TcpSocket};
use crate::netns;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const DUMP: u16 = 0x300;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const TCP: u8 = 6;
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;
/// All states but those in which there is no socket.
const STATES: u32 = 0xfff & !(1 << TIME_WAIT) & !(1 << CLOSE);
/// `idiag_timer` of a rest that waits.
const WAITS: u8 = 3;
/// `AF_INET` and `AF_INET6`, and what we call them.
const FAMILIES: [(u8, u8); 2] = [(2, 4), (10, 6)];
/// The kernel's answers to a dump are at most 32 KiB.
const ROOM: usize = 64 * 1024;

/// `struct nlmsghdr`.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Header {
    len: u32,
    kind: u16,
    flags: u16,
    seq: u32,
    port: u32,
}

/// `struct inet_diag_sockid`; addresses and ports in network order.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct SockId {
    local_port: [u8; 2],
    peer_port: [u8; 2],
    local: [u8; 16],
    peer: [u8; 16],
    interface: u32,
    cookie: [u32; 2],
}

/// `struct inet_diag_req_v2` behind its header.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Request {
    header: Header,
    family: u8,
    protocol: u8,
    extensions: u8,
    pad: u8,
    states: u32,
    id: SockId,
}

/// `struct inet_diag_msg`.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Said {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: SockId,
    rest: [u32; 5],
}

impl Request {
    fn new(kind: u16, flags: u16, family: u8, states: u32, id: SockId) -> Self {
        let len = u32::try_from(size_of::<Self>()).unwrap_or_default();
        let header = Header { len, kind, flags: flags | REQUEST, ..Header::default() };
        Self { header, family, protocol: TCP, states, id, ..Self::default() }
    }
}

/// A netlink socket of the namespace at `path`, whose cookie must be `cookie`.
fn open(path: &Path, cookie: u64) -> io::Result<OwnedFd> {
    let made = netns::inside(path, || {
        let raw = socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::SOCK_DIAG))?;
        Ok((netns_cookie(&raw)?, raw))
    });
    let (there, raw) = made?;
    if there == cookie {
        Ok(raw)
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "another namespace is there by now"))
    }
}

/// Sends a request and hands each answer's kind and content to `take`, until the last one. An
/// error of the kernel is the answer.
fn ask(raw: &OwnedFd, request: &Request, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    send(raw, bytemuck::bytes_of(request), SendFlags::empty())?;
    let mut buffer = vec![0; ROOM];
    loop {
        let (len, _) = recv(raw, buffer.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = buffer.get(..len).unwrap_or_default();
        while let Some(header) = rest.get(..size_of::<Header>()) {
            let header: Header = bytemuck::pod_read_unaligned(header);
            let len = header.len as usize;
            let Some(content) = rest.get(size_of::<Header>()..len) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message cut short"));
            };
            match header.kind {
                DONE => return Ok(()),
                ERROR => return error_in(content),
                SOCK_DIAG_BY_FAMILY => take(content),
                _ => {}
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// An error message: the negative number, zero for an acknowledgement.
fn error_in(content: &[u8]) -> io::Result<()> {
    let number = content.first_chunk().map_or(-libc::EBADMSG, |bytes| i32::from_ne_bytes(*bytes));
    if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-number)) }
}

fn address(family: u8, bytes: [u8; 16], port: [u8; 2]) -> SocketAddr {
    let [a, b, c, d, ..] = bytes;
    let ip = match family {
        4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => Ipv6Addr::from(bytes).to_canonical(),
    };
    SocketAddr::new(ip, u16::from_be_bytes(port))
}

/// The address as a socket of this family has it.
fn bytes_of(family: u8, ip: IpAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    match (family, ip) {
        (4, IpAddr::V4(v4)) => bytes[..4].copy_from_slice(&v4.octets()),
        (_, IpAddr::V4(v4)) => bytes = v4.to_ipv6_mapped().octets(),
        (_, IpAddr::V6(v6)) => bytes = v6.octets(),
    }
    bytes
}

fn read(content: &[u8], family: u8) -> Option<TcpSocket> {
    let said: Said = bytemuck::pod_read_unaligned(content.get(..size_of::<Said>())?);
    Some(TcpSocket {
        local: address(family, said.id.local, said.id.local_port),
        peer: address(family, said.id.peer, said.id.peer_port),
        cookie: u64::from(said.id.cookie[0]) | u64::from(said.id.cookie[1]) << 32,
        state: said.state,
        family,
        interface: said.id.interface,
        rest: said.timer == WAITS,
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
fn id_of(of: &TcpSocket) -> SockId {
    SockId {
        local_port: of.local.port().to_be_bytes(),
        peer_port: of.peer.port().to_be_bytes(),
        local: bytes_of(of.family, of.local.ip()),
        peer: bytes_of(of.family, of.peer.ip()),
        interface: of.interface,
        cookie: [of.cookie as u32, (of.cookie >> 32) as u32],
    }
}

/// False where it is gone already.
fn end(raw: &OwnedFd, of: &TcpSocket) -> io::Result<bool> {
    let found = FAMILIES.iter().find(|(_, family)| *family == of.family);
    let number = found.map_or(0, |(number, _)| *number);
    match ask(raw, &Request::new(SOCK_DESTROY, ACK, number, !0, id_of(of)), &mut |_| {}) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESTALE) => Ok(false),
            _ => Err(error),
        },
    }
}

impl Sockets for Linux {
    fn tcp_sockets(&self, netns: &Path, cookie: u64) -> Result<Vec<TcpSocket>, KernelError> {
        let mut sockets = Vec::new();
        let mut list = || {
            let raw = open(netns, cookie)?;
            for (number, family) in FAMILIES {
                let id = SockId::default();
                let request = Request::new(SOCK_DIAG_BY_FAMILY, DUMP, number, STATES, id);
                ask(&raw, &request, &mut |said| sockets.extend(read(said, family)))?;
            }
            Ok(())
        };
        list().map_err(|source| KernelError::System {
            op: format!("list the TCP sockets of network namespace {}", netns.display()),
            source,
        })?;
        Ok(sockets)
    }

    fn end_sockets(
        &mut self,
        netns: &Path,
        cookie: u64,
        sockets: &[TcpSocket],
    ) -> Result<usize, KernelError> {
        let failed = |source| KernelError::System {
            op: format!("end TCP sockets of network namespace {}", netns.display()),
            source,
        };
        let raw = open(netns, cookie).map_err(failed)?;
        let mut ended = 0;
        for socket in sockets {
            ended += usize::from(end(&raw, socket).map_err(failed)?);
        }
        Ok(ended)
    }
}
