//! Looks again after purge: kernel objects by id, pins, files; and who holds what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::holders::{self, Process};
use crate::kernel::{EntryKind, Id, KernelError, Objects, Pinned};
use crate::mounts::BpfMounts;

use super::{Places, PurgeError, is_mount};

/// The kernel frees objects after a grace period of its own: how long that may take.
const FREED_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Something that is still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residue {
    /// What, in words.
    pub what: String,
    /// The processes that hold it open.
    pub held_by: Vec<Process>,
}

impl std::fmt::Display for Residue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        if !self.held_by.is_empty() {
            let names: Vec<_> = self.held_by.iter().map(ToString::to_string).collect();
            write!(f, ": held open by {}; end it, and it goes", names.join(", "))?;
        }
        Ok(())
    }
}

/// What is left of `objects`, of the pins under the root and of the files.
pub fn residue(
    k: &dyn Objects,
    places: &Places<'_>,
    objects: &BTreeSet<Id>,
) -> Result<Vec<Residue>, PurgeError> {
    let alive = wait_freed(k, objects).map_err(PurgeError::Kernel)?;
    let ids = alive.iter().map(|(id, _)| *id).collect();
    let held = holders::holders(&ids);
    let pinned = pinned_at(k, places.mounts, &ids);
    let mut left: Vec<Residue> = alive
        .into_iter()
        .map(|(id, what)| {
            let held_by: Vec<_> = held.get(&id).into_iter().flatten().cloned().collect();
            let pins = pinned.get(&id).map(Vec::as_slice).unwrap_or_default();
            Residue { what: kept(what, pins, &held_by), held_by }
        })
        .collect();
    if k.instance(places.root).map_err(PurgeError::Kernel)?.is_some() {
        pins(k, places.root, &mut left).map_err(PurgeError::Kernel)?;
    }
    for dir in [places.state_dir, places.run_dir] {
        files(dir, &mut left);
    }
    Ok(left)
}

/// An object in words, with where it is pinned; what nothing in sight keeps is said to be so.
fn kept(what: String, pins: &[PathBuf], held_by: &[Process]) -> String {
    let pins: Vec<_> = pins.iter().map(|path| path.display().to_string()).collect();
    match (pins.as_slice(), held_by) {
        ([], []) => format!(
            "{what}: no process and no pin in sight keeps it; it is attached to something (see \
             `bpftool net`), or kept by a process of another pid namespace"
        ),
        ([], _) => what,
        (pins, _) => format!("{what}: pinned at {}; remove that, and it goes", pins.join(", ")),
    }
}

/// Where these objects are pinned, on any BPF file system in sight.
fn pinned_at(
    k: &dyn Objects,
    mounts: &BpfMounts,
    ids: &BTreeSet<Id>,
) -> BTreeMap<Id, Vec<PathBuf>> {
    let mut found = BTreeMap::new();
    if ids.is_empty() {
        return found;
    }
    let mut seen = BTreeSet::new();
    for mount in &mounts.mounts {
        if seen.insert(mount.instance) {
            find_pins(k, &mount.path, ids, &mut found);
        }
    }
    found
}

/// Looks through a directory; what cannot be looked at is passed over.
fn find_pins(
    k: &dyn Objects,
    dir: &Path,
    ids: &BTreeSet<Id>,
    found: &mut BTreeMap<Id, Vec<PathBuf>>,
) {
    for (name, kind) in k.list(dir).ok().flatten().unwrap_or_default() {
        let path = dir.join(name);
        match kind {
            EntryKind::Dir => find_pins(k, &path, ids, found),
            EntryKind::Symlink(_) => {}
            EntryKind::Pin => {
                let id = match k.pinned(&path) {
                    Ok(Some(Pinned::Map(info))) => Id::Map(info.id),
                    Ok(Some(Pinned::Prog(info))) => Id::Prog(info.id),
                    Ok(Some(Pinned::Link(info))) => Id::Link(info.id),
                    _ => continue,
                };
                if ids.contains(&id) {
                    found.entry(id).or_default().push(path);
                }
            }
        }
    }
}

/// Waits a bounded time for the kernel to free the objects; those that stay, in words.
fn wait_freed(k: &dyn Objects, objects: &BTreeSet<Id>) -> Result<Vec<(Id, String)>, KernelError> {
    let deadline = Instant::now() + FREED_WITHIN;
    loop {
        let mut alive = Vec::new();
        for id in objects {
            if let Some(pinned) = k.by_id(*id)? {
                alive.push((*id, words(&pinned)));
            }
        }
        if alive.is_empty() || Instant::now() >= deadline {
            return Ok(alive);
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn words(pinned: &Pinned) -> String {
    match pinned {
        Pinned::Map(info) => format!("map {} (id {})", info.name, info.id),
        Pinned::Prog(info) => format!("program {} (id {})", info.name, info.id),
        Pinned::Link(info) => format!("link {} of program {}", info.id, info.prog_id),
    }
}

/// Pins, symbolic links and non-empty directories that are left.
fn pins(k: &dyn Objects, dir: &Path, left: &mut Vec<Residue>) -> Result<(), KernelError> {
    let Some(entries) = k.list(dir)? else {
        return Ok(());
    };
    for (name, kind) in entries {
        let path = dir.join(name);
        if kind == EntryKind::Dir {
            let before = left.len();
            pins(k, &path, left)?;
            if left.len() > before {
                continue;
            }
        }
        left.push(Residue { what: path.display().to_string(), held_by: Vec::new() });
    }
    Ok(())
}

fn files(dir: &Path, left: &mut Vec<Residue>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    if paths.is_empty() && !is_mount(dir) {
        paths.push(dir.to_owned());
    }
    left.extend(
        paths.iter().map(|path| Residue { what: path.display().to_string(), held_by: Vec::new() }),
    );
}
