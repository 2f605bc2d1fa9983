//! Which of a namespace's sockets are connections that came in. Pure.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::kernel::TcpSocket;
use crate::layout::{ConnectionKey, LiveRecord, LiveWhy};

/// Both ends of a connection, as one of its sockets sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    own: SocketAddr,
    peer: SocketAddr,
}

impl Ends {
    pub(super) fn of(socket: &TcpSocket) -> Self {
        Self { own: socket.local, peer: socket.peer }
    }

    /// As the other socket sees them.
    pub(super) fn mirrored(self) -> Self {
        Self { own: self.peer, peer: self.own }
    }
}

/// A connection that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inbound {
    pub(super) socket: TcpSocket,
    pub(super) key: ConnectionKey,
    /// Why it was let in, where it is noted.
    pub(super) why: Option<LiveWhy>,
    /// Its other end is in the same namespace.
    pub(super) own: bool,
}

/// The connections that came in: noted by the socket's cookie, half-open, or at a port where
/// somebody listens.
pub(super) fn of(
    cookie: u64,
    sockets: &[TcpSocket],
    notes: &HashMap<ConnectionKey, LiveRecord>,
) -> Vec<Inbound> {
    let (mut listeners, mut ends) = (HashSet::new(), HashSet::new());
    for socket in sockets {
        if socket.state == TcpSocket::LISTEN {
            listeners.insert(socket.local);
        } else {
            ends.insert(Ends::of(socket));
        }
    }
    let listens = |at: SocketAddr| {
        let has = |ip: IpAddr| listeners.contains(&SocketAddr::new(ip, at.port()));
        has(at.ip()) || has(Ipv4Addr::UNSPECIFIED.into()) || has(Ipv6Addr::UNSPECIFIED.into())
    };
    let mut found = Vec::new();
    for socket in sockets {
        if socket.rest || matches!(socket.state, TcpSocket::LISTEN | TcpSocket::SYN_SENT) {
            continue;
        }
        let (from, to) = (socket.peer, socket.local);
        let key = ConnectionKey::new(cookie, (from.ip(), from.port()), (to.ip(), to.port()));
        let note = notes.get(&key).filter(|note| note.socket == socket.cookie);
        if note.is_some() || socket.state == TcpSocket::SYN_RECV || listens(to) {
            found.push(Inbound {
                socket: *socket,
                key,
                why: note.and_then(LiveRecord::why),
                own: ends.contains(&Ends::of(socket).mirrored()),
            });
        }
    }
    found
}
