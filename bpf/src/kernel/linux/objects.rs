//! Pins, links and programs on the real kernel.

use std::path::Path;

use super::Linux;
use crate::kernel::{
    DirLock, EntryKind, Id, KernelError, LinkInfo, MapInfo, Objects, Pinned, ProgInfo,
};
use crate::layout::{Hook, Limits, Map};
use crate::programs;

#[expect(unused_variables, reason = "landed first for its signatures")]
impl Objects for Linux {
    fn build(&self, hook: Hook) -> u64 {
        programs::of(hook).map_or(0, |object| object.build)
    }
    fn lock_dir(&self, dir: &Path) -> Result<DirLock, KernelError> {
        todo!()
    }
    fn pinned(&self, path: &Path) -> Result<Option<Pinned>, KernelError> {
        todo!()
    }
    fn by_id(&self, id: Id) -> Result<Option<Pinned>, KernelError> {
        todo!()
    }
    fn all_ids(&self) -> Result<Vec<Id>, KernelError> {
        todo!()
    }
    fn list(&self, dir: &Path) -> Result<Option<Vec<(String, EntryKind)>>, KernelError> {
        todo!()
    }
    fn make_dir(&mut self, dir: &Path) -> Result<(), KernelError> {
        todo!()
    }
    fn remove_dir(&mut self, dir: &Path) -> Result<(), KernelError> {
        todo!()
    }
    fn symlink(&mut self, path: &Path, text: &str) -> Result<(), KernelError> {
        todo!()
    }
    fn pin(&mut self, id: Id, path: &Path) -> Result<(), KernelError> {
        todo!()
    }
    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), KernelError> {
        todo!()
    }
    fn unpin(&mut self, path: &Path) -> Result<(), KernelError> {
        todo!()
    }
    fn create_map(
        &mut self,
        map: Map,
        max_entries: u32,
        path: &Path,
    ) -> Result<MapInfo, KernelError> {
        todo!()
    }
    fn open_map(&mut self, map: Map, path: &Path) -> Result<(), KernelError> {
        todo!()
    }
    fn load(
        &mut self,
        hook: Hook,
        maps: &Path,
        limits: &Limits,
        path: &Path,
    ) -> Result<ProgInfo, KernelError> {
        todo!()
    }
    fn link_cgroup(
        &mut self,
        hook: Hook,
        prog: &Path,
        cgroup: &Path,
        link: &Path,
    ) -> Result<LinkInfo, KernelError> {
        todo!()
    }
    fn link_update(&mut self, hook: Hook, link: &Path, prog: &Path) -> Result<(), KernelError> {
        todo!()
    }
    fn link_detach(&mut self, id: u32) -> Result<(), KernelError> {
        todo!()
    }
    fn attach_sockhash(&mut self, prog: &Path, map: &Path) -> Result<(), KernelError> {
        todo!()
    }
    fn detach_sockhash(&mut self, prog_id: u32, map_id: u32) -> Result<(), KernelError> {
        todo!()
    }
    fn sockhash_programs(&self, map_id: u32) -> Result<Vec<u32>, KernelError> {
        todo!()
    }
    fn effective(&self, hook: Hook, cgroup: &Path) -> Result<Vec<u32>, KernelError> {
        todo!()
    }
    fn cgroup_id(&self, path: &Path) -> Result<u64, KernelError> {
        todo!()
    }
}
