//! Larger maps without a gap: a copy is made and filled aside, then takes the old one's pin.
//!
//! The programs go on reading the old map, which nobody writes any more, until
//! [`crate::attach::adopt_hooks`] finds that they use another map than the pinned one and replaces
//! them. So a run that ends anywhere leaves two maps that say the same. It refuses
//! `map_of_kmesh_socket`: sockets cannot be copied, and one that waits there to send its metadata
//! must not be left behind.

use super::{MapsAdopted, Root};
use crate::kernel::{DirLock, Kernel, KernelError};
use crate::layout::{Map, MapKind};

/// Makes every map larger that shall be and can be.
pub(super) fn grow_all(
    k: &mut dyn Kernel,
    root: &Root,
    adopted: &mut MapsAdopted,
) -> Result<(), KernelError> {
    for (name, _) in k.list(&root.maps())?.unwrap_or_default() {
        if name.ends_with("_new") {
            // A copy that was not finished.
            k.unpin(&root.maps().join(name))?;
        }
    }
    for kept in std::mem::take(&mut adopted.kept) {
        if kept.wanted > kept.has && kept.map != Map::Socket {
            grow(k, root, kept.map, kept.wanted)?;
            adopted.resized.push(kept.map);
        } else {
            adopted.kept.push(kept);
        }
    }
    Ok(())
}

fn grow(k: &mut dyn Kernel, root: &Root, map: Map, limit: u32) -> Result<(), KernelError> {
    // Pods are written by others too: they wait, so that no record stays behind.
    let _pods = match (map, k.list(&root.pods())?) {
        (Map::Manager, Some(_)) => k.lock_dir(&root.pods())?,
        _ => DirLock::default(),
    };
    let (keys, values) = content(k, map)?;
    let aside = root.map_new(map);
    k.create_map(map, limit, &aside)?;
    k.open_map(map, &aside)?;
    if !keys.is_empty() {
        k.update_batch(map, &keys, &values)?;
    }
    k.rename(&aside, &root.map(map))
}

/// Every element; of an array, those that are not zero.
fn content(k: &dyn Kernel, map: Map) -> Result<(Vec<u8>, Vec<u8>), KernelError> {
    let shape = map.shape();
    let (key_size, value_size) = (shape.key_size as usize, shape.value_size as usize);
    let (mut all_keys, mut all_values) = (Vec::new(), Vec::new());
    k.scan(map, u32::MAX, &mut |keys, values| {
        for (key, value) in keys.chunks(key_size).zip(values.chunks(value_size)) {
            if shape.kind != MapKind::Array || value.iter().any(|byte| *byte != 0) {
                all_keys.extend_from_slice(key);
                all_values.extend_from_slice(value);
            }
        }
    })?;
    Ok((all_keys, all_values))
}
