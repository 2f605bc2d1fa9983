//! `layout.h` and `layout::*` say the same: every struct, field, offset, size, enumerator, number
//! and map definition, read from the BTF that clang writes. It fails on any difference, never
//! skips, and shows of each kind of difference that it would be seen.

#[path = "layout/btf.rs"]
mod btf;
#[path = "layout/twin.rs"]
mod twin;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::process::Command;

use btf::Layout;
use kmesh_bpf::layout::Hook;
use kmesh_bpf::programs;

/// Each difference, in words.
fn differences(c: &Layout, rust: &Layout) -> Vec<String> {
    let mut all = Vec::new();
    for (name, twin) in &rust.structs {
        let Some(of) = c.structs.get(name) else {
            all.push(format!("struct {name} is only in Rust"));
            continue;
        };
        if of.size != twin.size {
            all.push(format!("struct {name}: {} bytes in C, {} in Rust", of.size, twin.size));
        }
        compare(&format!("struct {name}"), &of.fields, &twin.fields, &mut all);
    }
    for name in c.structs.keys().filter(|name| name.starts_with("kmesh_")) {
        if !rust.structs.contains_key(name) {
            all.push(format!("struct {name} is only in C"));
        }
    }
    compare("maps", &c.maps, &rust.maps, &mut all);
    all
}

/// Differences of the enumerators that are ours.
fn enumerator_differences(c: &Layout, rust: &Layout) -> Vec<String> {
    let ours = |name: &&String| name.starts_with("KMESH_") || name.starts_with("NUMBER_");
    let of: BTreeMap<_, _> =
        c.enumerators.iter().filter(|(name, _)| ours(name)).map(|(n, v)| (n.clone(), *v)).collect();
    let mut all = Vec::new();
    compare("enumerators", &of, &rust.enumerators, &mut all);
    all
}

fn compare<T: PartialEq + Debug>(
    what: &str,
    c: &BTreeMap<String, T>,
    rust: &BTreeMap<String, T>,
    all: &mut Vec<String>,
) {
    for (name, twin) in rust {
        match c.get(name) {
            None => all.push(format!("{what}: {name} is only in Rust")),
            Some(of) if of != twin => {
                all.push(format!("{what}: {name} is {of:?} in C, {twin:?} in Rust"));
            }
            Some(_) => {}
        }
    }
    for name in c.keys().filter(|name| !rust.contains_key(*name)) {
        all.push(format!("{what}: {name} is only in C"));
    }
}

/// The BTF of `layout/layout.bpf.c`, which mentions everything.
fn header() -> Layout {
    let clang = std::env::var("KMESH_CLANG").unwrap_or_else(|_| "clang-19".to_owned());
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("a directory for the object");
    let object = out.path().join("layout.o");
    let answer = Command::new(&clang)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-std=gnu11", "-c"])
        .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .arg("-I")
        .arg(here.join("prog"))
        .arg(here.join("tests/layout/layout.bpf.c"))
        .arg("-o")
        .arg(&object)
        .output()
        .expect("clang");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    btf::read(&std::fs::read(object).expect("the object"))
}

#[test]
fn the_header_says_what_rust_says() {
    let (c, rust) = (header(), twin::layout());
    let mut all = differences(&c, &rust);
    all.extend(enumerator_differences(&c, &rust));
    assert_eq!(all, Vec::<String>::new());
}

#[test]
fn every_program_is_of_this_layout() {
    let mut rust = twin::layout();
    // what lies in a ring buffer is no part of its map's definition: only the header is compared
    rust.structs.remove("kmesh_denial");
    for hook in Hook::EVERY {
        let object = programs::of(hook).unwrap_or_else(|| panic!("no object for {}", hook.name()));
        let c = btf::read(object.bytes);
        assert_eq!(differences(&c, &rust), Vec::<String>::new(), "{}", hook.name());
    }
}

/// The difference that a changed layout makes must be seen and name what it is about.
fn seen<T>(change: impl Fn(&mut Layout) -> T, about: &str) {
    let rust = twin::layout();
    let mut c = rust.clone();
    let _ = change(&mut c);
    let mut all = differences(&c, &rust);
    all.extend(enumerator_differences(&c, &rust));
    assert!(all.iter().any(|line| line.contains(about)), "{about} was not seen: {all:?}");
}

fn service(layout: &mut Layout) -> &mut btf::Struct {
    layout.structs.get_mut("kmesh_service").expect("kmesh_service")
}

#[test]
fn a_difference_of_structs_is_seen() {
    seen(|c| service(c).fields.get_mut("port").expect("port").offset += 2, "port");
    seen(|c| service(c).fields.get_mut("kind").expect("kind").size = 2, "kind");
    seen(|c| service(c).size = 40, "40 bytes in C");
    seen(|c| service(c).fields.remove("waypoint"), "waypoint is only in Rust");
    let more = btf::Field { offset: 32, size: 8 };
    seen(|c| service(c).fields.insert("more".to_owned(), more), "more is only in C");
    seen(|c| c.structs.remove("kmesh_dst"), "kmesh_dst is only in Rust");
    let new = btf::Struct::default();
    seen(|c| c.structs.insert("kmesh_new".to_owned(), new.clone()), "kmesh_new");
}

#[test]
fn a_difference_of_maps_is_seen() {
    let map = |c: &mut Layout, change: fn(&mut btf::MapDef)| {
        change(c.maps.get_mut("kmesh_frontend").expect("kmesh_frontend"));
    };
    seen(|c| map(c, |def| def.kind = 2), "kmesh_frontend");
    seen(|c| map(c, |def| def.key_size = 24), "kmesh_frontend");
    seen(|c| map(c, |def| def.value_size = 4), "kmesh_frontend");
    seen(|c| map(c, |def| def.max_entries += 1), "kmesh_frontend");
    seen(|c| map(c, |def| def.flags = 0), "kmesh_frontend");
    seen(|c| map(c, |def| def.pinning = 0), "kmesh_frontend");
    seen(|c| c.maps.remove("map_of_manager"), "map_of_manager is only in Rust");
    let new = btf::MapDef::default();
    seen(|c| c.maps.insert("kmesh_new".to_owned(), new), "kmesh_new is only in C");
}

#[test]
fn a_difference_of_enumerators_is_seen() {
    let steered = "KMESH_C_STEERED";
    seen(|c| c.enumerators.insert(steered.to_owned(), 7), steered);
    seen(|c| c.enumerators.remove("KMESH_BYPASS"), "KMESH_BYPASS is only in Rust");
    seen(|c| c.enumerators.insert("KMESH_NEW".to_owned(), 1), "KMESH_NEW is only in C");
    seen(|c| c.enumerators.insert("NUMBER_MAGIC".to_owned(), 1), "NUMBER_MAGIC");
}
