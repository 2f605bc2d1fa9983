//! `bpf(2)`: one safe function per command that Kmesh uses, each with the `union bpf_attr` member
//! that `include/uapi/linux/bpf.h` gives it. Shorter than the union is fine: the kernel takes the
//! rest as zero.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytemuck::{Pod, Zeroable};

const OBJ_PIN: u32 = 6;
const OBJ_GET: u32 = 7;
const PROG_GET_NEXT_ID: u32 = 11;
const MAP_GET_NEXT_ID: u32 = 12;
const PROG_GET_FD_BY_ID: u32 = 13;
const MAP_GET_FD_BY_ID: u32 = 14;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const BTF_LOAD: u32 = 18;
const LINK_GET_FD_BY_ID: u32 = 30;
const LINK_GET_NEXT_ID: u32 = 31;

/// `BPF_LINK_TYPE_CGROUP`.
const LINK_CGROUP: u32 = 3;
/// `BPF_LINK_TYPE_NETNS`.
const LINK_NETNS: u32 = 5;
/// `BPF_LINK_TYPE_XDP`.
const LINK_XDP: u32 = 6;
/// `BPF_XDP`, the only attach type of such a link.
const XDP: u32 = 37;

/// Calls `bpf(2)`.
///
/// # Safety
/// Every address in `attr` points to memory of the size that `command` reads or writes there, and
/// lives until this returns.
pub(super) unsafe fn bpf<A: Pod>(command: u32, attr: &mut A) -> io::Result<i32> {
    // SAFETY: `attr` is plain bytes of the size given; what it points to is the caller's promise.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(answer).map_err(io::Error::other)
}

/// As [`bpf`], for a command that answers a new descriptor.
///
/// # Safety
/// As of [`bpf`], and `command` answers a descriptor that nobody else owns.
pub(super) unsafe fn bpf_fd<A: Pod>(command: u32, attr: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr)? };
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of a descriptor, as attributes hold it.
pub(super) fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Opens what is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attr = Object { path: path.as_ptr().addr() as u64, ..Object::default() };
    // SAFETY: `path` is a C string that outlives the call.
    unsafe { bpf_fd(OBJ_GET, &mut attr) }
}

/// Pins an object at `path`.
pub(super) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = Object { path: path.as_ptr().addr() as u64, fd: number(fd), flags: 0 };
    // SAFETY: `path` is a C string that outlives the call.
    unsafe { bpf(OBJ_PIN, &mut attr) }.map(drop)
}

/// Kinds of objects that have ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectKind {
    Map,
    Prog,
    Link,
}

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Opens the object with this id.
pub(super) fn open_id(kind: ObjectKind, id: u32) -> io::Result<OwnedFd> {
    let command = match kind {
        ObjectKind::Map => MAP_GET_FD_BY_ID,
        ObjectKind::Prog => PROG_GET_FD_BY_ID,
        ObjectKind::Link => LINK_GET_FD_BY_ID,
    };
    // SAFETY: the attribute holds no address.
    unsafe { bpf_fd(command, &mut ById { id, ..ById::default() }) }
}

/// The first id above `after`, if any.
pub(super) fn next_id(kind: ObjectKind, after: u32) -> io::Result<Option<u32>> {
    let command = match kind {
        ObjectKind::Map => MAP_GET_NEXT_ID,
        ObjectKind::Prog => PROG_GET_NEXT_ID,
        ObjectKind::Link => LINK_GET_NEXT_ID,
    };
    let mut attr = ById { id: after, ..ById::default() };
    // SAFETY: the attribute holds no address.
    match unsafe { bpf(command, &mut attr) } {
        Ok(_) => Ok(Some(attr.next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What kind of object a descriptor holds, as `/proc/self/fd` names it; `None` for others.
pub(super) fn kind_of(fd: BorrowedFd<'_>) -> io::Result<Option<ObjectKind>> {
    let name = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    let name = name.to_string_lossy();
    Ok(match name.trim_start_matches("anon_inode:").trim_matches(['[', ']']) {
        "bpf-map" => Some(ObjectKind::Map),
        "bpf-prog" => Some(ObjectKind::Prog),
        "bpf_link" | "bpf-link" => Some(ObjectKind::Link),
        _ => None,
    })
}

/// The beginning of `struct bpf_map_info`.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct MapInfo {
    pub kind: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    pub name: [u8; 16],
}

/// The beginning of `struct bpf_prog_info`.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ProgInfo {
    pub kind: u32,
    pub id: u32,
    pub tag: [u8; 8],
    jited_len: u32,
    xlated_len: u32,
    jited: u64,
    xlated: u64,
    load_time: u64,
    created_by: u32,
    nr_map_ids: u32,
    map_ids: u64,
    pub name: [u8; 16],
    ifindex: u32,
    gpl: u32,
    netns_dev: u64,
    netns_ino: u64,
    lines_and_functions: [u64; 14],
    pub verified_insns: u32,
    attach_btf_obj: u32,
}

/// The beginning of `struct bpf_link_info`, as of a cgroup link.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct LinkInfo {
    pub kind: u32,
    pub id: u32,
    pub prog_id: u32,
    pad: u32,
    pub cgroup_id: u64,
    pub attach_type: u32,
    pad2: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct InfoByFd {
    fd: u32,
    len: u32,
    info: u64,
}

/// Asks for the info of `fd`'s object.
///
/// # Safety
/// `Info` is a beginning of the info struct of that object's kind, and addresses in it point to
/// room of the size that it says.
unsafe fn info<Info: Pod>(fd: BorrowedFd<'_>, info: &mut Info) -> io::Result<()> {
    let len = u32::try_from(size_of::<Info>()).map_err(io::Error::other)?;
    let mut attr = InfoByFd { fd: number(fd), len, info: std::ptr::from_mut(info).addr() as u64 };
    // SAFETY: `info` has `len` bytes; the addresses in it are the caller's promise.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

fn must_be(kind: ObjectKind, fd: BorrowedFd<'_>) -> io::Result<()> {
    if kind_of(fd)? == Some(kind) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "another kind of BPF object"))
    }
}

/// What the kernel says of a map.
pub(super) fn map_info(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
    must_be(ObjectKind::Map, fd)?;
    let mut said = MapInfo::default();
    // SAFETY: a map's info; it has no address to fill in.
    unsafe { info(fd, &mut said)? };
    Ok(said)
}

/// What the kernel says of a program, and the maps that it uses.
pub(super) fn prog_info(fd: BorrowedFd<'_>) -> io::Result<(ProgInfo, Vec<u32>)> {
    must_be(ObjectKind::Prog, fd)?;
    let mut ids = vec![0u32; 64];
    loop {
        let room = u32::try_from(ids.len()).map_err(io::Error::other)?;
        let mut said = ProgInfo {
            nr_map_ids: room,
            map_ids: ids.as_mut_ptr().addr() as u64,
            ..ProgInfo::default()
        };
        // SAFETY: a program's info; `map_ids` has room for `nr_map_ids` ids.
        unsafe { info(fd, &mut said)? };
        let count = said.nr_map_ids as usize;
        if count <= ids.len() {
            ids.truncate(count);
            return Ok((said, ids));
        }
        ids.resize(count, 0);
    }
}

/// What the kernel says of a link; of one that is neither at a cgroup, in a network namespace nor at
/// an interface, id, kind and program only. A namespace's inode, or an interface's index, takes the
/// place of a cgroup's id.
pub(super) fn link_info(fd: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    must_be(ObjectKind::Link, fd)?;
    let mut said = LinkInfo::default();
    // SAFETY: a link's info; the kinds that fill in addresses find zero there and leave it.
    unsafe { info(fd, &mut said)? };
    if said.kind == LINK_NETNS {
        // u32 netns_ino, u32 attach_type
        let [inode, attach_type]: [u32; 2] = bytemuck::cast(said.cgroup_id);
        (said.cgroup_id, said.attach_type) = (inode.into(), attach_type);
    } else if said.kind == LINK_XDP {
        // u32 ifindex
        let [index, _]: [u32; 2] = bytemuck::cast(said.cgroup_id);
        (said.cgroup_id, said.attach_type) = (index.into(), XDP);
    } else if said.kind != LINK_CGROUP {
        said.cgroup_id = 0;
        said.attach_type = 0;
    }
    Ok(said)
}

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct BtfLoad {
    btf: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    pad: u32,
}

/// Loads type information, for maps to point to.
pub(super) fn btf_load(btf: &[u8]) -> io::Result<OwnedFd> {
    let size = u32::try_from(btf.len()).map_err(io::Error::other)?;
    let mut attr = BtfLoad { btf: btf.as_ptr().addr() as u64, size, ..BtfLoad::default() };
    // SAFETY: `btf` has `size` bytes and is only read.
    unsafe { bpf_fd(BTF_LOAD, &mut attr) }
}

/// The cookie of the network namespace of `socket` (`SO_NETNS_COOKIE`, Linux 5.14).
pub(crate) fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut len: libc::socklen_t = 8;
    // SAFETY: `cookie` has the 8 bytes that `len` says.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut len,
        )
    };
    if answer == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
