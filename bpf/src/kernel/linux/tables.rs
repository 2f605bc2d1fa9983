//! Map elements on the real kernel, in batches.
//!
//! What the batch commands do half (stop at the first missing key, at the first full bucket) is
//! finished here, so that callers see the trait's promises only.

use std::io;
use std::os::fd::AsFd;

use rustix::thread::{MembarrierCommand, membarrier};

use super::elements::Shape;
use super::mapping::Mapping;
use super::{Linux, Opened};
use crate::kernel::{KernelError, Outcome, Put, Tables, hex};
use crate::layout::{MMAPABLE, Map, MapKind};

/// Elements read by one call.
const READ_CHUNK: usize = 8192;
/// The most that a read grows to when a bucket of a hash holds more.
const READ_CHUNK_MAX: usize = 1 << 20;

impl Linux {
    fn opened(&self, op: &'static str, map: Map) -> Result<&Opened, KernelError> {
        let not_open = || io::Error::new(io::ErrorKind::NotConnected, "the map was not opened");
        self.maps.get(&map).ok_or_else(|| KernelError::Map {
            op,
            map,
            key: String::new(),
            source: not_open(),
        })
    }

    fn shape(&self, op: &'static str, map: Map) -> Result<Shape<'_>, KernelError> {
        let opened = self.opened(op, map)?;
        let per_cpu = map.shape().kind == MapKind::PerCpuArray;
        let copies = if per_cpu { possible_cpus()? } else { 1 };
        let value = if per_cpu {
            opened.value_size.next_multiple_of(8) * copies
        } else {
            opened.value_size
        };
        Ok(Shape { fd: opened.fd.as_fd(), key: opened.key_size, value })
    }

    /// The error of a write: a full map says its limit.
    fn write_error(&self, map: Map, key: &[u8], source: io::Error) -> KernelError {
        match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => {
                let limit = self.maps.get(&map).map_or(0, |opened| opened.max_entries);
                KernelError::Full { map, limit }
            }
            _ => KernelError::Map { op: "update", map, key: hex(key), source },
        }
    }

    fn scan_array(
        &self,
        map: Map,
        end: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), KernelError> {
        let shape = self.shape("read", map)?;
        let end = end.min(self.opened("read", map)?.max_entries) as usize;
        if map.shape().flags & MMAPABLE != 0 {
            return scan_mapped(&shape, end, visit).map_err(|source| read_error(map, source));
        }
        let room = READ_CHUNK.min(end);
        let (mut keys, mut values) = (vec![0; room * shape.key], vec![0; room * shape.value]);
        let (mut cursor, mut at) = (None, 0);
        while at < end {
            let want = room.min(end - at);
            let (keys, values) = (&mut keys[..want * shape.key], &mut values[..want * shape.value]);
            let (got, last) = shape
                .lookup_batch(&mut cursor, keys, values)
                .map_err(|source| read_error(map, source))?;
            visit(&keys[..got * shape.key], &values[..got * shape.value]);
            at += got;
            if last || got == 0 {
                break;
            }
        }
        Ok(())
    }

    fn scan_hash(&self, map: Map, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), KernelError> {
        let shape = self.shape("read", map)?;
        let mut room = READ_CHUNK;
        let (mut keys, mut values) = (vec![0; room * shape.key], vec![0; room * shape.value]);
        let mut cursor = None;
        loop {
            match shape.lookup_batch(&mut cursor, &mut keys, &mut values) {
                Ok((got, last)) => {
                    visit(&keys[..got * shape.key], &values[..got * shape.value]);
                    if last {
                        return Ok(());
                    }
                }
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOSPC) && room < READ_CHUNK_MAX =>
                {
                    room *= 2;
                    keys.resize(room * shape.key, 0);
                    values.resize(room * shape.value, 0);
                }
                Err(source) => return Err(read_error(map, source)),
            }
        }
    }
}

/// Visits the first `end` elements of an array that can be mapped.
fn scan_mapped(
    shape: &Shape<'_>,
    end: usize,
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> io::Result<()> {
    if end == 0 {
        return Ok(());
    }
    let mapping = Mapping::new(shape.fd, end * shape.value)?;
    let mut values = vec![0; READ_CHUNK.min(end) * shape.value];
    for at in (0..end).step_by(READ_CHUNK) {
        let behind = end.min(at + READ_CHUNK);
        let values = &mut values[..(behind - at) * shape.value];
        if !mapping.copy(at * shape.value, values) {
            return Err(io::Error::other("the mapping is shorter than the array"));
        }
        let index = |at| u32::try_from(at).unwrap_or(u32::MAX).to_ne_bytes();
        let keys: Vec<u8> = (at..behind).flat_map(index).collect();
        visit(&keys, values);
    }
    Ok(())
}

impl Tables for Linux {
    fn max_entries(&self, map: Map) -> Result<u32, KernelError> {
        self.opened("look up", map).map(|opened| opened.max_entries)
    }

    fn lookup(&self, map: Map, key: &[u8], value: &mut [u8]) -> Result<bool, KernelError> {
        let shape = self.shape("look up", map)?;
        match shape.lookup(key, value) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(source) => Err(KernelError::Map { op: "look up", map, key: hex(key), source }),
        }
    }

    fn lookup_per_cpu(&self, map: Map, index: u32) -> Result<Vec<u64>, KernelError> {
        let shape = self.shape("look up", map)?;
        let key = index.to_ne_bytes();
        let mut values = vec![0u64; shape.value / 8];
        shape
            .lookup(&key, bytemuck::cast_slice_mut(&mut values))
            .map_err(|source| KernelError::Map { op: "look up", map, key: hex(&key), source })?;
        Ok(values)
    }

    fn scan(
        &self,
        map: Map,
        end: u32,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), KernelError> {
        if map.shape().kind == MapKind::Array {
            self.scan_array(map, end, visit)
        } else {
            self.scan_hash(map, visit)
        }
    }

    fn update_batch(&mut self, map: Map, keys: &[u8], values: &[u8]) -> Result<(), KernelError> {
        let shape = self.shape("update", map)?;
        let (done, answer) = shape.update_batch(keys, values);
        let blamed = keys.get(done * shape.key..(done + 1) * shape.key).unwrap_or_default();
        answer.map_err(|source| self.write_error(map, blamed, source))
    }

    fn delete_batch(&mut self, map: Map, keys: &[u8]) -> Result<(), KernelError> {
        let shape = self.shape("delete", map)?;
        let mut rest = keys;
        while !rest.is_empty() {
            let (done, answer) = shape.delete_batch(rest);
            match answer {
                Ok(()) => return Ok(()),
                // The command stops at a key that is not there: go on behind it.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    rest = rest.get((done + 1) * shape.key..).unwrap_or_default();
                }
                Err(source) => {
                    let at = done * shape.key;
                    let key = hex(rest.get(at..at + shape.key).unwrap_or_default());
                    return Err(KernelError::Map { op: "delete", map, key, source });
                }
            }
        }
        Ok(())
    }

    fn update(
        &mut self,
        map: Map,
        key: &[u8],
        value: &[u8],
        put: Put,
    ) -> Result<Outcome, KernelError> {
        let (flags, unmet) = match put {
            Put::Any => (0, None),
            Put::NoExist => (1, Some(libc::EEXIST)),
            Put::Exist => (2, Some(libc::ENOENT)),
        };
        match self.shape("update", map)?.update(key, value, flags) {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if unmet.is_some() && error.raw_os_error() == unmet => Ok(Outcome::Unmet),
            Err(source) => Err(self.write_error(map, key, source)),
        }
    }

    fn delete(&mut self, map: Map, key: &[u8]) -> Result<Outcome, KernelError> {
        match self.shape("delete", map)?.delete(key) {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Outcome::Unmet),
            Err(source) => Err(KernelError::Map { op: "delete", map, key: hex(key), source }),
        }
    }

    fn grace(&mut self) -> Result<(), KernelError> {
        membarrier(MembarrierCommand::Global).map_err(|error| KernelError::System {
            op: "wait for running programs (membarrier)".to_owned(),
            source: error.into(),
        })
    }
}

fn read_error(map: Map, source: io::Error) -> KernelError {
    KernelError::Map { op: "read", map, key: String::new(), source }
}

fn possible_cpus() -> Result<usize, KernelError> {
    aya::util::nr_cpus().map_err(|(path, source)| KernelError::System {
        op: format!("read the possible CPUs from {path}"),
        source,
    })
}
