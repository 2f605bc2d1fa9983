//! TCP sockets of the kernel in memory: what a test says there is, by namespace cookie.

use std::path::Path;

use super::MemoryKernel;
use crate::kernel::{KernelError, Sockets, TcpSocket};

impl MemoryKernel {
    /// Adds a socket to a namespace.
    pub fn add_socket(&mut self, cookie: u64, socket: TcpSocket) {
        self.sockets.entry(cookie).or_default().push(socket);
    }
}

impl Sockets for MemoryKernel {
    fn tcp_sockets(&self, _netns: &Path, cookie: u64) -> Result<Vec<TcpSocket>, KernelError> {
        Ok(self.sockets.get(&cookie).cloned().unwrap_or_default())
    }

    fn end_sockets(
        &mut self,
        netns: &Path,
        cookie: u64,
        sockets: &[TcpSocket],
    ) -> Result<usize, KernelError> {
        self.call().map_err(|source| KernelError::System {
            op: format!("end TCP sockets of network namespace {}", netns.display()),
            source,
        })?;
        let there = self.sockets.entry(cookie).or_default();
        let before = there.len();
        there.retain(|one| !sockets.iter().any(|ended| ended.cookie == one.cookie));
        Ok(before - there.len())
    }
}
