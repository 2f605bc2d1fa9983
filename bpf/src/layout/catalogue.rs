//! The catalogue: which maps, hooks and counters there are, and their shapes.

use super::record::{BackendRecord, DstRecord, FrontendKey, MetaRecord, NameChunk, ServiceRecord};

/// A map of Kmesh; its name is its pin's name under `maps/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Map {
    /// VIP and port, or address → index.
    Frontend,
    /// One record per service, port and family.
    Service,
    /// Slots of services.
    Endpoint,
    /// Workloads.
    Backend,
    /// Names that records point to.
    Names,
    /// Pods by netns cookie.
    Manager,
    /// Original destinations, by socket.
    DstInfo,
    /// Sockets whose first send must carry metadata.
    Socket,
    /// Layout, generation, hooks.
    Meta,
    /// What programs are told at run time.
    Settings,
    /// Counters by outcome.
    Stats,
}

/// The kernel's map types that Kmesh uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`
    Hash,
    /// `BPF_MAP_TYPE_ARRAY`
    Array,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`
    PerCpuArray,
    /// `BPF_MAP_TYPE_SOCKHASH`
    SockHash,
    /// `BPF_MAP_TYPE_SK_STORAGE`
    SkStorage,
}

impl MapKind {
    /// The number in `enum bpf_map_type`.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Hash => 1,
            Self::Array => 2,
            Self::PerCpuArray => 6,
            Self::SockHash => 18,
            Self::SkStorage => 24,
        }
    }
}

/// What the kernel must say of a map for it to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// Its type.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// `BPF_F_…` flags at creation.
    pub flags: u32,
}

const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE` (Linux 5.5).
pub(crate) const MMAPABLE: u32 = 1 << 10;

impl Map {
    /// Every map, in the order in which they are created.
    pub const ALL: [Self; 11] = [
        Self::Meta,
        Self::Settings,
        Self::Stats,
        Self::Names,
        Self::Backend,
        Self::Endpoint,
        Self::Service,
        Self::Frontend,
        Self::Manager,
        Self::DstInfo,
        Self::Socket,
    ];

    /// The map's name in the programs and of its pin.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Frontend => "kmesh_frontend",
            Self::Service => "kmesh_service",
            Self::Endpoint => "kmesh_endpoint",
            Self::Backend => "kmesh_backend",
            Self::Names => "kmesh_names",
            Self::Manager => "map_of_manager",
            Self::DstInfo => "map_of_dst_info",
            Self::Socket => "map_of_kmesh_socket",
            Self::Meta => "kmesh_meta",
            Self::Settings => "kmesh_settings",
            Self::Stats => "kmesh_stats",
        }
    }

    /// The map of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|map| map.name() == name)
    }

    /// Its shape, for the check against what the kernel says.
    #[must_use]
    pub fn shape(self) -> MapShape {
        #[expect(clippy::cast_possible_truncation, reason = "a record is a few hundred bytes")]
        let of = |kind, key_size: usize, value_size: usize, flags| MapShape {
            kind,
            key_size: key_size as u32,
            value_size: value_size as u32,
            flags,
        };
        match self {
            Self::Frontend => of(MapKind::Hash, size_of::<FrontendKey>(), 8, NO_PREALLOC),
            Self::Service => of(MapKind::Array, 4, size_of::<ServiceRecord>(), MMAPABLE),
            Self::Endpoint => of(MapKind::Array, 4, 8, MMAPABLE),
            Self::Settings => of(MapKind::Array, 4, 8, 0),
            Self::Backend => of(MapKind::Array, 4, size_of::<BackendRecord>(), MMAPABLE),
            Self::Names => of(MapKind::Array, 4, size_of::<NameChunk>(), MMAPABLE),
            Self::Manager => of(MapKind::Hash, 8, 8, 0),
            Self::DstInfo => of(MapKind::SkStorage, 4, size_of::<DstRecord>(), NO_PREALLOC),
            Self::Socket => of(MapKind::SockHash, 8, 4, 0),
            Self::Meta => of(MapKind::Array, 4, size_of::<MetaRecord>(), 0),
            Self::Stats => of(MapKind::PerCpuArray, 4, 8, 0),
        }
    }

    /// The option of `kmeshd` that raises its limit, where there is one.
    #[must_use]
    pub fn limit_option(self) -> Option<&'static str> {
        match self {
            Self::Frontend => Some("--max-frontends"),
            Self::Service => Some("--max-services"),
            Self::Endpoint => Some("--max-endpoints"),
            Self::Backend => Some("--max-workloads"),
            Self::Names => Some("--max-names"),
            Self::Manager => Some("--max-pods"),
            Self::Socket => Some("--max-sockets"),
            Self::DstInfo | Self::Meta | Self::Settings | Self::Stats => None,
        }
    }
}

/// How many elements each map holds: chosen when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `kmesh_frontend`: VIP × port, and addresses.
    pub frontends: u32,
    /// `kmesh_service`: service × port × family.
    pub services: u32,
    /// `kmesh_endpoint`: slots, with slack.
    pub endpoints: u32,
    /// `kmesh_backend`: workloads.
    pub workloads: u32,
    /// `kmesh_names`: 64-byte chunks.
    pub names: u32,
    /// `map_of_manager`: managed pods of this node.
    pub pods: u32,
    /// `map_of_kmesh_socket`: waypoint connections that have not sent yet.
    pub sockets: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frontends: 131_072,
            services: 32_768,
            endpoints: 262_144,
            workloads: 65_536,
            names: 98_304,
            pods: 4_096,
            sockets: 16_384,
        }
    }
}

impl Limits {
    /// `max_entries` of `map`.
    #[must_use]
    pub fn of(&self, map: Map) -> u32 {
        match map {
            Map::Frontend => self.frontends,
            Map::Service => self.services,
            Map::Endpoint => self.endpoints,
            Map::Backend => self.workloads,
            Map::Names => self.names,
            Map::Manager => self.pods,
            Map::Socket => self.sockets,
            Map::DstInfo => 0,
            Map::Meta => 1,
            Map::Settings => 8,
            Map::Stats => 32,
        }
    }
}

/// A hook where one of the programs stands; the order is that of the first attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Metadata on the first send; attached to `map_of_kmesh_socket`.
    SkMsg,
    /// Waypoint sockets; cgroup.
    SockOps,
    /// Steering of IPv4 connections; cgroup.
    Connect4,
    /// Steering of IPv6 and v4-mapped connections; cgroup.
    Connect6,
    /// The address dialled, IPv4; cgroup; only with the setting.
    GetPeerName4,
    /// The address dialled, IPv6; cgroup; only with the setting.
    GetPeerName6,
}

impl Hook {
    /// Every hook, in the order of the first attach.
    pub const ALL: [Self; 6] = [
        Self::SkMsg,
        Self::SockOps,
        Self::Connect4,
        Self::Connect6,
        Self::GetPeerName4,
        Self::GetPeerName6,
    ];

    /// The hook's name: of its program's function, its pins, its file in `prog/`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SkMsg => "sk_msg",
            Self::SockOps => "sockops",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::GetPeerName4 => "getpeername4",
            Self::GetPeerName6 => "getpeername6",
        }
    }

    /// Its place in [`super::MetaRecord::hooks`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The number in `enum bpf_attach_type`.
    #[must_use]
    pub fn attach_type(self) -> u32 {
        match self {
            Self::SkMsg => 7,
            Self::SockOps => 3,
            Self::Connect4 => 10,
            Self::Connect6 => 11,
            Self::GetPeerName4 => 29,
            Self::GetPeerName6 => 30,
        }
    }

    /// Whether it is attached to the cgroup (else to `map_of_kmesh_socket`).
    #[must_use]
    pub fn on_cgroup(self) -> bool {
        self != Self::SkMsg
    }
}

/// A counter of `kmesh_stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Index in the map; `enum kmesh_counter`.
    pub index: u32,
    /// Name in metrics and views: the enumerator's, lower case.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
}

/// Every counter, by index. The one table that dump, status and metrics use.
pub const COUNTERS: [Counter; 19] = [
    Counter { index: 0, name: "steered", help: "connections sent to an endpoint of a service" },
    Counter { index: 1, name: "waypoint", help: "connections sent to a waypoint" },
    Counter {
        index: 2,
        name: "waypoint_self",
        help: "connections of a waypoint sent to an endpoint",
    },
    Counter { index: 3, name: "miss", help: "connections to no known service, passed" },
    Counter { index: 4, name: "bypass", help: "connections of bypassed pods, passed" },
    Counter { index: 5, name: "passthrough", help: "connections to PASSTHROUGH services, passed" },
    Counter {
        index: 6,
        name: "unsynced",
        help: "connections to services never fully synced, passed",
    },
    Counter {
        index: 7,
        name: "refused_empty",
        help: "refused: the service has no endpoint to use",
    },
    Counter { index: 8, name: "refused_family", help: "refused: IPv4 socket, IPv6-only target" },
    Counter { index: 9, name: "refused_waypoint", help: "refused: the waypoint has no endpoint" },
    Counter { index: 10, name: "refused_fastopen", help: "refused: TCP Fast Open to a waypoint" },
    Counter { index: 11, name: "refused_mptcp", help: "refused: MPTCP to a waypoint" },
    Counter { index: 12, name: "refused_stale", help: "refused: tables changed under every retry" },
    Counter {
        index: 13,
        name: "refused_storage",
        help: "refused: no room for the original destination",
    },
    Counter {
        index: 14,
        name: "retried",
        help: "look-ups repeated because an element was recycled",
    },
    Counter { index: 15, name: "metadata_sent", help: "first sends that carried the metadata" },
    Counter {
        index: 16,
        name: "metadata_failed",
        help: "first sends refused: no room for the metadata",
    },
    Counter {
        index: 17,
        name: "aborted_early_data",
        help: "cut: payload queued before the connection stood",
    },
    Counter {
        index: 18,
        name: "aborted_sockhash",
        help: "cut: map_of_kmesh_socket refused the socket",
    },
];
