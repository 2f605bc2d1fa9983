//! Which kernel objects are Kmesh's: by name and type, never by place alone.
//!
//! The kernel keeps 15 characters of a name, and other projects use some of the same
//! names. So a program is ours only if its type fits its name; a program that no pin
//! of ours vouches for must use a map of ours, too.
//!
//! It refuses to claim what it cannot name: that is left alone, and said.

use crate::kernel::{Id, KernelError, LinkInfo, MapInfo, Objects, Pinned, ProgInfo};
use crate::layout::{Hook, Map};

/// What the kernel keeps of a name, in bytes (`BPF_OBJ_NAME_LEN` less its final zero).
pub const KERNEL_NAME: usize = 15;

/// `BPF_LINK_TYPE_CGROUP`.
pub const LINK_CGROUP: u32 = 3;
/// `BPF_LINK_TYPE_NETNS`.
pub const LINK_NETNS: u32 = 5;
/// `BPF_LINK_TYPE_XDP`.
pub const LINK_XDP: u32 = 6;

/// The kernel's form of a name.
#[must_use]
pub fn kernel_name(name: &str) -> &str {
    name.get(..KERNEL_NAME).unwrap_or(name)
}

/// The map of ours that bears this name, of whatever layout.
#[must_use]
pub fn map_named(info: &MapInfo) -> Option<Map> {
    Map::ALL.into_iter().find(|map| kernel_name(map.name()) == info.name)
}

/// Whether the kernel's words on a map are those of `map` in this build's layout.
#[must_use]
pub fn has_shape(map: Map, info: &MapInfo) -> bool {
    let shape = map.shape();
    info.kind == shape.kind.number()
        && info.key_size == shape.key_size
        && info.value_size == shape.value_size
        && info.flags == shape.flags
}

/// `enum bpf_prog_type` of a hook's program.
#[must_use]
pub fn prog_type(hook: Hook) -> u32 {
    match hook {
        Hook::SkMsg => 16,
        Hook::SockOps => 13,
        Hook::Connect4 | Hook::Connect6 | Hook::GetPeerName4 | Hook::GetPeerName6 => 18,
        Hook::SkLookup => 30,
        Hook::Xdp => 6,
    }
}

/// The hook whose program bears this name and is of this type.
#[must_use]
pub fn prog_named(info: &ProgInfo) -> Option<Hook> {
    Hook::EVERY
        .into_iter()
        .find(|hook| kernel_name(hook.name()) == info.name && prog_type(*hook) == info.kind)
}

/// The hook whose program this is, judged without any pin: name, type, and a map of ours that
/// it uses.
pub fn prog_unpinned(k: &dyn Objects, info: &ProgInfo) -> Result<Option<Hook>, KernelError> {
    let Some(hook) = prog_named(info) else {
        return Ok(None);
    };
    for id in &info.map_ids {
        if let Some(Pinned::Map(map)) = k.by_id(Id::Map(*id))?
            && map_named(&map).is_some()
        {
            return Ok(Some(hook));
        }
    }
    Ok(None)
}

/// The hook that a link of ours with this file name would stand at.
#[must_use]
pub fn link_named(file: &str, info: &LinkInfo) -> Option<Hook> {
    Hook::ALL.into_iter().find(|hook| {
        hook.on_cgroup()
            && hook.name() == file
            && info.kind == LINK_CGROUP
            && info.attach_type == hook.attach_type()
    })
}

/// Whether a link stands where a pod's authorization program does.
#[must_use]
pub fn is_pod_link(info: &LinkInfo) -> bool {
    info.kind == LINK_NETNS && info.attach_type == Hook::SkLookup.attach_type()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(name: &str) -> MapInfo {
        let shape = Map::Socket.shape();
        MapInfo {
            id: 1,
            kind: shape.kind.number(),
            key_size: shape.key_size,
            value_size: shape.value_size,
            max_entries: 8,
            flags: shape.flags,
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_long_name_is_known_by_what_the_kernel_keeps_of_it() {
        assert_eq!(map_named(&map("map_of_kmesh_so")), Some(Map::Socket));
        assert_eq!(map_named(&map("map_of_kmesh_socket")), None);
        assert_eq!(map_named(&map("map_of_other")), None);
    }

    #[test]
    fn a_map_of_another_layout_is_named_but_has_another_shape() {
        let mut other = map("map_of_kmesh_so");
        assert!(has_shape(Map::Socket, &other));
        other.value_size = 8;
        assert_eq!(map_named(&other), Some(Map::Socket));
        assert!(!has_shape(Map::Socket, &other));
    }

    #[test]
    fn a_program_of_our_name_but_another_type_is_foreign() {
        let mut prog = ProgInfo {
            id: 1,
            kind: 18,
            name: "connect4".to_owned(),
            tag: 0,
            map_ids: Vec::new(),
            verified_insns: 0,
        };
        assert_eq!(prog_named(&prog), Some(Hook::Connect4));
        prog.kind = 6;
        assert_eq!(prog_named(&prog), None);
    }

    #[test]
    fn a_link_is_named_by_its_file_and_its_attach_type() {
        let info = LinkInfo { id: 1, kind: LINK_CGROUP, prog_id: 1, cgroup_id: 1, attach_type: 10 };
        assert_eq!(link_named("connect4", &info), Some(Hook::Connect4));
        assert_eq!(link_named("connect6", &info), None);
        assert_eq!(link_named("other", &info), None);
    }
}
