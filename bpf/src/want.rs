//! What the tables shall say, by name: the words in which every source, snapshot and
//! view speaks. Indices, slots and chunks do not occur here: `plan` gives them.
//!
//! It refuses nothing itself: `check::validate` does, before any plan.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::authz::Policy;

/// A name: `namespace/hostname`, a workload's uid, an identity. Shared, never copied.
pub type Name = Arc<str>;

/// Whether a text holds no control character: one that does can be no name.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    // No early end: so that many bytes are looked at at once.
    let ascii = text.bytes().fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte));
    ascii || !text.contains(char::is_control)
}

/// The family of a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// What a service record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A service that clients dial by its VIPs.
    Service,
    /// A waypoint: the group of workloads that connections are redirected to. It has no VIPs
    /// here; services and workloads name it.
    Waypoint,
}

/// What identifies a service record: one per service, port and family.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// `namespace/hostname`; of a waypoint named by address: `network/ip`.
    pub name: Name,
    /// Service port (of a waypoint: the port that its endpoints are dialled at), host order.
    pub port: u16,
    /// The family of the VIPs (of a waypoint: of the clients' destination).
    pub family: Family,
    /// Service or waypoint.
    pub kind: Kind,
}

impl fmt::Display for ServiceKey {
    /// As messages name it: "service default/web port 80 (IPv4)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_key(f, self.kind, &self.name, self.port, self.family)
    }
}

/// A service record as messages name it.
pub(crate) fn describe_key(
    f: &mut fmt::Formatter<'_>,
    kind: Kind,
    name: &str,
    port: u16,
    family: Family,
) -> fmt::Result {
    let kind = match kind {
        Kind::Service => "service",
        Kind::Waypoint => "waypoint",
    };
    write!(f, "{kind} {name} port {port} ({family})")
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Where a service's locality mode leaves the choice (resolved in user space, but for
/// [`Mode::Passthrough`]).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Any endpoint.
    #[default]
    Standard,
    /// Only endpoints that match every scope.
    Strict,
    /// The endpoints of the best rank.
    Failover,
    /// The destination is left as it is.
    Passthrough,
}

/// A waypoint that a service or workload names: the [`Kind::Waypoint`] record of this name and
/// port, of the family of the client's destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaypointRef {
    /// `namespace/hostname` or `network/ip`.
    #[serde(deserialize_with = "crate::snapshot::words::name")]
    pub name: Name,
    /// Port, host order.
    pub port: u16,
}

/// One endpoint in use.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The workload's uid.
    #[serde(deserialize_with = "crate::snapshot::words::name")]
    pub workload: Name,
    /// Target port, host order.
    pub port: u16,
    /// Which of its addresses is dialled.
    pub family: Family,
}

/// What a service record says. `vips` and `endpoints` are sets: order means nothing,
/// repetition is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Addresses of the key's family; none for a waypoint.
    pub vips: Vec<IpAddr>,
    /// The locality mode.
    pub mode: Mode,
    /// A complete answer of every source stands behind it: no endpoints means refuse.
    pub synced: bool,
    /// Where its connections go first, if anywhere.
    pub waypoint: Option<WaypointRef>,
    /// The endpoints that this node uses now.
    pub endpoints: Vec<Endpoint>,
}

/// What a backend record says, and the addresses that lead to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// The IPv4 address that it is dialled at.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address that it is dialled at.
    pub v6: Option<Ipv6Addr>,
    /// Every address that identifies it (none for a host-network workload, whose addresses are
    /// the node's).
    pub addresses: Vec<IpAddr>,
    /// Where connections to these addresses go first.
    pub waypoint: Option<WaypointRef>,
    /// `trust-domain/ns/NAMESPACE/sa/ACCOUNT`.
    pub identity: Option<Name>,
    /// It is itself a waypoint: its connections meet none.
    pub is_waypoint: bool,
    /// The authorization policies that name it (`namespace/name`): of those whose scope is a
    /// selector, only these apply to it. A set: sorted, each once.
    pub policies: Vec<Name>,
}

/// The metadata format of waypoint connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetadataFormat {
    /// The Kmesh TLV: 16 bytes for IPv4, 28 for IPv6.
    #[default]
    Tlv,
    /// PROXY protocol version 2.
    ProxyV2,
}

/// What the programs are told at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// How the original destination is told to a waypoint.
    pub metadata: MetadataFormat,
    /// getpeername answers the address dialled (costs socket storage for each connection).
    pub peername: bool,
    /// Ports that no waypoint sees (server-speaks-first protocols); at most 16, sorted.
    pub exempt_ports: Vec<u16>,
}

/// A change to what the tables shall say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Services and waypoints: new content, or `None` to remove.
    pub services: Vec<(ServiceKey, Option<Service>)>,
    /// Workloads by uid: new content, or `None` to remove.
    pub workloads: Vec<(Name, Option<Workload>)>,
    /// Authorization policies by `namespace/name`: new content, or `None` to remove.
    pub policies: Vec<(Name, Option<Arc<Policy>>)>,
    /// Workloads that are about to be enrolled here: the policy set of each shall be in the
    /// tables before its pod's word names it.
    pub pods: Vec<Name>,
    /// New settings, if they shall change.
    pub settings: Option<Settings>,
    /// `services` is everything: what it does not name is removed.
    pub all_services: bool,
    /// `workloads` is everything: what it does not name is removed.
    pub all_workloads: bool,
    /// `policies` is everything: what it does not name is removed.
    pub all_policies: bool,
}
