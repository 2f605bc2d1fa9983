//! A pod's hook: its copy of the authorization program, in a link of its network namespace that is
//! pinned as `pods/<cookie>/sk_lookup`. The symbolic link `build` beside it says of which build
//! which program is, so that an identical one is known without loading.
//!
//! ```text
//!  load aside → say it in `build` → attach a link, or put it into the one that is there → drop aside
//! ```
//! Every step may be the last one: `build` names the program, so it is believed only once that
//! program is in the link. It refuses a foreign object in the place of the link.

use std::path::{Path, PathBuf};

use crate::kernel::{EntryKind, Id, Kernel, KernelError, LinkInfo, Pinned, ProgInfo};
use crate::layout::{Hook, Map};
use crate::ours;
use crate::pins::{self, Root};

use super::{PodsError, symlink};

/// The symbolic link that says what was built.
const BUILD: &str = "build";

/// What was done for a pod's hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooked {
    /// It was as it should be: nothing was loaded.
    Kept,
    /// There was none: it was attached.
    Attached,
    /// Another build's program was replaced, atomically.
    Replaced,
}

/// How a pod's hook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookCondition {
    /// This build's program decides, on the pinned maps.
    Current,
    /// There is no link.
    Absent,
    /// The link leads nowhere: its namespace is gone, or somebody detached it.
    Detached,
    /// Another build's program decides, or one of this build on maps that are not the pinned ones.
    Stale,
    /// Somebody put another program into the link: its name.
    Strange(String),
    /// Something else is pinned in the place of the link: what it is.
    Foreign(String),
}

/// Everything known about a pod's hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodHook {
    /// The cookie of its network namespace.
    pub cookie: u64,
    /// How it is.
    pub condition: HookCondition,
    /// The link.
    pub link: Option<LinkInfo>,
    /// The program in the link.
    pub program: Option<ProgInfo>,
    /// The build that the program is of, where `build` speaks of it.
    pub build: Option<u64>,
    /// A program waits aside that no link holds, or no link held yet.
    pub(super) aside: bool,
}

/// What all pods' hooks are judged by: this build, and the pinned maps.
pub struct Ground {
    /// The build id of this build's program.
    pub build: u64,
    maps: Vec<u32>,
}

impl Ground {
    /// As it is now.
    pub fn of(k: &dyn Kernel, root: &Root) -> Result<Self, KernelError> {
        let mut maps = Vec::new();
        for map in Map::ALL {
            if let Some(Pinned::Map(info)) = k.pinned(&root.map(map))? {
                maps.push(info.id);
            }
        }
        Ok(Self { build: k.build(Hook::SkLookup), maps })
    }

    pub(super) fn is_on_maps(&self, program: &ProgInfo) -> bool {
        self.maps.iter().all(|map| program.map_ids.contains(map))
    }
}

impl PodHook {
    /// Of the pod with this cookie, as it is now.
    pub fn of(
        k: &dyn Kernel,
        root: &Root,
        ground: &Ground,
        cookie: u64,
    ) -> Result<Self, KernelError> {
        let entries = k.list(&root.pod(cookie))?.unwrap_or_default();
        let aside = root.pod_prog_new(cookie);
        let aside = entries.iter().any(|(name, _)| aside.ends_with(name));
        let absent = HookCondition::Absent;
        let mut hook =
            Self { cookie, condition: absent, link: None, program: None, build: None, aside };
        let link = match k.pinned(&root.pod_link(cookie))? {
            None => return Ok(hook),
            Some(Pinned::Link(link)) if ours::is_pod_link(&link) => link,
            Some(Pinned::Link(link)) => return Ok(hook.foreign(format!("link {}", link.id))),
            Some(Pinned::Prog(info)) => return Ok(hook.foreign(format!("program {}", info.name))),
            Some(Pinned::Map(info)) => return Ok(hook.foreign(format!("map {}", info.name))),
        };
        if let Some(Pinned::Prog(info)) = k.by_id(Id::Prog(link.prog_id))? {
            hook.program = Some(info);
        }
        hook.build =
            said_in(&entries, BUILD).filter(|said| said.1 == link.prog_id).map(|said| said.0);
        hook.condition = hook.judge(ground, &link);
        hook.link = Some(link);
        Ok(hook)
    }

    fn foreign(self, what: String) -> Self {
        Self { condition: HookCondition::Foreign(what), ..self }
    }

    fn judge(&self, ground: &Ground, link: &LinkInfo) -> HookCondition {
        if link.cgroup_id == 0 {
            return HookCondition::Detached;
        }
        match &self.program {
            Some(program) if ours::prog_named(program) == Some(Hook::SkLookup) => {
                if self.build == Some(ground.build) && ground.is_on_maps(program) {
                    HookCondition::Current
                } else {
                    HookCondition::Stale
                }
            }
            other => {
                let name = other.as_ref().map(|program| program.name.clone());
                HookCondition::Strange(name.unwrap_or_default())
            }
        }
    }

    /// Whether this hook needs nothing.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.condition == HookCondition::Current && !self.aside
    }

    /// Whether a program of Kmesh, of whatever build, decides about the pod's connections.
    #[must_use]
    pub fn decides(&self) -> bool {
        matches!(self.condition, HookCondition::Current | HookCondition::Stale)
    }
}

/// The text of a symbolic link that says of which build a program is.
pub(super) fn build_text(build: u64, prog_id: u32) -> String {
    format!("{build:016x} {prog_id}")
}

/// What such a symbolic link says: the build, and the id of the program that is of it.
pub(super) fn said_in(entries: &[(String, EntryKind)], name: &str) -> Option<(u64, u32)> {
    let (build, prog) = symlink(entries, name)?.split_once(' ')?;
    Some((u64::from_str_radix(build, 16).ok()?, prog.parse().ok()?))
}

/// The pod whose hook it is, for messages.
#[derive(Clone, Copy)]
pub(super) struct Whose<'a> {
    pub(super) cookie: u64,
    pub(super) uid: Option<&'a str>,
}

impl Whose<'_> {
    fn failed(self, netns: &Path, source: KernelError) -> PodsError {
        PodsError::Hook { pod: self.to_string(), netns: netns.to_owned(), source }
    }
}

impl std::fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.uid {
            Some(uid) => write!(f, "{uid} (netns cookie {})", self.cookie),
            None => write!(f, "with netns cookie {}", self.cookie),
        }
    }
}

/// Brings a pod's hook to this build's program, in the namespace at `netns`. The caller holds the
/// lock on `pods/`, and has written the pod's word.
pub(super) fn ensure(
    k: &mut dyn Kernel,
    root: &Root,
    ground: &Ground,
    whose: Whose<'_>,
    netns: &Path,
) -> Result<Hooked, PodsError> {
    let failed = |source| whose.failed(netns, source);
    let cookie = whose.cookie;
    let hook = PodHook::of(k, root, ground, cookie).map_err(failed)?;
    let aside = root.pod_prog_new(cookie);
    if hook.aside {
        k.unpin(&aside).map_err(failed)?;
    }
    match &hook.condition {
        HookCondition::Current => return Ok(Hooked::Kept),
        HookCondition::Foreign(what) => {
            let path: PathBuf = root.pod_link(cookie);
            return Err(PodsError::Foreign { pod: whose.to_string(), path, what: what.clone() });
        }
        HookCondition::Absent | HookCondition::Detached => {
            // Where there is no namespace nothing needs to be loaded.
            k.attached(Hook::SkLookup, netns).map_err(failed)?;
        }
        HookCondition::Stale | HookCondition::Strange(_) => {}
    }
    let limits = pins::kept_limits(k, root);
    let loaded =
        k.load_pod(Hook::SkLookup, cookie, &root.maps(), &limits, &aside).map_err(failed)?;
    let stood = put(k, root, ground, &hook, (loaded.id, netns));
    // Whether it stands or not: nothing waits aside.
    k.unpin(&aside).map_err(failed)?;
    stood.map_err(failed)
}

/// Makes the program that waits aside stand in the namespace.
fn put(
    k: &mut dyn Kernel,
    root: &Root,
    ground: &Ground,
    hook: &PodHook,
    (program, netns): (u32, &Path),
) -> Result<Hooked, KernelError> {
    let (link, aside) = (root.pod_link(hook.cookie), root.pod_prog_new(hook.cookie));
    if hook.condition == HookCondition::Detached {
        // It does nothing any more.
        k.unpin(&link)?;
    }
    k.symlink(&root.pod(hook.cookie).join(BUILD), &build_text(ground.build, program))?;
    if matches!(hook.condition, HookCondition::Absent | HookCondition::Detached) {
        k.link_netns(&aside, hook.cookie, netns, &link)?;
        return Ok(Hooked::Attached);
    }
    k.link_update(Hook::SkLookup, &link, &aside)?;
    Ok(Hooked::Replaced)
}

/// Takes a pod's hook away, at once: unpinned only, it would run a moment longer. A foreign object
/// in its place is left to whoever removes the directory.
pub(super) fn detach(k: &mut dyn Kernel, root: &Root, cookie: u64) -> Result<(), KernelError> {
    match k.pinned(&root.pod_link(cookie))? {
        Some(Pinned::Link(link)) if ours::is_pod_link(&link) && link.cgroup_id != 0 => {
            k.link_detach(link.id)
        }
        _ => Ok(()),
    }
}
