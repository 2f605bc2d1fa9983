//! The catalogue: which maps, hooks and counters there are, and their shapes.

use super::auth::{AuthChunk, AuthSetRecord, PolicyRecord};
use super::live::{ConnectionKey, LiveRecord, RevokedRecord};
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
    /// Authorization policies, as text.
    Policy,
    /// Policy sets.
    AuthSet,
    /// Ranges, identities and rows of policy sets.
    AuthWord,
    /// What rows lead to, 512 bits each.
    AuthBits,
    /// Connections that the host itself opened.
    HostDialled,
    /// The ring of denials.
    Denials,
    /// Live inbound connections.
    Tuple,
    /// Live connections that the policies deny by now.
    Auth,
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
    /// `BPF_MAP_TYPE_LRU_HASH`
    LruHash,
    /// `BPF_MAP_TYPE_RINGBUF`
    RingBuf,
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
            Self::LruHash => 9,
            Self::RingBuf => 27,
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
    pub const ALL: [Self; 19] = [
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
        Self::Policy,
        Self::AuthBits,
        Self::AuthWord,
        Self::AuthSet,
        Self::HostDialled,
        Self::Denials,
        Self::Tuple,
        Self::Auth,
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
            Self::Policy => "kmesh_policy",
            Self::AuthSet => "kmesh_auth_set",
            Self::AuthWord => "kmesh_auth_word",
            Self::AuthBits => "kmesh_auth_bits",
            Self::HostDialled => "host_dialled",
            Self::Denials => "kmesh_denials",
            Self::Tuple => "map_of_tuple",
            Self::Auth => "map_of_auth",
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
            Self::Endpoint | Self::AuthWord => of(MapKind::Array, 4, 8, MMAPABLE),
            Self::Settings => of(MapKind::Array, 4, 8, 0),
            Self::Backend => of(MapKind::Array, 4, size_of::<BackendRecord>(), MMAPABLE),
            Self::Names => of(MapKind::Array, 4, size_of::<NameChunk>(), MMAPABLE),
            Self::Manager => of(MapKind::Hash, 8, 8, 0),
            Self::DstInfo => of(MapKind::SkStorage, 4, size_of::<DstRecord>(), NO_PREALLOC),
            Self::Socket => of(MapKind::SockHash, 8, 4, 0),
            Self::Meta => of(MapKind::Array, 4, size_of::<MetaRecord>(), 0),
            Self::Stats => of(MapKind::PerCpuArray, 4, 8, 0),
            Self::Policy => of(MapKind::Array, 4, size_of::<PolicyRecord>(), MMAPABLE),
            Self::AuthSet => of(MapKind::Array, 4, size_of::<AuthSetRecord>(), 0),
            Self::AuthBits => of(MapKind::Array, 4, size_of::<AuthChunk>(), MMAPABLE),
            Self::HostDialled => of(MapKind::LruHash, size_of::<ConnectionKey>(), 8, 0),
            Self::Denials => of(MapKind::RingBuf, 0, 0, 0),
            Self::Tuple => {
                of(MapKind::Hash, size_of::<ConnectionKey>(), size_of::<LiveRecord>(), NO_PREALLOC)
            }
            Self::Auth => of(
                MapKind::Hash,
                size_of::<ConnectionKey>(),
                size_of::<RevokedRecord>(),
                NO_PREALLOC,
            ),
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
            Self::Policy => Some("--max-policies"),
            Self::AuthSet => Some("--max-policy-sets"),
            Self::AuthWord => Some("--max-policy-words"),
            Self::AuthBits => Some("--max-policy-chunks"),
            Self::Tuple | Self::Auth => Some("--max-connections"),
            Self::DstInfo
            | Self::Meta
            | Self::Settings
            | Self::Stats
            | Self::HostDialled
            | Self::Denials => None,
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
    /// `kmesh_policy`: authorization policies, and versions of them that a set still stands for.
    pub policies: u32,
    /// `kmesh_auth_set`: distinct lists of policies that apply to pods of this node.
    pub policy_sets: u32,
    /// `kmesh_auth_word`: what all sets hold in words of 8 bytes.
    pub policy_words: u32,
    /// `kmesh_auth_bits`: what all sets hold in chunks of 64 bytes.
    pub policy_chunks: u32,
    /// `map_of_tuple` and `map_of_auth`: live inbound connections of pods with policies.
    pub connections: u32,
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
            policies: 4_096,
            policy_sets: 512,
            policy_words: 131_072,
            policy_chunks: 8_192,
            connections: 16_384,
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
            Map::Policy => self.policies,
            Map::AuthSet => self.policy_sets,
            Map::AuthWord => self.policy_words,
            Map::AuthBits => self.policy_chunks,
            Map::Tuple | Map::Auth => self.connections,
            Map::HostDialled => 8_192,
            // bytes
            Map::Denials => 65_536,
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
    /// Authorization; a copy in the network namespace of each pod.
    SkLookup,
    /// Resets what policies deny by now; a copy at the interfaces of a pod, while there is any.
    Xdp,
}

impl Hook {
    /// Every hook of the node, in the order of the first attach.
    pub const ALL: [Self; 6] = [
        Self::SkMsg,
        Self::SockOps,
        Self::Connect4,
        Self::Connect6,
        Self::GetPeerName4,
        Self::GetPeerName6,
    ];

    /// Every hook, those of pods too.
    pub const EVERY: [Self; 8] = [
        Self::SkMsg,
        Self::SockOps,
        Self::Connect4,
        Self::Connect6,
        Self::GetPeerName4,
        Self::GetPeerName6,
        Self::SkLookup,
        Self::Xdp,
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
            Self::SkLookup => "sk_lookup",
            Self::Xdp => "xdp",
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
            Self::SkLookup => 36,
            Self::Xdp => 37,
        }
    }

    /// Whether it is attached to the cgroup (else to `map_of_kmesh_socket`, or to pods).
    #[must_use]
    pub fn on_cgroup(self) -> bool {
        !matches!(self, Self::SkMsg | Self::SkLookup | Self::Xdp)
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
pub const COUNTERS: [Counter; 30] = [
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
    Counter { index: 19, name: "auth_allowed", help: "inbound connections that policies allow" },
    Counter { index: 20, name: "auth_denied", help: "inbound connections that policies deny" },
    Counter { index: 21, name: "auth_none", help: "inbound connections that no policy is about" },
    Counter { index: 22, name: "auth_local", help: "inbound connections of the pod to itself" },
    Counter {
        index: 23,
        name: "auth_host",
        help: "inbound connections that the host opened: passed although policies deny them",
    },
    Counter {
        index: 24,
        name: "auth_wait",
        help: "denied: the pod is not known yet, and its namespace has policies for some pods",
    },
    Counter {
        index: 25,
        name: "auth_unclassified",
        help: "denied: the source's identity is not in the policy set",
    },
    Counter { index: 26, name: "auth_stale", help: "denied: tables changed under every retry" },
    Counter {
        index: 27,
        name: "auth_dry_run",
        help: "inbound connections that dry-run policies would decide otherwise",
    },
    Counter { index: 28, name: "auth_lost", help: "denials that found no room in the ring" },
    Counter {
        index: 29,
        name: "live_full",
        help: "live connections that found no room in map_of_tuple",
    },
];
