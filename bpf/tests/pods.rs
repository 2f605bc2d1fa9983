//! Pods on the running kernel: namespaces, their cookies, and the records of those enrolled.

mod world;

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use kmesh_bpf::kernel::Tables;
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::layout::{ManagerWord, Map, POLICY_WAIT};
use kmesh_bpf::netns::{self, NetnsError};
use kmesh_bpf::pods::{self, Enrolled, Hooked, Pod, PodsError, Standing};
use world::{Namespace, World};

/// Enrols, and has the hook stand.
fn enrol(k: &mut Linux, world: &World, pod: &Pod, backend: Option<u32>, set: u16) -> Enrolled {
    let done = pods::enrol(k, &world.root, pod, Standing { backend, policy_set: set });
    let done = done.expect("enrol");
    assert!(done.hook.is_ok(), "{:?}", done.hook);
    done
}

fn word(k: &dyn Tables, cookie: u64) -> Option<ManagerWord> {
    let mut value = [0; 8];
    let there = k.lookup(Map::Manager, &cookie.to_ne_bytes(), &mut value).expect("look up");
    there.then(|| ManagerWord(u64::from_ne_bytes(value)))
}

#[test]
fn a_namespace_has_one_cookie_however_it_is_named() {
    let own = netns::cookie_of(Path::new("/proc/self/ns/net")).expect("own");
    let pid = netns::resolve(&format!("pid:{}", std::process::id())).expect("a name");
    assert_eq!(netns::cookie_of(&pid).expect("by pid"), own);
    let (one, two) = (Namespace::new(), Namespace::new());
    assert_ne!(one.cookie(), own);
    assert_ne!(one.cookie(), two.cookie());
    assert_eq!(one.cookie(), one.cookie());
    // Asking moved nobody.
    assert_eq!(netns::cookie_of(Path::new("/proc/self/ns/net")).expect("own"), own);
}

#[test]
fn what_is_no_namespace_is_told_by_its_path() {
    let missing = netns::cookie_of(Path::new("/run/netns/kmesh-none")).expect_err("not there");
    assert!(matches!(missing, NetnsError::Open { .. }), "{missing}");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let other = netns::cookie_of(file.path()).expect_err("not a namespace");
    assert!(matches!(other, NetnsError::Cookie { .. }), "{other}");
    assert!(other.to_string().contains(&file.path().display().to_string()), "{other}");
}

#[test]
fn a_namespace_is_alive_by_mount_or_descriptor_and_then_not() {
    let space = Namespace::new();
    let cookie = space.cookie();
    let alive = || netns::alive_cookies().expect("alive").contains(&cookie);
    assert!(alive(), "by its mount");
    let held = File::open(space.path()).expect("open");
    drop(space);
    assert!(alive(), "by a descriptor of this process");
    assert!(held.as_fd().try_clone_to_owned().is_ok());
    drop(held);
    assert!(!alive());
}

#[test]
fn a_pod_is_enrolled_once_and_listed() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let space = Namespace::new();
    let pod = space.pod("Kubernetes//Pod/ns/a");
    let first = enrol(&mut k, &world, &pod, Some(5), 0);
    assert!(first.written);
    assert_eq!(first.hook.expect("a hook"), Hooked::Attached);
    assert_eq!(first.word, ManagerWord::new(pod.cookie, Some(5), 0, ManagerWord::MANAGED));
    let again = enrol(&mut k, &world, &pod, None, 0);
    assert_eq!((again.written, again.word), (false, first.word));
    assert_eq!(again.hook.expect("a hook"), Hooked::Kept);
    let listed = pods::list(&k, &world.root).expect("list");
    let wanted = pods::Record {
        cookie: pod.cookie,
        word: Some(first.word),
        uid: Some(pod.uid.clone()),
        netns: Some(pod.netns.clone()),
    };
    assert_eq!(listed, [wanted]);
}

#[test]
fn bypass_backend_and_policy_set_change_in_place() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let space = Namespace::new();
    let mut pod = space.pod("a");
    let _ = enrol(&mut k, &world, &pod, Some(5), 9);
    pod.bypass = true;
    let _ = enrol(&mut k, &world, &pod, None, 9);
    let there = word(&k, pod.cookie).expect("there");
    let flags = ManagerWord::MANAGED | ManagerWord::BYPASS;
    assert_eq!(there, ManagerWord::new(pod.cookie, Some(5), 9, flags));
    assert!(pods::list(&k, &world.root).expect("list")[0].bypass());
    pod.bypass = false;
    let back = enrol(&mut k, &world, &pod, Some(6), 8).word;
    assert_eq!(back, ManagerWord::new(pod.cookie, Some(6), 8, ManagerWord::MANAGED));
    // A set that is not in the tables: what is in force stays in force.
    assert_eq!(enrol(&mut k, &world, &pod, Some(6), POLICY_WAIT).word, back);
}

#[test]
fn another_pod_in_the_same_namespace_inherits_nothing() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let space = Namespace::new();
    let _ = enrol(&mut k, &world, &space.pod("a"), Some(5), 3);
    let other = enrol(&mut k, &world, &space.pod("b"), None, POLICY_WAIT).word;
    assert_eq!((other.backend(), other.policy_set()), (None, POLICY_WAIT));
    assert_eq!(pods::list(&k, &world.root).expect("list")[0].uid.as_deref(), Some("b"));
    assert!(pods::unenrol(&mut k, &world.root, "a").expect("un-enrol").is_empty());
    assert_eq!(pods::unenrol(&mut k, &world.root, "b").expect("un-enrol"), [space.cookie()]);
    assert!(pods::list(&k, &world.root).expect("list").is_empty());
    assert_eq!(world::names(&world.root.pods()), [] as [String; 0]);
    assert!(pods::unenrol(&mut k, &world.root, "b").expect("un-enrol").is_empty());
}

#[test]
fn only_pods_whose_namespace_is_gone_are_swept() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let (stays, goes) = (Namespace::new(), Namespace::new());
    let _ = enrol(&mut k, &world, &stays.pod("stays"), None, 0);
    let _ = enrol(&mut k, &world, &goes.pod("goes"), None, 0);
    assert_eq!(pods::sweep(&mut k, &world.root, &netns::alive_cookies).expect("sweep"), []);
    drop(goes);
    let swept = pods::sweep(&mut k, &world.root, &netns::alive_cookies).expect("sweep");
    let uids: Vec<_> = swept.iter().map(|record| record.uid.as_deref()).collect();
    assert_eq!(uids, [Some("goes")]);
    assert!(word(&k, stays.cookie()).is_some());
    assert_eq!(pods::list(&k, &world.root).expect("list").len(), 1);
}

#[test]
fn nothing_is_swept_when_it_is_not_known_who_is_alive() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let space = Namespace::new();
    let _ = enrol(&mut k, &world, &space.pod("a"), None, 0);
    let blind = || Err(NetnsError::OutOfSight);
    let answer = pods::sweep(&mut k, &world.root, &blind);
    assert!(matches!(answer, Err(PodsError::Alive(_))), "{answer:?}");
    let none_alive = || Ok(HashSet::new());
    assert_eq!(pods::list(&k, &world.root).expect("list").len(), 1);
    assert_eq!(pods::sweep(&mut k, &world.root, &none_alive).expect("sweep").len(), 1);
}

#[test]
fn half_a_record_is_listed_and_finished() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let space = Namespace::new();
    let pod = space.pod("a");
    // Killed after the directory, before the word.
    std::fs::create_dir_all(world.root.pod(pod.cookie)).expect("make");
    let listed = pods::list(&k, &world.root).expect("list");
    assert_eq!((listed.len(), listed[0].word, listed[0].uid.clone()), (1, None, None));
    assert!(enrol(&mut k, &world, &pod, None, 0).written);
    let record = &pods::list(&k, &world.root).expect("list")[0];
    assert_eq!((record.uid.as_deref(), record.netns.clone()), (Some("a"), Some(pod.netns)));
    // Killed after the word was removed, before the directory.
    k.delete(Map::Manager, &pod.cookie.to_ne_bytes()).expect("delete");
    assert_eq!(pods::unenrol(&mut k, &world.root, "a").expect("un-enrol"), [pod.cookie]);
    assert!(pods::list(&k, &world.root).expect("list").is_empty());
}

#[test]
fn a_full_map_is_an_error_that_names_pod_and_limit() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let pod =
        |cookie| Pod { cookie, uid: format!("p{cookie}"), netns: PathBuf::new(), bypass: false };
    let pod = |cookie| Pod { netns: PathBuf::from("/run/netns/x"), ..pod(cookie) };
    for cookie in 0..16 {
        let done = pods::enrol(&mut k, &world.root, &pod(cookie), Standing::default());
        let hook = done.expect("enrol").hook.expect_err("there is no such namespace");
        assert!(hook.to_string().contains(&format!("p{cookie} ")), "{hook}");
    }
    let full = pods::enrol(&mut k, &world.root, &pod(16), Standing::default());
    let error = full.expect_err("full");
    assert!(error.to_string().contains("p16"), "{error}");
    let source = std::error::Error::source(&error).expect("a source").to_string();
    assert!(source.contains("--max-pods"), "{source}");
}
