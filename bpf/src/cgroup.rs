//! The cgroup2 hierarchy: found in `/proc/self/mountinfo`, never assumed.

use std::io;
use std::path::PathBuf;

use procfs::process::MountInfo;

use crate::mounts;

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

/// Where the most of the cgroup2 hierarchy is mounted: its root where it can be seen (also at the
/// hybrid `/sys/fs/cgroup/unified`). In a container with the host's hierarchy mounted beside its
/// own, the host's.
pub fn find_root() -> Result<PathBuf, CgroupError> {
    let mounts = mounts::of(None).map_err(CgroupError::Mounts)?;
    choose(&mounts).ok_or(CgroupError::NotMounted)
}

/// Of the cgroup2 mounts the one whose root is highest; among equals the first.
fn choose(mounts: &[MountInfo]) -> Option<PathBuf> {
    mounts
        .iter()
        .filter(|mount| mount.fs_type == "cgroup2")
        .min_by_key(|mount| depth(&mount.root))
        .map(|mount| mount.mount_point.clone())
}

/// How deep a mount's root lies, from the reader's cgroup namespace: `/..` is above it.
fn depth(root: &str) -> i64 {
    root.split('/')
        .filter(|part| !part.is_empty())
        .map(|part| if part == ".." { -1 } else { 1 })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(lines: &[&str]) -> Vec<MountInfo> {
        lines.iter().map(|line| MountInfo::from_line(line).expect("a mountinfo line")).collect()
    }

    #[test]
    fn the_hybrid_path_is_found() {
        let mounts = mounts(&[
            "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu",
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
        ]);
        assert_eq!(choose(&mounts), Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn the_hosts_hierarchy_beats_the_containers() {
        let mounts = mounts(&[
            "40 31 0:26 / /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw",
            "50 31 0:26 /../../.. /host/cgroup rw,relatime - cgroup2 cgroup rw",
        ]);
        assert_eq!(choose(&mounts), Some("/host/cgroup".into()));
    }

    #[test]
    fn a_part_of_the_hierarchy_is_second_choice() {
        let mounts = mounts(&[
            "40 31 0:26 /kubepods/x /mnt rw,relatime - cgroup2 cgroup rw",
            "50 31 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup rw",
        ]);
        assert_eq!(choose(&mounts), Some("/sys/fs/cgroup".into()));
        assert_eq!(choose(&[]), None);
    }
}
