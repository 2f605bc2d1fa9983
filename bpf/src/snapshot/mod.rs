//! Snapshots: what the tables say, by name, as a file.
//!
//! One schema for dump, restore, verify and the state directory; JSON and YAML. The order is
//! fixed, so that two snapshots of the same state are the same bytes. What the tables say is
//! written entry by entry ([`Listing`]). It refuses unknown fields, a newer schema and a wrong
//! checksum. The fields are told one by one in docs/snapshot.md.

mod entry;
mod lines;
mod listing;
mod read;
mod schema;
mod taken;
pub(crate) mod words;
mod write;

use std::collections::HashSet;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

pub use entry::{PodEntry, PodMode, ServiceEntry, WorkloadEntry};
use entry::{from_service_entry, from_workload_entry};
pub(crate) use entry::{service_entry, service_order, workload_entry};
pub use listing::Listing;
pub use taken::pod_entries;
pub use write::{Each, Format, write_json, write_yaml};

use crate::authz::Policy;
use crate::check::Invalid;
use crate::tables::Have;
use crate::want::{Change, Name, Settings};

/// The schema that this build writes, and the newest that it reads.
pub const SCHEMA_VERSION: u32 = 2;

/// Where and when a snapshot was taken; what is empty or `None` is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The node's name.
    pub node: Option<String>,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// `/proc/sys/kernel/random/boot_id`: cookies mean nothing under another.
    pub boot_id: Option<String>,
    /// When the tables were last written: RFC 3339, UTC.
    pub time: Option<String>,
    /// Of `kmesh_meta`.
    pub generation: Option<u64>,
    /// False when the tables changed under every try.
    pub consistent: Option<bool>,
    /// True when a writer was in the middle of a transaction, or died there.
    pub unfinished: Option<bool>,
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
    /// Authorization policies, sorted by name; `None` where nothing is said of them, also not by
    /// the workloads: a restore keeps what is in force.
    pub policies: Option<Vec<Arc<Policy>>>,
    /// Sorted by cookie; `None` where pods are not told.
    pub pods: Option<Vec<PodEntry>>,
}

/// Why a snapshot was refused.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is not JSON or YAML of this schema, or of a newer one.
    #[error("{origin}: {reason}")]
    Syntax {
        /// The file.
        origin: String,
        /// What, with line and column.
        reason: String,
    },
    /// It could not be read at all.
    #[error("read {origin}")]
    Read {
        /// The file.
        origin: String,
        /// Why.
        source: io::Error,
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
    pub fn of(have: &Have, about: About, pods: Option<Vec<PodEntry>>) -> Self {
        let services = have.services().map(|(key, service)| service_entry(key, service));
        let workloads = have.workloads().map(|(uid, workload)| workload_entry(uid, workload));
        let (services, workloads) = (services.collect(), workloads.collect());
        let policies = Some(have.policies().cloned().collect());
        Self { about, settings: have.settings(), services, workloads, policies, pods }.sorted()
    }

    /// What a complete change says.
    #[must_use]
    pub fn of_change(change: &Change, about: About) -> Self {
        let services = change
            .services
            .iter()
            .filter_map(|(key, service)| Some(service_entry(key.clone(), service.clone()?)));
        let workloads = change
            .workloads
            .iter()
            .filter_map(|(uid, workload)| Some(workload_entry(uid.clone(), workload.clone()?)));
        let settings = change.settings.clone().unwrap_or_default();
        let (services, workloads) = (services.collect(), workloads.collect());
        let policies = change.policies.iter().filter_map(|(_, policy)| policy.clone());
        let policies = change.all_policies.then(|| policies.collect());
        Self { about, settings, services, workloads, policies, pods: None }.sorted()
    }

    /// The complete change that makes the tables say this; complete but for policies, where it
    /// says nothing of them.
    #[must_use]
    pub fn into_change(self) -> Change {
        let all_policies = self.policies.is_some();
        let policies = self.policies.unwrap_or_default().into_iter();
        Change {
            policies: policies.map(|policy| (policy.name.clone(), Some(policy))).collect(),
            all_policies,
            services: self.services.into_iter().map(from_service_entry).collect(),
            workloads: self.workloads.into_iter().map(from_workload_entry).collect(),
            settings: Some(self.settings),
            all_services: true,
            all_workloads: true,
            ..Change::default()
        }
    }

    /// The change that makes only the parts named in `only` say this; `have` tells what of
    /// them must go.
    #[must_use]
    pub fn into_partial(self, only: &[Only], have: &Have) -> Change {
        let service = |name: &Name| {
            only.iter().any(|part| matches!(part, Only::Service(wanted) if **wanted == **name))
        };
        let workload = |uid: &Name| {
            only.iter().any(|part| matches!(part, Only::Workload(wanted) if **wanted == **uid))
        };
        let all_services = only.contains(&Only::Services);
        let all_workloads = only.contains(&Only::Workloads);
        let all_policies = only.contains(&Only::Policies);
        let says_policies = self.policies.is_some();
        let policy = |name: &Name| {
            only.iter().any(|part| matches!(part, Only::Policy(wanted) if **wanted == **name))
        };
        let mut change = self.into_change();
        (change.all_services, change.all_workloads) = (all_services, all_workloads);
        change.all_policies &= all_policies;
        change.policies.retain(|(name, _)| all_policies || policy(name));
        change.services.retain(|(key, _)| all_services || service(&key.name));
        change.workloads.retain(|(uid, _)| all_workloads || workload(uid));
        change.settings = change.settings.filter(|_| only.contains(&Only::Settings));
        let kept: HashSet<_> = change.services.iter().map(|(key, _)| key.clone()).collect();
        let gone = have.services().map(|(key, _)| key);
        let gone = gone.filter(|key| service(&key.name) && !kept.contains(key));
        change.services.extend(gone.map(|key| (key, None)));
        let kept: HashSet<_> = change.workloads.iter().map(|(uid, _)| uid.clone()).collect();
        let gone = have.workloads().map(|(uid, _)| uid);
        let gone = gone.filter(|uid| workload(uid) && !kept.contains(uid));
        change.workloads.extend(gone.map(|uid| (uid, None)));
        let kept: HashSet<_> = change.policies.iter().map(|(name, _)| name.clone()).collect();
        let gone = have.policies().map(|policy| policy.name.clone());
        let gone = gone.filter(|name| says_policies && policy(name) && !kept.contains(name));
        change.policies.extend(gone.map(|name| (name, None)));
        change
    }

    /// Where it says nothing of policies: its workloads keep those that name them in `have`.
    #[must_use]
    pub fn keeping_policies(mut self, have: &Have) -> Self {
        if self.policies.is_none() {
            for entry in &mut self.workloads {
                let there = have.workload(&entry.uid);
                entry.policies = there.map(|workload| workload.policies).unwrap_or_default();
            }
        }
        self
    }

    fn sorted(mut self) -> Self {
        self.services.iter_mut().for_each(ServiceEntry::sort);
        self.workloads.iter_mut().for_each(WorkloadEntry::sort);
        self.services.sort_unstable_by(|one, next| service_order(one).cmp(&service_order(next)));
        self.workloads.sort_unstable_by(|one, next| one.uid.cmp(&next.uid));
        if let Some(policies) = &mut self.policies {
            policies.sort_unstable_by(|one, next| one.name.cmp(&next.name));
        }
        if let Some(pods) = &mut self.pods {
            pods.sort_unstable_by_key(|pod| pod.cookie);
        }
        self
    }
}

/// A part of a snapshot, as `restore --only` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only {
    /// "settings"
    Settings,
    /// "services": all of them.
    Services,
    /// "workloads": all of them.
    Workloads,
    /// "policies": all of them.
    Policies,
    /// "pods": those that are alive.
    Pods,
    /// "service=NAME": every port of it.
    Service(String),
    /// "workload=UID"
    Workload(String),
    /// "policy=NAME": `namespace/name`.
    Policy(String),
}

impl FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "settings" => Ok(Self::Settings),
            None if text == "services" => Ok(Self::Services),
            None if text == "workloads" => Ok(Self::Workloads),
            None if text == "policies" => Ok(Self::Policies),
            None if text == "pods" => Ok(Self::Pods),
            Some(("service", name)) if !name.is_empty() => Ok(Self::Service(name.to_owned())),
            Some(("workload", uid)) if !uid.is_empty() => Ok(Self::Workload(uid.to_owned())),
            Some(("policy", name)) if !name.is_empty() => Ok(Self::Policy(name.to_owned())),
            _ => Err(format!(
                "{text:?} is no part of a snapshot: use settings, services, workloads, policies, \
                 pods, service=NAME, workload=UID or policy=NAME"
            )),
        }
    }
}

#[cfg(test)]
mod tests;
