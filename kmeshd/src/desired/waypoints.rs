//! Which waypoints are in use, by whom, and which workloads they are.
//!
//! A waypoint named by address may be a workload, a service's VIP, or neither: then it is an
//! outsider with a backend of its own.

use std::net::IpAddr;

use kmesh_bpf::want::Family;

use super::Desired;
use crate::model::{Destination, Name, Service, Workload};

/// A waypoint in use, resolved as far as its name goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The service of this name.
    Service(Name),
    /// An address in this node's network.
    Address(IpAddr),
    /// An address in another network: nothing leads there from here.
    Elsewhere(Name, IpAddr),
}

impl Target {
    /// The name of its records.
    #[must_use]
    pub fn name(&self) -> Name {
        match self {
            Self::Service(name) => name.clone(),
            Self::Address(ip) => format!("/{ip}").into(),
            Self::Elsewhere(network, ip) => format!("{network}/{ip}").into(),
        }
    }
}

/// How many objects send IPv4 and IPv6 connections to a waypoint.
pub(crate) type Users = [u32; 2];

/// Index of a family in [`Users`].
pub(crate) fn slot(family: Family) -> usize {
    usize::from(family == Family::V6)
}

impl Desired {
    /// A waypoint by its name.
    pub(crate) fn target(&self, destination: &Destination) -> Target {
        match destination {
            Destination::Hostname(name) => Target::Service(name.clone()),
            Destination::Address(network, ip) if self.is_local(network) => Target::Address(*ip),
            Destination::Address(network, ip) => Target::Elsewhere(network.clone(), *ip),
        }
    }

    /// The waypoint that connections to a workload's own addresses meet: the one that it names, or
    /// the one that it keeps while that one is not known.
    pub(crate) fn workload_waypoint(&self, uid: &Name, workload: &Workload) -> Option<Target> {
        match self.kept.of_workload(uid) {
            Some(stay) => stay.with.clone(),
            None => self.named_by_workload(workload),
        }
    }

    /// The waypoint that connections to a service meet, likewise.
    pub(crate) fn service_waypoint(&self, name: &Name, service: &Service) -> Option<Target> {
        match self.kept.of_service(name) {
            Some(stay) => stay.with.clone(),
            None => self.named_by_service(name, service),
        }
    }

    /// The waypoint that a workload names; none if it is that waypoint itself.
    pub(super) fn named_by_workload(&self, workload: &Workload) -> Option<Target> {
        let target = self.target(workload.traits.waypoint.as_ref()?);
        (!Self::is_workload(&target, workload)).then_some(target)
    }

    /// The waypoint that a service names; none if it is that waypoint itself.
    pub(super) fn named_by_service(&self, name: &Name, service: &Service) -> Option<Target> {
        let target = self.target(service.waypoint.as_ref()?);
        (!self.is_service(&target, name, service)).then_some(target)
    }

    /// Whether a workload is this waypoint.
    pub(super) fn is_workload(target: &Target, workload: &Workload) -> bool {
        match target {
            Target::Service(name) => workload.traits.services.iter().any(|m| m.service == *name),
            Target::Address(ip) => workload.ips.all().contains(ip),
            Target::Elsewhere(..) => false,
        }
    }

    /// Whether a service is this waypoint.
    pub(super) fn is_service(&self, target: &Target, name: &Name, service: &Service) -> bool {
        match target {
            Target::Service(waypoint) => waypoint == name,
            Target::Address(ip) => self.local_vips(service).contains(ip),
            Target::Elsewhere(..) => false,
        }
    }

    /// The families that a workload is dialled in at its own addresses.
    pub(super) fn workload_families(&self, workload: &Workload) -> Users {
        let mut families = [0, 0];
        for ip in self.own_addresses(workload) {
            families[slot(Family::of(*ip))] = 1;
        }
        families
    }

    /// The families that a service is dialled in.
    pub(super) fn service_families(&self, service: &Service) -> Users {
        let mut families = [0, 0];
        if !service.ports.is_empty() {
            for family in self.vip_families(service) {
                families[slot(family)] = 1;
            }
        }
        families
    }

    pub(super) fn workload_targets(&self, workload: &Workload) -> Option<(Target, Users)> {
        let target = self.named_by_workload(workload)?;
        Some((target, self.workload_families(workload)))
    }

    pub(super) fn service_targets(
        &self,
        name: &Name,
        service: &Service,
    ) -> Option<(Target, Users)> {
        let target = self.named_by_service(name, service)?;
        Some((target, self.service_families(service)))
    }

    pub(super) fn use_target(&mut self, target: &Target, families: Users) {
        if families == [0, 0] {
            return;
        }
        let users = self.waypoints.entry(target.clone()).or_insert([0, 0]);
        let before = *users;
        *users = [users[0] + families[0], users[1] + families[1]];
        if (0..2).any(|family| before[family] == 0 && families[family] > 0) {
            self.mark_waypoint(target.clone());
        }
        if before == [0, 0] {
            self.touch_waypoint_workloads(target);
        }
    }

    pub(super) fn release_target(&mut self, target: &Target, families: Users) {
        if families == [0, 0] {
            return;
        }
        let Some(users) = self.waypoints.get_mut(target) else {
            return;
        };
        *users = [users[0] - families[0], users[1] - families[1]];
        let left = *users;
        if (0..2).any(|family| left[family] == 0 && families[family] > 0) {
            self.mark_waypoint(target.clone());
        }
        if left == [0, 0] {
            self.touch_waypoint_workloads(target);
            self.waypoints.remove(target);
            self.kept.forget(target);
        }
    }

    /// The service that a waypoint is, if it is one.
    pub(crate) fn target_service<'a>(&'a self, target: &'a Target) -> Option<&'a Name> {
        match target {
            Target::Service(name) => Some(name),
            Target::Address(ip) => self.vip_owner(*ip),
            Target::Elsewhere(..) => None,
        }
    }

    fn touch_waypoint_workloads(&mut self, target: &Target) {
        if let Target::Address(ip) = target
            && !self.dirty.all
        {
            self.dirty.workloads.extend(self.at.all(*ip).cloned());
        }
        if let Some(service) = self.target_service(target).cloned() {
            self.touch_members(&service);
        }
    }

    /// A VIP comes or goes: if it is a waypoint's, its workloads are or are not waypoints; if
    /// other services claim it, they may have it now, or have lost it.
    pub(super) fn touch_vip(&mut self, ip: IpAddr) {
        if self.dirty.all {
            return;
        }
        let claimants: Vec<Name> = self.vips.all(ip).cloned().collect();
        let target = Target::Address(ip);
        let waypoint = self.waypoints.contains_key(&target);
        if waypoint {
            self.mark_waypoint(target);
        }
        for service in claimants {
            if waypoint {
                self.touch_members(&service);
            }
            self.touch_service(&service);
        }
    }

    /// Whether something is known of a waypoint; an address is dialled, whosever it is.
    pub(super) fn is_known(&self, target: &Target) -> bool {
        match target {
            Target::Service(name) => {
                self.services.contains_key(name) || self.members.contains_key(name)
            }
            Target::Address(_) => true,
            Target::Elsewhere(..) => false,
        }
    }
}
