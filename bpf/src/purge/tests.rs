//! Purge on the kernel in memory: cut at every call, beside foreign objects, without pins.

use std::path::{Path, PathBuf};

use super::{Places, Plan, Purged, Step, plan, run, take_all};
use crate::attach;
use crate::kernel::{Id, Objects as _};
use crate::layout::{Hook, Limits, Map};
use crate::memory::{Fault, MemoryKernel};
use crate::mounts::{BpfMount, BpfMounts};
use crate::pins::{self, Root};

const CGROUP: &str = "/cg";

/// BPF file systems: number, place, whether in this mount namespace.
fn mounts(mounts: &[(u32, &str, bool)]) -> BpfMounts {
    // in another namespace it is where it was made
    let of = |(instance, path, here): &(u32, &str, bool)| BpfMount {
        instance: *instance,
        path: path.into(),
        point: if *here { path.into() } else { "/bpf".into() },
        here: *here,
    };
    BpfMounts { mounts: mounts.iter().map(of).collect(), complete: true }
}

struct World {
    k: MemoryKernel,
    root: Root,
    state: PathBuf,
    run: PathBuf,
    mounts: BpfMounts,
    _dir: tempfile::TempDir,
}

impl World {
    /// Kmesh installed, its process ended, a file in the state and run directory.
    fn installed() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (state, run) = (dir.path().join("state"), dir.path().join("run"));
        for (place, file) in [(&state, "snapshot.json"), (&run, "kmeshd.json")] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join(file), "{}").unwrap();
        }
        let mut k = MemoryKernel::default();
        k.add_cgroup(CGROUP);
        let root = Root::new("/bpf/kmesh");
        k.make_dir(root.path()).unwrap();
        let limits = Limits::default();
        pins::adopt_maps(&mut k, &root, &limits).unwrap();
        attach::adopt_hooks(&mut k, &root, Path::new(CGROUP), &limits, true).unwrap();
        k.make_dir(&root.pod(7)).unwrap();
        k.symlink(&root.pod(7).join("uid"), "a").unwrap();
        k.restart();
        let mounts = mounts(&[(1, "/bpf", true)]);
        Self { k, root, state, run, mounts, _dir: dir }
    }

    fn places(&self) -> Places<'_> {
        Places {
            root: self.root.path(),
            cgroup: Some(Path::new(CGROUP)),
            mounts: &self.mounts,
            state_dir: &self.state,
            run_dir: &self.run,
        }
    }

    fn plan(&self) -> Plan {
        plan(&self.k, &self.places()).unwrap()
    }

    /// Nothing of Kmesh's is in the kernel or on the disk.
    fn assert_gone(&self) {
        assert_eq!(self.k.all_ids().unwrap(), [], "{:?}", self.k.tree());
        assert_eq!(self.k.list(self.root.path()).unwrap(), None);
        assert!(!self.state.exists() && !self.run.exists());
        assert!(self.plan().is_empty());
    }

    fn purge(&mut self) {
        let purged = self.run(&self.plan());
        assert!(purged.failures.is_empty(), "{:?}", purged.failures);
        assert_eq!(purged.left, []);
    }

    fn run(&mut self, plan: &Plan) -> Purged {
        let World { k, root, state, run: run_dir, mounts, .. } = self;
        let places = Places {
            root: root.path(),
            cgroup: Some(Path::new(CGROUP)),
            mounts,
            state_dir: state,
            run_dir,
        };
        run(k, &places, plan, &mut |_, _| {}).unwrap()
    }
}

#[test]
fn purge_leaves_nothing_and_the_second_finds_nothing() {
    let mut world = World::installed();
    world.purge();
    world.assert_gone();
}

#[test]
fn links_go_first_and_steering_before_what_it_needs() {
    let steps = World::installed().plan().steps;
    let at = |text: &str| {
        steps.iter().position(|step| step.to_string().starts_with(text)).unwrap_or_else(|| {
            panic!("no step \"{text}\" in {steps:#?}");
        })
    };
    assert_eq!(at("detach connect4"), 0);
    assert!(at("detach connect6") < at("detach sockops"));
    assert!(at("detach sockops") < at("unpin /bpf/kmesh/progs/"));
    assert!(at("unpin /bpf/kmesh/progs/sockops") < at("detach sk_msg"));
    assert!(at("detach sk_msg") < at("unpin /bpf/kmesh/maps/"));
    assert!(at("unpin /bpf/kmesh/maps/map_of_manager") < at("remove directory /bpf/kmesh/maps"));
    assert!(matches!(steps.last(), Some(Step::RemoveDir(_))));
}

#[test]
fn cut_at_every_call_the_next_purge_finishes() {
    let calls = {
        let mut world = World::installed();
        let before = world.k.calls();
        world.purge();
        world.k.calls() - before
    };
    assert!(calls > 30, "{calls} calls");
    for call in 1..=calls {
        let mut world = World::installed();
        let plan = world.plan();
        let fault = Fault { call, elements: 0, errno: libc::EIO, for_good: true };
        world.k.set_fault(Some(fault));
        let purged = take_all(&mut world.k, &plan, &mut |_, _| {});
        assert!(!purged.failures.is_empty(), "call {call}");
        world.k.restart();
        world.purge();
        world.assert_gone();
    }
}

#[test]
fn one_failure_does_not_keep_the_rest() {
    let mut world = World::installed();
    let plan = world.plan();
    world.k.set_fault(Some(Fault { call: 3, elements: 0, errno: libc::EIO, for_good: false }));
    let purged = take_all(&mut world.k, &plan, &mut |_, _| {});
    assert_eq!(purged.done + purged.failures.len(), plan.steps.len());
    assert!(purged.failures.len() <= 3, "{:?}", purged.failures);
}

#[test]
fn what_lost_its_pins_is_found_through_the_cgroup() {
    let mut world = World::installed();
    let links = world.root.links();
    world.k.make_dir(Path::new("/elsewhere")).unwrap();
    for hook in Hook::ALL.into_iter().filter(|hook| hook.on_cgroup()) {
        let to = Path::new("/elsewhere").join(hook.name());
        world.k.rename(&links.join(hook.name()), &to).unwrap();
    }
    for dir in [world.root.maps(), world.root.progs()] {
        for (name, _) in world.k.list(&dir).unwrap().unwrap() {
            world.k.unpin(&dir.join(name)).unwrap();
        }
    }
    let plan = world.plan();
    let detached = plan.steps.iter().filter(|step| matches!(step, Step::Detach { .. })).count();
    assert_eq!(detached, 5);
    assert!(plan.steps.iter().any(|step| matches!(step, Step::DetachSockhash { .. })));
    take_all(&mut world.k, &plan, &mut |_, _| {});
    assert_eq!(attached(&world.k), 0);
}

fn attached(k: &MemoryKernel) -> usize {
    let hooks = Hook::ALL.into_iter().filter(|hook| hook.on_cgroup());
    hooks.map(|hook| k.effective(hook, Path::new(CGROUP)).unwrap().len()).sum()
}

#[test]
fn a_link_that_lost_its_pin_is_found_without_the_cgroup() {
    let mut world = World::installed();
    world.k.make_dir(Path::new("/other")).unwrap();
    let from = world.root.links().join("connect4");
    world.k.rename(&from, Path::new("/other/connect4")).unwrap();
    let mut places = world.places();
    places.cgroup = None;
    let plan = plan(&world.k, &places).unwrap();
    assert!(plan.steps.iter().any(|step| step.to_string().starts_with("detach connect4")));
    world.mounts = mounts(&[(1, "/", true)]);
    let purged = world.run(&plan);
    let left: Vec<_> = purged.left.iter().map(ToString::to_string).collect();
    assert!(left.iter().any(|line| line.contains("pinned at /other/connect4")), "{left:?}");
}

/// Kmesh whose root's file system is now at /moved, and no file system at the root.
fn moved(here: bool) -> World {
    let mut world = World::installed();
    world.k.move_below("/bpf", "/moved");
    world.k.set_instance("/bpf", None);
    world.k.set_instance("/moved", Some(1));
    world.mounts = mounts(&[(1, "/moved", here)]);
    world
}

#[test]
fn what_was_unmounted_is_found_where_else_it_is_mounted() {
    for here in [true, false] {
        let mut world = moved(here);
        let plan = world.plan();
        assert!(!plan.objects.is_empty());
        take_all(&mut world.k, &plan, &mut |_, _| {});
        assert_eq!(world.k.all_ids().unwrap(), [], "{:?}", world.k.tree());
        assert!(world.plan().is_empty());
    }
}

#[test]
fn the_same_path_in_another_mount_namespace_and_cgroup_is_anothers() {
    let mut world = moved(false);
    world.k.add_cgroup("/other-cgroup");
    let mut places = world.places();
    places.cgroup = Some(Path::new("/other-cgroup"));
    assert_eq!(plan(&world.k, &places).unwrap().objects.len(), 0);
    // nothing is in sight of the file system: then it is dead, and its objects ours
    let none = mounts(&[]);
    places.mounts = &none;
    assert_ne!(plan(&world.k, &places).unwrap().objects.len(), 0);
    // but not where not all can be seen
    let unseen = BpfMounts { complete: false, mounts: Vec::new() };
    places.mounts = &unseen;
    assert_eq!(plan(&world.k, &places).unwrap().objects.len(), 0);
}

#[test]
fn a_map_of_our_name_and_another_shape_is_ours_only_at_its_place() {
    let mut world = World::installed();
    let strange = world.root.maps().join("strange");
    world.k.pin_strange(Map::Service, &strange);
    let plan = world.plan();
    assert_eq!(plan.foreign.len(), 1, "{:?}", plan.foreign);
    assert!(plan.foreign[0].starts_with("/bpf/kmesh/maps/strange (map "));
    take_all(&mut world.k, &plan, &mut |_, _| {});
    assert!(world.k.pinned(&strange).unwrap().is_some());
}

#[test]
fn another_kmesh_beside_ours_is_not_touched() {
    let mut world = World::installed();
    world.k.add_cgroup("/other-cg");
    let other = Root::new("/bpf/other");
    world.k.make_dir(other.path()).unwrap();
    let limits = Limits::default();
    pins::adopt_maps(&mut world.k, &other, &limits).unwrap();
    attach::adopt_hooks(&mut world.k, &other, Path::new("/other-cg"), &limits, false).unwrap();
    world.k.restart();
    let before: Vec<_> = tree_of(&world.k, "/bpf/other");
    world.purge();
    assert_eq!(tree_of(&world.k, "/bpf/other"), before);
    for map in Map::ALL {
        assert!(world.k.pinned(&other.map(map)).unwrap().is_some());
    }
    assert_eq!(attached(&world.k), 0);
    assert_eq!(world.k.effective(Hook::Connect4, Path::new("/other-cg")).unwrap().len(), 1);
}

fn tree_of(k: &MemoryKernel, below: &str) -> Vec<String> {
    k.tree().into_iter().filter(|line| line.starts_with(below)).collect()
}

#[test]
fn files_of_others_stay_and_keep_their_directory() {
    let mut world = World::installed();
    std::fs::write(world.state.join("notes.txt"), "mine").unwrap();
    let plan = world.plan();
    assert_eq!(plan.foreign, [world.state.join("notes.txt").display().to_string()]);
    take_all(&mut world.k, &plan, &mut |_, _| {});
    assert!(world.state.join("notes.txt").exists());
    assert!(!world.state.join("snapshot.json").exists());
    assert!(!plan.objects.contains(&Id::Map(0)));
}
