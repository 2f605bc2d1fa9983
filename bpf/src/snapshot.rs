//! Snapshots: what the tables say, by name, as a file.
//!
//! One schema for dump, restore, verify and the state directory; JSON and YAML. The order is
//! fixed, so that two snapshots of the same state are the same bytes (give no time then). It
//! refuses unknown fields, a newer schema and a wrong checksum.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::check::Invalid;
use crate::tables::Have;
use crate::want::{Change, Endpoint, Family, Kind, Mode, Name, Settings, WaypointRef};

/// The schema that this build writes, and the newest that it reads.
pub const SCHEMA_VERSION: u32 = 1;

/// Where and when a snapshot was taken; what is empty or `None` is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// The node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The kernel's release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// `/proc/sys/kernel/random/boot_id`: cookies mean nothing under another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Of `kmesh_meta`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// False when a writer was at work at every try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent: Option<bool>,
}

/// A service or waypoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceEntry {
    /// `namespace/hostname`; of a waypoint named by address: `network/ip`.
    pub name: Name,
    /// Service port.
    pub port: u16,
    /// The family of the VIPs.
    pub family: Family,
    /// Service or waypoint.
    pub kind: Kind,
    /// Sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadEntry {
    /// Its uid.
    pub uid: Name,
    /// The IPv4 address that it is dialled at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address that it is dialled at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Ipv6Addr>,
    /// Every address that identifies it; sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Where connections to these addresses go first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waypoint: Option<WaypointRef>,
    /// `trust-domain/ns/NAMESPACE/sa/ACCOUNT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Name>,
    /// It is itself a waypoint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_waypoint: bool,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Name>,
    /// The path of its network namespace, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// How it is governed.
    pub mode: PodMode,
}

/// What the tables say, or shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where and when.
    pub about: About,
    /// What the programs are told.
    pub settings: Settings,
    /// Sorted by name, port, family, kind.
    pub services: Vec<ServiceEntry>,
    /// Sorted by uid.
    pub workloads: Vec<WorkloadEntry>,
    /// Sorted by cookie; `None` where pods are not told.
    pub pods: Option<Vec<PodEntry>>,
}

/// Why a snapshot was refused.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is not JSON or YAML of this schema.
    #[error("{origin}: {reason}")]
    Syntax {
        /// The file.
        origin: String,
        /// What, with line and column.
        reason: String,
    },
    /// A newer Kmesh wrote it.
    #[error(
        "{origin}: schema version {found} is newer than {SCHEMA_VERSION}, the newest that this \
         build reads; use the Kmesh that wrote it"
    )]
    Newer {
        /// The file.
        origin: String,
        /// Its version.
        found: u64,
    },
    /// Its content is not what its checksum says.
    #[error(
        "{origin}: the checksum does not match the content: the file is damaged, or was edited \
         by hand; to accept it as it is, remove the line `checksum`"
    )]
    Checksum {
        /// The file.
        origin: String,
    },
    /// It contradicts itself.
    #[error("{origin} contradicts itself")]
    Invalid {
        /// The file.
        origin: String,
        /// How.
        #[source]
        source: Invalid,
    },
}

impl Snapshot {
    /// What the tables say.
    #[must_use]
    pub fn of(_have: &Have, _about: About, _pods: Option<Vec<PodEntry>>) -> Self {
        todo!()
    }

    /// What a complete change says.
    #[must_use]
    pub fn of_change(_change: &Change, _about: About) -> Self {
        todo!()
    }

    /// The complete change that makes the tables say this.
    #[must_use]
    pub fn into_change(self) -> Change {
        todo!()
    }

    /// Writes it as indented JSON, with its checksum and a final newline.
    pub fn write_json(&self, _out: &mut dyn Write) -> io::Result<()> {
        todo!()
    }

    /// Writes it as YAML, with its checksum.
    pub fn write_yaml(&self, _out: &mut dyn Write) -> io::Result<()> {
        todo!()
    }

    /// Reads JSON or YAML; `origin` names the file in errors.
    pub fn parse(_text: &[u8], _origin: &str) -> Result<Self, SnapshotError> {
        todo!()
    }
}
