//! Adopting maps, hooks and pods, killed before each of its mutating calls (in memory, so that
//! every place is reached): the next run finishes, the one after it changes nothing, and no hook
//! is ever without a program once it had one.

use std::collections::HashSet;
use std::path::Path;

use kmesh_bpf::attach::{self, HooksAdopted};
use kmesh_bpf::kernel::{Objects, Tables};
use kmesh_bpf::layout::{Hook, Limits, Map};
use kmesh_bpf::memory::{Fault, MemoryKernel};
use kmesh_bpf::pins::{self, Root};
use kmesh_bpf::pods::{self, Ground, Pod, PodHook, Standing};

const CGROUP: &str = "/cgroup";
const OTHER_CGROUP: &str = "/other";

/// Few elements: lost ends are found by reading them all.
const LIMITS: Limits = Limits {
    frontends: 64,
    services: 64,
    endpoints: 64,
    workloads: 64,
    names: 64,
    pods: 8,
    sockets: 8,
    policies: 16,
    policy_sets: 8,
    policy_words: 4096,
    policy_chunks: 256,
    connections: 64,
};

fn root() -> Root {
    Root::new("/bpf/kmesh")
}

fn kernel() -> MemoryKernel {
    let mut k = MemoryKernel::default();
    k.make_dir(Path::new("/bpf")).expect("make");
    k.add_cgroup(CGROUP);
    k.add_cgroup(OTHER_CGROUP);
    k.add_namespace("/run/netns/a", 7);
    k
}

/// Two maps of half that size.
const SMALLER: Limits = Limits { services: 32, frontends: 32, ..LIMITS };

/// A run of the daemon up to its hooks; an error is where it was killed.
fn start(k: &mut MemoryKernel, cgroup: &str, peername: bool) -> Result<HooksAdopted, String> {
    let (root, limits) = (root(), LIMITS);
    pins::adopt_maps(k, &root, &limits).map_err(|error| error.to_string())?;
    attach::adopt_hooks(k, &root, Path::new(cgroup), &limits, peername)
        .map_err(|error| error.to_string())
}

fn hooks(peername: bool) -> usize {
    if peername { 6 } else { 4 }
}

/// Hooks at which a program runs.
fn governed(k: &MemoryKernel, cgroup: &str) -> usize {
    let on_cgroup = |hook: &Hook| {
        hook.on_cgroup()
            && k.effective(*hook, Path::new(cgroup)).is_ok_and(|there| !there.is_empty())
    };
    Hook::ALL.iter().filter(|hook| on_cgroup(hook)).count()
}

fn assert_finished(k: &mut MemoryKernel, cgroup: &str, peername: bool, at: u64) {
    k.restart();
    start(k, cgroup, peername).unwrap_or_else(|error| panic!("after a kill at {at}: {error}"));
    let states = attach::inspect(k, &root(), Path::new(cgroup)).expect("inspect");
    let current = states.iter().filter(|state| state.is_current()).count();
    assert_eq!(current, hooks(peername), "after a kill at {at}: {states:#?}");
    let left = k.tree().into_iter().filter(|line| line.contains("_new")).collect::<Vec<_>>();
    assert_eq!(left, [] as [String; 0], "after a kill at {at}");
    let (tree, calls) = (k.tree(), k.calls());
    k.restart();
    let again = start(k, cgroup, peername).expect("a run that changes nothing");
    assert_eq!(again.kept.len(), hooks(peername), "after a kill at {at}");
    assert_eq!((k.tree(), k.calls()), (tree, calls), "after a kill at {at}");
}

/// Kills `change` before each of its mutating calls, on a kernel that `prepare` made; answers how
/// many there are.
fn at_each_call(
    prepare: &dyn Fn() -> MemoryKernel,
    change: &dyn Fn(&mut MemoryKernel) -> Result<(), String>,
    check: &dyn Fn(&mut MemoryKernel, u64),
) -> u64 {
    let mut whole = prepare();
    let before = whole.calls();
    change(&mut whole).expect("unharmed");
    let calls = whole.calls() - before;
    for call in 1..=calls {
        let mut k = prepare();
        let fault = Fault { call, elements: 0, errno: libc::EIO, for_good: true };
        k.set_fault(Some(fault));
        change(&mut k).expect_err("killed");
        check(&mut k, call);
    }
    calls
}

#[test]
fn a_first_start_killed_anywhere_is_finished_by_the_next() {
    for peername in [false, true] {
        let calls = at_each_call(&kernel, &|k| start(k, CGROUP, peername).map(drop), &|k, at| {
            assert_finished(k, CGROUP, peername, at);
        });
        // Directories, 11 maps, first meta, and three or four calls for each hook.
        assert!(calls >= 3 + 11 + 1 + 4 * 3, "{calls} calls were killed");
    }
}

#[test]
fn an_upgrade_killed_anywhere_never_leaves_a_hook_empty() {
    let prepare = || {
        let mut k = kernel();
        start(&mut k, CGROUP, true).expect("start");
        k.restart();
        for hook in Hook::ALL {
            k.set_build(hook, 7);
        }
        k
    };
    let calls = at_each_call(&prepare, &|k| start(k, CGROUP, true).map(drop), &|k, at| {
        assert_eq!(governed(k, CGROUP), 5, "after a kill at {at}");
        assert_finished(k, CGROUP, true, at);
    });
    assert_eq!(calls, 6 * 4, "load, replace, rename, record for each hook");
}

#[test]
fn a_move_to_another_cgroup_killed_anywhere_never_leaves_both_empty() {
    let prepare = || {
        let mut k = kernel();
        start(&mut k, CGROUP, false).expect("start");
        k.restart();
        k
    };
    at_each_call(&prepare, &|k| start(k, OTHER_CGROUP, false).map(drop), &|k, at| {
        let (old, new) = (governed(k, CGROUP), governed(k, OTHER_CGROUP));
        assert!(old + new >= 3, "after a kill at {at}: {old} and {new}");
        assert_finished(k, OTHER_CGROUP, false, at);
        assert_eq!(governed(k, CGROUP), 0);
    });
}

#[test]
fn a_setting_turned_off_and_killed_anywhere_is_finished() {
    let prepare = || {
        let mut k = kernel();
        start(&mut k, CGROUP, true).expect("start");
        k.restart();
        k
    };
    at_each_call(&prepare, &|k| start(k, CGROUP, false).map(drop), &|k, at| {
        assert_finished(k, CGROUP, false, at);
        assert_eq!(governed(k, CGROUP), 3);
    });
}

#[test]
fn lost_pins_and_a_kill_together_are_mended() {
    let prepare = || {
        let mut k = kernel();
        start(&mut k, CGROUP, false).expect("start");
        k.restart();
        for map in [Map::Meta, Map::Frontend, Map::Socket] {
            k.unpin(&root().map(map)).expect("delete the pin");
        }
        k.unpin(&root().link(Hook::Connect4)).expect("delete the pin");
        k.unpin(&root().prog(Hook::Connect6)).expect("delete the pin");
        k
    };
    at_each_call(&prepare, &|k| start(k, CGROUP, false).map(drop), &|k, at| {
        assert_finished(k, CGROUP, false, at);
    });
}

#[test]
fn growing_killed_anywhere_loses_no_element() {
    let prepare = || {
        let mut k = kernel();
        pins::adopt_maps(&mut k, &root(), &SMALLER).expect("adopt");
        attach::adopt_hooks(&mut k, &root(), Path::new(CGROUP), &SMALLER, false).expect("adopt");
        k.update_batch(Map::Service, &7u32.to_ne_bytes(), &[9; 32]).expect("write");
        k.restart();
        k
    };
    let calls = at_each_call(&prepare, &|k| start(k, CGROUP, false).map(drop), &|k, at| {
        assert_eq!(governed(k, CGROUP), 3, "after a kill at {at}");
        assert_finished(k, CGROUP, false, at);
        let mut value = [0; 32];
        k.lookup(Map::Service, &7u32.to_ne_bytes(), &mut value).expect("look up");
        assert_eq!(value, [9; 32], "after a kill at {at}");
        assert_eq!(k.max_entries(Map::Service).expect("limit"), 64);
    });
    assert!(calls >= 2 + 3 + 4 * 4, "{calls} calls were killed");
}

fn pod() -> Pod {
    Pod { cookie: 7, uid: "a".to_owned(), netns: "/run/netns/a".into(), bypass: false }
}

fn started() -> MemoryKernel {
    let mut k = kernel();
    start(&mut k, CGROUP, false).expect("start");
    k
}

fn enrol(k: &mut MemoryKernel) -> Result<(), String> {
    let standing = Standing { backend: Some(1), policy_set: 3 };
    let done = pods::enrol(k, &root(), &pod(), standing).map_err(|error| error.to_string())?;
    done.hook.map(drop).map_err(|error| error.to_string())
}

fn enrolled() -> MemoryKernel {
    let mut k = started();
    enrol(&mut k).expect("enrol");
    k
}

/// As after another start.
fn adopt(k: &mut MemoryKernel) -> Result<(), String> {
    start(k, CGROUP, false)?;
    let nowhere = |_: &HashSet<u64>| Ok(std::collections::HashMap::new());
    let done = pods::adopt(k, &root(), &nowhere).map_err(|error| error.to_string())?;
    match (done.failed.as_slice(), done.gone.as_slice()) {
        ([], []) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn managed(k: &MemoryKernel) -> bool {
    let key = pod().cookie.to_ne_bytes();
    k.lookup(Map::Manager, &key, &mut [0; 8]).expect("look up")
}

fn hook(k: &MemoryKernel) -> PodHook {
    let ground = Ground::of(k, &root()).expect("the ground");
    PodHook::of(k, &root(), &ground, pod().cookie).expect("the hook")
}

/// Programs that decide in the pod's namespace.
fn deciding(k: &MemoryKernel) -> usize {
    k.attached(Hook::SkLookup, &pod().netns).expect("query").len()
}

/// The pod's hook stands, nothing is left beside it, and a further start changes nothing.
fn assert_hooked(k: &mut MemoryKernel, at: u64) {
    assert!(hook(k).is_settled(), "after a kill at {at}: {:?}", hook(k));
    assert_eq!(deciding(k), 1, "after a kill at {at}");
    let (tree, written, calls) = (k.tree(), k.written(), k.calls());
    adopt(k).expect("a further start");
    assert_eq!(k.tree(), tree, "after a kill at {at}");
    assert_eq!((k.written(), k.calls()), (written, calls), "after a kill at {at}");
}

#[test]
fn enrolling_killed_anywhere_never_manages_a_pod_without_a_name() {
    let calls = at_each_call(&started, &enrol, &|k, at| {
        assert!(at > 4 || !managed(k), "after a kill at {at}");
        assert!(managed(k) || deciding(k) == 0, "a hook without a word, after a kill at {at}");
        k.set_fault(None);
        enrol(k).expect("finish");
        let record = &pods::list(k, &root()).expect("list")[0];
        assert_eq!(record.uid.as_deref(), Some("a"));
        assert!(record.word.is_some() && record.netns.is_some());
        assert_hooked(k, at);
    });
    assert_eq!(calls, 9, "pods/, pods/7/, uid, netns, the word; load, build, link, unpin");
}

#[test]
fn an_enrolment_killed_after_its_word_is_finished_by_the_next_start() {
    at_each_call(&started, &enrol, &|k, at| {
        k.set_fault(None);
        if managed(k) {
            adopt(k).expect("the next start");
            assert_hooked(k, at);
        }
    });
}

#[test]
fn replacing_a_pods_program_killed_anywhere_leaves_no_gap() {
    let other_build = || {
        let mut k = enrolled();
        k.set_build(Hook::SkLookup, 0x77);
        k.restart();
        start(&mut k, CGROUP, false).expect("start");
        k
    };
    let calls = at_each_call(&other_build, &adopt, &|k, at| {
        assert_eq!(deciding(k), 1, "after a kill at {at}");
        k.set_fault(None);
        adopt(k).expect("finish");
        assert_eq!(hook(k).build, Some(0x77));
        assert_hooked(k, at);
    });
    assert_eq!(calls, 4, "load, build, update, unpin");
}

#[test]
fn a_pods_program_follows_maps_that_grew_killed_anywhere() {
    let smaller = || {
        let mut k = kernel();
        pins::adopt_maps(&mut k, &root(), &SMALLER).expect("adopt");
        attach::adopt_hooks(&mut k, &root(), Path::new(CGROUP), &SMALLER, false).expect("adopt");
        enrol(&mut k).expect("enrol");
        k.restart();
        k
    };
    at_each_call(&smaller, &adopt, &|k, at| {
        assert_eq!(deciding(k), 1, "after a kill at {at}");
        k.set_fault(None);
        adopt(k).expect("finish");
        assert_hooked(k, at);
    });
}

#[test]
fn attaching_anew_killed_anywhere_is_finished() {
    let detached = || {
        let mut k = enrolled();
        let link = hook(&k).link.expect("a link").id;
        k.link_detach(link).expect("detach");
        k
    };
    let calls = at_each_call(&detached, &adopt, &|k, at| {
        k.set_fault(None);
        adopt(k).expect("finish");
        assert_hooked(k, at);
    });
    assert_eq!(calls, 5, "load, unpin, build, link, unpin");
}

#[test]
fn un_enrolling_killed_anywhere_is_finished() {
    let unenrol = |k: &mut MemoryKernel| {
        let answer = pods::unenrol(k, &root(), "a");
        answer.map(drop).map_err(|error| error.to_string())
    };
    let calls = at_each_call(&enrolled, &unenrol, &|k, at| {
        assert!(at == 1 || !managed(k), "the word goes first; after a kill at {at}");
        k.set_fault(None);
        unenrol(k).expect("finish");
        // Once its uid is gone, the rest of the directory is the sweep's.
        pods::sweep(k, &root(), &|| Ok(HashSet::new())).expect("sweep");
        assert!(!managed(k), "after a kill at {at}");
        assert_eq!(deciding(k), 0, "after a kill at {at}");
        let left = pods::list(k, &root()).expect("list");
        assert!(left.is_empty(), "after a kill at {at}: {left:?}");
    });
    assert_eq!(calls, 7, "the word, detach, build, netns, sk_lookup, uid, pods/7/");
}
