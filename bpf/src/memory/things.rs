//! What there is beside maps, and what holds what, as the kernel counts it.
//!
//! An object lives while a pin, or something alive that uses it, leads to it: link → program →
//! maps, sockhash → program. Open maps live until [`MemoryKernel::restart`], which is this
//! process' end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::MemoryKernel;
use crate::kernel::{Id, LinkInfo, Objects, Pinned, ProgInfo};
use crate::layout::{Hook, Map};
use crate::ours;

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Dir,
    Symlink(String),
    Pin(Id),
}

/// Everything but maps.
#[derive(Debug, Default)]
pub(crate) struct Things {
    pub(super) files: BTreeMap<PathBuf, Entry>,
    pub(super) progs: BTreeMap<u32, ProgInfo>,
    pub(super) links: BTreeMap<u32, LinkInfo>,
    pub(super) cgroups: BTreeMap<PathBuf, u64>,
    /// Network namespaces: cookie and inode, by path.
    pub(super) namespaces: BTreeMap<PathBuf, (u64, u64)>,
    pub(super) sockhashes: BTreeMap<u32, u32>,
    pub(super) builds: BTreeMap<Hook, u64>,
    pub(super) instances: BTreeMap<PathBuf, Option<u32>>,
}

/// The build id of a hook's program, unless [`MemoryKernel::set_build`] gives another.
pub(super) const BUILD: u64 = 0xb111_d000;

impl MemoryKernel {
    /// Lets a cgroup be.
    pub fn add_cgroup(&mut self, path: impl Into<PathBuf>) {
        self.last_id += 1;
        self.things.cgroups.insert(path.into(), u64::from(self.last_id));
    }

    /// Lets a network namespace with this cookie be.
    pub fn add_namespace(&mut self, path: impl Into<PathBuf>, cookie: u64) {
        self.last_id += 1;
        self.things.namespaces.insert(path.into(), (cookie, u64::from(self.last_id)));
    }

    /// The inode of the namespace at a path, if it is the one with this cookie.
    pub(super) fn namespace(&self, path: &Path, cookie: u64) -> Option<u64> {
        let there = self.things.namespaces.get(path).filter(|(there, _)| *there == cookie);
        there.map(|(_, inode)| *inode)
    }

    /// Removes a network namespace: its links hold none any more.
    pub fn remove_namespace(&mut self, path: &Path) {
        let gone = self.things.namespaces.remove(path).map(|(_, inode)| inode);
        for link in self.things.links.values_mut().filter(|link| link.kind == ours::LINK_NETNS) {
            if Some(link.cgroup_id) == gone {
                link.cgroup_id = 0;
            }
        }
    }

    /// Makes `path` the place of this BPF file system; `None`: of none. Else there is one, number 1.
    pub fn set_instance(&mut self, path: impl Into<PathBuf>, instance: Option<u32>) {
        self.things.instances.insert(path.into(), instance);
    }

    /// The file system at `from` is at `to` from now on.
    #[cfg(test)]
    pub(crate) fn move_below(&mut self, from: &str, to: &str) {
        let files = std::mem::take(&mut self.things.files);
        let moved = files.into_iter().map(|(path, entry)| match path.strip_prefix(from) {
            Ok(rest) => (Path::new(to).join(rest), entry),
            Err(_) => (path, entry),
        });
        self.things.files = moved.collect();
    }

    /// Pins a map of this one's name and another shape.
    #[cfg(test)]
    pub(crate) fn pin_strange(&mut self, map: Map, path: &Path) {
        let id = self.add_map(map, 1);
        self.maps.entry(id).and_modify(|stored| stored.info.value_size += 8);
        self.things.files.insert(path.to_owned(), Entry::Pin(Id::Map(id)));
    }

    /// Removes a cgroup: its links hold none any more.
    pub fn remove_cgroup(&mut self, path: &Path) {
        let gone = self.things.cgroups.remove(path);
        for link in self.things.links.values_mut() {
            if Some(link.cgroup_id) == gone {
                link.cgroup_id = 0;
            }
        }
    }

    /// Makes this build's program for `hook` another one.
    pub fn set_build(&mut self, hook: Hook, build: u64) {
        self.things.builds.insert(hook, build);
    }

    /// This process ends and another starts: no map is open, no fault is set.
    pub fn restart(&mut self) {
        self.open.clear();
        self.set_fault(None);
        self.collect();
    }

    /// Every pin with the id behind it, every directory and symbolic link with its text.
    #[must_use]
    pub fn tree(&self) -> Vec<String> {
        let line = |(path, entry): (&PathBuf, &Entry)| format!("{} {entry:?}", path.display());
        self.things.files.iter().map(line).collect()
    }

    /// Counts a mutating call; an error where it is the one to fail.
    pub(in crate::memory) fn call(&mut self) -> io::Result<()> {
        match self.enter() {
            Some((_, errno)) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    pub(super) fn said(&self, id: Id) -> Option<Pinned> {
        match id {
            Id::Map(id) => self.maps.get(&id).map(|map| Pinned::Map(map.info.clone())),
            Id::Prog(id) => self.things.progs.get(&id).cloned().map(Pinned::Prog),
            Id::Link(id) => self.things.links.get(&id).cloned().map(Pinned::Link),
        }
    }

    pub(super) fn id_at(&self, path: &Path) -> io::Result<Id> {
        match self.things.files.get(path) {
            Some(Entry::Pin(id)) => Ok(*id),
            Some(_) => Err(io::Error::from_raw_os_error(libc::EACCES)),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    pub(super) fn prog_at(&self, path: &Path) -> io::Result<u32> {
        match self.id_at(path)? {
            Id::Prog(id) => Ok(id),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    pub(super) fn put_entry(&mut self, path: &Path, entry: Entry) -> io::Result<()> {
        let parent = path.parent().map(Path::to_owned);
        if parent.and_then(|dir| self.things.files.get(&dir)) != Some(&Entry::Dir) {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        if self.things.files.contains_key(path) {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        self.things.files.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Lets go of what nothing leads to.
    pub(super) fn collect(&mut self) {
        let mut live: BTreeSet<Id> = self.open.values().map(|id| Id::Map(*id)).collect();
        live.extend(self.things.files.values().filter_map(|entry| match entry {
            Entry::Pin(id) => Some(*id),
            _ => None,
        }));
        let mut todo: Vec<Id> = live.iter().copied().collect();
        while let Some(id) = todo.pop() {
            for next in self.held_by(id) {
                if live.insert(next) {
                    todo.push(next);
                }
            }
        }
        self.maps.retain(|id, _| live.contains(&Id::Map(*id)));
        self.things.progs.retain(|id, _| live.contains(&Id::Prog(*id)));
        self.things.links.retain(|id, _| live.contains(&Id::Link(*id)));
        self.things.sockhashes.retain(|map, _| live.contains(&Id::Map(*map)));
    }

    /// What an object keeps alive.
    fn held_by(&self, id: Id) -> Vec<Id> {
        match id {
            Id::Link(id) => {
                self.things.links.get(&id).map(|link| Id::Prog(link.prog_id)).into_iter().collect()
            }
            Id::Prog(id) => {
                let maps = self.things.progs.get(&id).map(|prog| prog.map_ids.as_slice());
                maps.unwrap_or_default().iter().map(|id| Id::Map(*id)).collect()
            }
            Id::Map(id) => {
                self.things.sockhashes.get(&id).map(|id| Id::Prog(*id)).into_iter().collect()
            }
        }
    }

    pub(super) fn prog_of(&mut self, hook: Hook, maps: &Path) -> io::Result<ProgInfo> {
        let mut map_ids = Vec::new();
        for map in Map::ALL {
            match self.id_at(&maps.join(map.name()))? {
                Id::Map(id) => map_ids.push(id),
                _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            }
        }
        self.last_id += 1;
        let name = hook.name().to_owned();
        let (id, kind) = (self.last_id, ours::prog_type(hook));
        Ok(ProgInfo { id, kind, name, tag: self.build(hook), map_ids, verified_insns: 1 })
    }
}
