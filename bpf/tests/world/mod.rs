//! A world for tests on the running kernel: a BPF file system and a cgroup of their own, gone
//! when the test ends, however it ends. Needs root; without it, tests fail.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use kmesh_bpf::attach::{self, HooksAdopted};
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::layout::{Hook, Limits};
use kmesh_bpf::netns;
use kmesh_bpf::pins::{self, MapsAdopted, Root};
use kmesh_bpf::pods::Pod;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The hooks without those of the getpeername setting.
pub const ALWAYS: [Hook; 4] = [Hook::SkMsg, Hook::SockOps, Hook::Connect4, Hook::Connect6];

/// Limits that make maps quickly.
pub const SMALL: Limits = Limits {
    frontends: 40_000,
    services: 64,
    endpoints: 128,
    workloads: 64,
    names: 256,
    pods: 16,
    sockets: 16,
    policies: 16,
    policy_sets: 8,
    policy_words: 4096,
    policy_chunks: 256,
    connections: 64,
};

/// The BPF file system and the cgroup.
pub struct World {
    dir: tempfile::TempDir,
    pub cgroup: Cgroup,
    pub root: Root,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        mount("bpf", dir.path(), "bpf", MountFlags::empty(), None)
            .expect("mount a BPF file system: these tests need root");
        let root = Root::new(dir.path().join("kmesh"));
        Self { dir, cgroup: Cgroup::new(), root }
    }

    /// The BPF file system itself.
    pub fn bpffs(&self) -> &Path {
        self.dir.path()
    }

    /// A new process' door, with the maps adopted.
    pub fn maps(&self) -> (Linux, MapsAdopted) {
        let mut k = Linux::new();
        let adopted = pins::adopt_maps(&mut k, &self.root, &SMALL).expect("adopt the maps");
        (k, adopted)
    }

    /// What a start of the daemon does: adopt maps, then hooks.
    pub fn start(&self) -> (Linux, MapsAdopted, HooksAdopted) {
        let (mut k, maps) = self.maps();
        let hooks = self.hooks(&mut k, false);
        (k, maps, hooks)
    }

    pub fn hooks(&self, k: &mut Linux, peername: bool) -> HooksAdopted {
        attach::adopt_hooks(k, &self.root, &self.cgroup.0, &SMALL, peername).expect("adopt hooks")
    }

    /// Asserts that every hook needs nothing and that no pin is left over.
    pub fn assert_current(&self, k: &Linux) {
        for state in attach::inspect(k, &self.root, &self.cgroup.0).expect("inspect") {
            assert_eq!(state.is_current(), ALWAYS.contains(&state.hook), "{state:?}");
        }
        assert_eq!(names(&self.root.progs()), ["connect4", "connect6", "sk_msg", "sockops"]);
        assert_eq!(names(&self.root.links()), ["connect4", "connect6", "sockops"]);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}

/// A cgroup below the cgroup2 root.
pub struct Cgroup(pub PathBuf);

impl Cgroup {
    pub fn new() -> Self {
        let root = kmesh_bpf::cgroup::find_root().expect("a cgroup2 mount");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("kmesh-door-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("make a cgroup: these tests need root");
        Self(path)
    }
}

/// This process, moved into the governed cgroup, until this is dropped. Its sockets are governed
/// then; so one test of a process at a time.
pub struct Inside(String, std::sync::MutexGuard<'static, ()>);

static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

impl Cgroup {
    pub fn enter(&self) -> Inside {
        let one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let own = std::fs::read_to_string("/proc/self/cgroup").expect("this process' cgroup");
        let path = own.lines().find_map(|line| line.strip_prefix("0::")).expect("cgroup2");
        let root = kmesh_bpf::cgroup::find_root().expect("a cgroup2 mount");
        let home = format!("{}{path}/cgroup.procs", root.display());
        std::fs::write(self.0.join("cgroup.procs"), "0").expect("enter the cgroup");
        Inside(home, one)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.0, "0");
    }
}

impl Drop for Cgroup {
    /// A child that another test started while this process was inside may still be there.
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// A network namespace, kept by a mount as `ip netns` does.
pub struct Namespace {
    file: tempfile::NamedTempFile,
}

impl Namespace {
    pub fn new() -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let answer = Command::new("unshare")
            .arg(format!("--net={}", file.path().display()))
            .arg("true")
            .output()
            .expect("unshare(1)");
        assert!(answer.status.success(), "needs root: {answer:?}");
        Self { file }
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub fn cookie(&self) -> u64 {
        netns::cookie_of(self.path()).expect("its cookie")
    }

    pub fn pod(&self, uid: &str) -> Pod {
        let netns = self.path().to_owned();
        Pod { cookie: self.cookie(), uid: uid.to_owned(), netns, bypass: false }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = unmount(self.file.path(), UnmountFlags::DETACH);
    }
}

/// Names of the entries of a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("list a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
