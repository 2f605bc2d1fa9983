//! The calls on pins, links and programs in memory. They refuse what the kernel refuses: a pin
//! over a pin, a link to a cgroup that is not there, an update of a link that is detached.

use std::io;
use std::path::Path;

use super::things::{BUILD, Entry};
use super::{Elements, MemoryKernel};
use crate::kernel::{
    DirLock, EntryKind, Id, KernelError, LinkInfo, MapInfo, Objects, Pinned, ProgInfo, RawVisit,
};
use crate::layout::{Hook, Limits, Map};
use crate::ours;

pub(super) fn on_pin(op: &'static str, path: &Path) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Pin { op, path: path.to_owned(), source }
}

pub(super) fn on_hook(
    op: &'static str,
    hook: Hook,
    target: &Path,
) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Attach { op, hook, target: target.to_owned(), source }
}

fn on_id(op: &'static str, id: u32) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::System { op: format!("{op} {id}"), source }
}

impl MemoryKernel {
    pub(super) fn new_link(
        &mut self,
        (kind, hook): (u32, Hook),
        prog_id: u32,
        cgroup_id: u64,
        path: &Path,
    ) -> Result<LinkInfo, KernelError> {
        self.last_id += 1;
        let (id, attach_type) = (self.last_id, hook.attach_type());
        let info = LinkInfo { id, kind, prog_id, cgroup_id, attach_type };
        self.put_entry(path, Entry::Pin(Id::Link(id))).map_err(on_pin("pin", path))?;
        self.things.links.insert(id, info.clone());
        Ok(info)
    }
}

impl Objects for MemoryKernel {
    fn build(&self, hook: Hook) -> u64 {
        self.things.builds.get(&hook).copied().unwrap_or(BUILD + hook.index() as u64)
    }

    fn lock_dir(&self, dir: &Path) -> Result<DirLock, KernelError> {
        match self.things.files.get(dir) {
            Some(Entry::Dir) => Ok(DirLock::default()),
            _ => Err(on_pin("lock", dir)(io::Error::from_raw_os_error(libc::ENOENT))),
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

    fn element(&self, map_id: u32, key: &[u8], value: &mut [u8]) -> Result<bool, KernelError> {
        let Some(stored) = self.maps.get(&map_id) else {
            return Ok(false);
        };
        let sizes = (stored.info.key_size as usize, stored.info.value_size as usize);
        let Elements::Array(bytes) = &stored.elements else {
            return Ok(false);
        };
        if sizes != (key.len(), value.len()) {
            return Ok(false);
        }
        let index = <[u8; 4]>::try_from(key).map_or(u32::MAX, u32::from_ne_bytes) as usize;
        match bytes.get(index * value.len()..(index + 1) * value.len()) {
            Some(found) => value.copy_from_slice(found),
            None => value.fill(0),
        }
        Ok(true)
    }

    fn instance(&self, path: &Path) -> Result<Option<u32>, KernelError> {
        let mounts = self.things.instances.iter();
        let on = mounts.filter(|(mount, _)| path.starts_with(mount));
        Ok(on.max_by_key(|(mount, _)| mount.as_os_str().len()).map_or(Some(1), |(_, on)| *on))
    }

    fn list(&self, dir: &Path) -> Result<Option<Vec<(String, EntryKind)>>, KernelError> {
        if self.things.files.get(dir) != Some(&Entry::Dir) {
            return Ok(None);
        }
        let inside = self.things.files.iter().filter(|(path, _)| path.parent() == Some(dir));
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

    fn scan_pin(&self, path: &Path, visit: RawVisit<'_>) -> Result<bool, KernelError> {
        let stored = match self.id_at(path) {
            Ok(Id::Map(id)) => self.maps.get(&id),
            _ => None,
        };
        match stored.map(|stored| (&stored.elements, stored.info.value_size as usize)) {
            None => return Ok(false),
            Some((Elements::Array(bytes), size)) => {
                for (index, value) in (0_u32..).zip(bytes.chunks_exact(size)) {
                    visit(&index.to_ne_bytes(), Some(value));
                }
            }
            Some((Elements::Hash(elements), _)) => {
                for (key, value) in elements {
                    visit(key, Some(value));
                }
            }
        }
        Ok(true)
    }

    fn make_dir(&mut self, dir: &Path) -> Result<(), KernelError> {
        self.call().map_err(on_pin("make directory", dir))?;
        for dir in dir.ancestors() {
            self.things.files.entry(dir.to_owned()).or_insert(Entry::Dir);
        }
        Ok(())
    }

    fn remove_dir(&mut self, dir: &Path) -> Result<(), KernelError> {
        let failed = on_pin("remove directory", dir);
        self.call().map_err(&failed)?;
        if self.things.files.keys().any(|path| path.parent() == Some(dir)) {
            return Err(failed(io::Error::from_raw_os_error(libc::ENOTEMPTY)));
        }
        self.things.files.remove(dir);
        Ok(())
    }

    fn symlink(&mut self, path: &Path, text: &str) -> Result<(), KernelError> {
        let failed = on_pin("make symbolic link", path);
        self.call().map_err(&failed)?;
        self.things.files.remove(path);
        self.put_entry(path, Entry::Symlink(text.to_owned())).map_err(failed)
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
        let failed = |error: io::Error| KernelError::Load { hook, reason: error.to_string() };
        self.call().map_err(failed)?;
        let info = self.prog_of(hook, maps).map_err(failed)?;
        self.put_entry(path, Entry::Pin(Id::Prog(info.id))).map_err(on_pin("pin", path))?;
        self.things.progs.insert(info.id, info.clone());
        Ok(info)
    }

    fn load_pod(
        &mut self,
        hook: Hook,
        _cookie: u64,
        maps: &Path,
        limits: &Limits,
        path: &Path,
    ) -> Result<ProgInfo, KernelError> {
        self.load(hook, maps, limits, path)
    }

    fn link_netns(
        &mut self,
        prog: &Path,
        cookie: u64,
        netns: &Path,
        link: &Path,
    ) -> Result<LinkInfo, KernelError> {
        let hook = Hook::SkLookup;
        let failed = on_hook("attach", hook, netns);
        self.call().map_err(&failed)?;
        let prog_id = self.prog_at(prog).map_err(&failed)?;
        let Some(inode) = self.namespace(netns, cookie) else {
            return Err(failed(io::Error::from_raw_os_error(libc::ENOENT)));
        };
        self.new_link((ours::LINK_NETNS, hook), prog_id, inode, link)
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
        self.new_link((ours::LINK_CGROUP, hook), prog_id, cgroup_id, link)
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
        Ok(self.things.sockhashes.get(&map_id).copied().into_iter().collect())
    }

    fn effective(&self, hook: Hook, cgroup: &Path) -> Result<Vec<u32>, KernelError> {
        let cgroup_id = self.cgroup_id(cgroup)?;
        let here = |link: &&LinkInfo| {
            link.cgroup_id == cgroup_id && link.attach_type == hook.attach_type()
        };
        Ok(self.things.links.values().filter(here).map(|link| link.prog_id).collect())
    }

    fn attached(&self, hook: Hook, target: &Path) -> Result<Vec<u32>, KernelError> {
        let Some((_, inode)) = self.things.namespaces.get(target) else {
            return self.effective(hook, target);
        };
        let here = |link: &&LinkInfo| (link.kind, link.cgroup_id) == (ours::LINK_NETNS, *inode);
        Ok(self.things.links.values().filter(here).map(|link| link.prog_id).collect())
    }

    fn detach_cgroup(
        &mut self,
        hook: Hook,
        _prog_id: u32,
        cgroup: &Path,
    ) -> Result<(), KernelError> {
        // nothing is attached without a link here
        Err(on_hook("detach", hook, cgroup)(io::Error::from_raw_os_error(libc::ENOENT)))
    }

    fn cgroup_id(&self, path: &Path) -> Result<u64, KernelError> {
        self.things.cgroups.get(path).copied().ok_or_else(|| KernelError::System {
            op: format!("look at cgroup {}", path.display()),
            source: io::Error::from_raw_os_error(libc::ENOENT),
        })
    }
}
