//! The interfaces of a network namespace, and XDP programs at them. Both can only be done from
//! inside: a thread of its own enters the namespace, and ends there.
//!
//! It refuses a namespace that is another one by now than the caller means.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketType, socket};

use super::netns::{inside, own_cookie};
use super::objects::on_pin;
use super::said::link_said;
use super::{Linux, links, sys};
use crate::kernel::{Interfaces, KernelError, LinkInfo, unlisted};

/// The interfaces of this thread's namespace, by name.
const NAMES: &str = "/proc/thread-self/net/dev";
/// The loopback interface has this index in every namespace.
const LOOPBACK: u32 = 1;

/// Does `work` in the namespace at `netns`, whose cookie must be `cookie`.
fn within<T: Send>(
    netns: &Path,
    cookie: u64,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let namespace = File::open(netns)?;
    inside(namespace.as_fd(), || {
        if own_cookie()? == cookie {
            work()
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "another namespace is there by now"))
        }
    })
}

/// The indices of this thread's interfaces, without loopback.
fn list() -> io::Result<Vec<u32>> {
    let asking = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    let mut found = Vec::new();
    for line in fs::read_to_string(NAMES)?.lines() {
        let Some((name, _)) = line.split_once(':') else {
            continue;
        };
        match name_to_index(&asking, name.trim()) {
            Ok(LOOPBACK) => {}
            Ok(index) => found.push(index),
            // It went away meanwhile.
            Err(error) if error.raw_os_error() == libc::ENODEV => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

impl Interfaces for Linux {
    fn interfaces(&self, netns: &Path, cookie: u64) -> Result<Vec<u32>, KernelError> {
        within(netns, cookie, list).map_err(|source| unlisted(netns, source))
    }

    fn link_xdp(
        &mut self,
        prog: &Path,
        cookie: u64,
        (netns, interface): (&Path, u32),
        link: &Path,
    ) -> Result<LinkInfo, KernelError> {
        let prog = sys::open_pin(prog).map_err(on_pin("open", prog))?;
        let made = within(netns, cookie, || links::link_xdp(prog.as_fd(), interface));
        let made = made.map_err(|source| KernelError::System {
            op: match source.raw_os_error() {
                Some(libc::EBUSY | libc::EEXIST) => format!(
                    "attach xdp at interface {interface} of {}, where another XDP program stands \
                     (bpftool net): detach that one",
                    netns.display()
                ),
                _ => format!("attach xdp at interface {interface} of {}", netns.display()),
            },
            source,
        })?;
        sys::pin(made.as_fd(), link).map_err(on_pin("pin", link))?;
        link_said(made.as_fd()).map_err(on_pin("open", link))
    }
}
