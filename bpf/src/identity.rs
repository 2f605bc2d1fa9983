//! Which installation of Kmesh an object belongs to. There may be several on one kernel: each has a
//! root, and its `kmesh_meta` says which, by the root's path and the BPF file system's number.
//! Every program keeps that map, so it tells whose a program or link is that lost its pins.
//!
//! It refuses to guess: what leads to no `kmesh_meta` has no identity.

use std::path::Path;

use bytemuck::Zeroable as _;
use sha2::{Digest as _, Sha256};

use crate::kernel::{KernelError, MapInfo, Objects};
use crate::layout::{MAGIC, Map, MetaRecord};
use crate::ours;

/// An installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// First 4 bytes of the SHA-256 of the root's path, big-endian.
    pub root: u32,
    /// The BPF file system that the root lies on; `None` while none is mounted there.
    pub instance: Option<u32>,
}

impl Identity {
    /// Of the installation at `root`.
    pub fn of(k: &dyn Objects, root: &Path) -> Result<Self, KernelError> {
        let path = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        // its parts, so that `//` and a slash at the end mean nothing
        let path: std::path::PathBuf = path.components().collect();
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let root = digest.iter().take(4).fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        Ok(Self { root, instance: k.instance(&path)? })
    }

    /// Whether this `kmesh_meta` is of this root on this file system.
    #[must_use]
    pub fn made(&self, meta: &MetaRecord) -> bool {
        meta.root == self.root && meta.instance == self.instance.unwrap_or_default()
    }
}

/// What a map says that may be a `kmesh_meta`; `None` where it is none.
pub fn meta_in(k: &dyn Objects, map: &MapInfo) -> Result<Option<MetaRecord>, KernelError> {
    if ours::map_named(map) != Some(Map::Meta) || !ours::has_shape(Map::Meta, map) {
        return Ok(None);
    }
    let mut meta = MetaRecord::zeroed();
    let there = k.element(map.id, &0_u32.to_ne_bytes(), bytemuck::bytes_of_mut(&mut meta))?;
    Ok(Some(meta).filter(|meta| there && meta.magic == MAGIC))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryKernel;

    #[test]
    fn a_root_is_told_by_its_path_and_its_file_system() {
        let mut k = MemoryKernel::default();
        k.set_instance("/b", Some(7));
        let of = |path: &str| Identity::of(&k, Path::new(path)).unwrap();
        assert_eq!(of("/b/kmesh"), of("/b//kmesh/"));
        assert_ne!(of("/b/kmesh").root, of("/c/kmesh").root);
        assert_eq!(of("/b/kmesh").instance, Some(7));
        let meta = MetaRecord { root: of("/b/kmesh").root, instance: 7, ..MetaRecord::zeroed() };
        assert!(of("/b/kmesh").made(&meta));
        assert!(!of("/c/kmesh").made(&meta));
        assert!(!of("/b/kmesh").made(&MetaRecord { instance: 8, ..meta }));
    }
}
