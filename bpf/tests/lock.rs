//! The writer's lock on the running kernel.

mod world;

use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kmesh_bpf::lock::{self, LockError};
use kmesh_bpf::pins::Root;
use world::World;

/// One test at a time: a child has a copy of every lock from its birth until its exec.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let _alone = alone();
    let world = World::new();
    assert_eq!(lock::holder(&world.root).expect("holder"), None);
    let held = lock::acquire(&world.root, true).expect("lock");
    let Err(LockError::Held { holder, .. }) = lock::acquire(&world.root, true) else {
        panic!("had twice")
    };
    assert_eq!(holder.pid, std::process::id());
    assert!(holder.command.contains("lock"), "{holder:?}");
    assert_eq!(holder.start, kmesh_bpf::clock::process_start());
    assert_ne!(holder.start, 0);
    assert_eq!(lock::holder(&world.root).expect("holder"), Some(holder));
    drop(held);
    assert_eq!(lock::holder(&world.root).expect("holder"), None);
    let again = lock::acquire_existing(&world.root).expect("lock");
    drop(again);
}

#[test]
fn another_process_holds_it_until_it_is_killed() {
    let _alone = alone();
    let world = World::new();
    drop(lock::acquire(&world.root, true).expect("lock"));
    let mut other = Command::new("flock")
        .arg("--no-fork")
        .arg(world.root.path())
        .args(["sleep", "60"])
        .spawn()
        .expect("flock(1)");
    let deadline = Instant::now() + Duration::from_secs(10);
    while lock::holder(&world.root).expect("holder").is_none() {
        assert!(Instant::now() < deadline, "flock(1) never had the lock");
        std::thread::sleep(Duration::from_millis(5));
    }
    let answer = lock::acquire(&world.root, true);
    other.kill().expect("kill");
    let Err(LockError::Held { holder, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(holder.pid, other.id());
    other.wait().expect("wait");
    drop(lock::acquire(&world.root, true).expect("lock"));
}

#[test]
fn a_root_that_is_not_there_is_made_or_said() {
    let _alone = alone();
    let world = World::new();
    let answer = lock::acquire_existing(&world.root);
    assert!(matches!(answer, Err(LockError::Absent { .. })), "{answer:?}");
    let deep = Root::new(world.bpffs().join("some/where"));
    drop(lock::acquire(&deep, true).expect("lock"));
    assert!(deep.path().is_dir());
}

#[test]
fn the_lock_is_of_the_directory_that_is_there_now() {
    let _alone = alone();
    let world = World::new();
    let old = lock::acquire(&world.root, true).expect("lock");
    std::fs::remove_dir(world.root.path()).expect("remove the directory");
    let new = lock::acquire(&world.root, true).expect("the new directory has a lock of its own");
    let held = lock::holder(&world.root).expect("holder").expect("held");
    assert_eq!(held.pid, std::process::id());
    drop((old, new));
}
