//! Network namespaces: what a mesh file or a pod calls one, its cookie, and which are alive.
//!
//! It refuses to call a namespace dead from where it cannot see: in a pid namespace of its own,
//! most processes are out of sight.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};

use crate::kernel::linux::netns::{self as space, cookie_inside};
use crate::mounts;

/// Where `ip netns` and container runtimes keep names of network namespaces.
const NAMES: &str = "/run/netns";
/// What `/proc/self/ns/pid` says in the initial pid namespace (`PROC_PID_INIT_INO`).
pub(crate) const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Why a namespace could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// Nothing there that can be entered.
    #[error("open network namespace {}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It could not be entered, or has no cookie.
    #[error("read the cookie of network namespace {}", path.display())]
    Cookie {
        /// Its path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Not a name, path or `pid:N`.
    #[error("\"{0}\" is no network namespace: write a name, an absolute path or pid:N")]
    Name(String),
    /// The list of processes or mounts could not be read.
    #[error("list network namespaces")]
    List(#[source] io::Error),
    /// Processes outside this container cannot be seen.
    #[error(
        "which network namespaces are alive cannot be seen from this pid namespace; run with \
         the host's (hostPID: true)"
    )]
    OutOfSight,
}

/// The path of the namespace that `text` names: a name (`/run/netns/NAME`), an absolute path, or
/// `pid:N`. Does not look whether it is there.
pub fn resolve(text: &str) -> Result<PathBuf, NetnsError> {
    let refused = || NetnsError::Name(text.to_owned());
    if let Some(pid) = text.strip_prefix("pid:") {
        let pid: u32 = pid.parse().map_err(|_| refused())?;
        return Ok(PathBuf::from(format!("/proc/{pid}/ns/net")));
    }
    if text.starts_with('/') {
        return Ok(PathBuf::from(text));
    }
    if matches!(text, "" | "." | "..") || text.contains(['/', '\0']) {
        return Err(refused());
    }
    Ok(Path::new(NAMES).join(text))
}

/// The cookie of the namespace at `path` (`SO_NETNS_COOKIE`, Linux 5.14).
pub fn cookie_of(path: &Path) -> Result<u64, NetnsError> {
    let namespace = open(path)?;
    let cookie = space::cookie_of(namespace.as_fd());
    cookie.map_err(|source| NetnsError::Cookie { path: path.to_owned(), source })
}

/// Does `work` in the namespace at `path`, on a thread of its own that ends there.
pub(crate) fn inside<T: Send>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    space::inside(File::open(path)?.as_fd(), work)
}

/// The cookie of this process' own namespace.
pub fn own_cookie() -> Result<u64, NetnsError> {
    let path = || PathBuf::from("/proc/self/ns/net");
    space::own_cookie().map_err(|source| NetnsError::Cookie { path: path(), source })
}

/// A namespace that is held open.
#[derive(Debug)]
pub struct Held(OwnedFd);

impl Held {
    /// A path of it, while it is held, for this process.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// Cookies of every namespace that can be seen to be alive: by a process or thread in it, an open
/// descriptor, or a mount (in any mount namespace). One that lives only by a socket that was
/// moved out of it is not seen.
pub fn alive_cookies() -> Result<HashSet<u64>, NetnsError> {
    look(HashSet::new()).map(|seen| seen.cookies.into_keys().collect())
}

/// As [`alive_cookies`], each with its inode.
pub fn alive_inodes() -> Result<HashMap<u64, u64>, NetnsError> {
    look(HashSet::new()).map(|seen| seen.cookies)
}

/// Those of the namespaces with these cookies that can be seen to be alive.
#[expect(clippy::implicit_hasher, reason = "what its callers gather")]
pub fn find(cookies: &HashSet<u64>) -> Result<HashMap<u64, Held>, NetnsError> {
    look(cookies.clone()).map(|seen| seen.held)
}

/// Looks at every namespace in sight, and holds those that are asked for.
fn look(wanted: HashSet<u64>) -> Result<Seen, NetnsError> {
    let own = std::fs::read_link("/proc/self/ns/pid").map_err(NetnsError::List)?;
    if own.as_os_str() != INITIAL_PID_NAMESPACE {
        return Err(NetnsError::OutOfSight);
    }
    // One thread enters them all; it ends here, so nobody notices where it was last.
    std::thread::scope(|scope| {
        let entering = scope.spawn(|| {
            let mut seen = Seen { wanted, ..Seen::default() };
            look_around(&mut seen).map(|()| seen)
        });
        entering.join().unwrap_or_else(|_| {
            Err(NetnsError::List(io::Error::other("the thread inside a namespace panicked")))
        })
    })
}

/// Namespaces that were found alive.
#[derive(Default)]
struct Seen {
    inodes: HashSet<u64>,
    /// Cookies, each with its inode.
    cookies: HashMap<u64, u64>,
    /// Cookies of those that shall be held.
    wanted: HashSet<u64>,
    held: HashMap<u64, Held>,
}

impl Seen {
    /// Enters the namespace at `path`, unless it was entered before. Each is entered where it is
    /// found: a path by a process that ends a moment later must not hide the other ways to it.
    fn note(&mut self, path: &Path) -> Result<(), NetnsError> {
        let known = std::fs::metadata(path).map(|said| self.inodes.contains(&said.ino()));
        if !known.is_ok_and(|known| !known) {
            return Ok(());
        }
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.ino(), file)));
        let Ok((inode, file)) = opened else {
            return Ok(());
        };
        match cookie_inside(file.as_fd()) {
            Ok(cookie) => {
                self.cookies.insert(cookie, inode);
                if self.wanted.contains(&cookie) {
                    self.held.insert(cookie, Held(file.into()));
                }
            }
            // A namespace of another kind.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(source) => return Err(NetnsError::Cookie { path: path.to_owned(), source }),
        }
        self.inodes.insert(inode);
        Ok(())
    }
}

fn open(path: &Path) -> Result<OwnedFd, NetnsError> {
    let opened = File::open(path).map(OwnedFd::from);
    opened.map_err(|source| NetnsError::Open { path: path.to_owned(), source })
}

/// Enters every namespace in sight.
fn look_around(seen: &mut Seen) -> Result<(), NetnsError> {
    let mut mount_namespaces = HashSet::new();
    let own = std::fs::metadata("/proc/self/ns/net").map_err(NetnsError::List)?;
    for pid in numbers(Path::new("/proc")).map_err(NetnsError::List)? {
        let process = PathBuf::from(format!("/proc/{pid}"));
        for task in numbers(&process.join("task")).unwrap_or_default() {
            seen.note(&process.join(format!("task/{task}/ns/net")))?;
        }
        for descriptor in numbers(&process.join("fd")).unwrap_or_default() {
            let path = process.join(format!("fd/{descriptor}"));
            if may_be_namespace(&path, own.dev()) {
                seen.note(&path)?;
            }
        }
        let mount_namespace = || std::fs::metadata(process.join("ns/mnt")).map(|said| said.ino());
        let Ok(inode) = mount_namespace() else {
            continue;
        };
        if mount_namespaces.contains(&inode) {
            continue;
        }
        let Ok(mounts) = mounts::of(Some(pid)) else {
            continue;
        };
        for mount in mounts {
            if mount.fs_type == "nsfs" && is_namespace(&mount.root) {
                let inside = mount.mount_point.strip_prefix("/").unwrap_or(&mount.mount_point);
                seen.note(&process.join("root").join(inside))?;
            }
        }
        // Where the process ended meanwhile, its mounts were not all seen: another one's will be.
        if mount_namespace().is_ok_and(|after| after == inode) {
            mount_namespaces.insert(inode);
        }
    }
    Ok(())
}

/// Whether a descriptor is of a namespace, of whatever kind. One that was opened by a path shows
/// that path; then its device tells. Nothing is asked of a remote file system.
fn may_be_namespace(descriptor: &Path, device: u64) -> bool {
    let Ok(to) = std::fs::read_link(descriptor) else {
        return false;
    };
    if !to.is_absolute() {
        return is_namespace(&to.to_string_lossy());
    }
    statx(CWD, descriptor, AtFlags::STATX_DONT_SYNC, StatxFlags::INO)
        .is_ok_and(|said| makedev(said.stx_dev_major, said.stx_dev_minor) == device)
}

fn is_namespace(text: &str) -> bool {
    text.starts_with("net:[")
}

/// Names of entries that are numbers.
fn numbers(dir: &Path) -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir(dir)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_three_spellings() {
        let path = |text| resolve(text).expect("a good name");
        assert_eq!(path("blue"), Path::new("/run/netns/blue"));
        assert_eq!(path("/var/run/netns/cni-1"), Path::new("/var/run/netns/cni-1"));
        assert_eq!(path("pid:42"), Path::new("/proc/42/ns/net"));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for bad in ["", ".", "..", "a/b", "pid:", "pid:x", "pid:-1"] {
            assert!(resolve(bad).is_err(), "{bad:?}");
        }
    }
}
