//! Adopting maps and hooks on the running kernel: the first start, a start that finds everything
//! as it left it, and one after each kind of damage.

mod world;

use std::collections::BTreeMap;

use kmesh_bpf::attach::{self, AttachError};
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::kernel::{Id, Objects, Pinned, Put, Tables};
use kmesh_bpf::layout::{Hook, Map};
use kmesh_bpf::pins::{self, PinsError};
use world::{ALWAYS, Cgroup, SMALL, World};

/// Ids of everything that is pinned.
fn ids(world: &World, k: &Linux) -> BTreeMap<String, u32> {
    let mut ids = BTreeMap::new();
    for dir in [world.root.maps(), world.root.progs(), world.root.links()] {
        for name in world::names(&dir) {
            let id = match k.pinned(&dir.join(&name)).expect("a pin").expect("a pin") {
                Pinned::Map(info) => info.id,
                Pinned::Prog(info) => info.id,
                Pinned::Link(info) => info.id,
            };
            ids.insert(dir.join(name).display().to_string(), id);
        }
    }
    ids
}

fn prog_id(world: &World, k: &Linux, hook: Hook) -> u32 {
    match k.pinned(&world.root.prog(hook)).expect("a pin") {
        Some(Pinned::Prog(info)) => info.id,
        other => panic!("{other:?}"),
    }
}

fn link_id(world: &World, k: &Linux, hook: Hook) -> u32 {
    match k.pinned(&world.root.link(hook)).expect("a pin") {
        Some(Pinned::Link(info)) => info.id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_first_start_makes_everything_and_a_second_nothing() {
    let world = World::new();
    let (k, maps, hooks) = world.start();
    assert_eq!(maps.created, Map::ALL);
    assert_eq!(hooks.attached, ALWAYS);
    world.assert_current(&k);
    let before = ids(&world, &k);
    let meta = pins::meta(&k).expect("meta");
    let (k, maps, hooks) = world.start();
    assert_eq!(maps.reused, Map::ALL);
    assert_eq!((maps.created.len(), maps.repinned.len(), maps.kept.len()), (0, 0, 0));
    assert_eq!(hooks, attach::HooksAdopted { kept: ALWAYS.to_vec(), ..Default::default() });
    assert_eq!(ids(&world, &k), before);
    assert_eq!(pins::meta(&k).expect("meta"), meta);
    world.assert_current(&k);
}

#[test]
fn each_map_is_found_again_without_its_pin() {
    let world = World::new();
    let (mut k, ..) = world.start();
    let key = 77u64.to_ne_bytes();
    k.update(Map::Manager, &key, &5u64.to_ne_bytes(), Put::Any).expect("write");
    let before = ids(&world, &k);
    for map in Map::ALL {
        std::fs::remove_file(world.root.map(map)).expect("delete the pin");
        let (k, maps, hooks) = world.start();
        assert_eq!(maps.repinned, [map]);
        assert_eq!(hooks.kept, ALWAYS, "after {}", map.name());
        assert_eq!(ids(&world, &k), before);
    }
    let (k, ..) = world.start();
    let mut value = [0; 8];
    assert!(k.lookup(Map::Manager, &key, &mut value).expect("read"));
    assert_eq!(u64::from_ne_bytes(value), 5);
}

#[test]
fn a_lost_meta_is_begun_behind_the_older_tables() {
    let world = World::new();
    let (mut k, ..) = world.start();
    k.update_batch(Map::Backend, &41u32.to_ne_bytes(), &[1; 64]).expect("write");
    k.update_batch(Map::Names, &7u32.to_ne_bytes(), &[2; 64]).expect("write");
    drop(k);
    std::fs::remove_file(world.root.map(Map::Meta)).expect("delete the pin");
    // every program keeps every map: only with all of them does it go
    for hook in ALWAYS {
        std::fs::remove_file(world.root.prog(hook)).expect("delete the program's pin");
        if hook.on_cgroup() {
            std::fs::remove_file(world.root.link(hook)).expect("delete the link's pin");
        }
    }
    let (k, maps, _) = world.start();
    assert_eq!(maps.created, [Map::Meta]);
    let meta = pins::meta(&k).expect("meta");
    assert_eq!((meta.backends_end, meta.names_end), (42, 8));
    assert_eq!((meta.services_end, meta.endpoints_end), (0, 0));
    world.assert_current(&k);
}

#[test]
fn all_pins_of_maps_lost_but_programs_stand() {
    let world = World::new();
    drop(world.start());
    for map in Map::ALL {
        std::fs::remove_file(world.root.map(map)).expect("delete the pin");
    }
    std::fs::remove_dir(world.root.maps()).expect("remove the directory");
    let (k, maps, _) = world.start();
    assert_eq!(maps.created, []);
    assert_eq!(maps.repinned, Map::ALL);
    world.assert_current(&k);
}

#[test]
fn a_foreign_map_is_refused_and_left_alone() {
    let world = World::new();
    let (mut k, ..) = world.start();
    let path = world.root.map(Map::Service);
    std::fs::remove_file(&path).expect("delete the pin");
    // Another map of ours at its place is foreign there.
    k.create_map(Map::Endpoint, 8, &path).expect("a map");
    let Some(Pinned::Map(info)) = k.pinned(&path).expect("a pin") else { panic!("no map") };
    let mut k = Linux::new();
    let error = pins::adopt_maps(&mut k, &world.root, &SMALL).expect_err("refused");
    let text = error.to_string();
    assert!(matches!(error, PinsError::Foreign { map: Map::Service, .. }), "{text}");
    assert!(text.contains("kmesh_service") && text.contains("kmeshctl purge"), "{text}");
    assert_eq!(k.pinned(&path).expect("a pin"), Some(Pinned::Map(info)));
    assert!(pins::open_existing(&mut Linux::new(), &world.root).is_err());
}

#[test]
fn a_program_in_a_maps_place_is_refused() {
    let world = World::new();
    let (k, ..) = world.start();
    let path = world.root.map(Map::Stats);
    std::fs::remove_file(&path).expect("delete the pin");
    let mut k2 = Linux::new();
    k2.pin(Id::Prog(prog_id(&world, &k, Hook::Connect4)), &path).expect("pin a program");
    let error = pins::adopt_maps(&mut k2, &world.root, &SMALL).expect_err("refused");
    assert!(error.to_string().contains("is a program, connect4"), "{error}");
}

#[test]
fn another_layout_is_refused_before_anything_is_written() {
    let world = World::new();
    let (mut k, ..) = world.start();
    let mut meta = pins::meta(&k).expect("meta");
    meta.layout = 99;
    let bytes = bytemuck::bytes_of(&meta);
    k.update(Map::Meta, &0u32.to_ne_bytes(), bytes, Put::Any).expect("write");
    // A missing pin would be made again, were the layout not refused first.
    std::fs::remove_file(world.root.map(Map::Names)).expect("delete the pin");
    let error = pins::adopt_maps(&mut Linux::new(), &world.root, &SMALL).expect_err("refused");
    assert!(matches!(error, PinsError::Layout { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("kmeshctl purge"), "{error}");
    assert!(!world.root.map(Map::Names).exists());
    let error = pins::open_existing(&mut Linux::new(), &world.root).expect_err("refused");
    assert!(matches!(error, PinsError::Layout { found: 99, .. }), "{error}");
}

#[test]
fn readers_open_what_is_there_and_make_nothing() {
    let world = World::new();
    let error = pins::open_existing(&mut Linux::new(), &world.root).expect_err("nothing there");
    assert!(matches!(error, PinsError::Missing { .. }), "{error}");
    assert!(!world.root.path().exists());
    drop(world.start());
    let mut k = Linux::new();
    pins::open_existing(&mut k, &world.root).expect("open");
    assert_eq!(k.max_entries(Map::Service).expect("limit"), SMALL.services);
}

#[test]
fn a_lost_program_pin_is_made_again_for_the_program_that_stands() {
    let world = World::new();
    let (k, ..) = world.start();
    let before = ids(&world, &k);
    for hook in ALWAYS {
        std::fs::remove_file(world.root.prog(hook)).expect("delete the pin");
        let (k, _, hooks) = world.start();
        assert_eq!(hooks.repinned, [hook]);
        assert_eq!(ids(&world, &k), before);
    }
}

#[test]
fn a_lost_link_pin_is_attached_anew() {
    let world = World::new();
    drop(world.start());
    std::fs::remove_file(world.root.link(Hook::Connect6)).expect("delete the pin");
    let (k, _, hooks) = world.start();
    assert_eq!(hooks.attached, [Hook::Connect6]);
    world.assert_current(&k);
}

#[test]
fn a_link_whose_cgroup_is_gone_is_attached_anew() {
    let mut world = World::new();
    let (k, ..) = world.start();
    let progs: Vec<u32> = ALWAYS.iter().map(|hook| prog_id(&world, &k, *hook)).collect();
    // The old cgroup is removed as its guard is dropped.
    world.cgroup = Cgroup::new();
    let (k, _, hooks) = world.start();
    assert_eq!(hooks.kept, [Hook::SkMsg]);
    assert_eq!(hooks.attached, ALWAYS[1..]);
    let again: Vec<u32> = ALWAYS.iter().map(|hook| prog_id(&world, &k, *hook)).collect();
    assert_eq!(again, progs, "the programs are the same, nothing was loaded");
    world.assert_current(&k);
}

#[test]
fn a_detached_link_is_attached_anew() {
    let world = World::new();
    let (mut k, ..) = world.start();
    k.link_detach(link_id(&world, &k, Hook::SockOps)).expect("detach");
    let (k, _, hooks) = world.start();
    assert_eq!(hooks.attached, [Hook::SockOps]);
    world.assert_current(&k);
}

#[test]
fn another_builds_program_is_replaced_in_the_same_link() {
    let world = World::new();
    let (mut k, ..) = world.start();
    let mut meta = pins::meta(&k).expect("meta");
    for hook in ALWAYS {
        meta.hooks[hook.index()].build ^= 1;
    }
    let bytes = bytemuck::bytes_of(&meta);
    k.update(Map::Meta, &0u32.to_ne_bytes(), bytes, Put::Any).expect("write");
    let before = ids(&world, &k);
    let (k, _, hooks) = world.start();
    assert_eq!(hooks.replaced, ALWAYS);
    let after = ids(&world, &k);
    for (path, id) in &after {
        let same = before.get(path) == Some(id);
        assert_eq!(same, !path.contains("/progs/"), "{path}: links stay, programs change");
    }
    world.assert_current(&k);
}

#[test]
fn what_a_killed_run_left_aside_is_cleared() {
    let world = World::new();
    let (mut k, ..) = world.start();
    let aside = world.root.prog_new(Hook::Connect4);
    k.load(Hook::Connect4, &world.root.maps(), &SMALL, &aside).expect("load");
    let link = world.root.link_new(Hook::Connect6);
    let prog = world.root.prog(Hook::Connect6);
    k.link_cgroup(Hook::Connect6, &prog, &world.cgroup.0, &link).expect("link");
    let (k, _, hooks) = world.start();
    assert_eq!(hooks.kept, ALWAYS);
    world.assert_current(&k);
    let there = k.effective(Hook::Connect6, &world.cgroup.0).expect("effective");
    assert_eq!(there, [prog_id(&world, &k, Hook::Connect6)]);
}

#[test]
fn a_link_that_a_killed_run_made_for_the_new_cgroup_is_used() {
    let mut world = World::new();
    drop(world.start());
    world.cgroup = Cgroup::new();
    let mut k = Linux::new();
    let (aside, prog) = (world.root.link_new(Hook::Connect4), world.root.prog(Hook::Connect4));
    let made = k.link_cgroup(Hook::Connect4, &prog, &world.cgroup.0, &aside).expect("link");
    let (k, _, hooks) = world.start();
    assert_eq!(hooks.kept, [Hook::SkMsg, Hook::Connect4]);
    assert_eq!(link_id(&world, &k, Hook::Connect4), made.id);
    world.assert_current(&k);
}

#[test]
fn getpeername_hooks_come_and_go_with_their_setting() {
    let world = World::new();
    let (mut k, ..) = world.start();
    let two = [Hook::GetPeerName4, Hook::GetPeerName6];
    let hooks = world.hooks(&mut k, true);
    assert_eq!((hooks.kept.as_slice(), hooks.attached.as_slice()), (&ALWAYS[..], &two[..]));
    assert_eq!(world.hooks(&mut k, true).kept, Hook::ALL);
    let hooks = world.hooks(&mut k, false);
    assert_eq!((hooks.kept.as_slice(), hooks.removed.as_slice()), (&ALWAYS[..], &two[..]));
    assert_eq!(world.hooks(&mut k, false).removed, []);
    assert_eq!(k.effective(Hook::GetPeerName4, &world.cgroup.0).expect("effective"), [0_u32; 0]);
    world.assert_current(&k);
}

#[test]
fn a_foreign_pin_in_a_hooks_place_is_refused_and_left_alone() {
    let world = World::new();
    let (mut k, ..) = world.start();
    let path = world.root.prog(Hook::SockOps);
    std::fs::remove_file(&path).expect("delete the pin");
    k.pin(Id::Prog(prog_id(&world, &k, Hook::Connect4)), &path).expect("pin");
    let answer = attach::adopt_hooks(&mut k, &world.root, &world.cgroup.0, &SMALL, false);
    let error = answer.expect_err("refused");
    assert!(matches!(error, AttachError::Foreign { .. }), "{error}");
    assert!(path.exists());
}

#[test]
fn a_program_on_other_maps_than_the_pinned_is_replaced() {
    let world = World::new();
    let (mut k, ..) = world.start();
    let path = world.root.map(Map::Stats);
    std::fs::remove_file(&path).expect("delete the pin");
    k.create_map(Map::Stats, SMALL.of(Map::Stats), &path).expect("a map");
    let (k, _, hooks) = world.start();
    assert!(hooks.replaced.contains(&Hook::Connect4), "{hooks:?}");
    world.assert_current(&k);
}

#[test]
fn a_larger_limit_grows_the_map_with_what_it_holds() {
    let world = World::new();
    let (mut k, ..) = world.start();
    let cookie = 77u64.to_ne_bytes();
    k.update(Map::Manager, &cookie, &5u64.to_ne_bytes(), Put::Any).expect("write");
    k.update_batch(Map::Backend, &41u32.to_ne_bytes(), &[1; 64]).expect("write");
    let links = ids(&world, &k);
    let mut limits = SMALL;
    (limits.pods, limits.workloads, limits.sockets) = (32, 128, 32);
    let mut k = Linux::new();
    let adopted = pins::adopt_maps(&mut k, &world.root, &limits).expect("adopt");
    assert_eq!(adopted.resized, [Map::Backend, Map::Manager]);
    let kept = pins::KeptLimit { map: Map::Socket, has: 16, wanted: 32 };
    assert_eq!(adopted.kept, [kept], "sockets cannot be copied");
    let hooks = attach::adopt_hooks(&mut k, &world.root, &world.cgroup.0, &limits, false);
    let hooks = hooks.expect("adopt hooks");
    assert!(hooks.replaced.contains(&Hook::Connect4), "{hooks:?}");
    assert!(hooks.attached.is_empty(), "links stay: {hooks:?}");
    for (path, id) in ids(&world, &k) {
        assert!(!path.ends_with("_new"), "{path}");
        assert!(!path.contains("/links/") || links[&path] == id, "{path}");
    }
    world.assert_current(&k);
    assert_eq!(k.max_entries(Map::Manager).expect("limit"), 32);
    assert_eq!(k.max_entries(Map::Backend).expect("limit"), 128);
    let (mut value, mut backend) = ([0; 8], [0; 64]);
    assert!(k.lookup(Map::Manager, &cookie, &mut value).expect("read"));
    assert_eq!(u64::from_ne_bytes(value), 5);
    k.lookup(Map::Backend, &41u32.to_ne_bytes(), &mut backend).expect("read");
    assert_eq!(backend, [1; 64]);
}

#[test]
fn a_smaller_limit_is_kept_and_said() {
    let world = World::new();
    drop(world.start());
    let mut k = Linux::new();
    let mut limits = SMALL;
    limits.pods = 8;
    let adopted = pins::adopt_maps(&mut k, &world.root, &limits).expect("adopt");
    let kept = pins::KeptLimit { map: Map::Manager, has: 16, wanted: 8 };
    assert_eq!(adopted.kept, [kept]);
    assert_eq!(k.max_entries(Map::Manager).expect("limit"), 16);
}

#[test]
fn a_foreign_program_that_forbids_ours_is_named() {
    let world = World::new();
    let (mut k, _) = world.maps();
    let path = world.bpffs().join("foreign");
    let foreign = k.load(Hook::Connect4, &world.root.maps(), &SMALL, &path).expect("load");
    let cgroup = world.cgroup.0.to_str().expect("a path");
    let answer = std::process::Command::new("bpftool")
        .args(["cgroup", "attach", cgroup, "connect4", "pinned"])
        .arg(&path)
        .output()
        .expect("bpftool");
    assert!(answer.status.success(), "{answer:?}");
    let answer = attach::adopt_hooks(&mut k, &world.root, &world.cgroup.0, &SMALL, false);
    let error = answer.expect_err("refused");
    let who = format!("program {} (connect4)", foreign.id);
    assert!(
        matches!(&error, AttachError::Exclusive { hook: Hook::Connect4, who: said, .. } if *said == who),
        "{error}"
    );
    assert!(error.to_string().contains("BPF_F_ALLOW_MULTI"), "{error}");
}

#[test]
fn a_cgroup_that_is_none_is_refused_before_anything_is_made() {
    let world = World::new();
    let (mut k, _) = world.maps();
    for wrong in ["/proc/kmesh-none", "/tmp"] {
        let wrong = std::path::Path::new(wrong);
        let answer = attach::adopt_hooks(&mut k, &world.root, wrong, &SMALL, false);
        let error = answer.expect_err("refused");
        assert!(matches!(error, AttachError::Cgroup { .. }), "{error}");
        assert!(error.to_string().contains("--cgroup"), "{error}");
    }
    assert!(!world.root.progs().exists());
}
