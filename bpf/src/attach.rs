//! Hooks: how this build's programs come to stand at the cgroup, and stay there.
//!
//! A hook that is already as it should be is left alone without loading anything. Another build's
//! program is replaced by an atomic link update. Nothing is ever detached to be attached again;
//! every step may be the last one of this process, the next run finishes.

use std::path::{Path, PathBuf};

use crate::kernel::{Id, Kernel, KernelError, Pinned};
use crate::layout::{Hook, HookRecord, Limits};
use crate::pins::{self, Root};

mod state;

use state::Ground;
pub use state::HookState;

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
    /// The cgroup is not there, or is none.
    #[error("use {} as the cgroup; name the cgroup2 root with --cgroup", cgroup.display())]
    Cgroup {
        /// Its path.
        cgroup: PathBuf,
        /// What the kernel said.
        #[source]
        source: KernelError,
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

/// Brings every hook to this build's program at `cgroup`. The maps were adopted before, and the
/// tables are read after: this writes `kmesh_meta.hooks`, when something changed. `peername`:
/// the getpeername hooks are wanted. The caller holds the writer lock.
pub fn adopt_hooks(
    k: &mut dyn Kernel,
    root: &Root,
    cgroup: &Path,
    limits: &Limits,
    peername: bool,
) -> Result<HooksAdopted, AttachError> {
    let ground = ground_of(k, root, cgroup)?;
    let first = on(Hook::ALL[0]);
    for dir in [root.progs(), root.links()] {
        if k.list(&dir).map_err(&first)?.is_none() {
            k.make_dir(&dir).map_err(&first)?;
        }
    }
    let mut adopting = Adopting { k, root, cgroup, limits, ground, done: HooksAdopted::default() };
    for hook in Hook::ALL {
        if peername || !matches!(hook, Hook::GetPeerName4 | Hook::GetPeerName6) {
            adopting.adopt(hook)?;
        } else {
            adopting.remove(hook)?;
        }
    }
    Ok(adopting.done)
}

/// What stands at each hook, absent ones too. Changes nothing. Records are zero where
/// `kmesh_meta` was not opened.
pub fn inspect(k: &dyn Kernel, root: &Root, cgroup: &Path) -> Result<Vec<HookState>, AttachError> {
    let ground = ground_of(k, root, cgroup)?;
    let meta = pins::meta(k).unwrap_or_default();
    Hook::ALL
        .into_iter()
        .map(|hook| {
            HookState::of(k, root, &ground, hook, meta.hooks[hook.index()]).map_err(on(hook))
        })
        .collect()
}

/// The cgroup is looked at first of all: a wrong one is the operator's to mend.
fn ground_of(k: &dyn Kernel, root: &Root, cgroup: &Path) -> Result<Ground, AttachError> {
    let cgroup_id = k
        .cgroup_id(cgroup)
        .map_err(|source| AttachError::Cgroup { cgroup: cgroup.to_owned(), source })?;
    Ground::of(k, root, cgroup, cgroup_id).map_err(on(Hook::ALL[0]))
}

/// One run of [`adopt_hooks`].
struct Adopting<'a> {
    k: &'a mut dyn Kernel,
    root: &'a Root,
    cgroup: &'a Path,
    limits: &'a Limits,
    ground: Ground,
    done: HooksAdopted,
}

impl Adopting<'_> {
    fn state(&self, hook: Hook) -> Result<HookState, AttachError> {
        let meta = pins::meta(&*self.k).map_err(on(hook))?;
        let record = meta.hooks[hook.index()];
        let state =
            HookState::of(&*self.k, self.root, &self.ground, hook, record).map_err(on(hook))?;
        match state.foreign.first() {
            None => Ok(state),
            Some((path, what)) => Err(AttachError::Foreign { path: path.clone(), what }),
        }
    }

    fn adopt(&mut self, hook: Hook) -> Result<(), AttachError> {
        self.finish_link(hook)?;
        let state = self.state(hook)?;
        let standing = state.standing.filter(|_| state.attached && state.effective);
        let fits = state.program_fits();
        if let (Some(id), true) = (standing, fits && state.standing == Some(state.record.prog_id)) {
            return self.keep(&state, id);
        }
        let prog = if fits {
            self.pin_again(&state, state.record.prog_id)?;
            self.root.prog(hook)
        } else {
            self.load(hook)?
        };
        let replaced = if hook == Hook::SkMsg {
            let map = self.root.map(crate::layout::Map::Socket);
            self.k.attach_sockhash(&prog, &map).map_err(on(hook))?;
            state.standing.is_some()
        } else {
            self.put_into_link(&state, &prog)?
        };
        let aside = self.root.prog_new(hook);
        if prog == aside {
            self.k.rename(&aside, &self.root.prog(hook)).map_err(on(hook))?;
        }
        self.record(hook)?;
        if replaced {
            self.done.replaced.push(hook);
        } else {
            self.done.attached.push(hook);
        }
        Ok(())
    }

    /// A hook that is as it should be; its program's pin may have been lost.
    fn keep(&mut self, state: &HookState, standing: u32) -> Result<(), AttachError> {
        self.drop_aside(state.hook)?;
        if self.pin_again(state, standing)? {
            self.done.repinned.push(state.hook);
        } else {
            self.done.kept.push(state.hook);
        }
        Ok(())
    }

    /// Pins program `id` at its place unless it is there.
    fn pin_again(&mut self, state: &HookState, id: u32) -> Result<bool, AttachError> {
        let (hook, pinned) = (state.hook, state.prog.as_ref().map(|prog| prog.id));
        if pinned == Some(id) {
            return Ok(false);
        }
        self.drop_aside(hook)?;
        let aside = self.root.prog_new(hook);
        self.k.pin(Id::Prog(id), &aside).map_err(on(hook))?;
        self.k.rename(&aside, &self.root.prog(hook)).map_err(on(hook))?;
        Ok(true)
    }

    /// Loads this build's program aside.
    fn load(&mut self, hook: Hook) -> Result<PathBuf, AttachError> {
        self.drop_aside(hook)?;
        let aside = self.root.prog_new(hook);
        self.k.load(hook, &self.root.maps(), self.limits, &aside).map_err(on(hook))?;
        Ok(aside)
    }

    /// Makes the program at `prog` stand at the cgroup; true where another one stood there.
    fn put_into_link(&mut self, state: &HookState, prog: &Path) -> Result<bool, AttachError> {
        let hook = state.hook;
        let link = self.root.link(hook);
        if state.attached && state.effective {
            self.k.link_update(hook, &link, prog).map_err(on(hook))?;
            return Ok(true);
        }
        if state.link.is_none() {
            self.attach(hook, prog, &link)?;
            return Ok(false);
        }
        // The old link stays until the new one stands: it may hold another cgroup.
        let aside = self.root.link_new(hook);
        self.attach(hook, prog, &aside)?;
        self.k.rename(&aside, &link).map_err(on(hook))?;
        Ok(false)
    }

    fn attach(&mut self, hook: Hook, prog: &Path, link: &Path) -> Result<(), AttachError> {
        let answer = self.k.link_cgroup(hook, prog, self.cgroup, link);
        let Err(source) = answer else { return Ok(()) };
        let refused = matches!(
            &source,
            KernelError::Attach { source, .. } if source.raw_os_error() == Some(libc::EPERM)
        );
        let there = self.k.effective(hook, self.cgroup).map_err(on(hook))?;
        if !refused || there.is_empty() {
            return Err(AttachError::Kernel { hook, source });
        }
        let mut who = Vec::new();
        for id in there {
            let name = match self.k.by_id(Id::Prog(id)).map_err(on(hook))? {
                Some(Pinned::Prog(info)) => info.name,
                _ => "gone".to_owned(),
            };
            who.push(format!("program {id} ({name})"));
        }
        let (cgroup, who) = (self.cgroup.to_owned(), who.join(", "));
        Err(AttachError::Exclusive { hook, cgroup, who })
    }

    /// A link that a run before this one made and did not get to move to its place.
    fn finish_link(&mut self, hook: Hook) -> Result<(), AttachError> {
        let aside = self.root.link_new(hook);
        let Some(left) = self.k.pinned(&aside).map_err(on(hook))? else {
            return Ok(());
        };
        let there = self.k.pinned(&self.root.link(hook)).map_err(on(hook))?;
        let holds = |pinned: &Option<Pinned>| {
            let wanted = self.ground.cgroup_id;
            matches!(pinned, Some(Pinned::Link(link)) if link.cgroup_id == wanted)
        };
        let left = Some(left);
        if holds(&left) && !holds(&there) {
            let place = self.root.link(hook);
            return self.k.rename(&aside, &place).map_err(on(hook));
        }
        if let Some(Pinned::Link(link)) = left {
            // Unpinned only, it would run a moment longer: the kernel lets links go later.
            self.k.link_detach(link.id).map_err(on(hook))?;
        }
        self.k.unpin(&aside).map_err(on(hook))
    }

    /// Removes the program that a run before this one loaded and did not get to attach.
    fn drop_aside(&mut self, hook: Hook) -> Result<(), AttachError> {
        let aside = self.root.prog_new(hook);
        if self.k.pinned(&aside).map_err(on(hook))?.is_some() {
            self.k.unpin(&aside).map_err(on(hook))?;
        }
        Ok(())
    }

    /// Notes in `kmesh_meta` which build stands at the hook now, unless it says so.
    fn record(&mut self, hook: Hook) -> Result<(), AttachError> {
        let pinned = self.k.pinned(&self.root.prog(hook)).map_err(on(hook))?;
        let Some(Pinned::Prog(info)) = pinned else {
            let path = self.root.prog(hook);
            return Err(AttachError::Foreign { path, what: "program" });
        };
        let record = HookRecord { build: self.k.build(hook), prog_id: info.id, pad: 0 };
        self.write(hook, record)
    }

    fn write(&mut self, hook: Hook, record: HookRecord) -> Result<(), AttachError> {
        let mut meta = pins::meta(&*self.k).map_err(on(hook))?;
        if meta.hooks[hook.index()] != record {
            meta.hooks[hook.index()] = record;
            pins::write_meta(self.k, &meta).map_err(on(hook))?;
        }
        Ok(())
    }

    /// Takes away a hook whose setting is off.
    fn remove(&mut self, hook: Hook) -> Result<(), AttachError> {
        self.drop_aside(hook)?;
        let mut removed = false;
        for path in [self.root.link_new(hook), self.root.link(hook)] {
            if let Some(Pinned::Link(info)) = self.k.pinned(&path).map_err(on(hook))? {
                self.k.link_detach(info.id).map_err(on(hook))?;
                self.k.unpin(&path).map_err(on(hook))?;
                removed = true;
            }
        }
        let prog = self.root.prog(hook);
        if let Some(Pinned::Prog(_)) = self.k.pinned(&prog).map_err(on(hook))? {
            self.k.unpin(&prog).map_err(on(hook))?;
            removed = true;
        }
        self.write(hook, HookRecord::default())?;
        if removed {
            self.done.removed.push(hook);
        }
        Ok(())
    }
}

fn on(hook: Hook) -> impl Fn(KernelError) -> AttachError {
    move |source| AttachError::Kernel { hook, source }
}
