//! What a restore would add, change and remove, by name. Pure: it looks at what is there and at
//! what is wanted.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::LeftOut;
use crate::authz::Policy;
use crate::check::fields;
use crate::pods::Record;
use crate::snapshot::{PodEntry, PodMode, service_entry, workload_entry};
use crate::step::Step;
use crate::tables::Have;
use crate::want::{Change, Endpoint, Name, Service, ServiceKey};

/// What a restore would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Services and waypoints.
    pub services: Changes,
    /// Workloads.
    pub workloads: Changes,
    /// Authorization policies.
    pub policies: Changes,
    /// The snapshot says nothing of policies: those in force are kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keeps_policies: bool,
    /// Pods to enrol, or to enrol otherwise; none is removed.
    pub pods: Changes,
    /// What the programs are told: how it is, and shall be.
    pub settings: Vec<String>,
    /// Endpoints of services that come.
    pub endpoints_added: usize,
    /// Endpoints of services that go.
    pub endpoints_removed: usize,
    /// Pods of the snapshot that cannot be enrolled.
    pub left_out: Vec<LeftOut>,
    /// Elements that would be written to maps, those of pods apart.
    pub elements: usize,
}

/// Objects by name, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Not there yet.
    pub added: Vec<String>,
    /// There, and otherwise.
    pub changed: Vec<Changed>,
    /// There, and not wanted.
    pub removed: Vec<String>,
}

/// An object that changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// Its name.
    pub object: String,
    /// What of it: how it is, and shall be.
    pub what: String,
}

impl Changes {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    fn note(&mut self, object: String, there: bool, wanted: bool, what: &[String]) {
        match (there, wanted) {
            (false, true) => self.added.push(object),
            (true, false) => self.removed.push(object),
            (true, true) if !what.is_empty() => {
                self.changed.push(Changed { object, what: what.join("; ") });
            }
            _ => {}
        }
    }

    fn sort(&mut self) {
        self.added.sort_unstable();
        self.changed.sort_unstable();
        self.removed.sort_unstable();
    }
}

impl Preview {
    pub(super) fn new(
        have: &Have,
        change: &Change,
        steps: &[Step],
        there: &[Record],
        pods: Vec<PodEntry>,
        left_out: Vec<LeftOut>,
    ) -> Self {
        let elements = steps.iter().filter(|step| **step != Step::Grace).count();
        let mut preview = Self { left_out, elements, ..Self::default() };
        preview.of_services(have, change);
        preview.of_workloads(have, change);
        preview.of_policies(have, change);
        if let Some(wanted) = &change.settings {
            preview.settings = fields::settings(&have.settings(), wanted);
        }
        for pod in pods {
            preview.of_pod(there, &pod);
        }
        let Self { services, workloads, policies, pods, .. } = &mut preview;
        [services, workloads, policies, pods].into_iter().for_each(Changes::sort);
        preview
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.elements == 0 && self.pods.is_empty()
    }

    fn of_services(&mut self, have: &Have, change: &Change) {
        for (key, wanted) in &change.services {
            self.service(key, have.service(key), wanted.clone());
        }
        if change.all_services {
            let kept: HashSet<&ServiceKey> = change.services.iter().map(|(key, _)| key).collect();
            for (key, service) in have.services().filter(|(key, _)| !kept.contains(key)) {
                self.service(&key, Some(service), None);
            }
        }
    }

    fn service(&mut self, key: &ServiceKey, there: Option<Service>, wanted: Option<Service>) {
        let endpoints = |service: &Option<Service>| -> HashSet<Endpoint> {
            service.iter().flat_map(|service| service.endpoints.iter().cloned()).collect()
        };
        let (old, new) = (endpoints(&there), endpoints(&wanted));
        self.endpoints_added += new.difference(&old).count();
        self.endpoints_removed += old.difference(&new).count();
        let (is_there, is_wanted) = (there.is_some(), wanted.is_some());
        let what = match (there, wanted) {
            (Some(there), Some(wanted)) => {
                let (mut one, mut other) =
                    (service_entry(key.clone(), there), service_entry(key.clone(), wanted));
                one.sort();
                other.sort();
                fields::service(&one, &other)
            }
            _ => Vec::new(),
        };
        self.services.note(key.to_string(), is_there, is_wanted, &what);
    }

    fn of_workloads(&mut self, have: &Have, change: &Change) {
        for (uid, wanted) in &change.workloads {
            let there = have.workload(uid);
            let what = match (&there, wanted) {
                (Some(there), Some(wanted)) => {
                    let mut one = workload_entry(uid.clone(), there.clone());
                    let mut other = workload_entry(uid.clone(), wanted.clone());
                    one.sort();
                    other.sort();
                    fields::workload(&one, &other)
                }
                _ => Vec::new(),
            };
            self.workloads.note(uid.to_string(), there.is_some(), wanted.is_some(), &what);
        }
        if change.all_workloads {
            let kept: HashSet<&Name> = change.workloads.iter().map(|(uid, _)| uid).collect();
            for (uid, _) in have.workloads().filter(|(uid, _)| !kept.contains(uid)) {
                self.workloads.removed.push(uid.to_string());
            }
        }
    }

    fn of_policies(&mut self, have: &Have, change: &Change) {
        let there: HashMap<&Name, &Policy> =
            have.policies().map(|policy| (&policy.name, &**policy)).collect();
        for (name, wanted) in &change.policies {
            let there = there.get(name).copied();
            let what = match (there, wanted) {
                (Some(there), Some(wanted)) => fields::policy(there, wanted),
                _ => Vec::new(),
            };
            self.policies.note(name.to_string(), there.is_some(), wanted.is_some(), &what);
        }
        if change.all_policies {
            let kept: HashSet<&Name> = change.policies.iter().map(|(name, _)| name).collect();
            let gone = there.keys().filter(|name| !kept.contains(*name));
            self.policies.removed.extend(gone.map(ToString::to_string));
        }
    }

    fn of_pod(&mut self, there: &[Record], pod: &PodEntry) {
        let uid = pod.uid.as_deref().unwrap_or("unknown");
        let object = format!("{uid} (netns cookie {})", pod.cookie);
        let record = there.iter().find(|record| record.cookie == pod.cookie);
        let record = record.filter(|record| record.word.is_some());
        let mode = |bypass| if bypass { "bypass" } else { "managed" };
        let mut what = Vec::new();
        if let Some(record) = record {
            let (is, wanted) = (record.bypass(), pod.mode == PodMode::Bypass);
            if is != wanted {
                what.push(format!("mode is {}, wanted {}", mode(is), mode(wanted)));
            }
            if record.uid.as_deref() != pod.uid.as_deref() {
                let is = record.uid.as_deref().unwrap_or("unknown");
                what.push(format!("uid is {is}, wanted {uid}"));
            }
        }
        self.pods.note(object, record.is_some(), true, &what);
    }
}
