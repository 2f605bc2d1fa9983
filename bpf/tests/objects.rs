//! Pins, links and programs on the running kernel: each call of the door.

mod world;

use std::os::unix::fs::symlink;

use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::kernel::{EntryKind, Id, KernelError, Objects, Pinned};
use kmesh_bpf::layout::{Hook, Map};
use kmesh_bpf::ours;
use world::{SMALL, World};

#[test]
fn directories_symlinks_and_pins_come_and_go() {
    let world = World::new();
    let mut k = Linux::new();
    let dir = world.bpffs().join("a/b");
    assert_eq!(k.list(&dir).expect("list"), None);
    k.make_dir(&dir).expect("make");
    k.make_dir(&dir).expect("make again");
    k.symlink(&dir.join("uid"), "cluster//Pod/ns/one").expect("symlink");
    k.symlink(&dir.join("uid"), "cluster//Pod/ns/two").expect("symlink again");
    k.create_map(Map::Settings, 8, &dir.join("pin")).expect("a map");
    k.make_dir(&dir.join("sub")).expect("make");
    let entries = k.list(&dir).expect("list").expect("there");
    let wanted = [
        ("pin", EntryKind::Pin),
        ("sub", EntryKind::Dir),
        ("uid", EntryKind::Symlink("cluster//Pod/ns/two".to_owned())),
    ];
    assert_eq!(entries, wanted.map(|(name, kind)| (name.to_owned(), kind)));
    let Some(Pinned::Map(info)) = k.pinned(&dir.join("pin")).expect("open") else { panic!() };
    k.create_map(Map::Settings, 8, &dir.join("other")).expect("a map");
    k.rename(&dir.join("pin"), &dir.join("other")).expect("move over");
    assert_eq!(k.pinned(&dir.join("pin")).expect("open"), None);
    assert_eq!(k.pinned(&dir.join("other")).expect("open"), Some(Pinned::Map(info)));
    for name in ["other", "uid", "other"] {
        k.unpin(&dir.join(name)).expect("remove");
    }
    assert!(k.remove_dir(&dir).is_err(), "not empty");
    for dir in [dir.join("sub"), dir.clone(), dir] {
        k.remove_dir(&dir).expect("remove");
    }
}

#[test]
fn a_symlink_left_half_made_is_no_obstacle() {
    let world = World::new();
    let mut k = Linux::new();
    let dir = world.bpffs().join("pod");
    k.make_dir(&dir).expect("make");
    symlink("half", dir.join("uid_new")).expect("symlink");
    k.symlink(&dir.join("uid"), "whole").expect("symlink");
    assert_eq!(world::names(&dir), ["uid"]);
}

#[test]
fn a_map_is_made_with_its_shape_and_found_by_id() {
    let world = World::new();
    let mut k = Linux::new();
    for map in Map::ALL {
        let path = world.bpffs().join(map.name());
        let info = k.create_map(map, SMALL.of(map), &path).expect("a map");
        assert!(ours::has_shape(map, &info), "{info:?}");
        assert_eq!(ours::map_named(&info), Some(map));
        assert_eq!(info.max_entries, SMALL.of(map));
        assert_eq!(k.by_id(Id::Map(info.id)).expect("by id"), Some(Pinned::Map(info.clone())));
        assert!(k.all_ids().expect("ids").contains(&Id::Map(info.id)));
        let error = k.create_map(map, SMALL.of(map), &path).expect_err("the pin is there");
        assert!(error.to_string().contains(map.name()), "{error}");
        k.unpin(&path).expect("remove");
    }
    assert_eq!(k.by_id(Id::Map(u32::MAX)).expect("by id"), None);
}

#[test]
fn a_link_is_made_changed_and_detached() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let (one, two) = (world.bpffs().join("one"), world.bpffs().join("two"));
    let link = world.bpffs().join("link");
    let hook = Hook::Connect4;
    let first = k.load(hook, &world.root.maps(), &SMALL, &one).expect("load");
    let second = k.load(hook, &world.root.maps(), &SMALL, &two).expect("load");
    assert_eq!((ours::prog_named(&first), first.tag), (Some(hook), second.tag));
    assert!(first.verified_insns > 0 && first.map_ids.len() >= 5, "{first:?}");
    let there = |k: &Linux| k.effective(hook, &world.cgroup.0).expect("effective");
    assert!(there(&k).is_empty());
    let made = k.link_cgroup(hook, &one, &world.cgroup.0, &link).expect("link");
    assert_eq!(made.prog_id, first.id);
    assert_eq!(made.cgroup_id, k.cgroup_id(&world.cgroup.0).expect("id"));
    assert_eq!((made.kind, made.attach_type), (ours::LINK_CGROUP, hook.attach_type()));
    assert_eq!(there(&k), [first.id]);
    k.link_update(hook, &link, &two).expect("update");
    assert_eq!(there(&k), [second.id]);
    k.link_detach(made.id).expect("detach");
    assert!(there(&k).is_empty());
    let Some(Pinned::Link(info)) = k.pinned(&link).expect("open") else { panic!("no link") };
    assert_eq!((info.id, info.cgroup_id), (made.id, 0));
    k.link_detach(u32::MAX).expect("one that is gone");
}

#[test]
fn a_program_is_put_on_the_sockhash_replaced_and_taken_off() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let (one, two) = (world.bpffs().join("one"), world.bpffs().join("two"));
    let map = world.root.map(Map::Socket);
    let first = k.load(Hook::SkMsg, &world.root.maps(), &SMALL, &one).expect("load");
    let second = k.load(Hook::SkMsg, &world.root.maps(), &SMALL, &two).expect("load");
    let Some(Pinned::Map(info)) = k.pinned(&map).expect("open") else { panic!("no map") };
    assert!(k.sockhash_programs(info.id).expect("query").is_empty());
    k.attach_sockhash(&one, &map).expect("attach");
    assert_eq!(k.sockhash_programs(info.id).expect("query"), [first.id]);
    k.attach_sockhash(&two, &map).expect("replace");
    assert_eq!(k.sockhash_programs(info.id).expect("query"), [second.id]);
    k.detach_sockhash(second.id, info.id).expect("detach");
    assert!(k.sockhash_programs(info.id).expect("query").is_empty());
}

#[test]
fn every_program_loads_against_the_pinned_maps_only() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let mut pinned = Vec::new();
    for map in Map::ALL {
        let Some(Pinned::Map(info)) = k.pinned(&world.root.map(map)).expect("open") else {
            panic!("no map")
        };
        pinned.push(info.id);
    }
    for hook in Hook::ALL {
        let path = world.bpffs().join(hook.name());
        let info = k.load(hook, &world.root.maps(), &SMALL, &path).expect("load");
        assert_eq!((info.kind, info.name.as_str()), (ours::prog_type(hook), hook.name()));
        for id in &info.map_ids {
            let Some(Pinned::Map(map)) = k.by_id(Id::Map(*id)).expect("by id") else { panic!() };
            let ours = ours::map_named(&map).is_some();
            assert!(!ours || pinned.contains(id), "{}: {map:?}", hook.name());
        }
        assert_ne!(k.build(hook), 0);
    }
}

#[test]
fn a_refused_program_says_why() {
    let world = World::new();
    let (mut k, _) = world.maps();
    // A map of another type at a pin that the program needs.
    let path = world.root.map(Map::Frontend);
    k.unpin(&path).expect("remove");
    k.create_map(Map::Socket, 8, &path).expect("a map");
    let answer = k.load(Hook::Connect4, &world.root.maps(), &SMALL, &world.bpffs().join("p"));
    let error = answer.expect_err("refused");
    assert!(matches!(error, KernelError::Load { hook: Hook::Connect4, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("the verifier's last words") && text.lines().count() < 40, "{text}");
}

#[test]
fn a_map_of_another_shape_is_not_opened() {
    let world = World::new();
    let mut k = Linux::new();
    let path = world.bpffs().join("m");
    k.create_map(Map::Settings, 8, &path).expect("a map");
    assert!(k.open_map(Map::Service, &path).is_err());
}
