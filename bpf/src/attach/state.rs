//! What is known about a hook: pins, link, program, maps, and what really runs at the cgroup.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::kernel::{Id, Kernel, KernelError, LinkInfo, Pinned, ProgInfo};
use crate::layout::{Hook, HookRecord, Map};
use crate::ours;
use crate::pins::Root;

/// Everything known about one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookState {
    /// Which.
    pub hook: Hook,
    /// What `progs/<hook>` holds.
    pub prog: Option<ProgInfo>,
    /// What `links/<hook>` holds; of the sk_msg hook always `None`: it has no link.
    pub link: Option<LinkInfo>,
    /// The id of the program that stands at the hook: in the link, or on the sockhash.
    pub standing: Option<u32>,
    /// What `kmesh_meta` says; zero where nothing does.
    pub record: HookRecord,
    /// The build id of this build's program.
    pub build: u64,
    /// The link holds the cgroup asked about (sk_msg: a program is on the pinned sockhash).
    pub attached: bool,
    /// The program that stands there runs for connections of this cgroup.
    pub effective: bool,
    /// All programs that run there, in order, ours among them.
    pub order: Vec<u32>,
    /// Maps of Kmesh's names that the program uses and that are not the pinned ones.
    pub strange_maps: Vec<u32>,
    /// Pins that hold something else than what belongs there, and what does.
    pub foreign: Vec<(PathBuf, &'static str)>,
}

impl HookState {
    /// Whether this hook needs nothing: pinned, effective, of this build, on the pinned maps.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.program_fits()
            && self.standing == Some(self.record.prog_id)
            && self.prog.as_ref().map(|prog| prog.id) == self.standing
            && self.attached
            && self.effective
            && self.foreign.is_empty()
    }

    /// Whether the program on record is there (at the hook or at its pin), of this build and on
    /// the pinned maps.
    pub(super) fn program_fits(&self) -> bool {
        let id = self.record.prog_id;
        let pinned = self.prog.as_ref().map(|prog| prog.id);
        id != 0
            && (self.standing == Some(id) || pinned == Some(id))
            && self.record.build == self.build
            && self.strange_maps.is_empty()
    }

    pub(super) fn of(
        k: &dyn Kernel,
        root: &Root,
        ground: &Ground,
        hook: Hook,
        record: HookRecord,
    ) -> Result<Self, KernelError> {
        let mut foreign = Vec::new();
        let prog = prog_at(k, &root.prog(hook), hook, &mut foreign)?;
        let link = link_at(k, &root.link(hook), hook, &mut foreign)?;
        let order = ground.order(k, hook)?;
        let standing = match (&link, hook.on_cgroup()) {
            (Some(link), true) => Some(link.prog_id),
            (None, true) => None,
            (_, false) => order.first().copied(),
        };
        let attached = match &link {
            Some(link) => link.cgroup_id == ground.cgroup_id,
            None => !hook.on_cgroup() && standing.is_some(),
        };
        let effective = standing.is_some_and(|id| order.contains(&id));
        let pinned = prog.as_ref().map(|prog| prog.id);
        let strange_maps = ground.strange_maps(k, judged(standing, pinned, record))?;
        let build = k.build(hook);
        Ok(Self {
            hook,
            prog,
            link,
            standing,
            record,
            build,
            attached,
            effective,
            order,
            strange_maps,
            foreign,
        })
    }
}

/// The program to judge: the one on record, which could be kept; else the one that stands there.
fn judged(standing: Option<u32>, pinned: Option<u32>, record: HookRecord) -> Option<u32> {
    let there = [standing, pinned];
    let on_record = there.into_iter().flatten();
    on_record.into_iter().find(|id| *id == record.prog_id).or(standing)
}

/// What all hooks share: the cgroup, and the ids of the pinned maps.
pub(super) struct Ground {
    pub(super) cgroup_id: u64,
    cgroup: PathBuf,
    maps: HashMap<Map, u32>,
}

impl Ground {
    pub(super) fn of(
        k: &dyn Kernel,
        root: &Root,
        cgroup: &Path,
        cgroup_id: u64,
    ) -> Result<Self, KernelError> {
        let mut maps = HashMap::new();
        for map in Map::ALL {
            if let Some(Pinned::Map(info)) = k.pinned(&root.map(map))? {
                maps.insert(map, info.id);
            }
        }
        Ok(Self { cgroup_id, cgroup: cgroup.to_owned(), maps })
    }

    /// The programs that run at the hook, in order.
    fn order(&self, k: &dyn Kernel, hook: Hook) -> Result<Vec<u32>, KernelError> {
        if hook.on_cgroup() {
            return k.effective(hook, &self.cgroup);
        }
        self.maps.get(&Map::Socket).map_or(Ok(Vec::new()), |id| k.sockhash_programs(*id))
    }

    /// Maps of our names that the program uses and that are not the pinned ones.
    fn strange_maps(&self, k: &dyn Kernel, prog: Option<u32>) -> Result<Vec<u32>, KernelError> {
        let Some(prog) = prog else {
            return Ok(Vec::new());
        };
        let Some(Pinned::Prog(info)) = k.by_id(Id::Prog(prog))? else {
            return Ok(Vec::new());
        };
        let mut strange = Vec::new();
        for id in info.map_ids {
            if let Some(Pinned::Map(info)) = k.by_id(Id::Map(id))?
                && let Some(map) = ours::map_named(&info)
                && self.maps.get(&map) != Some(&id)
            {
                strange.push(id);
            }
        }
        Ok(strange)
    }
}

fn prog_at(
    k: &dyn Kernel,
    path: &Path,
    hook: Hook,
    foreign: &mut Vec<(PathBuf, &'static str)>,
) -> Result<Option<ProgInfo>, KernelError> {
    match k.pinned(path)? {
        None => return Ok(None),
        Some(Pinned::Prog(info)) if ours::prog_named(&info) == Some(hook) => return Ok(Some(info)),
        Some(_) => foreign.push((path.to_owned(), "program")),
    }
    Ok(None)
}

fn link_at(
    k: &dyn Kernel,
    path: &Path,
    hook: Hook,
    foreign: &mut Vec<(PathBuf, &'static str)>,
) -> Result<Option<LinkInfo>, KernelError> {
    match k.pinned(path)? {
        None => return Ok(None),
        Some(Pinned::Link(info))
            if info.kind == ours::LINK_CGROUP && info.attach_type == hook.attach_type() =>
        {
            return Ok(Some(info));
        }
        Some(_) => foreign.push((path.to_owned(), "link")),
    }
    Ok(None)
}
