//! Records: the values that lie in arrays, and the keys of hashes.
//!
//! Every type here is plain bytes without padding (`bytemuck::Pod` checks that at
//! compile time) and has the size and offsets of its C twin.

use std::net::{IpAddr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

use super::word::{BackendWord, FrontendWord, ServiceWord, WaypointWord, tag32};
use super::{NAME_CHUNK, word};

/// Key of `kmesh_frontend`: a VIP and port, or a workload's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct FrontendKey {
    /// Network order; IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u8; 16],
    /// Network order; 0 for a workload's address.
    pub port: [u8; 2],
    /// [`FrontendKey::SERVICE`] or [`FrontendKey::WORKLOAD`], host order.
    pub kind: [u8; 2],
}

impl FrontendKey {
    /// A VIP and port; the value is an index into `kmesh_service`.
    pub const SERVICE: u16 = 0;
    /// A workload's address, port 0; the value is an index into `kmesh_backend`.
    pub const WORKLOAD: u16 = 1;

    /// The key of a service's VIP at `port` (host order).
    #[must_use]
    pub fn service(vip: IpAddr, port: u16) -> Self {
        Self { addr: mapped(vip), port: port.to_be_bytes(), kind: Self::SERVICE.to_ne_bytes() }
    }

    /// The key of a workload's own address.
    #[must_use]
    pub fn workload(address: IpAddr) -> Self {
        Self { addr: mapped(address), port: [0; 2], kind: Self::WORKLOAD.to_ne_bytes() }
    }

    /// The address, IPv4 as such.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        Ipv6Addr::from(self.addr).to_canonical()
    }

    /// The port, host order.
    #[must_use]
    pub fn port(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }

    /// [`Self::SERVICE`], [`Self::WORKLOAD`], or what a foreign hand wrote.
    #[must_use]
    pub fn kind(&self) -> u16 {
        u16::from_ne_bytes(self.kind)
    }

    /// The tag that its value carries.
    #[must_use]
    pub fn tag(&self) -> u32 {
        let mut words = [0; 5];
        for (word, bytes) in words.iter_mut().zip(bytemuck::bytes_of(self).chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        tag32(&words)
    }
}

impl FrontendWord {
    /// The word that leads from `key` to `index`.
    #[must_use]
    pub fn new(key: &FrontendKey, index: u32) -> Self {
        Self(u64::from(key.tag()) << 32 | u64::from(index))
    }
}

/// The 16 bytes of an address, IPv4 as `::ffff:a.b.c.d`.
pub(super) fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A service record that has frontends.
pub const KIND_SERVICE: u8 = 0;
/// A service record that only waypoint words lead to.
pub const KIND_WAYPOINT: u8 = 1;

/// Value of `kmesh_service`: one per service, port and family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ServiceRecord {
    /// Read by the programs: slots and flags.
    pub word: ServiceWord,
    /// Read by the programs where the word says so.
    pub waypoint: WaypointWord,
    /// First chunk in `kmesh_names` of `namespace/hostname`.
    pub name: u32,
    /// Bytes of the name.
    pub name_len: u16,
    /// Service port, host order.
    pub port: u16,
    /// Slots owned from the word's base on.
    pub capacity: u32,
    /// 4 or 6: the family of the VIPs.
    pub family: u8,
    /// [`KIND_SERVICE`] or [`KIND_WAYPOINT`].
    pub kind: u8,
    /// Zero.
    pub pad: u16,
}

/// Value of `kmesh_backend`: a workload. Its addresses never change while it is reachable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BackendRecord {
    /// IPv4 address and flags.
    pub word: BackendWord,
    /// IPv6 address, network order; zero without its flag.
    pub v6: [u8; 16],
    /// Waypoint for clients that dial the workload's IPv4 address.
    pub waypoint_v4: WaypointWord,
    /// Waypoint for clients that dial the workload's IPv6 address.
    pub waypoint_v6: WaypointWord,
    /// First chunk in `kmesh_names` of the uid.
    pub name: u32,
    /// First chunk of `trust-domain/ns/N/sa/A`: also the identity's number.
    pub identity: u32,
    /// Bytes of the name.
    pub name_len: u16,
    /// Bytes of the identity; 0 is none.
    pub identity_len: u16,
    /// The identity's number in policy sets; 0 is none.
    pub who: u32,
    /// First chunk of the policies that name it: a JSON list of `namespace/name`.
    pub policies: u32,
    /// Bytes of that; 0: none names it.
    pub policies_len: u32,
}

impl BackendRecord {
    /// The IPv6 address, if set.
    #[must_use]
    pub fn v6(&self) -> Option<Ipv6Addr> {
        self.word.has(BackendWord::V6).then(|| Ipv6Addr::from(self.v6))
    }
}

/// Value of `kmesh_names`: a piece of a name; unused bytes are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct NameChunk(pub [u8; NAME_CHUNK]);

/// Value of `map_of_dst_info`: the destination that the application dialled, and where it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct DstRecord {
    /// Network order; IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u8; 16],
    /// Network order.
    pub port: [u8; 2],
    /// `enum kmesh_dst_state`, host order.
    pub state: u16,
    /// TCP sequence number at which the metadata was queued.
    pub seq: u32,
    /// Last 4 bytes of the address that was written instead, network order.
    pub target: [u8; 4],
    /// Its port, network order.
    pub target_port: [u8; 2],
    /// Zero.
    pub pad: u16,
}

impl DstRecord {
    /// The first send must carry metadata.
    pub const WANTS_METADATA: u16 = 1;
    /// The metadata has been sent.
    pub const SENT: u16 = 2;
    /// The socket is in `map_of_kmesh_socket`.
    pub const IN_MAP: u16 = 4;
    /// The flow was cut: the metadata could not be sent.
    pub const ABORTED: u16 = 8;
    /// getpeername answers this address.
    pub const PEERNAME: u16 = 16;
    /// Noted by connect(), its SYN not yet seen.
    pub const DIALLED: u16 = 32;
}

/// Which program stands at a hook, and of which build it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct HookRecord {
    /// First 8 bytes of the SHA-256 of the object file, big-endian.
    pub build: u64,
    /// The kernel's id of the program; 0 is none.
    pub prog_id: u32,
    /// Zero.
    pub pad: u32,
}

/// The one value of `kmesh_meta`. Never read by a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct MetaRecord {
    /// [`super::MAGIC`].
    pub magic: u64,
    /// [`super::LAYOUT_VERSION`].
    pub layout: u32,
    /// First 4 bytes of the SHA-256 of the root's path, big-endian.
    pub root: u32,
    /// Odd while a write is under way.
    pub generation: u64,
    /// Start time of the last writer, in clock ticks since boot.
    pub writer_start: u64,
    /// Process id of the last writer.
    pub writer_pid: u32,
    /// First index of `kmesh_names` that was never used.
    pub names_end: u32,
    /// First index of `kmesh_backend` that was never used.
    pub backends_end: u32,
    /// First index of `kmesh_endpoint` that was never used.
    pub endpoints_end: u32,
    /// First index of `kmesh_service` that was never used.
    pub services_end: u32,
    /// Device number of the BPF file system that the root lies on.
    pub instance: u32,
    /// When the tables were last written: seconds since 1970, UTC; 0 is never.
    pub written: u64,
    /// By [`super::Hook`].
    pub hooks: [HookRecord; 8],
}

const _: () = {
    assert!(size_of::<FrontendKey>() == 20);
    assert!(size_of::<ServiceRecord>() == 32);
    assert!(size_of::<BackendRecord>() == 64);
    assert!(size_of::<NameChunk>() == NAME_CHUNK);
    assert!(size_of::<DstRecord>() == 32);
    assert!(size_of::<MetaRecord>() == 192);
    assert!(size_of::<word::EndpointWord>() == 8);
};
