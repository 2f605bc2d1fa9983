//! Network namespaces: what a mesh file or a pod calls one, its cookie, and which are alive.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

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
}

/// The path of the namespace that `text` names: a name (`/run/netns/NAME`), an absolute path, or
/// `pid:N`. Does not look whether it is there.
pub fn resolve(_text: &str) -> Result<PathBuf, NetnsError> {
    todo!()
}

/// The cookie of the namespace at `path` (`SO_NETNS_COOKIE`, Linux 5.14).
pub fn cookie_of(_path: &Path) -> Result<u64, NetnsError> {
    todo!()
}

/// Cookies of every namespace that can be seen to be alive: by a process, an open descriptor or
/// a mount.
pub fn alive_cookies() -> Result<HashSet<u64>, NetnsError> {
    todo!()
}
