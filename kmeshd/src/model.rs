//! The mesh as a source says it, in the least memory that the daemon needs to keep of it.
//!
//! Strings that pods share (identity, place, services, policies) are stored once, by
//! [`Interner`]; what only tools read (canonical names, types, capacity) is not stored at all.
//! Nothing here is checked: each source does that before it hands a [`Model`] on.

use hashbrown::HashSet;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use kmesh_bpf::authz::Policy;
pub use kmesh_bpf::want::{Mode, Name};
use serde::Deserialize;

/// The addresses of a workload: nearly always one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ips {
    /// One address.
    One(IpAddr),
    /// None, or several.
    Many(Box<[IpAddr]>),
    /// None yet: this name is to be resolved.
    Hostname(Name),
}

impl Ips {
    /// All of them, as the source ordered them.
    #[must_use]
    pub fn all(&self) -> &[IpAddr] {
        match self {
            Self::One(ip) => std::slice::from_ref(ip),
            Self::Many(ips) => ips,
            Self::Hostname(_) => &[],
        }
    }

    /// Whether a name stands for addresses that are not known.
    #[must_use]
    pub fn is_unresolved(&self) -> bool {
        matches!(self, Self::Hostname(_))
    }

    /// The first IPv4 address: the one that is dialled.
    #[must_use]
    pub fn v4(&self) -> Option<Ipv4Addr> {
        self.all().iter().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        })
    }

    /// The first IPv6 address: the one that is dialled.
    #[must_use]
    pub fn v6(&self) -> Option<Ipv6Addr> {
        self.all().iter().find_map(|ip| match ip {
            IpAddr::V6(ip) => Some(*ip),
            IpAddr::V4(_) => None,
        })
    }
}

impl From<Vec<IpAddr>> for Ips {
    fn from(ips: Vec<IpAddr>) -> Self {
        match ips.as_slice() {
            [ip] => Self::One(*ip),
            _ => Self::Many(ips.into()),
        }
    }
}

/// Where a workload runs. Shared by all workloads of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Network; empty is this node's.
    pub network: Name,
    /// Cluster; empty is this node's.
    pub cluster: Name,
    /// Node name.
    pub node: Name,
    /// Region.
    pub region: Name,
    /// Zone.
    pub zone: Name,
    /// Subzone.
    pub subzone: Name,
}

impl Default for Place {
    fn default() -> Self {
        let empty: Name = Arc::from("");
        Self {
            network: Arc::clone(&empty),
            cluster: Arc::clone(&empty),
            node: Arc::clone(&empty),
            region: Arc::clone(&empty),
            zone: Arc::clone(&empty),
            subzone: empty,
        }
    }
}

/// A pair of ports, host order: of the service, and of the endpoint (0: each workload says).
pub type PortPair = (u16, u16);

/// That a workload is an endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    /// `namespace/hostname`.
    pub service: Name,
    /// Target port by service port, sorted by the latter.
    pub ports: Box<[PortPair]>,
}

/// What a waypoint is named by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// The service `namespace/hostname`.
    Hostname(Name),
    /// An address in a network (empty: this node's).
    Address(Name, IpAddr),
}

impl Destination {
    /// Whether a text reads as `network/ip`.
    #[must_use]
    pub fn is_address(text: &str) -> bool {
        text.split_once('/').is_some_and(|(_, ip)| ip.parse::<IpAddr>().is_ok())
    }

    /// Reads `namespace/hostname` or `network/ip`; `None` if it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, second) = text.split_once('/')?;
        if let Ok(ip) = second.parse() {
            return Some(Self::Address(first.into(), ip));
        }
        let hostname = !first.is_empty() && !second.is_empty() && !second.contains('/');
        hostname.then(|| Self::Hostname(text.into()))
    }
}

/// What the pods of one deployment have in common. Shared by all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Traits {
    /// `trust-domain/ns/NAMESPACE/sa/ACCOUNT`.
    pub identity: Name,
    /// The waypoint of connections to the workloads' own addresses.
    pub waypoint: Option<Destination>,
    /// The services that they are endpoints of, sorted by name.
    pub services: Box<[Membership]>,
    /// The authorization policies that name them, `namespace/name`, sorted, each once.
    pub policies: Box<[Name]>,
}

/// A workload; its uid is its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its addresses.
    pub ips: Ips,
    /// Where it runs.
    pub place: Arc<Place>,
    /// What it shares with others.
    pub traits: Arc<Traits>,
    /// It may be sent connections.
    pub healthy: bool,
    /// Its addresses are the node's.
    pub host_network: bool,
}

/// How far an endpoint may be: one word of a routing preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub enum Scope {
    /// Same region.
    Region,
    /// Same zone.
    Zone,
    /// Same subzone.
    Subzone,
    /// Same node.
    Node,
    /// Same cluster.
    Cluster,
    /// Same network.
    Network,
}

/// Whose a VIP is where several services claim it: the first one's in this order, then by name. A
/// `ServiceEntry` may name any address, so it goes after what Kubernetes gave that address to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// A Service of Kubernetes.
    Kubernetes,
    /// The one of its hostname that goes before those in other namespaces.
    Canonical,
    /// Any other.
    #[default]
    Public,
    /// One that is for clients of its own namespace only.
    Private,
}

/// A service; `namespace/hostname` is its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Addresses, each in its network (empty: this node's).
    pub vips: Box<[(Name, IpAddr)]>,
    /// Target port by service port, sorted by the latter.
    pub ports: Box<[PortPair]>,
    /// The waypoint of connections to its VIPs.
    pub waypoint: Option<Destination>,
    /// The locality mode.
    pub mode: Mode,
    /// The scopes that the mode speaks of.
    pub preferences: Box<[Scope]>,
    /// Unhealthy workloads are sent connections, too.
    pub allow_unhealthy: bool,
    /// So many of its VIPs are not one host's (ranges, groups): they are left out.
    pub left_out: u16,
    /// Whether its VIPs are its own where others claim them, too.
    pub standing: Standing,
}

/// A pod of this node that the source enrols itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The workload's uid.
    pub uid: Name,
    /// Its network namespace: a name, a path, or `pid:N`.
    pub netns: String,
    /// Its connections pass as if Kmesh were not there.
    pub bypass: bool,
}

/// Everything that a source says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// Workloads by uid, each once.
    pub workloads: Vec<(Name, Workload)>,
    /// Services by `namespace/hostname`, each once.
    pub services: Vec<(Name, Service)>,
    /// Authorization policies by `namespace/name`, each once.
    pub policies: Vec<(Name, Arc<Policy>)>,
    /// The pods to enrol on this node.
    pub pods: Vec<Pod>,
}

/// What changed of what a source says, object by object: new content, or `None` where it is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// Workloads by uid.
    pub workloads: Vec<(Name, Option<Workload>)>,
    /// Services by `namespace/hostname`.
    pub services: Vec<(Name, Option<Service>)>,
    /// Authorization policies by `namespace/name`.
    pub policies: Vec<(Name, Option<Arc<Policy>>)>,
}

impl Update {
    /// How many objects it names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workloads.len() + self.services.len() + self.policies.len()
    }

    /// What changed after that.
    pub fn extend(&mut self, later: Self) {
        self.workloads.extend(later.workloads);
        self.services.extend(later.services);
        self.policies.extend(later.policies);
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Stores equal values once.
#[derive(Debug)]
pub struct Interner<T: ?Sized>(HashSet<Arc<T>>, usize);

impl<T: ?Sized> Default for Interner<T> {
    fn default() -> Self {
        Self(HashSet::new(), 0)
    }
}

impl<T: ?Sized + Eq + Hash> Interner<T> {
    /// Lets go of what nobody uses, if there is twice as much as after the last time.
    pub fn tidy(&mut self) {
        if self.0.len() > 2 * self.1.max(1000) {
            self.0.retain(|value| Arc::strong_count(value) > 1);
            self.1 = self.0.len();
        }
    }
}

impl Interner<str> {
    /// The one copy of `text`.
    pub fn text(&mut self, text: &str) -> Name {
        if let Some(name) = self.0.get(text) {
            return Arc::clone(name);
        }
        let name: Name = text.into();
        self.0.insert(Arc::clone(&name));
        name
    }

    /// These texts as a set: sorted, each once.
    pub fn set<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> Box<[Name]> {
        let mut names: Vec<Name> = texts.map(|text| self.text(text)).collect();
        names.sort_unstable();
        names.dedup();
        names.into()
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// The one copy of `value`.
    pub fn share(&mut self, value: T) -> Arc<T> {
        if let Some(shared) = self.0.get(&value) {
            return Arc::clone(shared);
        }
        let shared = Arc::new(value);
        self.0.insert(Arc::clone(&shared));
        shared
    }
}
