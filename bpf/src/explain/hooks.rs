//! What runs at the hooks that a connection meets.

use std::path::Path;

use super::ExplainError;
use super::inbound::PodHere;
use super::said::HookSaid;
use crate::kernel::{Id, Kernel, KernelError, Pinned};
use crate::layout::{Hook, Map};
use crate::ours;
use crate::pins::Root;
use crate::pods::{self, Record};

/// The enrolled pods of this node, and whether the program of each decides.
pub(super) fn pods(k: &dyn Kernel, root: &Root) -> Result<Vec<PodHere>, ExplainError> {
    let records = pods::list(k, root).map_err(ExplainError::Pods)?;
    let enrolled = records.into_iter().filter(|record| record.word.is_some());
    let here = |record: Record| {
        let path = root.pod(record.cookie).join(Hook::SkLookup.name());
        let hooked = match k.pinned(&path).map_err(ExplainError::Kernel)? {
            Some(Pinned::Link(link)) => link.cgroup_id != 0,
            _ => false,
        };
        Ok(PodHere { cookie: record.cookie, uid: record.uid, hooked })
    };
    enrolled.map(here).collect()
}

/// The hook, as it is for connections of this cgroup: ours is effective where our program runs on
/// the pinned tables, whatever became of its pins.
pub(super) fn look(
    k: &dyn Kernel,
    root: &Root,
    cgroup: &Path,
    hook: Hook,
) -> Result<HookSaid, KernelError> {
    let ids = if hook.on_cgroup() {
        k.effective(hook, cgroup)?
    } else {
        match k.pinned(&root.map(Map::Socket))? {
            Some(Pinned::Map(info)) => k.sockhash_programs(info.id)?,
            _ => Vec::new(),
        }
    };
    let table = match k.pinned(&root.map(Map::Settings))? {
        Some(Pinned::Map(info)) => Some(info.id),
        _ => None,
    };
    let mut said = HookSaid { hook: hook.name(), effective: false, order: Vec::new() };
    for id in ids {
        if let Some(Pinned::Prog(prog)) = k.by_id(Id::Prog(id))? {
            let ours = ours::prog_named(&prog) == Some(hook);
            said.effective |= ours && table.is_some_and(|table| prog.map_ids.contains(&table));
            said.order.push(prog.name);
        }
    }
    Ok(said)
}
