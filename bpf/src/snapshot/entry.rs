//! The entries of a snapshot, one kind for each list of the file, and how they become a change.
//!
//! It refuses unknown fields; what the fields mean together is for `check::validate`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::words;
use crate::want::{Endpoint, Family, Kind, Mode, Name, Service, ServiceKey, WaypointRef, Workload};

/// A service or waypoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceEntry {
    /// `namespace/hostname`; of a waypoint named by address: `network/ip`.
    #[serde(deserialize_with = "words::name")]
    pub name: Name,
    /// Service port.
    pub port: u16,
    /// The family of the VIPs.
    pub family: Family,
    /// Service or waypoint.
    pub kind: Kind,
    /// Sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "words::addresses")]
    pub vips: Vec<IpAddr>,
    /// The locality mode.
    #[serde(default)]
    pub mode: Mode,
    /// Having no endpoint means refuse.
    pub synced: bool,
    /// Where its connections go first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waypoint: Option<WaypointRef>,
    /// Sorted.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

impl ServiceEntry {
    /// What it is found by.
    #[must_use]
    pub fn key(&self) -> ServiceKey {
        let Self { name, port, family, kind, .. } = self;
        ServiceKey { name: name.clone(), port: *port, family: *family, kind: *kind }
    }

    /// Puts its lists in order.
    pub(crate) fn sort(&mut self) {
        self.vips.sort_unstable();
        self.endpoints.sort_unstable();
    }
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadEntry {
    /// Its uid.
    #[serde(deserialize_with = "words::name")]
    pub uid: Name,
    /// The IPv4 address that it is dialled at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address that it is dialled at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Ipv6Addr>,
    /// Every address that identifies it; sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "words::addresses")]
    pub addresses: Vec<IpAddr>,
    /// Where connections to these addresses go first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waypoint: Option<WaypointRef>,
    /// `trust-domain/ns/NAMESPACE/sa/ACCOUNT`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "words::optional_name"
    )]
    pub identity: Option<Name>,
    /// It is itself a waypoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_waypoint: bool,
    /// The authorization policies that name it; sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "words::names")]
    pub policies: Vec<Name>,
}

impl WorkloadEntry {
    /// Puts its lists in order.
    pub(crate) fn sort(&mut self) {
        self.addresses.sort_unstable();
        self.policies.sort_unstable();
    }
}

/// How a pod is governed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodMode {
    /// Steered.
    Managed,
    /// Passed as if Kmesh were not there.
    Bypass,
}

/// A pod of this node. Never restored under another boot id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodEntry {
    /// Its netns cookie.
    pub cookie: u64,
    /// The workload's uid, if known.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "words::optional_name"
    )]
    pub uid: Option<Name>,
    /// The path of its network namespace, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// How it is governed.
    pub mode: PodMode,
    /// The authorization policies of its policy set, by name: what is in force for it. For the
    /// reader; a restore works it out anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "words::names")]
    pub policies: Vec<Name>,
    /// It lets nobody in until its policies are in the tables. For the reader, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
}

/// What services are sorted by.
pub(crate) fn service_order(entry: &ServiceEntry) -> (&Name, u16, Family, Kind) {
    (&entry.name, entry.port, entry.family, entry.kind)
}

pub(crate) fn service_entry(key: ServiceKey, service: Service) -> ServiceEntry {
    let ServiceKey { name, port, family, kind } = key;
    let Service { vips, mode, synced, waypoint, endpoints } = service;
    ServiceEntry { name, port, family, kind, vips, mode, synced, waypoint, endpoints }
}

pub(super) fn from_service_entry(entry: ServiceEntry) -> (ServiceKey, Option<Service>) {
    let ServiceEntry { name, port, family, kind, vips, mode, synced, waypoint, endpoints } = entry;
    let key = ServiceKey { name, port, family, kind };
    (key, Some(Service { vips, mode, synced, waypoint, endpoints }))
}

/// A waypoint matters only to those who dial the workload's addresses.
pub(crate) fn workload_entry(uid: Name, workload: Workload) -> WorkloadEntry {
    let Workload { v4, v6, addresses, waypoint, identity, is_waypoint, policies } = workload;
    let waypoint = waypoint.filter(|_| !addresses.is_empty());
    WorkloadEntry { uid, v4, v6, addresses, waypoint, identity, is_waypoint, policies }
}

pub(super) fn from_workload_entry(entry: WorkloadEntry) -> (Name, Option<Workload>) {
    let WorkloadEntry { uid, v4, v6, addresses, waypoint, identity, is_waypoint, policies } = entry;
    (uid, Some(Workload { v4, v6, addresses, waypoint, identity, is_waypoint, policies }))
}
