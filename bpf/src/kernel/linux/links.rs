//! `bpf(2)` on what is attached: links to cgroups, programs on a sockhash, and what runs where.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use bytemuck::{Pod, Zeroable};

use super::sys::{bpf, bpf_fd, number};

const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const PROG_QUERY: u32 = 16;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const LINK_DETACH: u32 = 34;
const PROG_BIND_MAP: u32 = 35;

/// `BPF_F_QUERY_EFFECTIVE`.
pub(super) const QUERY_EFFECTIVE: u32 = 1;

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Attach {
    target: u32,
    prog: u32,
    kind: u32,
    flags: u32,
}

/// Attaches a program to a target that knows no links, in place of any other.
pub(super) fn attach(
    target: BorrowedFd<'_>,
    prog: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<()> {
    without_link(PROG_ATTACH, target, prog, attach_type)
}

/// Detaches a program from such a target.
pub(super) fn detach(
    target: BorrowedFd<'_>,
    prog: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<()> {
    without_link(PROG_DETACH, target, prog, attach_type)
}

fn without_link(
    command: u32,
    target: BorrowedFd<'_>,
    prog: BorrowedFd<'_>,
    kind: u32,
) -> io::Result<()> {
    let mut attr = Attach { target: number(target), prog: number(prog), kind, flags: 0 };
    // SAFETY: the attribute holds no address.
    unsafe { bpf(command, &mut attr) }.map(drop)
}

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    pad: u32,
}

/// Ids of the programs attached to `target`, in order.
pub(super) fn query(target: BorrowedFd<'_>, attach_type: u32, flags: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    loop {
        let mut attr = Query {
            target: number(target),
            attach_type,
            flags,
            ids: ids.as_mut_ptr().addr() as u64,
            count: u32::try_from(ids.len()).map_err(io::Error::other)?,
            ..Query::default()
        };
        // SAFETY: `ids` has room for `count` ids.
        match unsafe { bpf(PROG_QUERY, &mut attr) } {
            Ok(_) => {
                ids.truncate(attr.count as usize);
                return Ok(ids);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                ids.resize((ids.len() * 2).max(attr.count as usize), 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Attaches a program to a cgroup or a network namespace by a new link, beside others.
pub(super) fn link_create(
    target: BorrowedFd<'_>,
    prog: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    // `link_create` begins with the program, where `attach` begins with the target.
    let mut attr =
        Attach { target: number(prog), prog: number(target), kind: attach_type, flags: 0 };
    // SAFETY: the attribute holds no address.
    unsafe { bpf_fd(LINK_CREATE, &mut attr) }
}

/// `BPF_XDP`.
const XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`: generic mode, which every interface has.
const SKB_MODE: u32 = 2;

/// Attaches a program by a new link to an interface of this thread's network namespace. Refused
/// where another program stands there.
pub(super) fn link_xdp(prog: BorrowedFd<'_>, interface: u32) -> io::Result<OwnedFd> {
    let mut attr = Attach { target: number(prog), prog: interface, kind: XDP, flags: SKB_MODE };
    // SAFETY: the attribute holds no address.
    unsafe { bpf_fd(LINK_CREATE, &mut attr) }
}

#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct LinkChange {
    link: u32,
    prog: u32,
    flags: u32,
    old: u32,
}

/// Puts another program into a link, atomically.
pub(super) fn link_update(link: BorrowedFd<'_>, prog: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkChange { link: number(link), prog: number(prog), flags: 0, old: 0 };
    // SAFETY: the attribute holds no address.
    unsafe { bpf(LINK_UPDATE, &mut attr) }.map(drop)
}

/// Detaches a link from its target.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the attribute holds no address.
    unsafe { bpf(LINK_DETACH, &mut number(link)) }.map(drop)
}

/// Lets a program keep a map that its instructions do not use (Linux 5.10).
pub(super) fn bind_map(prog: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the attribute (program, map, flags) holds no address.
    unsafe { bpf(PROG_BIND_MAP, &mut [number(prog), number(map), 0]) }.map(drop)
}
