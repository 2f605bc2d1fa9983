//! The mesh file's format, field by field: ztunnel's local configuration, with `netns` and
//! `bypass` on workloads. Unknown fields are refused by the decoder itself, with line and column.
//!
//! What is read here is only well-formed; `build` says whether it makes sense. A policy's format is
//! [`kmesh_bpf::authz::Document`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::model::{PortPair, Scope};

/// A text, borrowed from the file where it has no escapes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Words)
    }
}

/// A field that is checked for its form and not kept: no table depends on it.
#[derive(Debug)]
pub(super) struct Unkept<T>(PhantomData<T>);

impl<T> Default for Unkept<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unkept<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::deserialize(from).map(|_| Self::default())
    }
}

/// A map from service port to target port, as the file orders it.
#[derive(Debug, Default)]
pub(super) struct Ports(pub(super) Vec<PortPair>);

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Ports;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map from service port to target port")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ports, A::Error> {
                let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some(pair) = map.next_entry::<u16, u16>()? {
                    pairs.push(pair);
                }
                Ok(Ports(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

/// The services of a workload, as the file orders them.
#[derive(Debug, Default)]
pub(super) struct Memberships<'a>(pub(super) Vec<(Text<'a>, Ports)>);

impl<'de: 'a, 'a> Deserialize<'de> for Memberships<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Services;
        impl<'de> Visitor<'de> for Services {
            type Value = Memberships<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map from \"namespace/hostname\" to ports")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut services = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    services.push(entry);
                }
                Ok(Memberships(services))
            }
        }
        from.deserialize_map(Services)
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) enum NetworkMode {
    #[default]
    Standard,
    HostNetwork,
}

#[derive(Debug, Default, Deserialize)]
pub(super) enum Status {
    #[default]
    Healthy,
    Unhealthy,
}

#[derive(Debug, Deserialize)]
pub(super) enum Protocol {
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "HBONE")]
    Hbone,
    LegacyIstioMtls,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Locality<'a> {
    #[serde(borrow)]
    pub(super) region: Text<'a>,
    #[serde(borrow)]
    pub(super) zone: Text<'a>,
    #[serde(borrow)]
    pub(super) subzone: Text<'a>,
}

/// A waypoint. Its HBONE port is ztunnel's; Kmesh's listener is an option of the daemon.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Gateway<'a> {
    #[serde(borrow)]
    pub(super) destination: Text<'a>,
    #[serde(default, rename = "hboneMtlsPort")]
    _hbone_mtls_port: Unkept<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ApplicationTunnel {
    #[serde(rename = "protocol")]
    _protocol: Unkept<String>,
    #[serde(default, rename = "port")]
    _port: Unkept<Option<u16>>,
}

#[expect(clippy::struct_field_names, reason = "the format's own names")]
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Workload<'a> {
    #[serde(borrow, default)]
    pub(super) workload_ips: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) uid: Text<'a>,
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
    #[serde(borrow, default)]
    pub(super) namespace: Text<'a>,
    #[serde(borrow, default)]
    pub(super) service_account: Text<'a>,
    #[serde(borrow, default)]
    pub(super) trust_domain: Text<'a>,
    #[serde(borrow, default)]
    pub(super) network: Text<'a>,
    #[serde(borrow, default)]
    pub(super) node: Text<'a>,
    #[serde(default)]
    pub(super) network_mode: NetworkMode,
    #[serde(default)]
    pub(super) status: Status,
    #[serde(borrow, default)]
    pub(super) cluster_id: Text<'a>,
    #[serde(borrow, default)]
    pub(super) locality: Locality<'a>,
    #[serde(borrow, default)]
    pub(super) waypoint: Option<Gateway<'a>>,
    #[serde(borrow, default)]
    pub(super) authorization_policies: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) services: Memberships<'a>,
    #[serde(borrow, default)]
    pub(super) netns: Option<Text<'a>>,
    #[serde(default)]
    pub(super) bypass: bool,
    #[serde(borrow, default)]
    pub(super) hostname: Text<'a>,
    #[serde(default, rename = "protocol")]
    _protocol: Unkept<Protocol>,
    #[serde(borrow, default, rename = "workloadName")]
    _workload_name: Unkept<Text<'a>>,
    #[serde(borrow, default, rename = "workloadType")]
    _workload_type: Unkept<Text<'a>>,
    #[serde(borrow, default, rename = "canonicalName")]
    _canonical_name: Unkept<Text<'a>>,
    #[serde(borrow, default, rename = "canonicalRevision")]
    _canonical_revision: Unkept<Text<'a>>,
    #[serde(default, rename = "nativeTunnel")]
    _native_tunnel: Unkept<bool>,
    #[serde(borrow, default, rename = "networkGateway")]
    _network_gateway: Unkept<Option<Gateway<'a>>>,
    #[serde(default, rename = "applicationTunnel")]
    _application_tunnel: Unkept<Option<ApplicationTunnel>>,
    #[serde(default, rename = "capacity")]
    _capacity: Unkept<u32>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) enum LoadBalancerMode {
    #[default]
    Standard,
    Strict,
    Failover,
    Passthrough,
}

#[derive(Debug, Default, Deserialize)]
pub(super) enum HealthPolicy {
    #[default]
    OnlyHealthy,
    AllowAll,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct LoadBalancer {
    pub(super) routing_preferences: Vec<Scope>,
    pub(super) mode: LoadBalancerMode,
    pub(super) health_policy: HealthPolicy,
}

#[derive(Debug, Deserialize)]
pub(super) enum IpFamilies {
    Dual,
    IPv4,
    IPv6,
}

#[derive(Debug, Deserialize)]
pub(super) enum Visibility {
    Public,
    Namespace,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Service<'a> {
    #[serde(borrow, default)]
    pub(super) name: Text<'a>,
    #[serde(borrow, default)]
    pub(super) namespace: Text<'a>,
    #[serde(borrow)]
    pub(super) hostname: Text<'a>,
    #[serde(borrow, default)]
    pub(super) vips: Vec<Text<'a>>,
    #[serde(default)]
    pub(super) ports: Ports,
    #[serde(borrow, default)]
    pub(super) waypoint: Option<Gateway<'a>>,
    #[serde(default)]
    pub(super) load_balancer: Option<LoadBalancer>,
    #[serde(borrow, default, rename = "subjectAltNames")]
    _subject_alt_names: Unkept<Vec<Text<'a>>>,
    #[serde(default, rename = "ipFamilies")]
    _ip_families: Unkept<Option<IpFamilies>>,
    #[serde(default, rename = "canonical")]
    _canonical: Unkept<bool>,
    #[serde(default, rename = "visibility")]
    _visibility: Unkept<Option<Visibility>>,
}

/// Visits the items of a list one by one, so that the whole list is never in memory.
pub(super) struct Each<T, F>(pub(super) F, pub(super) PhantomData<T>);

impl<'de, T: Deserialize<'de>, F: FnMut(T)> serde::de::DeserializeSeed<'de> for Each<T, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T)> Visitor<'de> for Each<T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element()? {
            (self.0)(item);
        }
        Ok(())
    }
}
