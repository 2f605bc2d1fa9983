//! Interfaces of the kernel in memory: each namespace has one beside loopback.

use std::io;
use std::path::Path;

use super::MemoryKernel;
use super::objects::on_hook;
use crate::kernel::{Interfaces, KernelError, LinkInfo, unlisted};
use crate::layout::Hook;
use crate::ours;

/// The one interface.
const ETH0: u32 = 2;

impl Interfaces for MemoryKernel {
    fn interfaces(&self, netns: &Path, cookie: u64) -> Result<Vec<u32>, KernelError> {
        match self.namespace(netns, cookie) {
            Some(_) => Ok(vec![ETH0]),
            None => Err(unlisted(netns, io::Error::from_raw_os_error(libc::ENOENT))),
        }
    }

    fn link_xdp(
        &mut self,
        prog: &Path,
        cookie: u64,
        (netns, interface): (&Path, u32),
        link: &Path,
    ) -> Result<LinkInfo, KernelError> {
        let hook = Hook::Xdp;
        let failed = on_hook("attach", hook, netns);
        self.call().map_err(&failed)?;
        let prog_id = self.prog_at(prog).map_err(&failed)?;
        if !self.interfaces(netns, cookie)?.contains(&interface) {
            return Err(failed(io::Error::from_raw_os_error(libc::ENODEV)));
        }
        self.new_link((ours::LINK_XDP, hook), prog_id, interface.into(), link)
    }
}
