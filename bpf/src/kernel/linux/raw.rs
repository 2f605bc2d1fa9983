//! Reading any map by what the kernel says of it, whoever made it: for debugging a layout that is
//! not this build's.

use std::io;
use std::os::fd::BorrowedFd;

use super::elements::Shape;
use super::sys;
use crate::kernel::RawVisit;

/// Elements read by one call.
const CHUNK: usize = 4096;
/// Map types whose values the kernel copies once for each CPU.
const PER_CPU: [u32; 4] = [5, 6, 10, 21];
/// What the kernel answers where a map has no such command (`ENOTSUPP`, of no C library).
const ENOTSUPP: i32 = 524;

/// Visits every element; false where the map's elements cannot be listed.
pub(super) fn scan(fd: BorrowedFd<'_>, visit: RawVisit<'_>) -> io::Result<bool> {
    let said = sys::map_info(fd)?;
    let (key, mut value) = (said.key_size as usize, said.value_size as usize);
    if PER_CPU.contains(&said.kind) {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        value = value.next_multiple_of(8) * cpus;
    }
    if key == 0 || value == 0 {
        return Ok(false);
    }
    let shape = Shape { fd, key, value };
    Ok(in_batches(&shape, visit)? || one_by_one(&shape, visit)?)
}

/// False, and nothing visited, where the map knows no batches.
fn in_batches(shape: &Shape<'_>, visit: RawVisit<'_>) -> io::Result<bool> {
    let mut room = CHUNK;
    let (mut keys, mut values) = (vec![0; room * shape.key], vec![0; room * shape.value]);
    let mut cursor = None;
    loop {
        match shape.lookup_batch(&mut cursor, &mut keys, &mut values) {
            Ok((got, last)) => {
                let keys = keys.chunks_exact(shape.key).take(got);
                keys.zip(values.chunks_exact(shape.value)).for_each(|(k, v)| visit(k, Some(v)));
                if last {
                    return Ok(true);
                }
            }
            // Too small for one bucket of a hash.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                room *= 2;
                keys.resize(room * shape.key, 0);
                values.resize(room * shape.value, 0);
            }
            Err(error) if cursor.is_none() && is_unknown(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// False where not even the keys are told.
fn one_by_one(shape: &Shape<'_>, visit: RawVisit<'_>) -> io::Result<bool> {
    let (mut key, mut value) = (vec![0; shape.key], vec![0; shape.value]);
    let mut after: Option<Vec<u8>> = None;
    loop {
        match shape.next_key(after.as_deref(), &mut key) {
            Ok(true) => {}
            Ok(false) => return Ok(true),
            Err(error) if after.is_none() && is_unknown(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        match shape.lookup(&key, &mut value) {
            Ok(()) => visit(&key, Some(&value)),
            // Removed meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            // Its values are not for user space (a sockhash).
            Err(_) => visit(&key, None),
        }
        after = Some(key.clone());
    }
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | ENOTSUPP))
}
