//! The pins of the maps: there, ours, of this layout.

use std::collections::BTreeSet;

use crate::check::{Finding, Severity};
use crate::kernel::{Id, Kernel, KernelError, MapInfo, Pinned};
use crate::layout::{Hook, Map};
use crate::ours;
use crate::pins::Root;

/// What the look at the pins gave.
pub(super) struct Maps {
    /// Pins that hold what they should; they are open now.
    pub(super) sound: BTreeSet<Map>,
    /// What is wrong with the others.
    pub(super) findings: Vec<Finding>,
}

/// Looks at every map's pin and opens those that are sound.
pub(super) fn look(k: &mut dyn Kernel, root: &Root) -> Result<Maps, KernelError> {
    let mut maps = Maps { sound: BTreeSet::new(), findings: Vec::new() };
    for map in Map::ALL {
        let path = root.map(map);
        match k.pinned(&path)? {
            Some(Pinned::Map(info)) if ours::has_shape(map, &info) && is_named(map, &info) => {
                if map.shape().kind.number() != SK_STORAGE {
                    k.open_map(map, &path)?;
                }
                maps.sound.insert(map);
            }
            Some(Pinned::Map(info)) if is_named(map, &info) => {
                maps.findings.push(other_layout(root, map, &info));
            }
            Some(other) => maps.findings.push(foreign(root, map, &other)),
            None => {
                let alive = alive(k, root, map)?;
                maps.findings.push(missing(root, map, alive));
            }
        }
    }
    Ok(maps)
}

/// Socket storage has no elements to read by key.
const SK_STORAGE: u32 = 24;

fn is_named(map: Map, info: &MapInfo) -> bool {
    ours::map_named(info) == Some(map)
}

/// The id of a map without its pin, where a program of ours still uses it.
fn alive(k: &dyn Kernel, root: &Root, map: Map) -> Result<Option<u32>, KernelError> {
    for hook in Hook::ALL {
        let mut progs = Vec::new();
        if let Some(Pinned::Prog(info)) = k.pinned(&root.prog(hook))? {
            progs.push(info);
        }
        if let Some(Pinned::Link(link)) = k.pinned(&root.link(hook))?
            && let Some(Pinned::Prog(info)) = k.by_id(Id::Prog(link.prog_id))?
        {
            progs.push(info);
        }
        for id in progs.iter().flat_map(|prog| &prog.map_ids) {
            if let Some(Pinned::Map(info)) = k.by_id(Id::Map(*id))?
                && is_named(map, &info)
            {
                return Ok(Some(info.id));
            }
        }
    }
    Ok(None)
}

fn finding(root: &Root, map: Map, problem: String, fix: String) -> Finding {
    Finding {
        severity: Severity::Error,
        layer: "pins",
        object: root.map(map).display().to_string(),
        problem,
        fix,
    }
}

fn missing(root: &Root, map: Map, alive: Option<u32>) -> Finding {
    match alive {
        Some(id) => finding(
            root,
            map,
            format!("its pin is missing; the programs still use the map (id {id})"),
            "start kmeshd: it pins the map again".to_owned(),
        ),
        None => finding(
            root,
            map,
            "the map is missing, and nothing uses it any more".to_owned(),
            "start kmeshd: it makes the map again".to_owned(),
        ),
    }
}

fn other_layout(root: &Root, map: Map, info: &MapInfo) -> Finding {
    let shape = map.shape();
    let problem = format!(
        "the map is of another layout: key {} B, value {} B, flags {:#x} instead of {} B, {} B, \
         {:#x}",
        info.key_size, info.value_size, info.flags, shape.key_size, shape.value_size, shape.flags
    );
    finding(root, map, problem, "use the build that made it, or kmeshctl purge".to_owned())
}

fn foreign(root: &Root, map: Map, pinned: &Pinned) -> Finding {
    let what = match pinned {
        Pinned::Map(info) => format!("map \"{}\" (id {})", info.name, info.id),
        Pinned::Prog(info) => format!("program \"{}\" (id {})", info.name, info.id),
        Pinned::Link(info) => format!("link {}", info.id),
    };
    let fix = format!("rm {}, then start kmeshd", root.map(map).display());
    finding(root, map, format!("a foreign {what} is pinned in its place"), fix)
}
