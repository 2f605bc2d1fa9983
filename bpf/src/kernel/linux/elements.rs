//! `bpf(2)` on map elements: single and batched. Slices are checked against the map's sizes by
//! the caller's [`Shape`], so that the kernel never writes past them.

use std::io;
use std::os::fd::BorrowedFd;

use bytemuck::{Pod, Zeroable};

use super::sys::{bpf, number};

const LOOKUP: u32 = 1;
const UPDATE: u32 = 2;
const DELETE: u32 = 3;
const NEXT_KEY: u32 = 4;
const LOOKUP_BATCH: u32 = 24;
const UPDATE_BATCH: u32 = 26;
const DELETE_BATCH: u32 = 27;

/// A map's descriptor with the sizes that the kernel said of it.
#[derive(Clone, Copy)]
pub(super) struct Shape<'fd> {
    pub fd: BorrowedFd<'fd>,
    /// Bytes of a key.
    pub key: usize,
    /// Bytes that the kernel copies for one value (all CPUs' of a per-CPU map).
    pub value: usize,
}

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Element {
    fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    fd: u32,
    element_flags: u64,
    flags: u64,
}

fn size_error() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "keys or values of another size than the map's")
}

impl Shape<'_> {
    fn check(&self, keys: &[u8], values: Option<&[u8]>) -> io::Result<u32> {
        let count = keys.len() / self.key;
        let fits = count * self.key == keys.len()
            && values.is_none_or(|values| values.len() == count * self.value);
        if fits { u32::try_from(count).map_err(io::Error::other) } else { Err(size_error()) }
    }

    fn element(&self, key: &[u8], value: Option<&[u8]>, flags: u64) -> io::Result<Element> {
        if self.check(key, value)? != 1 {
            return Err(size_error());
        }
        Ok(Element {
            fd: number(self.fd),
            key: key.as_ptr().addr() as u64,
            value: value.map_or(0, |value| value.as_ptr().addr() as u64),
            flags,
            ..Element::default()
        })
    }

    /// Copies one value out.
    pub(super) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<()> {
        let mut attr = self.element(key, Some(value), 0)?;
        attr.value = value.as_mut_ptr().addr() as u64;
        // SAFETY: `key` and `value` have the map's sizes, and `value` is ours to write.
        unsafe { bpf(LOOKUP, &mut attr) }.map(drop)
    }

    /// The key that follows `after` (`None`: the first one); false when there is none.
    pub(super) fn next_key(&self, after: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
        let mut attr = self.element(next, None, 0)?;
        if let Some(after) = after {
            self.element(after, None, 0)?;
        }
        attr.key = after.map_or(0, |after| after.as_ptr().addr() as u64);
        attr.value = next.as_mut_ptr().addr() as u64;
        // SAFETY: both keys have the map's size, and `next` is ours to write.
        match unsafe { bpf(NEXT_KEY, &mut attr) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes one element with `BPF_ANY`, `BPF_NOEXIST` or `BPF_EXIST`.
    pub(super) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        let mut attr = self.element(key, Some(value), flags)?;
        // SAFETY: `key` and `value` have the map's sizes and are only read.
        unsafe { bpf(UPDATE, &mut attr) }.map(drop)
    }

    /// Removes one element.
    pub(super) fn delete(&self, key: &[u8]) -> io::Result<()> {
        let mut attr = self.element(key, None, 0)?;
        // SAFETY: `key` has the map's size and is only read.
        unsafe { bpf(DELETE, &mut attr) }.map(drop)
    }

    /// Writes a run; answers how many were written and why it stopped, if it did.
    pub(super) fn update_batch(&self, keys: &[u8], values: &[u8]) -> (usize, io::Result<()>) {
        let count = match self.check(keys, Some(values)) {
            Ok(count) => count,
            Err(error) => return (0, Err(error)),
        };
        let mut attr = self.batch(keys, count);
        attr.values = values.as_ptr().addr() as u64;
        // SAFETY: `keys` and `values` hold `count` elements of the map's sizes, only read.
        let answer = unsafe { bpf(UPDATE_BATCH, &mut attr) }.map(drop);
        (Self::done(&attr, count, &answer), answer)
    }

    /// Removes a run; answers how many were removed and why it stopped, if it did.
    pub(super) fn delete_batch(&self, keys: &[u8]) -> (usize, io::Result<()>) {
        let count = match self.check(keys, None) {
            Ok(count) => count,
            Err(error) => return (0, Err(error)),
        };
        let mut attr = self.batch(keys, count);
        // SAFETY: `keys` holds `count` keys of the map's size, only read.
        let answer = unsafe { bpf(DELETE_BATCH, &mut attr) }.map(drop);
        (Self::done(&attr, count, &answer), answer)
    }

    /// Reads the next run after `cursor` (where the last one ended; `None` at the start) into
    /// `keys` and `values`. Answers how many there are and whether that was the last run.
    /// `ENOSPC`: the buffers are too small for one bucket of a hash.
    pub(super) fn lookup_batch(
        &self,
        cursor: &mut Option<[u8; 64]>,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> io::Result<(usize, bool)> {
        let count = self.check(keys, Some(values))?;
        if self.key > 64 {
            return Err(size_error());
        }
        let mut to = [0u8; 64];
        let mut attr = self.batch(keys, count);
        attr.from = cursor.as_ref().map_or(0, |from| from.as_ptr().addr() as u64);
        attr.to = to.as_mut_ptr().addr() as u64;
        attr.keys = keys.as_mut_ptr().addr() as u64;
        attr.values = values.as_mut_ptr().addr() as u64;
        // SAFETY: `keys` and `values` have room for `count` elements of the map's sizes; a cursor
        // is a key or a u32, both at most 64 bytes.
        let last = match unsafe { bpf(LOOKUP_BATCH, &mut attr) } {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        *cursor = Some(to);
        Ok((attr.count.min(count) as usize, last))
    }

    fn batch(&self, keys: &[u8], count: u32) -> Batch {
        Batch { keys: keys.as_ptr().addr() as u64, count, fd: number(self.fd), ..Batch::default() }
    }

    /// How many elements a batch got through; on an error before the first the kernel may leave
    /// the count as it was.
    fn done(attr: &Batch, asked: u32, answer: &io::Result<()>) -> usize {
        match answer {
            Ok(()) => asked as usize,
            Err(_) if attr.count >= asked => 0,
            Err(_) => attr.count as usize,
        }
    }
}
