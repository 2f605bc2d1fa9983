//! TCP sockets of network namespaces: which there are, and the end of one.

use std::net::SocketAddr;
use std::path::Path;

use super::KernelError;

/// A TCP socket as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Its own address and port; IPv4 as such, also of a v4-mapped socket.
    pub local: SocketAddr,
    /// Its peer's; port 0 for a listener.
    pub peer: SocketAddr,
    /// The socket's cookie. It is that of the half-open connection that the socket began as.
    pub cookie: u64,
    /// The number in the kernel's `TCP_…` states; half-open is `SYN_RECV`.
    pub state: u8,
    /// The socket's family as the kernel has it: 6 also for a v4-mapped one.
    pub family: u8,
    /// The interface that it is bound to, or 0.
    pub interface: u32,
    /// Only a rest that waits (`TIME_WAIT`): there is no socket any more.
    pub rest: bool,
}

impl TcpSocket {
    /// `TCP_SYN_SENT`.
    pub const SYN_SENT: u8 = 2;
    /// `TCP_SYN_RECV`.
    pub const SYN_RECV: u8 = 3;
    /// `TCP_LISTEN`.
    pub const LISTEN: u8 = 10;
}

/// Sockets of a namespace at a path; `cookie` is the namespace's: another one at that path by now
/// is refused.
pub trait Sockets {
    /// Every TCP socket there, listeners and half-open ones too, without those in `TIME_WAIT`
    /// (`NETLINK_SOCK_DIAG`).
    fn tcp_sockets(&self, netns: &Path, cookie: u64) -> Result<Vec<TcpSocket>, KernelError>;

    /// Ends exactly these sockets: both ends see a reset (`SOCK_DESTROY`, needs
    /// `CONFIG_INET_DIAG_DESTROY`). One that is gone is fine, also if another has its addresses.
    /// How many were ended.
    fn end_sockets(
        &mut self,
        netns: &Path,
        cookie: u64,
        sockets: &[TcpSocket],
    ) -> Result<usize, KernelError>;
}
