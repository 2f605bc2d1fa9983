//! The cgroup2 hierarchy: found in `/proc/self/mountinfo`, never assumed.

use std::io;
use std::path::PathBuf;

/// Why there is no cgroup2 root.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup2 is mounted here.
    #[error("no cgroup2 file system is mounted; mount one, or name its place with --cgroup")]
    NotMounted,
    /// The mounts could not be read.
    #[error("read /proc/self/mountinfo")]
    Mounts(#[source] io::Error),
}

/// Where the whole cgroup2 hierarchy is mounted (also the hybrid `/sys/fs/cgroup/unified`).
pub fn find_root() -> Result<PathBuf, CgroupError> {
    todo!()
}
