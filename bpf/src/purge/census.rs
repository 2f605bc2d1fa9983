//! The census: every object in the kernel that leads to a `kmesh_meta`, and whose that is.
//!
//! So what lost its pins is found, whatever hook it stands at: a program of ours keeps the
//! `kmesh_meta` of its installation, a link its program. It refuses what belongs to another
//! installation on this kernel: another root, or the same path on another BPF file system that
//! is alive and whose links are not at our cgroup.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::identity::{self, Identity};
use crate::kernel::{Id, KernelError, LinkInfo, MapInfo, Objects, Pinned, ProgInfo};
use crate::layout::MetaRecord;
use crate::mounts::BpfMounts;
use crate::ours;

/// All links and programs, the maps that bear our names, and every `kmesh_meta`.
#[derive(Default)]
pub(super) struct Census {
    pub(super) links: Vec<LinkInfo>,
    pub(super) progs: BTreeMap<u32, ProgInfo>,
    pub(super) maps: BTreeMap<u32, MapInfo>,
    metas: BTreeMap<u32, MetaRecord>,
}

/// Where to look for ours.
pub(super) struct Search<'a> {
    pub(super) root: &'a Path,
    pub(super) identity: Identity,
    /// The BPF file systems in sight.
    pub(super) mounts: &'a BpfMounts,
    /// The cgroup that this installation governs.
    pub(super) cgroup_id: Option<u64>,
    /// The one that is pinned at our root.
    pub(super) pinned: Option<u32>,
}

impl Search<'_> {
    /// Whether a BPF file system is, or may be, another living installation's that has the same
    /// path as ours in another mount namespace. Numbers of dead ones are given again: so its
    /// place counts, too.
    fn is_elsewhere(&self, instance: u32) -> bool {
        Some(instance) != self.identity.instance
            && (!self.mounts.complete || self.mounts.has_elsewhere(instance, self.root))
    }
}

impl Census {
    pub(super) fn take(k: &dyn Objects) -> Result<Self, KernelError> {
        let mut census = Self::default();
        for id in k.all_ids()? {
            match k.by_id(id)? {
                Some(Pinned::Map(info)) if ours::map_named(&info).is_some() => {
                    if let Some(meta) = identity::meta_in(k, &info)? {
                        census.metas.insert(info.id, meta);
                    }
                    census.maps.insert(info.id, info);
                }
                Some(Pinned::Prog(info)) => {
                    census.progs.insert(info.id, info);
                }
                Some(Pinned::Link(info)) => census.links.push(info),
                Some(Pinned::Map(_)) | None => {}
            }
        }
        Ok(census)
    }

    /// The `kmesh_meta` maps of this installation.
    pub(super) fn own(&self, search: &Search<'_>) -> BTreeSet<u32> {
        let at_our_cgroup = self.at_cgroup(search.cgroup_id);
        let is_own = |(id, meta): &(&u32, &MetaRecord)| {
            let made_here = meta.root == search.identity.root
                && (!search.is_elsewhere(meta.instance) || at_our_cgroup.contains(id));
            made_here || search.pinned == Some(**id)
        };
        self.metas.iter().filter(is_own).map(|(id, _)| *id).collect()
    }

    /// The maps that programs linked to this cgroup keep.
    fn at_cgroup(&self, cgroup_id: Option<u64>) -> BTreeSet<u32> {
        let here =
            |link: &&LinkInfo| link.kind == ours::LINK_CGROUP && Some(link.cgroup_id) == cgroup_id;
        let progs = self.links.iter().filter(here).filter_map(|link| self.progs.get(&link.prog_id));
        progs.flat_map(|prog| prog.map_ids.iter().copied()).collect()
    }

    /// The programs that keep one of these maps.
    pub(super) fn keepers<'a>(
        &'a self,
        metas: &'a BTreeSet<u32>,
    ) -> impl Iterator<Item = &'a ProgInfo> {
        self.progs.values().filter(|prog| prog.map_ids.iter().any(|map| metas.contains(map)))
    }

    /// Whether this map is a `kmesh_meta`.
    pub(super) fn is_meta(&self, map: u32) -> bool {
        self.metas.contains_key(&map)
    }

    /// Whether any program keeps this map.
    pub(super) fn is_kept(&self, map: u32) -> bool {
        self.progs.values().any(|prog| prog.map_ids.contains(&map))
    }

    /// Every object of these that is a `kmesh_meta`, by id.
    pub(super) fn metas(&self) -> impl Iterator<Item = Id> + '_ {
        self.metas.keys().map(|id| Id::Map(*id))
    }
}
