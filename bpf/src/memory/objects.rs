//! Pins, links and programs in memory: what holds what, as the kernel counts it.
//!
//! An object lives while a pin, or something alive that uses it, leads to it: link → program →
//! maps, sockhash → program. Open maps live until [`MemoryKernel::restart`], which is this
//! process' end. It refuses what the kernel refuses: a pin over a pin, a link to a cgroup that is
//! not there, an update of a link that is detached.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::MemoryKernel;
use crate::kernel::{
    DirLock, EntryKind, Id, KernelError, LinkInfo, MapInfo, Objects, Pinned, ProgInfo,
};
use crate::layout::{Hook, Limits, Map};
use crate::ours;

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Dir,
    Symlink(String),
    Pin(Id),
}

/// Everything but maps.
#[derive(Debug, Default)]
pub(crate) struct Things {
    files: BTreeMap<PathBuf, Entry>,
    progs: BTreeMap<u32, ProgInfo>,
    links: BTreeMap<u32, LinkInfo>,
    cgroups: BTreeMap<PathBuf, u64>,
    sockhashes: BTreeMap<u32, u32>,
    builds: BTreeMap<Hook, u64>,
}

/// The build id of a hook's program, unless [`MemoryKernel::set_build`] gives another.
const BUILD: u64 = 0xb111_d000;

impl MemoryKernel {
    /// Lets a cgroup be.
    pub fn add_cgroup(&mut self, path: impl Into<PathBuf>) {
        self.last_id += 1;
        self.things
            .cgroups
            .insert(path.into(), u64::from(self.last_id));
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
    fn call(&mut self) -> io::Result<()> {
        match self.enter() {
            Some((_, errno)) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    fn said(&self, id: Id) -> Option<Pinned> {
        match id {
            Id::Map(id) => self.maps.get(&id).map(|map| Pinned::Map(map.info.clone())),
            Id::Prog(id) => self.things.progs.get(&id).cloned().map(Pinned::Prog),
            Id::Link(id) => self.things.links.get(&id).cloned().map(Pinned::Link),
        }
    }

    fn id_at(&self, path: &Path) -> io::Result<Id> {
        match self.things.files.get(path) {
            Some(Entry::Pin(id)) => Ok(*id),
            Some(_) => Err(io::Error::from_raw_os_error(libc::EACCES)),
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    fn prog_at(&self, path: &Path) -> io::Result<u32> {
        match self.id_at(path)? {
            Id::Prog(id) => Ok(id),
            _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    fn put_entry(&mut self, path: &Path, entry: Entry) -> io::Result<()> {
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
    fn collect(&mut self) {
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
        self.things
            .progs
            .retain(|id, _| live.contains(&Id::Prog(*id)));
        self.things
            .links
            .retain(|id, _| live.contains(&Id::Link(*id)));
        self.things
            .sockhashes
            .retain(|map, _| live.contains(&Id::Map(*map)));
    }

    /// What an object keeps alive.
    fn held_by(&self, id: Id) -> Vec<Id> {
        match id {
            Id::Link(id) => self
                .things
                .links
                .get(&id)
                .map(|link| Id::Prog(link.prog_id))
                .into_iter()
                .collect(),
            Id::Prog(id) => {
                let maps = self
                    .things
                    .progs
                    .get(&id)
                    .map(|prog| prog.map_ids.as_slice());
                maps.unwrap_or_default()
                    .iter()
                    .map(|id| Id::Map(*id))
                    .collect()
            }
            Id::Map(id) => self
                .things
                .sockhashes
                .get(&id)
                .map(|id| Id::Prog(*id))
                .into_iter()
                .collect(),
        }
    }

    fn prog_of(&mut self, hook: Hook, maps: &Path) -> io::Result<ProgInfo> {
        let mut map_ids = Vec::new();
        for map in Map::ALL
            .into_iter()
            .filter(|map| !matches!(map, Map::Meta | Map::Names))
        {
            match self.id_at(&maps.join(map.name()))? {
                Id::Map(id) => map_ids.push(id),
                _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            }
        }
        self.last_id += 1;
        let name = hook.name().to_owned();
        let (id, kind) = (self.last_id, ours::prog_type(hook));
        Ok(ProgInfo {
            id,
            kind,
            name,
            tag: self.build(hook),
            map_ids,
            verified_insns: 1,
        })
    }
}

fn on_pin(op: &'static str, path: &Path) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Pin {
        op,
        path: path.to_owned(),
        source,
    }
}

fn on_hook(op: &'static str, hook: Hook, target: &Path) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Attach {
        op,
        hook,
        target: target.to_owned(),
        source,
    }
}

fn on_id(op: &'static str, id: u32) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::System {
        op: format!("{op} {id}"),
        source,
    }
}

impl Objects for MemoryKernel {
    fn build(&self, hook: Hook) -> u64 {
        self.things
            .builds
            .get(&hook)
            .copied()
            .unwrap_or(BUILD + hook.index() as u64)
    }

    fn lock_dir(&self, dir: &Path) -> Result<DirLock, KernelError> {
        match self.things.files.get(dir) {
            Some(Entry::Dir) => Ok(DirLock::default()),
            _ => Err(on_pin("lock", dir)(io::Error::from_raw_os_error(
                libc::ENOENT,
            ))),
        }
    }

    fn pinned(&self, path: &Path) -> Result<Option<Pinned>, KernelError> {
        match self.id_at(path) {
            Ok(id) => Ok(self.said(id)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(on_pin("open", path)(error)),
        }
    }

    fn by_id(&self, id: Id) -> Result<Option<Pinned>, KernelError> {
        Ok(self.said(id))
    }

    fn all_ids(&self) -> Result<Vec<Id>, KernelError> {
        let maps = self.maps.keys().map(|id| Id::Map(*id));
        let progs = self.things.progs.keys().map(|id| Id::Prog(*id));
        let links = self.things.links.keys().map(|id| Id::Link(*id));
        Ok(maps.chain(progs).chain(links).collect())
    }

    fn list(&self, dir: &Path) -> Result<Option<Vec<(String, EntryKind)>>, KernelError> {
        if self.things.files.get(dir) != Some(&Entry::Dir) {
            return Ok(None);
        }
        let inside = self
            .things
            .files
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir));
        let entries = inside.filter_map(|(path, entry)| {
            let kind = match entry {
                Entry::Dir => EntryKind::Dir,
                Entry::Symlink(text) => EntryKind::Symlink(text.clone()),
                Entry::Pin(_) => EntryKind::Pin,
            };
            Some((path.file_name()?.to_string_lossy().into_owned(), kind))
        });
        Ok(Some(entries.collect()))
    }

    fn make_dir(&mut self, dir: &Path) -> Result<(), KernelError> {
        self.call().map_err(on_pin("make directory", dir))?;
        for dir in dir.ancestors() {
            self.things
                .files
                .entry(dir.to_owned())
                .or_insert(Entry::Dir);
        }
        Ok(())
    }

    fn remove_dir(&mut self, dir: &Path) -> Result<(), KernelError> {
        let failed = on_pin("remove directory", dir);
        self.call().map_err(&failed)?;
        if self
            .things
            .files
            .keys()
            .any(|path| path.parent() == Some(dir))
        {
            return Err(failed(io::Error::from_raw_os_error(libc::ENOTEMPTY)));
        }
        self.things.files.remove(dir);
        Ok(())
    }

    fn symlink(&mut self, path: &Path, text: &str) -> Result<(), KernelError> {
        let failed = on_pin("make symbolic link", path);
        self.call().map_err(&failed)?;
        self.things.files.remove(path);
        self.put_entry(path, Entry::Symlink(text.to_owned()))
            .map_err(failed)
    }

    fn pin(&mut self, id: Id, path: &Path) -> Result<(), KernelError> {
        let failed = on_pin("pin", path);
        self.call().map_err(&failed)?;
        if self.said(id).is_none() {
            return Err(failed(io::Error::from_raw_os_error(libc::ENOENT)));
        }
        self.put_entry(path, Entry::Pin(id)).map_err(failed)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), KernelError> {
        let failed = on_pin("move a pin to", to);
        self.call().map_err(&failed)?;
        let id = self.id_at(from).map_err(&failed)?;
        self.things.files.remove(from);
        self.things.files.remove(to);
        self.put_entry(to, Entry::Pin(id)).map_err(failed)?;
        self.collect();
        Ok(())
    }

    fn unpin(&mut self, path: &Path) -> Result<(), KernelError> {
        self.call().map_err(on_pin("remove", path))?;
        self.things.files.remove(path);
        self.collect();
        Ok(())
    }

    fn create_map(
        &mut self,
        map: Map,
        max_entries: u32,
        path: &Path,
    ) -> Result<MapInfo, KernelError> {
        let failed = on_pin("create and pin", path);
        self.call().map_err(&failed)?;
        let id = self.add_map(map, max_entries);
        let pinned = self.put_entry(path, Entry::Pin(Id::Map(id)));
        self.collect();
        pinned.map_err(&failed)?;
        Ok(self.maps[&id].info.clone())
    }

    fn open_map(&mut self, map: Map, path: &Path) -> Result<(), KernelError> {
        let failed = on_pin("open", path);
        match self.id_at(path).map_err(&failed)? {
            Id::Map(id) => {
                self.open.insert(map, id);
                Ok(())
            }
            _ => Err(failed(io::Error::from_raw_os_error(libc::EINVAL))),
        }
    }

    fn load(
        &mut self,
        hook: Hook,
        maps: &Path,
        _limits: &Limits,
        path: &Path,
    ) -> Result<ProgInfo, KernelError> {
        let failed = |error: io::Error| KernelError::Load {
            hook,
            reason: error.to_string(),
        };
        self.call().map_err(failed)?;
        let info = self.prog_of(hook, maps).map_err(failed)?;
        self.put_entry(path, Entry::Pin(Id::Prog(info.id)))
            .map_err(on_pin("pin", path))?;
        self.things.progs.insert(info.id, info.clone());
        Ok(info)
    }

    fn link_cgroup(
        &mut self,
        hook: Hook,
        prog: &Path,
        cgroup: &Path,
        link: &Path,
    ) -> Result<LinkInfo, KernelError> {
        let failed = on_hook("attach", hook, cgroup);
        self.call().map_err(&failed)?;
        let prog_id = self.prog_at(prog).map_err(&failed)?;
        let cgroup_id = self.cgroup_id(cgroup)?;
        self.last_id += 1;
        let (id, kind) = (self.last_id, ours::LINK_CGROUP);
        let attach_type = hook.attach_type();
        let info = LinkInfo {
            id,
            kind,
            prog_id,
            cgroup_id,
            attach_type,
        };
        self.put_entry(link, Entry::Pin(Id::Link(id)))
            .map_err(on_pin("pin", link))?;
        self.things.links.insert(id, info.clone());
        Ok(info)
    }

    fn link_update(&mut self, hook: Hook, link: &Path, prog: &Path) -> Result<(), KernelError> {
        let failed = on_hook("replace", hook, link);
        self.call().map_err(&failed)?;
        let prog_id = self.prog_at(prog).map_err(&failed)?;
        let Id::Link(id) = self.id_at(link).map_err(&failed)? else {
            return Err(failed(io::Error::from_raw_os_error(libc::EINVAL)));
        };
        let held = self.things.links.get_mut(&id);
        let Some(held) = held.filter(|link| link.cgroup_id != 0) else {
            return Err(failed(io::Error::from_raw_os_error(libc::ENOLINK)));
        };
        held.prog_id = prog_id;
        self.collect();
        Ok(())
    }

    fn link_detach(&mut self, id: u32) -> Result<(), KernelError> {
        self.call().map_err(on_id("detach link", id))?;
        if let Some(link) = self.things.links.get_mut(&id) {
            link.cgroup_id = 0;
        }
        Ok(())
    }

    fn attach_sockhash(&mut self, prog: &Path, map: &Path) -> Result<(), KernelError> {
        let failed = on_hook("attach", Hook::SkMsg, map);
        self.call().map_err(&failed)?;
        let prog_id = self.prog_at(prog).map_err(&failed)?;
        let Id::Map(map_id) = self.id_at(map).map_err(&failed)? else {
            return Err(failed(io::Error::from_raw_os_error(libc::EINVAL)));
        };
        self.things.sockhashes.insert(map_id, prog_id);
        self.collect();
        Ok(())
    }

    fn detach_sockhash(&mut self, prog_id: u32, map_id: u32) -> Result<(), KernelError> {
        let failed = on_id("detach from sockhash", map_id);
        self.call().map_err(&failed)?;
        if self.things.sockhashes.get(&map_id) != Some(&prog_id) {
            return Err(failed(io::Error::from_raw_os_error(libc::ENOENT)));
        }
        self.things.sockhashes.remove(&map_id);
        self.collect();
        Ok(())
    }

    fn sockhash_programs(&self, map_id: u32) -> Result<Vec<u32>, KernelError> {
        Ok(self
            .things
            .sockhashes
            .get(&map_id)
            .copied()
            .into_iter()
            .collect())
    }

    fn effective(&self, hook: Hook, cgroup: &Path) -> Result<Vec<u32>, KernelError> {
        let cgroup_id = self.cgroup_id(cgroup)?;
        let here = |link: &&LinkInfo| {
            link.cgroup_id == cgroup_id && link.attach_type == hook.attach_type()
        };
        Ok(self
            .things
            .links
            .values()
            .filter(here)
            .map(|link| link.prog_id)
            .collect())
    }

    fn cgroup_id(&self, path: &Path) -> Result<u64, KernelError> {
        self.things
            .cgroups
            .get(path)
            .copied()
            .ok_or_else(|| KernelError::System {
                op: format!("look at cgroup {}", path.display()),
                source: io::Error::from_raw_os_error(libc::ENOENT),
            })
    }
}
