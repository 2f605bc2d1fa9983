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
use kmesh_bpf::pods::{self, Pod};

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
    let answer = pods::enrol(k, &root(), &pod(), Some(1));
    answer.map(drop).map_err(|error| error.to_string())
}

fn managed(k: &MemoryKernel) -> bool {
    let key = pod().cookie.to_ne_bytes();
    k.lookup(Map::Manager, &key, &mut [0; 8]).expect("look up")
}

#[test]
fn enrolling_killed_anywhere_never_manages_a_pod_without_a_name() {
    let calls = at_each_call(&started, &enrol, &|k, at| {
        assert!(!managed(k), "after a kill at {at}");
        k.set_fault(None);
        enrol(k).expect("finish");
        let record = &pods::list(k, &root()).expect("list")[0];
        assert_eq!(record.uid.as_deref(), Some("a"));
        assert!(record.word.is_some() && record.netns.is_some());
    });
    assert_eq!(calls, 5, "pods/, pods/7/, uid, netns, the word");
}

#[test]
fn un_enrolling_killed_anywhere_is_finished() {
    let enrolled = || {
        let mut k = started();
        enrol(&mut k).expect("enrol");
        k
    };
    let unenrol = |k: &mut MemoryKernel| {
        let answer = pods::unenrol(k, &root(), "a");
        answer.map(drop).map_err(|error| error.to_string())
    };
    let calls = at_each_call(&enrolled, &unenrol, &|k, at| {
        k.set_fault(None);
        unenrol(k).expect("finish");
        // Once its uid is gone, the rest of the directory is the sweep's.
        pods::sweep(k, &root(), &|| Ok(HashSet::new())).expect("sweep");
        assert!(!managed(k), "after a kill at {at}");
        let left = pods::list(k, &root()).expect("list");
        assert!(left.is_empty(), "after a kill at {at}: {left:?}");
    });
    assert_eq!(calls, 4, "the word, netns, uid, pods/7/");
}
