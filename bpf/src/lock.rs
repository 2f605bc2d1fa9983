//! The writer's lock: an exclusive `flock` on the root directory.
//!
//! It refuses a root that is not on a BPF file system, and the default root on one that would
//! vanish with this container. The holder is found in `/proc/locks`, so that holding the lock
//! writes nothing anywhere.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::pins::Root;

/// The lock of the one writer; released by drop, and by the process' end however it ends.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct WriterLock {
    _dir: OwnedFd,
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
pub fn acquire(_root: &Root, _own_place: bool) -> Result<WriterLock, LockError> {
    todo!()
}

/// As [`acquire`], but a root that is not there is [`LockError::Absent`]: for purge.
pub fn acquire_existing(_root: &Root) -> Result<WriterLock, LockError> {
    todo!()
}

/// Who holds the writer's lock now, if anyone.
pub fn holder(_root: &Root) -> Result<Option<Holder>, LockError> {
    todo!()
}
