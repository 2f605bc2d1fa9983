//! The cookie of a network namespace. It can only be asked for from inside.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::sys::netns_cookie;

/// The cookie of this thread's own network namespace (`SO_NETNS_COOKIE`, Linux 5.14).
pub(crate) fn own_cookie() -> io::Result<u64> {
    netns_cookie(&socket(AddressFamily::UNIX, SocketType::DGRAM, None)?)
}

/// Moves this thread into the namespace, for good, and asks there.
pub(crate) fn cookie_inside(namespace: BorrowedFd<'_>) -> io::Result<u64> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
    own_cookie()
}

/// Does `work` in the namespace, on a thread of its own that ends there.
pub(crate) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let enter = || {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        work()
    };
    std::thread::scope(|scope| {
        let entering = scope.spawn(enter);
        entering.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside it panicked")))
    })
}

/// The cookie of a namespace; this thread stays where it is.
pub(crate) fn cookie_of(namespace: BorrowedFd<'_>) -> io::Result<u64> {
    inside(namespace, own_cookie)
}
