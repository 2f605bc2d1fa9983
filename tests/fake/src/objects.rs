//! Objects as tests write them, short, and as they go over the wire.

use std::collections::BTreeMap;
use std::net::IpAddr;

use prost::Message as _;
use serde::Deserialize;

use crate::proto::{security, workload as wire};

/// A type of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Type {
    /// Workloads and services.
    Address,
    /// Policies.
    Authorization,
}

impl Type {
    /// As the wire names it.
    #[must_use]
    pub fn url(self) -> &'static str {
        match self {
            Self::Address => "type.googleapis.com/istio.workload.Address",
            Self::Authorization => "type.googleapis.com/istio.security.Authorization",
        }
    }

    /// The type of this name on the wire.
    #[must_use]
    pub fn of(url: &str) -> Option<Self> {
        [Self::Address, Self::Authorization].into_iter().find(|of| of.url() == url)
    }
}

/// A workload.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workload {
    /// Its key.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its service account.
    pub account: String,
    /// Its node.
    pub node: String,
    /// It must not be sent connections.
    pub unhealthy: bool,
    /// What it serves: ports by service.
    pub services: BTreeMap<String, BTreeMap<u16, u16>>,
    /// `namespace/hostname`
    pub waypoint: String,
    /// The name that stands for its addresses.
    pub hostname: String,
    /// The policies that name it.
    pub policies: Vec<String>,
}

/// A service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its hostname.
    pub hostname: String,
    /// Its addresses in the local network.
    pub vips: Vec<IpAddr>,
    /// Target port by service port.
    pub ports: BTreeMap<u16, u16>,
    /// `namespace/hostname`
    pub waypoint: String,
}

/// A policy of one match; without any condition one that matches nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its action is DENY.
    pub deny: bool,
    /// Its scope is the workloads that name it, not all.
    pub selector: bool,
    /// Principals, whole.
    pub principals: Vec<String>,
    /// Destination ports.
    pub ports: Vec<u32>,
}

fn bytes_of(ip: IpAddr) -> bytes::Bytes {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec().into(),
        IpAddr::V6(ip) => ip.octets().to_vec().into(),
    }
}

fn ports(pairs: &BTreeMap<u16, u16>) -> Vec<wire::Port> {
    let port = |(service, target): (&u16, &u16)| wire::Port {
        service_port: (*service).into(),
        target_port: (*target).into(),
    };
    pairs.iter().map(port).collect()
}

fn waypoint(name: &str) -> Option<wire::GatewayAddress> {
    let (namespace, hostname) = name.split_once('/')?;
    let name =
        wire::NamespacedHostname { namespace: namespace.to_owned(), hostname: hostname.to_owned() };
    let destination = Some(wire::gateway_address::Destination::Hostname(name));
    Some(wire::GatewayAddress { destination })
}

impl Workload {
    /// Its name and its bytes.
    #[must_use]
    pub fn encode(&self) -> (String, Vec<u8>) {
        let services = self.services.iter();
        let workload = wire::Workload {
            uid: self.uid.clone(),
            namespace: self.namespace.clone(),
            addresses: self.ips.iter().map(|ip| bytes_of(*ip)).collect(),
            service_account: self.account.clone(),
            node: self.node.clone(),
            status: i32::from(self.unhealthy),
            hostname: self.hostname.clone(),
            authorization_policies: self.policies.clone(),
            waypoint: waypoint(&self.waypoint),
            services: services
                .map(|(name, pairs)| (name.clone(), wire::PortList { ports: ports(pairs) }))
                .collect(),
            ..wire::Workload::default()
        };
        let r#type = Some(wire::address::Type::Workload(workload));
        (self.uid.clone(), wire::Address { r#type }.encode_to_vec())
    }
}

impl Service {
    /// Its name and its bytes.
    #[must_use]
    pub fn encode(&self) -> (String, Vec<u8>) {
        let vip = |ip: &IpAddr| wire::NetworkAddress {
            address: bytes_of(*ip),
            ..wire::NetworkAddress::default()
        };
        let service = wire::Service {
            namespace: self.namespace.clone(),
            hostname: self.hostname.clone(),
            addresses: self.vips.iter().map(vip).collect(),
            ports: ports(&self.ports),
            waypoint: waypoint(&self.waypoint),
            ..wire::Service::default()
        };
        let r#type = Some(wire::address::Type::Service(service));
        let name = format!("{}/{}", self.namespace, self.hostname);
        (name, wire::Address { r#type }.encode_to_vec())
    }
}

impl Policy {
    /// Its name and its bytes.
    #[must_use]
    pub fn encode(&self) -> (String, Vec<u8>) {
        let exact = |text: &String| security::StringMatch {
            match_type: Some(security::string_match::MatchType::Exact(text.clone())),
        };
        let one = security::Match {
            principals: self.principals.iter().map(exact).collect(),
            destination_ports: self.ports.clone(),
            ..security::Match::default()
        };
        let rules = vec![security::Rules { matches: vec![one] }];
        let policy = security::Authorization {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            scope: if self.selector { 2 } else { 0 },
            action: i32::from(self.deny),
            groups: vec![security::Group { rules }],
            ..security::Authorization::default()
        };
        (format!("{}/{}", self.namespace, self.name), policy.encode_to_vec())
    }
}
