//! Restore on the kernel in memory.

use std::path::Path;

use super::{Changed, Place, Preview, RestoreError, Wanted, preview, run};
use crate::kernel::Objects as _;
use crate::memory::MemoryKernel;
use crate::pins::Root;
use crate::snapshot::{Only, Snapshot};
use crate::tables::Have;

const FILE: &str = r"
schemaVersion: 1
node: here
services:
  - {name: ns/web, port: 80, family: ipv4, kind: service, vips: [10.96.0.1], synced: true,
     endpoints: [{workload: a, port: 8080, family: ipv4}, {workload: b, port: 8080, family: ipv4}]}
  - {name: ns/cart, port: 80, family: ipv4, kind: service, vips: [10.96.0.2], synced: true}
workloads:
  - {uid: a, v4: 10.0.0.1, addresses: [10.0.0.1]}
  - {uid: b, v4: 10.0.0.2, addresses: [10.0.0.2]}
";

struct World {
    k: MemoryKernel,
    root: Root,
}

impl World {
    fn new() -> Self {
        let mut k = MemoryKernel::default();
        k.add_cgroup("/cg");
        let root = Root::new("/bpf/kmesh");
        k.make_dir(root.path()).unwrap();
        Self { k, root }
    }

    fn place(&self) -> Place<'_> {
        Place { root: &self.root, cgroup: Path::new("/cg") }
    }

    fn restore(&mut self, text: &str, only: &[&str]) -> Result<u64, RestoreError> {
        let place = Place { root: &self.root, cgroup: Path::new("/cg") };
        let restored = run(&mut self.k, place, wanted(text, only)?, &mut |_, _| {})?;
        assert_eq!(restored.report.findings, []);
        self.k.restart();
        Ok(restored.applied.elements)
    }

    fn preview(&mut self, text: &str, only: &[&str]) -> Preview {
        let place = Place { root: &self.root, cgroup: Path::new("/cg") };
        let calls = self.k.calls();
        let preview = preview(&mut self.k, place, wanted(text, only).unwrap()).unwrap();
        assert_eq!(self.k.calls(), calls, "a preview wrote something");
        self.k.restart();
        preview
    }
}

fn wanted(text: &str, only: &[&str]) -> Result<Wanted, RestoreError> {
    let snapshot = Snapshot::parse(text.as_bytes(), "file").unwrap();
    let only: Vec<Only> = only.iter().map(|part| part.parse().unwrap()).collect();
    Wanted::new(snapshot, only, Some("here"))
}

#[test]
fn the_first_restore_installs_and_the_second_writes_nothing() {
    let mut world = World::new();
    assert_eq!(world.preview(FILE, &[]).services.added.len(), 2);
    assert!(world.k.list(&world.root.maps()).unwrap().is_none());
    assert!(world.restore(FILE, &[]).unwrap() > 0);
    assert!(world.preview(FILE, &[]).is_empty());
    assert_eq!(world.restore(FILE, &[]).unwrap(), 0);
}

#[test]
fn the_preview_names_what_comes_changes_and_goes() {
    let mut world = World::new();
    world.restore(FILE, &[]).unwrap();
    let next = FILE
        .replace("ns/cart", "ns/shop")
        .replace(", {workload: b, port: 8080", ", {workload: b, port: 81");
    let preview = world.preview(&next, &[]);
    assert_eq!(preview.services.added, ["service ns/shop port 80 (IPv4)"]);
    assert_eq!(preview.services.removed, ["service ns/cart port 80 (IPv4)"]);
    let [Changed { object, what }] = preview.services.changed.as_slice() else {
        panic!("{preview:?}")
    };
    assert!(object.contains("ns/web") && what.contains("b port 81 (IPv4)"), "{what}");
    assert_eq!((preview.endpoints_added, preview.endpoints_removed), (1, 1));
    assert!(preview.workloads.is_empty());
}

#[test]
fn one_service_is_restored_and_the_rest_stays() {
    let mut world = World::new();
    world.restore(FILE, &[]).unwrap();
    let next = FILE.replace("ns/cart", "ns/shop").replace("10.96.0.1]", "10.96.0.9]");
    world.restore(&next, &["service=ns/web"]).unwrap();
    let place = world.place().root.clone();
    crate::pins::open_existing(&mut world.k, &place).unwrap();
    let have = Have::read(&world.k).unwrap();
    let mut names: Vec<_> = have.services().map(|(key, _)| key.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["ns/cart", "ns/web"]);
    world.k.restart();
    world.restore(&next, &["service=ns/cart"]).unwrap();
    let preview = world.preview(&next, &["services"]);
    assert_eq!(preview.services.added.len(), 1);
    let unknown = world.restore(&next, &["service=ns/none"]).unwrap_err();
    assert!(unknown.to_string().contains("service ns/none is neither"), "{unknown}");
}

#[test]
fn another_nodes_snapshot_needs_a_word() {
    let other = FILE.replace("node: here", "node: elsewhere");
    let refused = wanted(&other, &[]).unwrap_err();
    assert!(refused.to_string().contains("--any-node"), "{refused}");
    let snapshot = Snapshot::parse(other.as_bytes(), "file").unwrap();
    assert!(Wanted::new(snapshot, Vec::new(), None).is_ok());
}

#[test]
fn what_does_not_fit_is_refused_before_the_first_write() {
    let mut world = World::new();
    world.restore(FILE, &[]).unwrap();
    let calls = world.k.calls();
    // ns/web still has the VIP.
    let taken = FILE.replace("10.96.0.1]", "10.96.0.9]").replace("10.96.0.2]", "10.96.0.1]");
    let refused = world.restore(&taken, &["service=ns/cart"]).unwrap_err();
    assert!(matches!(refused, RestoreError::Plan(_)), "{refused}");
    assert_eq!(world.k.calls(), calls);
}
