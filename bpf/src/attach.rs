//! Hooks: how this build's programs come to stand at the cgroup, and stay there.
//!
//! A hook that is already as it should be is left alone without loading anything. Another build's
//! program is replaced by an atomic link update. Nothing is ever detached to be attached again;
//! every step may be the last one of this process, the next run finishes.

use std::path::{Path, PathBuf};

use crate::kernel::{Kernel, KernelError, LinkInfo, ProgInfo};
use crate::layout::{Hook, HookRecord, Limits};
use crate::pins::Root;

/// Why the hooks could not be adopted.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// A foreign program forbids ours.
    #[error(
        "{} cannot be attached to {}: {who} is attached there exclusively, without \
         BPF_F_ALLOW_MULTI; detach it or attach it with that flag", hook.name(), cgroup.display()
    )]
    Exclusive {
        /// The hook.
        hook: Hook,
        /// The cgroup.
        cgroup: PathBuf,
        /// The programs that run there.
        who: String,
    },
    /// A pin holds something else than what belongs there.
    #[error(
        "{} is not Kmesh's {what}; it was left alone. `kmeshctl purge` removes it", path.display()
    )]
    Foreign {
        /// The pin.
        path: PathBuf,
        /// What should be there.
        what: &'static str,
    },
    /// The kernel refused.
    #[error("adopt hook {}", hook.name())]
    Kernel {
        /// The hook.
        hook: Hook,
        /// What it said.
        #[source]
        source: KernelError,
    },
}

/// What [`adopt_hooks`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HooksAdopted {
    /// Hooks that were as they should be: nothing was loaded or written.
    pub kept: Vec<Hook>,
    /// Hooks whose program was replaced, atomically.
    pub replaced: Vec<Hook>,
    /// Hooks that were attached (first start, cgroup gone, not effective).
    pub attached: Vec<Hook>,
    /// Hooks whose lost pin was made again.
    pub repinned: Vec<Hook>,
    /// Hooks that were removed, because the setting that wants them is off.
    pub removed: Vec<Hook>,
}

/// Everything known about one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookState {
    /// Which.
    pub hook: Hook,
    /// What `progs/<hook>` holds.
    pub prog: Option<ProgInfo>,
    /// What `links/<hook>` holds; of the sk_msg hook always `None`: it has no link.
    pub link: Option<LinkInfo>,
    /// The id of the program that really stands at the hook: by the link, or by the sockhash.
    pub standing: Option<u32>,
    /// What `kmesh_meta` says; zero where nothing does.
    pub record: HookRecord,
    /// The build id of this build's program.
    pub build: u64,
    /// The link holds the cgroup asked about (sk_msg: the program is attached to the pinned
    /// sockhash).
    pub attached: bool,
    /// The program that stands there runs for connections of this cgroup.
    pub effective: bool,
    /// All programs that run there, in order, ours among them.
    pub order: Vec<u32>,
    /// Maps of Kmesh's names that the program uses and that are not the pinned ones.
    pub strange_maps: Vec<u32>,
}

impl HookState {
    /// Whether this hook needs nothing: pinned, effective, of this build, on the pinned maps.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let standing = self.standing.is_some_and(|id| id == self.record.prog_id);
        standing
            && self.record.build == self.build
            && self.prog.as_ref().map(|prog| prog.id) == self.standing
            && self.attached
            && self.effective
            && self.strange_maps.is_empty()
    }
}

/// Brings every hook to this build's program at `cgroup`. The maps were adopted before, and the
/// tables are read after: this writes `kmesh_meta.hooks`, when something changed. `peername`:
/// the getpeername hooks are wanted.
pub fn adopt_hooks(
    _k: &mut dyn Kernel,
    _root: &Root,
    _cgroup: &Path,
    _limits: &Limits,
    _peername: bool,
) -> Result<HooksAdopted, AttachError> {
    todo!()
}

/// What stands at each hook, absent ones too. Changes nothing.
pub fn inspect(
    _k: &dyn Kernel,
    _root: &Root,
    _cgroup: &Path,
) -> Result<Vec<HookState>, AttachError> {
    todo!()
}
