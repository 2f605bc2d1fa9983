//! Who holds a BPF object open: the processes whose file descriptors say so.
//!
//! `/proc/PID/fdinfo/FD` names the id of the map, program or link behind a descriptor.
//! An object that outlives its pins is kept by such a process (or by a pin elsewhere).
//! It refuses nothing: a process that ends while it is looked at is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::kernel::Id;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command's name, as `/proc/PID/comm` says it.
    pub command: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

/// The processes that hold any of `ids` open, other than this one.
#[must_use]
pub fn holders(ids: &BTreeSet<Id>) -> BTreeMap<Id, BTreeSet<Process>> {
    holders_below(Path::new("/proc"), ids)
}

fn holders_below(proc: &Path, ids: &BTreeSet<Id>) -> BTreeMap<Id, BTreeSet<Process>> {
    let mut found: BTreeMap<Id, BTreeSet<Process>> = BTreeMap::new();
    if ids.is_empty() {
        return found;
    }
    for pid in numbers(proc) {
        if pid == std::process::id() {
            continue;
        }
        let dir = proc.join(pid.to_string());
        for fd in numbers(&dir.join("fdinfo")) {
            let Ok(text) = fs::read_to_string(dir.join("fdinfo").join(fd.to_string())) else {
                continue;
            };
            for id in ids_in(&text).into_iter().filter(|id| ids.contains(id)) {
                let command = fs::read_to_string(dir.join("comm")).unwrap_or_default();
                let process = Process { pid, command: command.trim().to_owned() };
                found.entry(id).or_default().insert(process);
            }
        }
    }
    found
}

/// Entries of a directory that are numbers; none if it cannot be read.
fn numbers(dir: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The objects that one fdinfo text names.
fn ids_in(text: &str) -> Vec<Id> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            let id = value.trim().parse().ok()?;
            match key {
                "map_id" => Some(Id::Map(id)),
                "prog_id" => Some(Id::Prog(id)),
                "link_id" => Some(Id::Link(id)),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_holds_a_map_is_named() {
        let proc = tempfile::tempdir().unwrap();
        let dir = proc.path().join("4000000/fdinfo");
        fs::create_dir_all(&dir).unwrap();
        fs::write(proc.path().join("4000000/comm"), "holder\n").unwrap();
        fs::write(dir.join("7"), "pos:\t0\nmap_type:\t1\nmap_id:\t42\n").unwrap();
        fs::write(dir.join("8"), "pos:\t0\nprog_id:\t42\n").unwrap();
        let found = holders_below(proc.path(), &BTreeSet::from([Id::Map(42), Id::Map(43)]));
        let process = Process { pid: 4_000_000, command: "holder".to_owned() };
        assert_eq!(found, BTreeMap::from([(Id::Map(42), BTreeSet::from([process]))]));
    }

    #[test]
    fn a_link_names_its_program_too() {
        let text = "link_type:\tcgroup\nlink_id:\t5\nprog_tag:\tab\nprog_id:\t9\n";
        assert_eq!(ids_in(text), [Id::Link(5), Id::Prog(9)]);
    }
}
