//! Purge: takes everything of Kmesh out of the kernel and off the disk, and proves it.
//!
//! ```text
//!  pins, cgroup, directories → find → Plan (steps, pure data) → run → residue
//! ```
//!
//! Links go first, so that steering ends before the tables go; then programs, the sockhash
//! attachment, maps, pods' directories, directories, files. It goes on past errors, and looks
//! again at the end. It may be killed at any step: what is left is found again.
//!
//! It refuses what is not Kmesh's: foreign objects beside ours are left alone. The caller holds
//! the writer's lock.

mod census;
mod disk;
mod find;
mod residue;
mod stray;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::kernel::{Id, KernelError, Objects};
use crate::layout::Hook;
use crate::mounts::BpfMounts;

pub use find::plan;
pub use residue::{Residue, residue};
pub use stray::{Strays, strays};

/// Where Kmesh keeps what purge removes.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// The directory of pins on the BPF file system.
    pub root: &'a Path,
    /// The cgroup that is governed; `None` where it cannot be told.
    pub cgroup: Option<&'a Path>,
    /// The BPF file systems in sight.
    pub mounts: &'a BpfMounts,
    /// Files that outlive a reboot.
    pub state_dir: &'a Path,
    /// Files that do not.
    pub run_dir: &'a Path,
}

/// One thing that purge does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Detach a link from its hook.
    Detach {
        /// Its id.
        link: u32,
        /// Its hook's name or its pin.
        what: String,
    },
    /// Remove a pin or symbolic link.
    Unpin {
        /// Where.
        path: PathBuf,
        /// What lies there.
        what: String,
    },
    /// Detach the `sk_msg` program from the sockhash.
    DetachSockhash {
        /// The program's id.
        prog: u32,
        /// The sockhash's id.
        map: u32,
    },
    /// Detach a program that was attached to the cgroup without a link.
    DetachCgroup {
        /// Its hook.
        hook: Hook,
        /// The program's id.
        prog: u32,
        /// The cgroup.
        cgroup: PathBuf,
    },
    /// Remove a directory on the BPF file system.
    RemovePinDir(PathBuf),
    /// Remove a file of the state or run directory.
    RemoveFile(PathBuf),
    /// Remove the state or run directory.
    RemoveDir(PathBuf),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detach { link, what } => write!(f, "detach {what} (link {link})"),
            Self::Unpin { path, what } => write!(f, "unpin {} ({what})", path.display()),
            Self::DetachSockhash { prog, map } => {
                write!(f, "detach sk_msg (program {prog}) from the sockhash (map {map})")
            }
            Self::DetachCgroup { hook, prog, cgroup } => {
                let (hook, cgroup) = (hook.name(), cgroup.display());
                write!(f, "detach {hook} (program {prog}, without a link) from {cgroup}")
            }
            Self::RemovePinDir(path) | Self::RemoveDir(path) => {
                write!(f, "remove directory {}", path.display())
            }
            Self::RemoveFile(path) => write!(f, "remove {}", path.display()),
        }
    }
}

/// What purge is going to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// Kernel objects that must be gone afterwards.
    pub objects: BTreeSet<Id>,
    /// What lies among ours and is not ours: left alone.
    pub foreign: Vec<String>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.objects.is_empty()
    }
}

/// Why purge could not see what there is.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// The kernel did not answer.
    #[error("look for what Kmesh left in the kernel")]
    Kernel(#[source] KernelError),
    /// A directory could not be read.
    #[error("read {}", path.display())]
    Files {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// A step that failed; the others were done.
#[derive(Debug)]
pub struct Failure {
    /// Which.
    pub step: Step,
    /// Why.
    pub error: PurgeStepError,
}

/// Why one step failed.
#[derive(Debug, thiserror::Error)]
pub enum PurgeStepError {
    /// A kernel object.
    #[error(transparent)]
    Kernel(KernelError),
    /// A file.
    #[error("remove {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// What purge did.
#[derive(Debug, Default)]
pub struct Purged {
    /// Steps done.
    pub done: usize,
    /// Steps that failed.
    pub failures: Vec<Failure>,
    /// What is still there.
    pub left: Vec<Residue>,
}

/// Does `plan`, step by step, and looks at what is left. `progress` hears how many of how many
/// steps are done.
pub fn run(
    k: &mut dyn Objects,
    places: &Places<'_>,
    plan: &Plan,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Purged, PurgeError> {
    let mut purged = take_all(k, plan, progress);
    purged.left = residue(k, places, &plan.objects)?;
    Ok(purged)
}

/// Takes every step, past failures.
fn take_all(k: &mut dyn Objects, plan: &Plan, progress: &mut dyn FnMut(usize, usize)) -> Purged {
    let mut purged = Purged::default();
    for (at, step) in plan.steps.iter().enumerate() {
        match take(k, step) {
            Ok(()) => purged.done += 1,
            Err(error) => purged.failures.push(Failure { step: step.clone(), error }),
        }
        progress(at + 1, plan.steps.len());
    }
    purged
}

/// Takes one step.
fn take(k: &mut dyn Objects, step: &Step) -> Result<(), PurgeStepError> {
    match step {
        Step::Detach { link, .. } => k.link_detach(*link).map_err(PurgeStepError::Kernel),
        Step::Unpin { path, .. } => k.unpin(path).map_err(PurgeStepError::Kernel),
        Step::DetachSockhash { prog, map } => {
            k.detach_sockhash(*prog, *map).map_err(PurgeStepError::Kernel)
        }
        Step::DetachCgroup { hook, prog, cgroup } => {
            k.detach_cgroup(*hook, *prog, cgroup).map_err(PurgeStepError::Kernel)
        }
        Step::RemovePinDir(path) => k.remove_dir(path).map_err(PurgeStepError::Kernel),
        Step::RemoveFile(path) => gone(path, std::fs::remove_file(path)),
        Step::RemoveDir(path) => gone(path, std::fs::remove_dir(path)),
    }
}

/// A file that is not there is as good as removed.
fn gone(path: &Path, result: std::io::Result<()>) -> Result<(), PurgeStepError> {
    match result {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(PurgeStepError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Whether another file system begins at `dir`: a directory that is not ours to remove.
fn is_mount(dir: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    dir.parent().is_some_and(|parent| device(dir) != device(parent))
}
