//! A kernel in memory, for tests: the same semantics as `bpf(2)`, and faults on demand.
//!
//! Arrays are zero-filled and never refuse a key below their end; hashes know
//! [`Put::NoExist`], [`Put::Exist`] and their limit. Every mutating call and every element
//! written is counted; the N-th call can fail, or be the last that ever succeeds, also in
//! the middle of a batch; a hook sees the tables after each single element.
//!
//! It refuses to be fast or concurrent. Pins, links and programs are in `objects`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::kernel::{KernelError, MapInfo, Outcome, Put, hex};
use crate::layout::{Limits, Map, MapKind};

mod elements;
mod interfaces;
mod objects;
mod sockets;
mod things;

/// A fault to come: counted in mutating calls from when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The mutating call that fails: 1 is the next one.
    pub call: u64,
    /// Elements of that call that are still written, where it is a batch.
    pub elements: usize,
    /// The kernel's answer.
    pub errno: i32,
    /// Every later call fails too: the process is dead.
    pub for_good: bool,
}

/// The elements of one map.
#[derive(Clone, Debug)]
pub(crate) enum Elements {
    /// All elements, one after another; what lies beyond is zero.
    Array(Vec<u8>),
    /// By key.
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// A map that exists, pinned or not.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// What the kernel says of it.
    pub(crate) info: MapInfo,
    /// What it holds.
    pub(crate) elements: Elements,
}

/// Sees the tables after each element written.
type Watcher = Box<dyn FnMut(&MemoryKernel) + Send>;

/// The kernel in memory.
#[derive(Default)]
pub struct MemoryKernel {
    /// Maps by id.
    pub(crate) maps: BTreeMap<u32, Stored>,
    /// Which map the [`Tables`] calls go to.
    pub(crate) open: BTreeMap<Map, u32>,
    /// The last id given to an object of any kind.
    pub(crate) last_id: u32,
    /// Pins, links, programs and cgroups.
    things: things::Things,
    /// TCP sockets by the cookie of their namespace.
    sockets: BTreeMap<u64, Vec<crate::kernel::TcpSocket>>,
    fault: Option<Fault>,
    dead: Option<i32>,
    calls: u64,
    written: u64,
    graces: u64,
    watcher: Option<Watcher>,
}

impl fmt::Debug for MemoryKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKernel")
            .field("maps", &self.maps.len())
            .field("calls", &self.calls)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// The type of a per-CPU array on this kernel of two CPUs.
const CPUS: usize = 2;

impl MemoryKernel {
    /// A kernel with every table map at these limits, open and empty.
    #[must_use]
    pub fn with_tables(limits: &Limits) -> Self {
        let mut kernel = Self::default();
        for map in Map::ALL {
            let id = kernel.add_map(map, limits.of(map));
            kernel.open.insert(map, id);
        }
        kernel
    }

    /// Adds an empty map of this shape; its id is the answer.
    pub(crate) fn add_map(&mut self, map: Map, max_entries: u32) -> u32 {
        let shape = map.shape();
        self.last_id += 1;
        let info = MapInfo {
            id: self.last_id,
            kind: shape.kind.number(),
            key_size: shape.key_size,
            value_size: shape.value_size,
            max_entries,
            flags: shape.flags,
            name: map.name().chars().take(15).collect(),
        };
        let elements = match shape.kind {
            MapKind::Array | MapKind::PerCpuArray => Elements::Array(Vec::new()),
            MapKind::Hash
            | MapKind::LruHash
            | MapKind::SockHash
            | MapKind::SkStorage
            | MapKind::RingBuf => Elements::Hash(BTreeMap::new()),
        };
        self.maps.insert(self.last_id, Stored { info, elements });
        self.last_id
    }

    /// Sets the fault to come, or none; the dead kernel lives again.
    pub fn set_fault(&mut self, fault: Option<Fault>) {
        self.fault = fault;
        self.dead = None;
    }

    /// Calls `watcher` after each element written or removed.
    pub fn watch(&mut self, watcher: impl FnMut(&Self) + Send + 'static) {
        self.watcher = Some(Box::new(watcher));
    }

    /// Stops calling the watcher.
    pub fn unwatch(&mut self) {
        self.watcher = None;
    }

    /// Mutating calls so far, failed ones too.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Elements written or removed so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Grace periods waited for so far.
    #[must_use]
    pub fn graces(&self) -> u64 {
        self.graces
    }

    /// Counts a mutating call; what it answers is how many elements may be written before
    /// it fails, and with what.
    pub(crate) fn enter(&mut self) -> Option<(usize, i32)> {
        self.calls += 1;
        if let Some(errno) = self.dead {
            return Some((0, errno));
        }
        let fault = self.fault.as_mut()?;
        fault.call = fault.call.saturating_sub(1);
        if fault.call > 0 {
            return None;
        }
        let fault = self.fault.take()?;
        self.dead = fault.for_good.then_some(fault.errno);
        Some((fault.elements, fault.errno))
    }

    fn note_written(&mut self) {
        self.written += 1;
        if let Some(mut watcher) = self.watcher.take() {
            watcher(self);
            self.watcher = Some(watcher);
        }
    }

    fn stored(&self, map: Map) -> Result<&Stored, KernelError> {
        let id = self.open.get(&map);
        id.and_then(|id| self.maps.get(id)).ok_or_else(|| error("open", map, &[], libc::EBADF))
    }

    fn stored_mut(&mut self, map: Map) -> Result<&mut Stored, KernelError> {
        let id = self.open.get(&map);
        id.and_then(|id| self.maps.get_mut(id)).ok_or_else(|| error("open", map, &[], libc::EBADF))
    }

    fn put(
        &mut self,
        map: Map,
        key: &[u8],
        value: &[u8],
        put: Put,
    ) -> Result<Outcome, KernelError> {
        let stored = self.stored_mut(map)?;
        let outcome = stored.put(map, key, value, put)?;
        if outcome == Outcome::Done {
            self.note_written();
        }
        Ok(outcome)
    }

    fn take(&mut self, map: Map, key: &[u8]) -> Result<Outcome, KernelError> {
        let stored = self.stored_mut(map)?;
        let Elements::Hash(elements) = &mut stored.elements else {
            return Err(error("delete", map, key, libc::EINVAL));
        };
        if elements.remove(key).is_none() {
            return Ok(Outcome::Unmet);
        }
        self.note_written();
        Ok(Outcome::Done)
    }
}

impl Stored {
    fn index(&self, map: Map, key: &[u8]) -> Result<usize, KernelError> {
        let index = <[u8; 4]>::try_from(key).map_or(u32::MAX, u32::from_ne_bytes);
        if index >= self.info.max_entries {
            return Err(error("look up", map, key, libc::E2BIG));
        }
        Ok(index as usize * self.info.value_size as usize)
    }

    fn put(
        &mut self,
        map: Map,
        key: &[u8],
        value: &[u8],
        put: Put,
    ) -> Result<Outcome, KernelError> {
        if key.len() != self.info.key_size as usize || value.len() != self.info.value_size as usize
        {
            return Err(error("update", map, key, libc::EINVAL));
        }
        if let Elements::Array(_) = self.elements {
            let at = self.index(map, key)?;
            return Ok(self.put_array(at, value, put));
        }
        let limit = self.info.max_entries;
        let Elements::Hash(elements) = &mut self.elements else {
            return Err(error("update", map, key, libc::EINVAL));
        };
        let there = elements.contains_key(key);
        if there && put == Put::NoExist || !there && put == Put::Exist {
            return Ok(Outcome::Unmet);
        }
        if !there && elements.len() >= limit as usize {
            return Err(KernelError::Full { map, limit });
        }
        elements.insert(key.to_vec(), value.to_vec());
        Ok(Outcome::Done)
    }

    /// Every element of an array is always there.
    fn put_array(&mut self, at: usize, value: &[u8], put: Put) -> Outcome {
        let Elements::Array(bytes) = &mut self.elements else {
            return Outcome::Unmet;
        };
        if put == Put::NoExist {
            return Outcome::Unmet;
        }
        if bytes.len() < at + value.len() {
            bytes.resize(at + value.len(), 0);
        }
        bytes[at..at + value.len()].copy_from_slice(value);
        Outcome::Done
    }
}

/// The error of one element.
fn error(op: &'static str, map: Map, key: &[u8], errno: i32) -> KernelError {
    let key = hex(key);
    KernelError::Map { op, map, key, source: io::Error::from_raw_os_error(errno) }
}

/// The error of a fault: a full map is told as the kernel's `E2BIG`.
fn fault_error(op: &'static str, map: Map, limit: u32, errno: i32) -> KernelError {
    if errno == libc::E2BIG {
        return KernelError::Full { map, limit };
    }
    error(op, map, &[], errno)
}
