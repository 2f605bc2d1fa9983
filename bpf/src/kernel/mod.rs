//! The one door to the kernel.
//!
//! Two traits say all that Kmesh ever asks of it: [`Tables`] reads and writes map
//! elements, [`Objects`] handles pins, links and programs. `linux` implements them
//! over `bpf(2)`; [`crate::memory`] implements them in memory with faults at the
//! N-th call, for tests. Everything else in this crate is arrangement.
//!
//! No caller sees a file descriptor: maps are named by [`Map`], objects by path or
//! id. Whoever mutates holds the writer lock; nothing here checks that.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::layout::{Hook, Limits, Map};

mod interfaces;
pub mod linux;
mod sockets;

pub use interfaces::Interfaces;
pub(crate) use interfaces::unlisted;
pub use sockets::{Sockets, TcpSocket};

/// All of the kernel: what adopting, verifying and purging need.
pub trait Kernel: Tables + Objects + Sockets + Interfaces {}

impl<K: Tables + Objects + Sockets + Interfaces> Kernel for K {}

/// What went wrong at the door. Its fields name the object; `source` is the kernel's answer.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A map operation failed.
    #[error("{op} on map {}{}", map.name(), key_text(key))]
    Map {
        /// What was attempted: "update", "delete", "look up", "read".
        op: &'static str,
        /// The map.
        map: Map,
        /// The key in hex, where one key is to blame; else empty.
        key: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A map has no room for another element.
    #[error(
        "map {} is full: its limit is {limit}{}", map.name(),
        map.limit_option().map(|o| format!("; raise it with {o}")).unwrap_or_default()
    )]
    Full {
        /// The map.
        map: Map,
        /// Its `max_entries`.
        limit: u32,
    },
    /// A pinned object could not be opened, made, moved or removed.
    #[error("{op} {}", path.display())]
    Pin {
        /// What was attempted.
        op: &'static str,
        /// The path on the BPF file system.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A program could not be loaded.
    #[error("load program {}: {reason}", hook.name())]
    Load {
        /// Where it was to stand.
        hook: Hook,
        /// What the loader or the verifier said.
        reason: String,
    },
    /// A program could not be attached, replaced or detached.
    #[error("{op} {} at {}", hook.name(), target.display())]
    Attach {
        /// What was attempted.
        op: &'static str,
        /// Where.
        hook: Hook,
        /// The cgroup or the link's pin.
        target: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Any other question to the kernel.
    #[error("{op}")]
    System {
        /// What was attempted, with its object.
        op: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Bytes as lower-case hex, as errors and checksums say them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn key_text(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(" at key {key}") }
}

/// How an update treats what is there; the flags of `BPF_MAP_UPDATE_ELEM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Create or replace.
    Any,
    /// Create only.
    NoExist,
    /// Replace only.
    Exist,
}

/// What became of a put or a delete of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// The element was there already ([`Put::NoExist`]) or was not there.
    Unmet,
}

/// Map elements. Keys and values are the bytes of `crate::layout` types.
pub trait Tables {
    /// `max_entries` of the map as the kernel says it.
    fn max_entries(&self, map: Map) -> Result<u32, KernelError>;

    /// Copies one value out; false when the key is not there.
    fn lookup(&self, map: Map, key: &[u8], value: &mut [u8]) -> Result<bool, KernelError>;

    /// All values of a per-CPU array's element `index`, one u64 per possible CPU.
    fn lookup_per_cpu(&self, map: Map, index: u32) -> Result<Vec<u64>, KernelError>;

    /// Visits elements in batches: `visit(keys, values)` gets whole runs of both, in the
    /// kernel's order. Arrays are visited from index 0 up to `end`, exclusive; hashes wholly
    /// (`end` is ignored). An element that changes meanwhile may be seen in either state.
    fn scan(
        &self,
        map: Map,
        end: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), KernelError>;

    /// Writes a run of elements (create or replace) in as few calls as the kernel allows.
    /// On error an unknown prefix of the run is written.
    fn update_batch(&mut self, map: Map, keys: &[u8], values: &[u8]) -> Result<(), KernelError>;

    /// Removes a run of keys; keys that are not there are passed over.
    fn delete_batch(&mut self, map: Map, keys: &[u8]) -> Result<(), KernelError>;

    /// Writes one element as `put` says.
    fn update(
        &mut self,
        map: Map,
        key: &[u8],
        value: &[u8],
        put: Put,
    ) -> Result<Outcome, KernelError>;

    /// Removes one element.
    fn delete(&mut self, map: Map, key: &[u8]) -> Result<Outcome, KernelError>;

    /// Waits until no program that ran before this call is still running
    /// (`membarrier(MEMBARRIER_CMD_GLOBAL)`, 8–16 ms).
    fn grace(&mut self) -> Result<(), KernelError>;
}

/// What the kernel says of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// Its id.
    pub id: u32,
    /// Its type, `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// Creation flags.
    pub flags: u32,
    /// The first 15 characters of its name.
    pub name: String,
}

/// What the kernel says of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgInfo {
    /// Its id.
    pub id: u32,
    /// Its type, `enum bpf_prog_type`.
    pub kind: u32,
    /// The first 15 characters of its name.
    pub name: String,
    /// The kernel's hash of its instructions.
    pub tag: u64,
    /// The maps it uses.
    pub map_ids: Vec<u32>,
    /// Instructions that the verifier walked.
    pub verified_insns: u32,
}

/// What the kernel says of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its id.
    pub id: u32,
    /// Its type, `enum bpf_link_type`.
    pub kind: u32,
    /// The program it holds.
    pub prog_id: u32,
    /// The cgroup's id for a cgroup link, the inode of the network namespace for a netns link, the
    /// index of the interface for an XDP link; 0 once that is gone.
    pub cgroup_id: u64,
    /// `enum bpf_attach_type`.
    pub attach_type: u32,
}

/// What lies at a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// A map.
    Map(MapInfo),
    /// A program.
    Prog(ProgInfo),
    /// A link.
    Link(LinkInfo),
}

/// An object by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A map's id.
    Map(u32),
    /// A program's id.
    Prog(u32),
    /// A link's id.
    Link(u32),
}

/// What a directory entry on the BPF file system is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A pinned object.
    Pin,
    /// A directory.
    Dir,
    /// A symbolic link and what it says (Kmesh keeps a pod's uid and netns so).
    Symlink(String),
}

/// A short lock on a directory, released by drop. The in-memory kernel has no other process to
/// keep out and hands out an empty one.
#[derive(Debug, Default)]
#[must_use = "the lock is released when this is dropped"]
pub struct DirLock(pub Option<std::os::fd::OwnedFd>);

/// Called with each key of a map, and its value where user space may see it.
pub type RawVisit<'v> = &'v mut dyn FnMut(&[u8], Option<&[u8]>);

/// Pins, links and programs.
pub trait Objects {
    /// The build id of this build's program for `hook`: what [`Objects::load`] would load
    /// (first 8 bytes of the SHA-256 of its object file, big-endian).
    fn build(&self, hook: Hook) -> u64;

    /// Waits for the exclusive lock on a directory (`flock`). Not the writer's lock, which is
    /// [`crate::lock`]'s.
    fn lock_dir(&self, dir: &Path) -> Result<DirLock, KernelError>;

    /// What is pinned at `path`; `None` when nothing is there.
    fn pinned(&self, path: &Path) -> Result<Option<Pinned>, KernelError>;

    /// What the kernel says of an object by id; `None` when it is gone.
    fn by_id(&self, id: Id) -> Result<Option<Pinned>, KernelError>;

    /// Every object that the kernel holds: maps, programs, links (for the residue scan).
    fn all_ids(&self) -> Result<Vec<Id>, KernelError>;

    /// Copies out one element of the map with this id; false where the map or the key is not there,
    /// or is of another size. For maps that are looked at before they are known to be ours.
    fn element(&self, map_id: u32, key: &[u8], value: &mut [u8]) -> Result<bool, KernelError>;

    /// The device number of the BPF file system that `path`, or its nearest parent that is there,
    /// lies on: the same through each of its mounts. `None` where that is no BPF file system.
    fn instance(&self, path: &Path) -> Result<Option<u32>, KernelError>;

    /// Entries of a directory, sorted by name; `None` when it is not there.
    fn list(&self, dir: &Path) -> Result<Option<Vec<(String, EntryKind)>>, KernelError>;

    /// Visits every element of the map pinned at `path` as the kernel says it is, whatever its
    /// sizes: each key, and its value where user space may see it (of a per-CPU map: all CPUs'
    /// values, one after another). False where the kernel does not list its elements, or nothing
    /// is there.
    fn scan_pin(&self, path: &Path, visit: RawVisit<'_>) -> Result<bool, KernelError>;

    /// Makes a directory with its parents; one that is there is fine.
    fn make_dir(&mut self, dir: &Path) -> Result<(), KernelError>;

    /// Removes an empty directory; one that is not there is fine.
    fn remove_dir(&mut self, dir: &Path) -> Result<(), KernelError>;

    /// Makes a symbolic link that says `text`; replaces one that is there.
    fn symlink(&mut self, path: &Path, text: &str) -> Result<(), KernelError>;

    /// Pins an object that is alive at a path where nothing is.
    fn pin(&mut self, id: Id, path: &Path) -> Result<(), KernelError>;

    /// Moves a pin over another, atomically.
    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), KernelError>;

    /// Removes a pin or symbolic link; one that is not there is fine.
    fn unpin(&mut self, path: &Path) -> Result<(), KernelError>;

    /// Creates `map` with `max_entries` and pins it at `path`.
    fn create_map(
        &mut self,
        map: Map,
        max_entries: u32,
        path: &Path,
    ) -> Result<MapInfo, KernelError>;

    /// Makes the [`Tables`] calls for `map` go to the map pinned at `path`, which the caller has
    /// checked against [`Map::shape`].
    fn open_map(&mut self, map: Map, path: &Path) -> Result<(), KernelError>;

    /// Loads this build's program for `hook` against the maps pinned in `maps` and pins it at
    /// `path`.
    fn load(
        &mut self,
        hook: Hook,
        maps: &Path,
        limits: &Limits,
        path: &Path,
    ) -> Result<ProgInfo, KernelError>;

    /// Loads a copy of this build's program for `hook`, one of a pod's, for the pod with this netns
    /// cookie, which becomes a constant of it, and pins it at `path`.
    fn load_pod(
        &mut self,
        hook: Hook,
        cookie: u64,
        maps: &Path,
        limits: &Limits,
        path: &Path,
    ) -> Result<ProgInfo, KernelError>;

    /// Attaches a pod's pinned program to the network namespace at `netns` by a new link (others
    /// may be there) and pins the link. It dies with the namespace. Refused where the namespace
    /// there has another cookie than `cookie`.
    fn link_netns(
        &mut self,
        prog: &Path,
        cookie: u64,
        netns: &Path,
        link: &Path,
    ) -> Result<LinkInfo, KernelError>;

    /// Attaches the pinned program to the cgroup by a new link (multi) and pins the link.
    fn link_cgroup(
        &mut self,
        hook: Hook,
        prog: &Path,
        cgroup: &Path,
        link: &Path,
    ) -> Result<LinkInfo, KernelError>;

    /// Puts the pinned program into the pinned link, atomically (`BPF_LINK_UPDATE`).
    fn link_update(&mut self, hook: Hook, link: &Path, prog: &Path) -> Result<(), KernelError>;

    /// Detaches the link with this id from its cgroup (`BPF_LINK_DETACH`); its pins stay, and
    /// it goes with the last of them. By id, so that a link whose pin was lost can be detached.
    fn link_detach(&mut self, id: u32) -> Result<(), KernelError>;

    /// Attaches the pinned sk_msg program to the pinned sockhash, in place of any other.
    fn attach_sockhash(&mut self, prog: &Path, map: &Path) -> Result<(), KernelError>;

    /// Detaches the sk_msg program with this id from the sockhash with that id.
    fn detach_sockhash(&mut self, prog_id: u32, map_id: u32) -> Result<(), KernelError>;

    /// Programs attached to the sockhash with this id as sk_msg verdict.
    fn sockhash_programs(&self, map_id: u32) -> Result<Vec<u32>, KernelError>;

    /// Programs that run for `hook` at `cgroup`, in order, inherited ones too
    /// (`BPF_PROG_QUERY` with `BPF_F_QUERY_EFFECTIVE`).
    fn effective(&self, hook: Hook, cgroup: &Path) -> Result<Vec<u32>, KernelError>;

    /// Programs attached for `hook` to the cgroup (of a pod's hook: the network namespace) at
    /// `target` itself, by a link or without one, in order.
    fn attached(&self, hook: Hook, target: &Path) -> Result<Vec<u32>, KernelError>;

    /// Detaches the program with this id, attached without a link, from the cgroup.
    fn detach_cgroup(&mut self, hook: Hook, prog_id: u32, cgroup: &Path)
    -> Result<(), KernelError>;

    /// The id of the cgroup at `path` (its inode), as [`LinkInfo::cgroup_id`] says it.
    fn cgroup_id(&self, path: &Path) -> Result<u64, KernelError>;
}
