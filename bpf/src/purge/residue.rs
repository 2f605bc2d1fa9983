//! Looks again after purge: kernel objects by id, pins, files; and who holds what is left.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::holders::{self, Process};
use crate::kernel::{EntryKind, Id, KernelError, Objects, Pinned};

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
    let held = holders::holders(&alive.iter().map(|(id, _)| *id).collect());
    let mut left: Vec<Residue> = alive
        .into_iter()
        .map(|(id, what)| Residue {
            what: match held.get(&id) {
                Some(_) => what,
                None => format!("{what}: no process holds it; it is pinned elsewhere"),
            },
            held_by: held.get(&id).into_iter().flatten().cloned().collect(),
        })
        .collect();
    pins(k, places.root, &mut left).map_err(PurgeError::Kernel)?;
    for dir in [places.state_dir, places.run_dir] {
        files(dir, &mut left);
    }
    Ok(left)
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
