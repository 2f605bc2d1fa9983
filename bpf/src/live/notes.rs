//! The notes of live connections: `map_of_tuple` and `map_of_auth`.

use std::collections::HashSet;

use super::LiveError;
use crate::kernel::{Kernel, KernelError, Outcome, Tables};
use crate::layout::{ConnectionKey, LiveRecord, Map, RevokedRecord};

/// Nothing of this pod is denied any more: it is bypassed, or un-enrolled, or no policy applies.
pub fn lift(k: &mut dyn Kernel, cookie: u64) -> Result<(), LiveError> {
    for (key, revoked) in revoked_of(&*k, cookie)? {
        forget(k, Map::Auth, &key, revoked.socket)?;
    }
    Ok(())
}

/// Removes the notes of namespaces that are no pod's any more; how many.
#[expect(clippy::implicit_hasher, reason = "the daemon's own set")]
pub fn sweep(k: &mut dyn Kernel, pods: &HashSet<u64>) -> Result<usize, LiveError> {
    let notes = notes_of(&*k).map_err(on("read the notes of live connections"))?;
    let mut swept = 0;
    for (key, note) in notes.into_iter().filter(|(key, _)| !pods.contains(&key.cookie)) {
        swept += usize::from(forget(k, Map::Tuple, &key, note.socket)?);
    }
    Ok(swept)
}

/// The live connections that are noted, in the kernel's order.
pub fn notes_of(k: &dyn Tables) -> Result<Vec<(ConnectionKey, LiveRecord)>, KernelError> {
    elements(k, Map::Tuple)
}

/// Removes what is noted of a connection, unless a later one with its addresses is noted by now.
pub(super) fn forget(
    k: &mut dyn Kernel,
    map: Map,
    connection: &ConnectionKey,
    socket: u64,
) -> Result<bool, LiveError> {
    let failed = on("forget a connection that is no more");
    let (key, mut value) = (bytemuck::bytes_of(connection), [0; 16]);
    if !k.lookup(map, key, &mut value).map_err(&failed)? {
        return Ok(false);
    }
    let there: [u64; 2] = bytemuck::pod_read_unaligned(&value);
    Ok(there[0] == socket && k.delete(map, key).map_err(&failed)? == Outcome::Done)
}

pub(super) fn revoked_of(
    k: &dyn Tables,
    cookie: u64,
) -> Result<Vec<(ConnectionKey, RevokedRecord)>, LiveError> {
    let mut all = elements(k, Map::Auth).map_err(on("read what is denied of live connections"))?;
    all.retain(|(key, _): &(ConnectionKey, RevokedRecord)| key.cookie == cookie);
    Ok(all)
}

fn elements<V: bytemuck::Pod>(
    k: &dyn Tables,
    map: Map,
) -> Result<Vec<(ConnectionKey, V)>, KernelError> {
    let mut all = Vec::new();
    k.scan(map, 0, &mut |keys, values| {
        let keys = keys.chunks_exact(size_of::<ConnectionKey>());
        let values = values.chunks_exact(size_of::<V>());
        let read =
            |(key, value)| (bytemuck::pod_read_unaligned(key), bytemuck::pod_read_unaligned(value));
        all.extend(keys.zip(values).map(read));
    })?;
    Ok(all)
}

pub(super) fn on(op: &'static str) -> impl Fn(KernelError) -> LiveError {
    move |source| LiveError::Kernel { op: op.to_owned(), source }
}
