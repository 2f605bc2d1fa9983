//! Mounts, as `/proc/PID/mountinfo` lists them; the one place that reads it.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, Process};

/// The mounts that a process sees. `pid`: `None` is this one.
pub(crate) fn of(pid: Option<i32>) -> io::Result<Vec<MountInfo>> {
    let process = match pid {
        Some(pid) => Process::new(pid),
        None => Process::myself(),
    };
    let mounts = process.and_then(|process| process.mountinfo()).map_err(io::Error::other)?;
    Ok(mounts.0.into_iter().map(unescaped).collect())
}

/// The mount that `path` lies on: of those whose mount point is a prefix, the last of the longest.
pub(crate) fn at(mounts: &[MountInfo], path: &Path) -> Option<MountInfo> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.as_os_str().len())
        .cloned()
}

fn unescaped(mut mount: MountInfo) -> MountInfo {
    mount.mount_point = unescape(&mount.mount_point);
    mount
}

/// A mount point with the kernel's `\040` turned back into a blank.
fn unescape(path: &Path) -> PathBuf {
    let mut rest = path.as_os_str().as_bytes();
    let mut plain = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        if let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] = rest {
            plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            plain.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_blanks_come_back() {
        assert_eq!(unescape(Path::new(r"/a\040b\134c")), Path::new(r"/a b\c"));
        assert_eq!(unescape(Path::new(r"/plain\9")), Path::new(r"/plain\9"));
    }

    #[test]
    fn the_innermost_and_latest_mount_is_meant() {
        let line = |point: &str, id: i32| {
            let text = format!("{id} 1 0:{id} / {point} rw - tmpfs tmpfs rw");
            MountInfo::from_line(&text).expect("a mountinfo line")
        };
        let mounts =
            [line("/", 1), line("/sys/fs/bpf", 2), line("/sys", 3), line("/sys/fs/bpf", 4)];
        let of = |path: &str| at(&mounts, Path::new(path)).map(|mount| mount.mnt_id);
        assert_eq!(of("/sys/fs/bpf/kmesh"), Some(4));
        assert_eq!(of("/sys/kernel"), Some(3));
        assert_eq!(of("/sys/fs/bpfoo"), Some(3));
    }
}
