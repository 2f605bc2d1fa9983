//! What the kernel says of an object behind a file descriptor. It changes nothing.

use std::io;
use std::os::fd::BorrowedFd;

use super::sys::{self, ObjectKind};
use crate::kernel::{LinkInfo, MapInfo, Pinned, ProgInfo};

fn name_text(name: &[u8; 16]) -> String {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

pub fn map_said(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let said = sys::map_info(fd)?;
    Ok(MapInfo {
        id: said.id,
        kind: said.kind,
        key_size: said.key_size,
        value_size: said.value_size,
        max_entries: said.max_entries,
        flags: said.flags,
        name: name_text(&said.name),
    })
}

pub fn prog_said(fd: BorrowedFd<'_>) -> io::Result<ProgInfo> {
    let (said, map_ids) = sys::prog_info(fd)?;
    Ok(ProgInfo {
        id: said.id,
        kind: said.kind,
        name: name_text(&said.name),
        tag: u64::from_be_bytes(said.tag),
        map_ids,
        verified_insns: said.verified_insns,
    })
}

pub fn link_said(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let said = sys::link_info(fd)?;
    Ok(LinkInfo {
        id: said.id,
        kind: said.kind,
        prog_id: said.prog_id,
        cgroup_id: said.cgroup_id,
        attach_type: said.attach_type,
    })
}

pub fn said(fd: BorrowedFd<'_>) -> io::Result<Pinned> {
    match sys::kind_of(fd)? {
        Some(ObjectKind::Map) => map_said(fd).map(Pinned::Map),
        Some(ObjectKind::Prog) => prog_said(fd).map(Pinned::Prog),
        Some(ObjectKind::Link) => link_said(fd).map(Pinned::Link),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "not a map, program or link")),
    }
}
