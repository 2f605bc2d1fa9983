//! Pins, links and programs on the real kernel.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock, statfs};

use super::elements::Shape;
use super::said::{link_said, map_said, prog_said, said};
use super::sys::{self, ObjectKind};
use super::{Linux, Opened, links, load, raw};
use crate::kernel::{
    DirLock, EntryKind, Id, KernelError, LinkInfo, MapInfo, Objects, Pinned, ProgInfo, RawVisit,
};
use crate::layout::{Hook, Limits, Map};
use crate::programs;

/// `CGROUP2_SUPER_MAGIC`, of `statfs(2)`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;
/// `BPF_FS_MAGIC`, of `statfs(2)`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// `BPF_MAP_TYPE_PERCPU_ARRAY`: one element has a value for each CPU.
const PER_CPU_ARRAY: u32 = 6;
/// `BPF_SK_MSG_VERDICT`, of [`Hook::attach_type`].
const SK_MSG: u32 = 7;

pub(super) fn on_pin(op: &'static str, path: &Path) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Pin { op, path: path.to_owned(), source }
}

fn on_system(op: impl Fn() -> String) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::System { op: op(), source }
}

fn on_hook(op: &'static str, hook: Hook, target: &Path) -> impl Fn(io::Error) -> KernelError {
    move |source| KernelError::Attach { op, hook, target: target.to_owned(), source }
}

/// What was not there is `None`.
fn absent<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_id(id: Id) -> io::Result<OwnedFd> {
    match id {
        Id::Map(id) => sys::open_id(ObjectKind::Map, id),
        Id::Prog(id) => sys::open_id(ObjectKind::Prog, id),
        Id::Link(id) => sys::open_id(ObjectKind::Link, id),
    }
}

fn being_made(error: io::Error) -> io::Result<Option<OwnedFd>> {
    if error.raw_os_error() == Some(libc::EAGAIN) { Ok(None) } else { Err(error) }
}

fn entry_kind(entry: &fs::DirEntry) -> io::Result<EntryKind> {
    let kind = entry.file_type()?;
    if kind.is_dir() {
        Ok(EntryKind::Dir)
    } else if kind.is_symlink() {
        let text = fs::read_link(entry.path())?;
        Ok(EntryKind::Symlink(text.to_string_lossy().into_owned()))
    } else {
        Ok(EntryKind::Pin)
    }
}

fn entries(dir: &Path) -> io::Result<Vec<(String, EntryKind)>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Removed between the two calls: not an entry.
        if let Some(kind) = absent(entry_kind(&entry))? {
            entries.push((entry.file_name().to_string_lossy().into_owned(), kind));
        }
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

fn make_symlink(path: &Path, text: &str) -> io::Result<()> {
    if absent(fs::read_link(path))?.is_some_and(|said| said.as_os_str() == text) {
        return Ok(());
    }
    let mut aside = path.as_os_str().to_owned();
    aside.push("_new");
    absent(fs::remove_file(&aside))?;
    std::os::unix::fs::symlink(text, &aside)?;
    fs::rename(&aside, path)
}

impl Objects for Linux {
    fn build(&self, hook: Hook) -> u64 {
        programs::of(hook).map_or(0, |object| object.build)
    }

    fn lock_dir(&self, dir: &Path) -> Result<DirLock, KernelError> {
        let failed = on_pin("lock", dir);
        let file = File::open(dir).map_err(&failed)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(DirLock(Some(file.into()))),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    fn pinned(&self, path: &Path) -> Result<Option<Pinned>, KernelError> {
        let failed = on_pin("open", path);
        let Some(fd) = absent(sys::open_pin(path)).map_err(&failed)? else {
            return Ok(None);
        };
        said(fd.as_fd()).map(Some).map_err(failed)
    }

    fn by_id(&self, id: Id) -> Result<Option<Pinned>, KernelError> {
        let failed = on_system(|| format!("open {id:?}"));
        // EAGAIN: a link that somebody is just making; it has no id yet, and is none of ours.
        let Some(fd) = absent(open_id(id)).or_else(being_made).map_err(&failed)? else {
            return Ok(None);
        };
        said(fd.as_fd()).map(Some).map_err(failed)
    }

    fn all_ids(&self) -> Result<Vec<Id>, KernelError> {
        type ToId = fn(u32) -> Id;
        const KINDS: [(ObjectKind, ToId); 3] = [
            (ObjectKind::Map, Id::Map),
            (ObjectKind::Prog, Id::Prog),
            (ObjectKind::Link, Id::Link),
        ];
        let mut ids = Vec::new();
        for (kind, to_id) in KINDS {
            let failed = on_system(|| format!("list BPF objects ({kind:?})"));
            let mut after = 0;
            while let Some(id) = sys::next_id(kind, after).map_err(&failed)? {
                ids.push(to_id(id));
                after = id;
            }
        }
        Ok(ids)
    }

    fn element(&self, map_id: u32, key: &[u8], value: &mut [u8]) -> Result<bool, KernelError> {
        let failed = on_system(|| format!("look into map {map_id}"));
        let Some(map) = absent(open_id(Id::Map(map_id))).map_err(&failed)? else {
            return Ok(false);
        };
        let said = map_said(map.as_fd()).map_err(&failed)?;
        let sizes = (said.key_size as usize, said.value_size as usize);
        if said.kind == PER_CPU_ARRAY || sizes != (key.len(), value.len()) {
            return Ok(false);
        }
        let shape = Shape { fd: map.as_fd(), key: sizes.0, value: sizes.1 };
        absent(shape.lookup(key, value)).map(|found| found.is_some()).map_err(failed)
    }

    fn instance(&self, path: &Path) -> Result<Option<u32>, KernelError> {
        let place = path.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
        let failed = on_pin("look at", place);
        let said = statfs(place).map_err(|error| failed(error.into()))?;
        if u64::try_from(said.f_type).ok() != Some(BPF_FS_MAGIC) {
            return Ok(None);
        }
        let device = fs::metadata(place).map_err(&failed)?.dev();
        // device numbers of file systems without a device have 32 bits
        Ok(u32::try_from(device).ok())
    }

    fn list(&self, dir: &Path) -> Result<Option<Vec<(String, EntryKind)>>, KernelError> {
        absent(entries(dir)).map_err(on_pin("list", dir))
    }

    fn scan_pin(&self, path: &Path, visit: RawVisit<'_>) -> Result<bool, KernelError> {
        let failed = on_pin("read", path);
        let Some(fd) = absent(sys::open_pin(path)).map_err(&failed)? else {
            return Ok(false);
        };
        raw::scan(fd.as_fd(), visit).map_err(failed)
    }

    fn make_dir(&mut self, dir: &Path) -> Result<(), KernelError> {
        fs::create_dir_all(dir).map_err(on_pin("make directory", dir))
    }

    fn remove_dir(&mut self, dir: &Path) -> Result<(), KernelError> {
        absent(fs::remove_dir(dir)).map(drop).map_err(on_pin("remove directory", dir))
    }

    fn symlink(&mut self, path: &Path, text: &str) -> Result<(), KernelError> {
        make_symlink(path, text).map_err(on_pin("make symbolic link", path))
    }

    fn pin(&mut self, id: Id, path: &Path) -> Result<(), KernelError> {
        open_id(id).and_then(|fd| sys::pin(fd.as_fd(), path)).map_err(on_pin("pin", path))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), KernelError> {
        fs::rename(from, to).map_err(on_pin("move a pin to", to))
    }

    fn unpin(&mut self, path: &Path) -> Result<(), KernelError> {
        absent(fs::remove_file(path)).map(drop).map_err(on_pin("remove", path))
    }

    fn create_map(
        &mut self,
        map: Map,
        max_entries: u32,
        path: &Path,
    ) -> Result<MapInfo, KernelError> {
        load::create_map(map, max_entries, path)?;
        let failed = on_pin("open", path);
        sys::open_pin(path).and_then(|fd| map_said(fd.as_fd())).map_err(failed)
    }

    fn open_map(&mut self, map: Map, path: &Path) -> Result<(), KernelError> {
        let failed = on_pin("open", path);
        let fd = sys::open_pin(path).map_err(&failed)?;
        let said = map_said(fd.as_fd()).map_err(&failed)?;
        let shape = map.shape();
        if (said.kind, said.key_size, said.value_size)
            != (shape.kind.number(), shape.key_size, shape.value_size)
        {
            // The caller has checked; this keeps buffers right even if it has not.
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "of another shape")));
        }
        let opened = Opened {
            fd,
            key_size: said.key_size as usize,
            value_size: said.value_size as usize,
            max_entries: said.max_entries,
        };
        self.maps.insert(map, opened);
        Ok(())
    }

    fn load(
        &mut self,
        hook: Hook,
        maps: &Path,
        limits: &Limits,
        path: &Path,
    ) -> Result<ProgInfo, KernelError> {
        load::load(hook, None, maps, limits, path)?;
        sys::open_pin(path).and_then(|fd| prog_said(fd.as_fd())).map_err(on_pin("open", path))
    }

    fn load_pod(
        &mut self,
        hook: Hook,
        cookie: u64,
        maps: &Path,
        limits: &Limits,
        path: &Path,
    ) -> Result<ProgInfo, KernelError> {
        load::load(hook, Some(cookie), maps, limits, path)?;
        sys::open_pin(path).and_then(|fd| prog_said(fd.as_fd())).map_err(on_pin("open", path))
    }

    fn link_netns(
        &mut self,
        prog: &Path,
        cookie: u64,
        netns: &Path,
        link: &Path,
    ) -> Result<LinkInfo, KernelError> {
        let failed = on_hook("attach", Hook::SkLookup, netns);
        let target = File::open(netns).map_err(&failed)?;
        let there = super::netns::cookie_of(target.as_fd()).map_err(&failed)?;
        if there != cookie {
            let other = format!("another namespace is there now: its cookie is {there}");
            return Err(failed(io::Error::other(other)));
        }
        link_to(Hook::SkLookup, prog, (netns, &target), link)
    }

    fn link_cgroup(
        &mut self,
        hook: Hook,
        prog: &Path,
        cgroup: &Path,
        link: &Path,
    ) -> Result<LinkInfo, KernelError> {
        let target = File::open(cgroup).map_err(on_hook("attach", hook, cgroup))?;
        link_to(hook, prog, (cgroup, &target), link)
    }

    fn link_update(&mut self, hook: Hook, link: &Path, prog: &Path) -> Result<(), KernelError> {
        let prog = sys::open_pin(prog).map_err(on_pin("open", prog))?;
        let held = sys::open_pin(link).map_err(on_pin("open", link))?;
        links::link_update(held.as_fd(), prog.as_fd()).map_err(on_hook("replace", hook, link))
    }

    fn link_detach(&mut self, id: u32) -> Result<(), KernelError> {
        let failed = on_system(|| format!("detach link {id}"));
        let Some(link) = absent(open_id(Id::Link(id))).map_err(&failed)? else {
            return Ok(());
        };
        links::link_detach(link.as_fd()).map_err(failed)
    }

    fn attach_sockhash(&mut self, prog: &Path, map: &Path) -> Result<(), KernelError> {
        let program = sys::open_pin(prog).map_err(on_pin("open", prog))?;
        let target = sys::open_pin(map).map_err(on_pin("open", map))?;
        links::attach(target.as_fd(), program.as_fd(), SK_MSG).map_err(on_hook(
            "attach",
            Hook::SkMsg,
            map,
        ))
    }

    fn detach_sockhash(&mut self, prog_id: u32, map_id: u32) -> Result<(), KernelError> {
        let failed = on_system(|| format!("detach program {prog_id} from sockhash {map_id}"));
        let prog = open_id(Id::Prog(prog_id)).map_err(&failed)?;
        let target = open_id(Id::Map(map_id)).map_err(&failed)?;
        links::detach(target.as_fd(), prog.as_fd(), SK_MSG).map_err(failed)
    }

    fn sockhash_programs(&self, map_id: u32) -> Result<Vec<u32>, KernelError> {
        open_id(Id::Map(map_id))
            .and_then(|target| links::query(target.as_fd(), SK_MSG, 0))
            .map_err(on_system(|| format!("list the programs of sockhash {map_id}")))
    }

    fn effective(&self, hook: Hook, cgroup: &Path) -> Result<Vec<u32>, KernelError> {
        File::open(cgroup)
            .and_then(|target| {
                links::query(target.as_fd(), hook.attach_type(), links::QUERY_EFFECTIVE)
            })
            .map_err(on_hook("list the programs of", hook, cgroup))
    }

    fn attached(&self, hook: Hook, target: &Path) -> Result<Vec<u32>, KernelError> {
        File::open(target)
            .and_then(|opened| links::query(opened.as_fd(), hook.attach_type(), 0))
            .map_err(on_hook("list the programs of", hook, target))
    }

    fn detach_cgroup(
        &mut self,
        hook: Hook,
        prog_id: u32,
        cgroup: &Path,
    ) -> Result<(), KernelError> {
        let failed = on_hook("detach", hook, cgroup);
        let prog = open_id(Id::Prog(prog_id)).map_err(&failed)?;
        let target = File::open(cgroup).map_err(&failed)?;
        links::detach(target.as_fd(), prog.as_fd(), hook.attach_type()).map_err(failed)
    }

    fn cgroup_id(&self, path: &Path) -> Result<u64, KernelError> {
        cgroup_inode(path).map_err(on_system(|| format!("look at cgroup {}", path.display())))
    }
}

/// Attaches a pinned program by a new link to `target`, which was opened at a path, and pins the
/// link.
fn link_to(
    hook: Hook,
    prog: &Path,
    (path, target): (&Path, &File),
    link: &Path,
) -> Result<LinkInfo, KernelError> {
    let failed = on_hook("attach", hook, path);
    let prog = sys::open_pin(prog).map_err(on_pin("open", prog))?;
    let made =
        links::link_create(target.as_fd(), prog.as_fd(), hook.attach_type()).map_err(&failed)?;
    sys::pin(made.as_fd(), link).map_err(on_pin("pin", link))?;
    link_said(made.as_fd()).map_err(failed)
}

/// The inode of a cgroup2 directory.
fn cgroup_inode(path: &Path) -> io::Result<u64> {
    let said = statfs(path)?;
    if u64::try_from(said.f_type).ok() != Some(CGROUP2_MAGIC) {
        return Err(io::Error::other("not on a cgroup2 file system"));
    }
    fs::metadata(path).map(|said| said.ino())
}
