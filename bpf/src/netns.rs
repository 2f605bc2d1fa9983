//! Network namespaces: what a mesh file or a pod calls one, its cookie, and which are alive.
//!
//! It refuses to call a namespace dead from where it cannot see: in a pid namespace of its own,
//! most processes are out of sight.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::kernel::linux::netns_cookie;
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
    let cookie = std::thread::scope(|scope| {
        let entering = scope.spawn(|| cookie_inside(&namespace));
        entering.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside it panicked")))
    });
    cookie.map_err(|source| NetnsError::Cookie { path: path.to_owned(), source })
}

/// Cookies of every namespace that can be seen to be alive: by a process or thread in it, an open
/// descriptor, or a mount (in any mount namespace). One that lives only by a socket that was
/// moved out of it is not seen.
pub fn alive_cookies() -> Result<HashSet<u64>, NetnsError> {
    let own = std::fs::read_link("/proc/self/ns/pid").map_err(NetnsError::List)?;
    if own.as_os_str() != INITIAL_PID_NAMESPACE {
        return Err(NetnsError::OutOfSight);
    }
    let found = namespaces().map_err(NetnsError::List)?;
    // One thread enters them all; it ends here, so nobody notices where it was last.
    std::thread::scope(|scope| {
        let entering = scope.spawn(|| found.values().filter_map(|path| alive(path)).collect());
        entering.join().unwrap_or_else(|_| {
            Err(NetnsError::List(io::Error::other("the thread inside a namespace panicked")))
        })
    })
}

/// The cookie of a namespace that was seen a moment ago; `None` if it is gone since, or a
/// namespace of another kind.
fn alive(path: &Path) -> Option<Result<u64, NetnsError>> {
    let namespace = open(path).ok()?;
    let cookie = cookie_inside(&namespace);
    if cookie.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)) {
        return None;
    }
    Some(cookie.map_err(|source| NetnsError::Cookie { path: path.to_owned(), source }))
}

fn open(path: &Path) -> Result<OwnedFd, NetnsError> {
    let opened = File::open(path).map(OwnedFd::from);
    opened.map_err(|source| NetnsError::Open { path: path.to_owned(), source })
}

/// Moves this thread into the namespace and asks a socket made there.
fn cookie_inside(namespace: &OwnedFd) -> io::Result<u64> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let inside = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    netns_cookie(&inside)
}

/// Paths of the namespaces in sight, by inode.
fn namespaces() -> io::Result<HashMap<u64, PathBuf>> {
    let mut found = HashMap::new();
    let mut mount_namespaces = HashSet::new();
    let namespace_device = std::fs::metadata("/proc/self/ns/net")?.dev();
    for pid in numbers(Path::new("/proc"))? {
        let process = PathBuf::from(format!("/proc/{pid}"));
        for task in numbers(&process.join("task")).unwrap_or_default() {
            note(&mut found, process.join(format!("task/{task}/ns/net")));
        }
        for descriptor in numbers(&process.join("fd")).unwrap_or_default() {
            let path = process.join(format!("fd/{descriptor}"));
            if may_be_namespace(&path, namespace_device) {
                note(&mut found, path);
            }
        }
        let mount_namespace = std::fs::metadata(process.join("ns/mnt")).map(|said| said.ino());
        if mount_namespace.is_ok_and(|inode| mount_namespaces.insert(inode)) {
            for mount in mounts::of(Some(pid)).unwrap_or_default() {
                if mount.fs_type == "nsfs" && is_namespace(&mount.root) {
                    let inside = mount.mount_point.strip_prefix("/").unwrap_or(&mount.mount_point);
                    note(&mut found, process.join("root").join(inside));
                }
            }
        }
    }
    Ok(found)
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

fn note(found: &mut HashMap<u64, PathBuf>, path: PathBuf) {
    if let Ok(said) = std::fs::metadata(&path) {
        found.entry(said.ino()).or_insert(path);
    }
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
