//! The writer's lock: an exclusive `flock` on the root directory.
//!
//! It refuses a root that is not on a BPF file system, and the default root on one that would
//! vanish with this container. The holder is found in `/proc/locks`, so that holding the lock
//! writes nothing anywhere.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::LockType;
use procfs::process::{MountInfo, MountOptFields};
use rustix::fs::{FlockOperation, StatVfsMountFlags, flock, major, minor, statfs, statvfs};
use rustix::io::Errno;

use crate::clock::process_start_of;
use crate::pins::{DEFAULT_ROOT, Root};
use crate::{mounts, netns};

/// `BPF_FS_MAGIC`, of `statfs(2)`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Where a machine's BPF file system is mounted: the default root lies there.
const BPFFS: &str = "/sys/fs/bpf";
/// The same place as the machine's first process sees it.
const HOSTS_BPFFS: &str = "/proc/1/root/sys/fs/bpf";
/// How often the root is locked anew because it was replaced meanwhile.
const ATTEMPTS: u32 = 10;
/// Between two looks for a holder who is not seen.
const PAUSE: Duration = Duration::from_millis(5);

/// The lock of the one writer; released by drop, and by the process' end however it ends.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct WriterLock {
    dir: OwnedFd,
}

/// Who holds the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id, as seen from here; 0 where it cannot be seen (another pid namespace).
    pub pid: u32,
    /// Its command line, blank-separated; empty where it cannot be read.
    pub command: String,
    /// Its start, in clock ticks since boot; 0 where it cannot be read.
    pub start: u64,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another writer has it.
    #[error("{} is being written by process {} ({})", root.display(), holder.pid, holder.command)]
    Held {
        /// The root.
        root: PathBuf,
        /// Who.
        holder: Holder,
    },
    /// The root is not on a BPF file system.
    #[error(
        "{} is not on a BPF file system; mount one (mount -t bpf bpf /sys/fs/bpf) or name another \
         place with --bpf-root", root.display()
    )]
    NotBpffs {
        /// The root.
        root: PathBuf,
    },
    /// Nothing can be written there.
    #[error(
        "the BPF file system at {} is mounted read-only; mount it anew (mount -o \
         remount,bind,rw /sys/fs/bpf), in a container without readOnly", root.display()
    )]
    ReadOnly {
        /// The root.
        root: PathBuf,
    },
    /// The BPF file system belongs to this container alone.
    #[error(
        "the BPF file system at {} is this container's own: governance would end with the \
         container. Mount the host's (hostPath /sys/fs/bpf, mountPropagation Bidirectional), or \
         name a place of your own with --bpf-root", root.display()
    )]
    Vanishes {
        /// The root.
        root: PathBuf,
    },
    /// The root is not there (only where the caller did not ask to make it).
    #[error("{} is not there", root.display())]
    Absent {
        /// The root.
        root: PathBuf,
    },
    /// A system call failed.
    #[error("{op} {}", path.display())]
    System {
        /// What was attempted.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Makes the root directory if need be and takes its lock without waiting. `own_place`: the
/// operator named the root, so that a private BPF file system is what he wants.
pub fn acquire(root: &Root, own_place: bool) -> Result<WriterLock, LockError> {
    check_place(root, own_place)?;
    // Removed and made again while we lock it: the lock would be of a directory that nobody sees.
    for _ in 0..ATTEMPTS {
        std::fs::create_dir_all(root.path())
            .map_err(|source| on(root, "make directory", source))?;
        if let Some(lock) = try_lock(root)? {
            return Ok(lock);
        }
    }
    let vanishing = io::Error::other("it is removed again and again while it is being locked");
    Err(on(root, "lock", vanishing))
}

/// As [`acquire`], but a root that is not there is [`LockError::Absent`]: for purge.
pub fn acquire_existing(root: &Root) -> Result<WriterLock, LockError> {
    if !root.path().exists() {
        return Err(LockError::Absent { root: root.path().to_owned() });
    }
    check_bpffs(root)?;
    try_lock(root)?.ok_or_else(|| LockError::Absent { root: root.path().to_owned() })
}

impl WriterLock {
    /// The lock for another process, which holds it beside this one once it called
    /// [`Self::inherit`].
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.dir.try_clone()
    }

    /// The lock that another process shared; from here on this process is named as the holder.
    /// Refused if it is not of this root.
    pub fn inherit(shared: OwnedFd, root: &Root) -> Result<Self, LockError> {
        let dir = File::from(shared);
        // To be named: the kernel keeps the name of whoever locked. Nobody else takes a shared
        // lock, so nobody comes between.
        for operation in
            [FlockOperation::NonBlockingLockShared, FlockOperation::NonBlockingLockExclusive]
        {
            flock(&dir, operation).map_err(|error| on(root, "lock", error.into()))?;
        }
        of_path(dir, root)?.ok_or_else(|| LockError::Absent { root: root.path().to_owned() })
    }
}

/// Who holds the writer's lock now, if anyone.
pub fn holder(root: &Root) -> Result<Option<Holder>, LockError> {
    let said = match std::fs::metadata(root.path()) {
        Ok(said) => said,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(on(root, "look at", source)),
    };
    let locks =
        procfs::locks().map_err(|error| on(root, "find the holder of", io::Error::other(error)))?;
    let found = locks.iter().find(|lock| {
        lock.lock_type == LockType::FLock
            && lock.inode == said.ino()
            && (lock.devmaj, lock.devmin) == (major(said.dev()), minor(said.dev()))
    });
    Ok(found.map(|lock| describe(lock.pid)))
}

/// Takes the lock; `None` when the directory at the path is another one by then.
fn try_lock(root: &Root) -> Result<Option<WriterLock>, LockError> {
    let dir = File::open(root.path()).map_err(|source| on(root, "open", source))?;
    for _ in 0..ATTEMPTS {
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return of_path(dir, root),
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(on(root, "lock", error.into())),
        }
        // Nobody: gone between the two questions, so that the lock may be had now.
        if let Some(holder) = holder(root)?.filter(|holder| !holder.command.is_empty()) {
            return Err(LockError::Held { root: root.path().to_owned(), holder });
        }
        std::thread::sleep(PAUSE);
    }
    let holder = holder(root)?.unwrap_or_else(|| describe(None));
    Err(LockError::Held { root: root.path().to_owned(), holder })
}

/// The lock, if the directory that was locked is the one at the path.
fn of_path(dir: File, root: &Root) -> Result<Option<WriterLock>, LockError> {
    let held = dir.metadata().map_err(|source| on(root, "look at", source))?;
    let same = std::fs::metadata(root.path())
        .is_ok_and(|seen| (seen.dev(), seen.ino()) == (held.dev(), held.ino()));
    Ok(same.then(|| WriterLock { dir: dir.into() }))
}

fn describe(pid: Option<i32>) -> Holder {
    let pid = pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim().to_owned();
    Holder { pid, command, start: process_start_of(pid).unwrap_or_default() }
}

/// Refuses what is not on a BPF file system, and one that ends with this container.
fn check_place(root: &Root, own_place: bool) -> Result<(), LockError> {
    check_bpffs(root)?;
    if own_place || is_hosts(root)? {
        return Ok(());
    }
    Err(LockError::Vanishes { root: root.path().to_owned() })
}

/// Whether the BPF file system under the default root is the machine's, not a container's own.
/// Any other root is a place of one's own, and right.
///
/// Where the machine's first process can be seen, its mount is compared; elsewhere a mount that
/// has no peer outside this mount namespace is a container's own.
pub fn is_hosts(root: &Root) -> Result<bool, LockError> {
    let place = existing(root.path());
    if root.path() != Path::new(DEFAULT_ROOT) {
        return Ok(true);
    }
    if sees_first_process() {
        let device = |path| std::fs::metadata(path).map(|said| said.dev());
        if let (Ok(host), Ok(here)) = (device(HOSTS_BPFFS), device(BPFFS)) {
            return Ok(host == here);
        }
    }
    let mounts = mounts::of(None).map_err(|source| on(root, "find the mount of", source))?;
    let mount = mounts::at(&mounts, place);
    Ok(!mount.is_some_and(|mount| vanishes(&mount, in_first_mount_namespace())))
}

/// Whether a BPF file system ends with this container: it is seen from a mount namespace other
/// than the first process', and the mount has no peer outside (neither `shared:` nor `master:`).
fn vanishes(mount: &MountInfo, first_mount_namespace: bool) -> bool {
    let has_peer = mount
        .opt_fields
        .iter()
        .any(|field| matches!(field, MountOptFields::Shared(_) | MountOptFields::Master(_)));
    !first_mount_namespace && !has_peer
}

/// Whether this process is in the mount namespace of the machine's first process. In a pid
/// namespace of its own it is not: the process 1 that it sees is the container's.
fn in_first_mount_namespace() -> bool {
    let link = |path| std::fs::read_link(path).ok();
    let own = link("/proc/self/ns/mnt");
    sees_first_process() && own.is_some() && own == link("/proc/1/ns/mnt")
}

/// Whether process 1, as seen from here, is the machine's first.
fn sees_first_process() -> bool {
    std::fs::read_link("/proc/self/ns/pid")
        .is_ok_and(|pids| pids.as_os_str() == netns::INITIAL_PID_NAMESPACE)
}

fn check_bpffs(root: &Root) -> Result<(), LockError> {
    let place = existing(root.path());
    let said = statfs(place).map_err(|error| on(root, "look at", error.into()))?;
    if u64::try_from(said.f_type).ok() != Some(BPF_FS_MAGIC) {
        return Err(LockError::NotBpffs { root: root.path().to_owned() });
    }
    let said = statvfs(place).map_err(|error| on(root, "look at", error.into()))?;
    if said.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(LockError::ReadOnly { root: root.path().to_owned() });
    }
    Ok(())
}

/// The path itself or its nearest parent that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"))
}

fn on(root: &Root, op: &'static str, source: io::Error) -> LockError {
    LockError::System { op, path: root.path().to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bpffs(optional: &str) -> MountInfo {
        let line = format!("41 31 0:38 / /sys/fs/bpf rw,relatime{optional} - bpf bpf rw");
        MountInfo::from_line(&line).expect("a mountinfo line")
    }

    #[test]
    fn only_a_containers_own_file_system_vanishes() {
        assert!(vanishes(&bpffs(""), false));
        assert!(!vanishes(&bpffs(""), true));
        assert!(!vanishes(&bpffs(" shared:7"), false));
        assert!(!vanishes(&bpffs(" master:7"), false));
    }

    #[test]
    fn a_root_on_another_file_system_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Root::new(dir.path().join("kmesh"));
        assert!(matches!(acquire(&root, true), Err(LockError::NotBpffs { .. })));
        assert!(!root.path().exists(), "a refused root is not made");
    }
}
