//! What stays in force while a waypoint is not known: the last resolved state.
//!
//! * A service or workload that changes to a waypoint that is not known yet stays as it is in
//!   force: with the waypoint that it had, or without. What is new and names one is refused.
//! * A waypoint in use whose service and workloads vanish keeps its last endpoints: backends
//!   without addresses of their own. One is dropped when another workload claims its address.
//!
//! What was last resolved is what the tables say ([`InForce`]), so a restart of the daemon changes
//! nothing of it. It is decided once for each compilation ([`Desired::settle`]), so neither the
//! order nor the cut of what came since the last one matters. Waypoints named by an address are
//! dialled, whosever that is: they are always known.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hashbrown::HashMap;
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::{self, Endpoint, Family, Kind, ServiceKey};

use super::{Desired, Target, Users, slot};
use crate::model::{Destination, Name, Service, Workload};

/// What the tables say now.
pub trait InForce {
    /// A service's record.
    fn service(&self, key: &ServiceKey) -> Option<want::Service>;
    /// The waypoint of a service, whatever its ports; `None` if it has no record.
    fn waypoint_of(&self, service: &str) -> Option<Option<Name>>;
    /// A workload's record.
    fn workload(&self, uid: &str) -> Option<want::Workload>;
}

impl InForce for Have {
    fn service(&self, key: &ServiceKey) -> Option<want::Service> {
        self.service(key)
    }

    fn waypoint_of(&self, service: &str) -> Option<Option<Name>> {
        self.waypoint_of(service)
    }

    fn workload(&self, uid: &str) -> Option<want::Workload> {
        self.workload(uid)
    }
}

/// What an object that names an unknown waypoint meets meanwhile.
#[derive(Debug)]
pub(super) struct Stay {
    /// A waypoint, or none.
    pub(super) with: Option<Target>,
    families: Users,
}

type LastEndpoints = [Vec<Endpoint>; 2];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Waypoints in use that are not known, but those of other networks.
    unknown: BTreeSet<Target>,
    services: HashMap<Name, Stay>,
    workloads: HashMap<Name, Stay>,
    /// The last endpoints of unknown waypoints, by family of the client's destination.
    endpoints: BTreeMap<Target, LastEndpoints>,
    /// Those of them that no source names.
    ghosts: BTreeMap<Name, want::Workload>,
}

impl Kept {
    /// What a service meets instead of the waypoint that it names, if that is not known.
    pub(super) fn of_service(&self, name: &Name) -> Option<&Stay> {
        if self.services.is_empty() { None } else { self.services.get(name) }
    }

    /// The same of a workload.
    pub(super) fn of_workload(&self, uid: &Name) -> Option<&Stay> {
        if self.workloads.is_empty() { None } else { self.workloads.get(uid) }
    }

    /// Nobody uses it.
    pub(super) fn forget(&mut self, target: &Target) {
        self.unknown.remove(target);
    }

    /// The waypoints that are not known.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &Target> {
        self.unknown.iter()
    }

    /// How many different last endpoints a waypoint has.
    pub(super) fn endpoints(&self, target: &Target) -> usize {
        self.uids(target).collect::<BTreeSet<_>>().len()
    }

    fn uids(&self, target: &Target) -> impl Iterator<Item = &Name> {
        let lists = self.endpoints.get(target).into_iter().flatten();
        lists.flatten().map(|endpoint| &endpoint.workload)
    }
}

impl Desired {
    /// Decides what stays, before a compilation: `tables` is what is in force.
    pub fn settle(&mut self, tables: &impl InForce) {
        self.look_for_waypoints();
        let kept = &self.kept;
        if kept.unknown.is_empty() && kept.endpoints.is_empty() {
            return;
        }
        self.stay(tables);
        self.keep_endpoints(tables);
    }

    /// Which waypoints are known by now; those who waited for them go on.
    fn look_for_waypoints(&mut self) {
        let looked: Vec<Target> = if self.dirty.all {
            let used = self.waypoints.keys();
            self.kept.unknown.iter().chain(used).cloned().collect()
        } else {
            self.dirty.waypoints.iter().cloned().collect()
        };
        let mut found = self.dirty.all;
        for target in looked {
            if self.is_unknown(&target) {
                self.kept.unknown.insert(target);
            } else {
                found |= self.kept.unknown.remove(&target);
            }
        }
        if !found {
            return;
        }
        for name in self.kept.services.keys().cloned().collect::<Vec<_>>() {
            if self.dirty.all || self.unknown_of_service(&name).is_none() {
                self.let_go_service(&name);
                self.mark_service(&name);
            }
        }
        for uid in self.kept.workloads.keys().cloned().collect::<Vec<_>>() {
            if self.dirty.all || self.unknown_of_workload(&uid).is_none() {
                self.let_go_workload(&uid);
                self.mark_workload(&uid);
            }
        }
    }

    fn is_unknown(&self, target: &Target) -> bool {
        matches!(target, Target::Service(_))
            && self.waypoints.contains_key(target)
            && !self.is_known(target)
    }

    /// The unknown waypoint that a service names.
    fn unknown_of_service(&self, name: &Name) -> Option<(Target, &Service)> {
        let service = self.services.get(name)?;
        let target = self.named_by_service(name, service)?;
        self.kept.unknown.contains(&target).then_some((target, service))
    }

    /// The unknown waypoint that a workload names.
    fn unknown_of_workload(&self, uid: &Name) -> Option<(Target, &Workload)> {
        let workload = self.workloads.get(uid)?;
        let target = self.named_by_workload(workload)?;
        self.kept.unknown.contains(&target).then_some((target, workload))
    }

    /// Lets a service meet the waypoint that it names.
    pub(super) fn let_go_service(&mut self, name: &Name) {
        if !self.kept.services.is_empty()
            && let Some(Stay { with: Some(target), families }) = self.kept.services.remove(name)
        {
            self.release_target(&target, families);
        }
    }

    /// Lets a workload meet the waypoint that it names.
    pub(super) fn let_go_workload(&mut self, uid: &Name) {
        if !self.kept.workloads.is_empty()
            && let Some(Stay { with: Some(target), families }) = self.kept.workloads.remove(uid)
        {
            self.release_target(&target, families);
        }
    }

    /// What changed to an unknown waypoint stays as it was.
    fn stay(&mut self, tables: &impl InForce) {
        let (all, dirty) = (self.dirty.all, &self.dirty);
        let (services, workloads) = (self.services.keys(), self.workloads.keys());
        let services: Vec<Name> = if all {
            services.filter(|name| self.unknown_of_service(name).is_some()).cloned().collect()
        } else {
            dirty.services.iter().cloned().collect()
        };
        let workloads: Vec<Name> = if all {
            workloads.filter(|uid| self.unknown_of_workload(uid).is_some()).cloned().collect()
        } else {
            dirty.workloads.iter().cloned().collect()
        };
        for name in services {
            if !self.services.get(&name).is_some_and(|it| self.is_reached(&name, it)) {
                // What nothing leads to is not in force.
                self.let_go_service(&name);
            } else if let Some(stay) = self.service_stays(&name, tables) {
                self.meet(&stay);
                self.kept.services.insert(name, stay);
            }
        }
        for uid in workloads {
            if !self.workloads.get(&uid).is_some_and(|it| self.leads_to(&uid, it)) {
                self.let_go_workload(&uid);
            } else if let Some(stay) = self.workload_stays(&uid, tables) {
                self.meet(&stay);
                self.kept.workloads.insert(uid, stay);
            }
        }
    }

    fn meet(&mut self, stay: &Stay) {
        if let Some(target) = &stay.with {
            self.use_target(target, stay.families);
            if self.is_unknown(target) {
                self.kept.unknown.insert(target.clone());
            }
        }
    }

    fn service_stays(&self, name: &Name, tables: &impl InForce) -> Option<Stay> {
        if self.kept.of_service(name).is_some() {
            return None;
        }
        let (named, service) = self.unknown_of_service(name)?;
        let keys = self.service_keys(name, service);
        let record = keys.iter().find_map(|key| tables.service(key));
        let before = match record {
            Some(record) => record.waypoint.map(|waypoint| waypoint.name),
            // It has other ports now.
            None => tables.waypoint_of(name)?,
        };
        let with = before.and_then(|waypoint| self.target_named(&waypoint));
        let with = with.filter(|target| !self.is_service(target, name, service));
        let families = self.service_families(service);
        (with.as_ref() != Some(&named)).then_some(Stay { with, families })
    }

    fn workload_stays(&self, uid: &Name, tables: &impl InForce) -> Option<Stay> {
        if self.kept.of_workload(uid).is_some() {
            return None;
        }
        let (named, workload) = self.unknown_of_workload(uid)?;
        let before = tables.workload(uid).filter(|before| !before.addresses.is_empty())?;
        let with = before.waypoint.and_then(|waypoint| self.target_named(&waypoint.name));
        let with = with.filter(|target| !Self::is_workload(target, workload));
        let families = self.workload_families(workload);
        (with.as_ref() != Some(&named)).then_some(Stay { with, families })
    }

    /// The waypoint whose records have this name.
    fn target_named(&self, name: &str) -> Option<Target> {
        Destination::parse(name).map(|destination| self.target(&destination))
    }

    /// The last endpoints of what is not known any more.
    fn keep_endpoints(&mut self, tables: &impl InForce) {
        let mut endpoints = BTreeMap::new();
        let mut ghosts = BTreeMap::new();
        for target in &self.kept.unknown {
            let last = self.last_endpoints(target, tables, &mut ghosts);
            if last.iter().any(|list| !list.is_empty()) {
                endpoints.insert(target.clone(), last);
            }
        }
        let before = &self.kept.endpoints;
        let differs = |target: &&Target| before.get(*target) != endpoints.get(*target);
        let targets = before.keys().chain(endpoints.keys());
        let changed: BTreeSet<Target> = targets.filter(differs).cloned().collect();
        for target in &changed {
            self.mark_endpoints(target);
        }
        (self.kept.endpoints, self.kept.ghosts) = (endpoints, ghosts);
        for target in &changed {
            self.mark_endpoints(target);
        }
    }

    fn mark_endpoints(&mut self, target: &Target) {
        let uids: Vec<Name> = self.kept.uids(target).cloned().collect();
        for uid in uids {
            self.mark_workload(&uid);
        }
        self.mark_waypoint(target.clone());
    }

    fn last_endpoints(
        &self,
        target: &Target,
        tables: &impl InForce,
        ghosts: &mut BTreeMap<Name, want::Workload>,
    ) -> LastEndpoints {
        let users = self.waypoints.get(target).copied().unwrap_or_default();
        let port = self.here.waypoint_port;
        [Family::V4, Family::V6].map(|family| {
            if users[slot(family)] == 0 {
                return Vec::new();
            }
            let key = ServiceKey { name: target.name(), port, family, kind: Kind::Waypoint };
            let last = tables.service(&key).map(|record| record.endpoints).unwrap_or_default();
            last.into_iter().filter(|endpoint| self.may_stay(endpoint, tables, ghosts)).collect()
        })
    }

    /// Whether an endpoint is still where it was: it leads to nobody else. If no source names its
    /// workload, that is noted.
    fn may_stay(
        &self,
        endpoint: &Endpoint,
        tables: &impl InForce,
        ghosts: &mut BTreeMap<Name, want::Workload>,
    ) -> bool {
        let uid = &endpoint.workload;
        let Some(there) = tables.workload(uid) else {
            return false;
        };
        let dialled = |v4: Option<_>, v6: Option<_>| match endpoint.family {
            Family::V4 => v4.map(IpAddr::V4),
            Family::V6 => v6.map(IpAddr::V6),
        };
        let Some(ip) = dialled(there.v4, there.v6) else {
            return false;
        };
        if self.at.all(ip).any(|other| other != uid) {
            return false;
        }
        if let Some(workload) = self.workloads.get(uid) {
            let same = dialled(workload.ips.v4(), workload.ips.v6()) == Some(ip);
            return same && self.is_local(&workload.place.network);
        }
        let (addresses, waypoint) = (Vec::new(), None);
        let ghost = want::Workload { addresses, waypoint, is_waypoint: true, ..there };
        ghosts.insert(uid.clone(), ghost);
        true
    }

    /// The last endpoints of a waypoint that is not known.
    pub(crate) fn kept_endpoints(&self, target: &Target, family: Family) -> Option<&[Endpoint]> {
        self.kept.endpoints.get(target).map(|lists| &*lists[slot(family)])
    }

    /// Whether a workload is an endpoint of a waypoint that is not known.
    pub(crate) fn is_kept_endpoint(&self, uid: &Name) -> bool {
        self.kept.endpoints.keys().any(|target| self.kept.uids(target).any(|kept| kept == uid))
    }

    /// The workloads that no source names and that stay as endpoints of a waypoint.
    pub(crate) fn ghosts(&self) -> &BTreeMap<Name, want::Workload> {
        &self.kept.ghosts
    }
}
