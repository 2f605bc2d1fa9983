//! The record and its stages, on a directory of its own and the kernel in memory.

use std::path::Path;
use std::time::Duration;

use super::{RollbackError, begin, claim, confirm, forget, go_back, none_pending, update};
use crate::kernel::Objects as _;
use crate::memory::MemoryKernel;
use crate::pending::{Enrolled, Process, Stage, load as pending};
use crate::pins::Root;
use crate::places::{STATE_FILES, is_own_file};
use crate::restore::{self, Place, Wanted};
use crate::snapshot::Snapshot;

const OLD: &str = "
schemaVersion: 1
services: [{name: ns/old, port: 80, family: ipv4, kind: service, synced: true, vips: [10.96.0.1]}]
workloads: []";

struct World {
    k: MemoryKernel,
    root: Root,
    dir: tempfile::TempDir,
}

fn wanted(text: &str) -> Wanted {
    let snapshot = Snapshot::parse(text.as_bytes(), "file").unwrap();
    Wanted::new(snapshot, Vec::new(), None).unwrap()
}

impl World {
    fn new() -> Self {
        let mut k = MemoryKernel::default();
        k.add_cgroup("/cg");
        let root = Root::new("/bpf/kmesh");
        k.make_dir(root.path()).unwrap();
        let mut world = Self { k, root, dir: tempfile::tempdir().unwrap() };
        world.restore(OLD);
        world
    }

    fn restore(&mut self, text: &str) -> u64 {
        let place = Place { root: &self.root, cgroup: Path::new("/cg") };
        let restored = restore::run(&mut self.k, place, wanted(text), &mut |_, _| {}).unwrap();
        restored.applied.elements
    }

    fn begin(&mut self, text: &str) {
        let have = restore::present(&mut self.k, &self.root).unwrap().unwrap();
        let what = ("new.json".to_owned(), Duration::from_mins(1));
        begin(&self.k, &self.root, self.dir.path(), &have, &wanted(text), what).unwrap();
    }

    fn files(&self) -> Vec<String> {
        let entries = self.dir.path().read_dir().unwrap().map(Result::unwrap);
        let paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        assert!(paths.iter().all(|path| is_own_file(path, STATE_FILES)), "{paths:?}");
        let name = |path: &std::path::PathBuf| path.file_name().unwrap().display().to_string();
        paths.iter().map(name).collect()
    }
}

#[test]
fn what_was_before_comes_back_and_nothing_is_left_on_disk() {
    let mut world = World::new();
    let new = OLD.replace("ns/old", "ns/new");
    world.begin(&new);
    world.restore(&new);
    let mut record = pending(world.dir.path()).unwrap().unwrap();
    assert_eq!((record.stage, record.file.as_str()), (Stage::Restoring, "new.json"));
    record.settle();
    update(world.dir.path(), &record).unwrap();
    assert!(matches!(none_pending(world.dir.path()), Err(RollbackError::Pending { .. })));
    claim(world.dir.path(), &mut record).unwrap();
    assert_eq!(pending(world.dir.path()).unwrap().unwrap().stage, Stage::Going);
    assert!(matches!(confirm(world.dir.path()), Err(RollbackError::TooLate)));
    let place = Place { root: &world.root, cgroup: Path::new("/cg") };
    let back = go_back(&mut world.k, place, world.dir.path(), &record).unwrap();
    assert!(back.applied.elements > 0 && back.report.is_good());
    assert_eq!(world.restore(OLD), 0);
    assert_eq!(world.files(), Vec::<String>::new());
}

#[test]
fn confirming_and_claiming_exclude_each_other() {
    let mut world = World::new();
    world.begin(OLD);
    let mut record = pending(world.dir.path()).unwrap().unwrap();
    confirm(world.dir.path()).unwrap();
    assert_eq!(world.files(), Vec::<String>::new());
    assert!(matches!(claim(world.dir.path(), &mut record), Err(RollbackError::TooLate)));
    assert_eq!(pending(world.dir.path()).unwrap(), None);
}

#[test]
fn a_record_of_another_boot_is_forgotten() {
    let mut world = World::new();
    world.begin(OLD);
    let mut record = pending(world.dir.path()).unwrap().unwrap();
    record.boot_id = "another".to_owned();
    record.enrols.push(Enrolled { cookie: 1, uid: "a".to_owned() });
    update(world.dir.path(), &record).unwrap();
    assert_eq!(none_pending(world.dir.path()).unwrap(), Some(record));
    assert_eq!(world.files(), Vec::<String>::new());
}

#[test]
fn a_damaged_record_says_what_to_do() {
    let world = World::new();
    std::fs::write(world.dir.path().join("rollback.json"), "{\"version\": 2}").unwrap();
    let refused = none_pending(world.dir.path()).unwrap_err();
    assert!(refused.to_string().contains("restore --confirm"), "{refused}");
    forget(world.dir.path()).unwrap();
    assert_eq!(world.files(), Vec::<String>::new());
}

#[test]
fn each_stage_tells_what_helps() {
    let mut world = World::new();
    world.begin(OLD);
    let mut record = pending(world.dir.path()).unwrap().unwrap();
    assert!(record.to_string().contains("is being restored by process"), "{record}");
    record.restorer = Process { pid: 1, start: 0 };
    assert!(record.to_string().contains("its guardian is gone"), "{record}");
    record.guardian = Some(Process::this());
    assert!(record.to_string().contains("--rollback goes back now"), "{record}");
    record.settle();
    assert!(record.to_string().contains("--confirm keeps"), "{record}");
    assert!(record.left() > Duration::from_secs(50));
}
