//! Interfaces of network namespaces, and XDP programs at them.

use std::io;
use std::path::Path;

use super::{KernelError, LinkInfo};

/// What is at a namespace's interfaces; `cookie` is the namespace's: another one at its path by now
/// is refused.
pub trait Interfaces {
    /// The indices of the interfaces of the namespace at `netns`, without loopback.
    fn interfaces(&self, netns: &Path, cookie: u64) -> Result<Vec<u32>, KernelError>;

    /// Attaches a pod's pinned XDP program to an interface of the namespace, `at` = path and index,
    /// in generic mode, by a new link, and pins the link. Refused where another program stands.
    fn link_xdp(
        &mut self,
        prog: &Path,
        cookie: u64,
        at: (&Path, u32),
        link: &Path,
    ) -> Result<LinkInfo, KernelError>;
}

/// Why the interfaces of a namespace cannot be listed.
pub(crate) fn unlisted(netns: &Path, source: io::Error) -> KernelError {
    KernelError::System {
        op: format!("list the interfaces of network namespace {}", netns.display()),
        source,
    }
}
