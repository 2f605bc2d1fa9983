//! The pods' hooks on the running kernel: attached with the enrolment, found again after a restart,
//! replaced without a gap, mended where somebody took them away, gone with the pod.

mod world;

use std::path::PathBuf;

use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::kernel::{Id, LinkInfo, Objects, Pinned};
use kmesh_bpf::layout::Hook;
use kmesh_bpf::netns;
use kmesh_bpf::pins;
use kmesh_bpf::pods::{self, Ground, HookCondition, Hooked, Pod, PodHook, PodsError, Standing};
use world::{Namespace, SMALL, World};

/// A managed pod.
struct Enrolled {
    world: World,
    k: Linux,
    space: Namespace,
    pod: Pod,
}

impl Enrolled {
    fn new() -> Self {
        let world = World::new();
        let (mut k, ..) = world.start();
        let space = Namespace::new();
        let pod = space.pod("Kubernetes//Pod/ns/a");
        let done = pods::enrol(&mut k, &world.root, &pod, Standing::default()).expect("enrol");
        assert_eq!(done.hook.expect("a hook"), Hooked::Attached);
        Self { world, k, space, pod }
    }

    fn hook(&self) -> PodHook {
        let ground = Ground::of(&self.k, &self.world.root).expect("the ground");
        PodHook::of(&self.k, &self.world.root, &ground, self.pod.cookie).expect("the hook")
    }

    fn link(&self) -> LinkInfo {
        self.hook().link.expect("a link")
    }

    fn pin(&self) -> PathBuf {
        self.world.root.pod_link(self.pod.cookie)
    }

    fn adopt(&mut self) -> pods::HooksAdopted {
        pods::adopt(&mut self.k, &self.world.root, &netns::find).expect("adopt")
    }

    fn attached(&self) -> Vec<u32> {
        self.k.attached(Hook::SkLookup, self.space.path()).expect("query")
    }

    fn names(&self) -> Vec<String> {
        world::names(&self.world.root.pod(self.pod.cookie))
    }
}

#[test]
fn an_enrolled_pod_has_its_hook_and_a_restart_loads_nothing() {
    let mut pod = Enrolled::new();
    assert_eq!(pod.hook().condition, HookCondition::Current);
    assert_eq!(pod.attached(), [pod.link().prog_id]);
    assert_eq!(pod.names(), ["build", "netns", "sk_lookup", "uid"]);
    let before = pod.link();
    pod.k = Linux::new();
    pins::open_existing(&mut pod.k, &pod.world.root).expect("open");
    let done = pod.adopt();
    assert_eq!((done.kept, done.attached.len(), done.replaced.len()), (1, 0, 0), "{done:?}");
    assert_eq!(pod.link(), before);
}

#[test]
fn another_builds_program_is_replaced_in_its_link() {
    let mut pod = Enrolled::new();
    let before = pod.link();
    let says = pod.world.root.pod(pod.pod.cookie).join("build");
    pod.k.symlink(&says, &format!("{:016x} {}", 1, before.prog_id)).expect("say");
    assert_eq!(pod.hook().condition, HookCondition::Stale);
    let done = pod.adopt();
    assert_eq!(done.replaced.len(), 1, "{done:?}");
    let after = pod.link();
    assert_eq!(after.id, before.id, "the same link");
    assert_ne!(after.prog_id, before.prog_id);
    assert_eq!(pod.attached(), [after.prog_id]);
    assert_eq!(pod.hook().condition, HookCondition::Current);
    assert_eq!(pod.names(), ["build", "netns", "sk_lookup", "uid"]);
}

#[test]
fn a_link_that_was_detached_or_lost_is_attached_anew() {
    let mut pod = Enrolled::new();
    pod.k.link_detach(pod.link().id).expect("detach");
    assert_eq!(pod.hook().condition, HookCondition::Detached);
    assert_eq!(pod.attached(), [] as [u32; 0]);
    assert_eq!(pod.adopt().attached.len(), 1);
    assert_eq!(pod.attached(), [pod.link().prog_id]);
    pod.k.unpin(&pod.pin()).expect("unpin");
    assert_eq!(pod.hook().condition, HookCondition::Absent);
    assert_eq!(pod.adopt().attached.len(), 1);
    assert_eq!(pod.hook().condition, HookCondition::Current);
}

#[test]
fn a_namespace_is_found_where_its_path_leads_nowhere() {
    let mut pod = Enrolled::new();
    let says = pod.world.root.pod(pod.pod.cookie).join("netns");
    for path in ["/run/netns/kmesh-none", "/proc/self/ns/net"] {
        pod.k.symlink(&says, path).expect("say");
        pod.k.unpin(&pod.pin()).expect("unpin");
        let done = pod.adopt();
        assert_eq!(done.attached.len(), 1, "{path}: {done:?}");
        assert!(pod.attached().contains(&pod.link().prog_id), "{path}");
    }
}

#[test]
fn a_dead_pod_is_told_of_and_swept_with_its_link() {
    let Enrolled { world, mut k, space, pod } = Enrolled::new();
    drop(space);
    let link = world.root.pod_link(pod.cookie);
    let begun = std::time::Instant::now();
    while !matches!(k.pinned(&link), Ok(Some(Pinned::Link(info))) if info.cgroup_id == 0) {
        assert!(begun.elapsed().as_secs() < 60, "the namespace does not end");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let done = pods::adopt(&mut k, &world.root, &netns::find).expect("adopt");
    assert_eq!((done.gone.len(), done.failed.len()), (1, 0), "{done:?}");
    assert_eq!(pods::sweep(&mut k, &world.root, &netns::alive_cookies).expect("sweep").len(), 1);
    assert_eq!(world::names(&world.root.pods()), [] as [String; 0]);
}

#[test]
fn un_enrolment_detaches_at_once_and_leaves_nothing() {
    let Enrolled { world, mut k, space, pod } = Enrolled::new();
    assert_eq!(k.attached(Hook::SkLookup, space.path()).expect("query").len(), 1);
    assert_eq!(pods::unenrol(&mut k, &world.root, &pod.uid).expect("un-enrol"), [pod.cookie]);
    assert_eq!(k.attached(Hook::SkLookup, space.path()).expect("query"), [] as [u32; 0]);
    assert_eq!(world::names(&world.root.pods()), [] as [String; 0]);
}

#[test]
fn a_foreign_object_in_the_place_of_the_link_is_refused_by_its_path() {
    let mut pod = Enrolled::new();
    pod.k.unpin(&pod.pin()).expect("unpin");
    let Some(Pinned::Map(map)) =
        pod.k.pinned(&pod.world.root.map(kmesh_bpf::layout::Map::Stats)).expect("open")
    else {
        panic!("no map");
    };
    pod.k.pin(Id::Map(map.id), &pod.pin()).expect("pin");
    let done = pod.adopt();
    let [(_, why @ PodsError::Foreign { .. })] = done.failed.as_slice() else {
        panic!("{done:?}");
    };
    assert!(why.to_string().contains(&pod.pin().display().to_string()), "{why}");
    assert!(matches!(pod.k.pinned(&pod.pin()), Ok(Some(Pinned::Map(_)))), "left alone");
}

#[test]
fn another_namespace_at_the_path_is_not_hooked() {
    let world = World::new();
    let (mut k, ..) = world.start();
    let (one, other) = (Namespace::new(), Namespace::new());
    let pod = Pod { netns: other.path().to_owned(), ..one.pod("a") };
    let done = pods::enrol(&mut k, &world.root, &pod, Standing::default()).expect("enrol");
    let why = done.hook.expect_err("another namespace");
    assert!(matches!(why, PodsError::Hook { .. }), "{why}");
    assert_eq!(k.attached(Hook::SkLookup, other.path()).expect("query"), [] as [u32; 0]);
    assert_eq!(world::names(&world.root.pod(pod.cookie)), ["build", "netns", "uid"]);
    // it is found where it is
    let done = pods::adopt(&mut k, &world.root, &netns::find).expect("adopt");
    assert_eq!(done.attached.len(), 1, "{done:?}");
    assert_eq!(k.attached(Hook::SkLookup, one.path()).expect("query").len(), 1);
}

#[test]
fn a_program_beside_ours_is_met() {
    let mut pod = Enrolled::new();
    let none = pods::strangers(&pod.k, &pod.world.root).expect("look");
    assert_eq!(none, []);
    let (prog, link) = (pod.world.bpffs().join("theirs"), pod.world.bpffs().join("their_link"));
    let cookie = pod.pod.cookie;
    let theirs = pod
        .k
        .load_pod(Hook::SkLookup, cookie, &pod.world.root.maps(), &SMALL, &prog)
        .expect("load")
        .id;
    pod.k.link_netns(&prog, cookie, pod.space.path(), &link).expect("attach");
    let met = pods::strangers(&pod.k, &pod.world.root).expect("look");
    assert_eq!((met.len(), met[0].program, met[0].cookie), (1, theirs, cookie), "{met:?}");
}
