//! Mounts, as `/proc/PID/mountinfo` lists them; the one place that reads it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, Process};

use crate::netns::INITIAL_PID_NAMESPACE;

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

/// A BPF file system that is mounted somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfMount {
    /// Its device number, the same through each of its mounts.
    pub instance: u32,
    /// A path of it: in this mount namespace, or by `/proc/PID/root` of a process in another.
    pub path: PathBuf,
    /// Its mount point, as its own mount namespace names it.
    pub point: PathBuf,
    /// It is mounted in this mount namespace.
    pub here: bool,
}

/// Every BPF file system in sight, once for each path of this namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BpfMounts {
    /// Those that are mounted.
    pub mounts: Vec<BpfMount>,
    /// All mount namespaces of the machine are in sight.
    pub complete: bool,
}

impl BpfMounts {
    /// Looks into every mount namespace in sight.
    pub fn look() -> io::Result<Self> {
        let complete =
            std::fs::read_link("/proc/self/ns/pid")?.as_os_str() == INITIAL_PID_NAMESPACE;
        let mut found = Self { mounts: Vec::new(), complete };
        found.add(None)?;
        let mut seen = HashSet::from([std::fs::metadata("/proc/self/ns/mnt")?.ino()]);
        for process in procfs::process::all_processes().map_err(io::Error::other)?.flatten() {
            let namespace = std::fs::metadata(format!("/proc/{}/ns/mnt", process.pid));
            if namespace.is_ok_and(|said| seen.insert(said.ino())) {
                // one that ended meanwhile: another shows the same namespace, or none does
                let _ = found.add(Some(process.pid));
            }
        }
        Ok(found)
    }

    fn add(&mut self, pid: Option<i32>) -> io::Result<()> {
        for mount in of(pid)?.into_iter().filter(|mount| mount.fs_type == "bpf") {
            let Some(instance) = device(&mount.majmin) else {
                continue;
            };
            let point = mount.mount_point;
            let known = |known: &BpfMount| {
                known.instance == instance && (known.here || known.point == point)
            };
            let path = match pid {
                None => point.clone(),
                Some(_) if self.mounts.iter().any(known) => continue,
                Some(pid) => {
                    let inside = point.strip_prefix("/").unwrap_or(&point);
                    Path::new("/proc").join(pid.to_string()).join("root").join(inside)
                }
            };
            self.mounts.push(BpfMount { instance, path, point, here: pid.is_none() });
        }
        Ok(())
    }

    /// Whether this one is mounted above `path` in another mount namespace only.
    #[must_use]
    pub fn has_elsewhere(&self, instance: u32, path: &Path) -> bool {
        let mut those = self.mounts.iter().filter(|mount| mount.instance == instance);
        those.any(|mount| !mount.here && path.starts_with(&mount.point))
    }
}

/// The device number that `major:minor` means, as `stat(2)` says it.
fn device(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once(':')?;
    u32::try_from(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?)).ok()
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
    fn a_device_is_numbered_as_stat_numbers_it() {
        assert_eq!(device("0:38"), Some(38));
        assert_eq!(device("0:300"), Some(0x10_002c));
        assert_eq!(device("none"), None);
    }

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
