//! What a deleted pin leaves behind: maps that live on in programs, and the ends of tables that
//! only a lost `kmesh_meta` knew.

use std::collections::BTreeSet;
use std::path::Path;

use super::Root;
use crate::kernel::{EntryKind, Id, Kernel, KernelError, MapInfo, Pinned, Tables};
use crate::layout::Map;

/// Every map that a program uses which this root's links or pins hold, or those of its pods; those
/// of links first, since theirs is the traffic.
pub(super) fn reachable(k: &dyn Kernel, root: &Root) -> Result<Vec<MapInfo>, KernelError> {
    let mut programs = held(k, &root.links())?;
    programs.extend(held(k, &root.progs())?);
    for (pod, _) in k.list(&root.pods())?.unwrap_or_default() {
        programs.extend(held(k, &root.pods().join(pod))?);
    }
    let mut seen = BTreeSet::new();
    let mut maps = Vec::new();
    for program in programs {
        let Some(Pinned::Prog(info)) = k.by_id(Id::Prog(program))? else {
            continue;
        };
        for id in info.map_ids {
            if seen.insert(id)
                && let Some(Pinned::Map(info)) = k.by_id(Id::Map(id))?
            {
                maps.push(info);
            }
        }
    }
    Ok(maps)
}

/// Ids of the programs that the links and programs pinned in `dir` are.
fn held(k: &dyn Kernel, dir: &Path) -> Result<Vec<u32>, KernelError> {
    let mut programs = Vec::new();
    for (name, kind) in k.list(dir)?.unwrap_or_default() {
        if kind != EntryKind::Pin {
            continue;
        }
        match k.pinned(&dir.join(name))? {
            Some(Pinned::Link(info)) => programs.push(info.prog_id),
            Some(Pinned::Prog(info)) => programs.push(info.id),
            Some(Pinned::Map(_)) | None => {}
        }
    }
    Ok(programs)
}

/// The index behind the last element of an array that is not zero.
pub(super) fn end(k: &dyn Tables, map: Map) -> Result<u32, KernelError> {
    let size = map.shape().value_size as usize;
    let (mut at, mut end) = (0, 0);
    k.scan(map, u32::MAX, &mut |_, values| {
        for value in values.chunks_exact(size) {
            at += 1;
            if value.iter().any(|byte| *byte != 0) {
                end = at;
            }
        }
    })?;
    Ok(end)
}
