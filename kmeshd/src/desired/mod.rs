//! What all sources together say now, and what changed since it was last compiled.
//!
//! Changes come as a whole model ([`Desired::replace`]) or one object at a time
//! ([`Desired::set_workload`], [`Desired::set_service`], [`Desired::set_policy`]); either way only what differs is marked,
//! so that the work of a change is proportional to what it touches: the objects themselves, the
//! services that a workload is an endpoint of, and the waypoints that these are.
//!
//! It does no I/O and does not check: sources do. [`crate::compile`] turns it into tables.

mod addresses;
mod claims;
mod dirty;
mod hostnames;
mod kept;
mod oddities;
mod waypoints;

use hashbrown::hash_map::Entry;
use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use std::net::IpAddr;
use std::sync::Arc;

use kmesh_bpf::authz::Policy;
use kmesh_bpf::want::Settings;

use crate::model::{Model, Name, Place, Service, Workload};

use claims::Claims;
pub use dirty::Dirty;
use hostnames::Hostnames;
pub use kept::InForce;
use kept::Kept;
pub use oddities::{Awaited, Oddities};
pub use waypoints::Target;
pub(crate) use waypoints::{Users, slot};

/// Which node this is, and what its operator says.
#[derive(Clone, Debug)]
pub struct Here {
    /// Node name; empty if not given.
    pub node: Name,
    /// Network.
    pub network: Name,
    /// Cluster.
    pub cluster: Name,
    /// The port that waypoints listen on for Kmesh, host order.
    pub waypoint_port: u16,
    /// What the programs are told.
    pub settings: Settings,
}

/// The state of all sources. See the module.
#[derive(Debug)]
pub struct Desired {
    pub(crate) here: Here,
    pub(crate) workloads: HashMap<Name, Workload>,
    pub(crate) services: HashMap<Name, Service>,
    pub(crate) policies: BTreeMap<Name, Arc<Policy>>,
    /// Workloads by service, sorted; also of services that are not (yet) known.
    pub(crate) members: HashMap<Name, Vec<Name>>,
    /// Waypoints in use.
    pub(crate) waypoints: BTreeMap<Target, Users>,
    /// Services by VIP in this network.
    pub(crate) vips: Claims,
    /// Workloads by address in this network, those on the host's network too.
    pub(crate) at: Claims,
    /// Where the workloads of this node say they are.
    places: BTreeMap<Arc<Place>, usize>,
    /// The most common of `places`: where this node is.
    pub(crate) place: Arc<Place>,
    hostnames: Hostnames,
    kept: Kept,
    dirty: Dirty,
}

impl Desired {
    /// Nothing yet.
    #[must_use]
    pub fn new(here: Here) -> Self {
        Self {
            here,
            workloads: HashMap::new(),
            services: HashMap::new(),
            policies: BTreeMap::new(),
            members: HashMap::new(),
            waypoints: BTreeMap::new(),
            vips: Claims::default(),
            at: Claims::default(),
            places: BTreeMap::new(),
            place: Arc::default(),
            hostnames: Hostnames::default(),
            kept: Kept::default(),
            dirty: Dirty { all: true, ..Dirty::default() },
        }
    }

    /// How many services and workloads there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.services.len(), self.workloads.len())
    }

    /// How many authorization policies there are.
    #[must_use]
    pub fn policies(&self) -> usize {
        self.policies.len()
    }

    /// Makes the model all there is.
    pub fn replace(&mut self, model: Model) {
        for uid in gone(self.workloads.keys(), &model.workloads) {
            self.set_workload(&uid, None);
        }
        self.expect(model.workloads.len().saturating_sub(self.workloads.len()));
        for (uid, workload) in model.workloads {
            self.set_workload(&uid, Some(workload));
        }
        for name in gone(self.services.keys(), &model.services) {
            self.set_service(&name, None);
        }
        for (name, service) in model.services {
            self.set_service(&name, Some(service));
        }
        for name in gone(self.policies.keys(), &model.policies) {
            self.set_policy(&name, None);
        }
        for (name, policy) in model.policies {
            self.set_policy(&name, Some(policy));
        }
    }

    /// So many workloads more are about to come.
    pub fn expect(&mut self, workloads: usize) {
        self.workloads.reserve(workloads);
        self.at.reserve(workloads);
    }

    /// A workload, as it is now.
    #[must_use]
    pub fn workload(&self, uid: &Name) -> Option<&Workload> {
        self.workloads.get(uid)
    }

    /// A service, as it is now.
    #[must_use]
    pub fn service(&self, name: &Name) -> Option<&Service> {
        self.services.get(name)
    }

    /// An authorization policy, as it is now.
    #[must_use]
    pub fn policy(&self, name: &Name) -> Option<&Arc<Policy>> {
        self.policies.get(name)
    }

    /// An authorization policy is now so, or gone.
    pub fn set_policy(&mut self, name: &Name, new: Option<Arc<Policy>>) {
        if self.policies.get(name) == new.as_ref() {
            return;
        }
        if !self.dirty.all {
            self.dirty.policies.insert(name.clone());
        }
        match new {
            Some(new) => drop(self.policies.insert(name.clone(), new)),
            None => drop(self.policies.remove(name)),
        }
    }

    /// A workload is now so, or gone.
    pub fn set_workload(&mut self, uid: &Name, new: Option<Workload>) {
        let new = self.hostnames.fill(uid, new);
        if self.workloads.get(uid) == new.as_ref() {
            return;
        }
        self.let_go_workload(uid);
        self.mark_workload(uid);
        // The new one first: a waypoint that both use stays in use.
        let old = match new {
            Some(new) => {
                self.attach_workload(uid, &new);
                self.workloads.insert(uid.clone(), new)
            }
            None => self.workloads.remove(uid),
        };
        let Some(old) = old else {
            return;
        };
        self.detach_workload(uid, &old);
        // What the old one gave up and the new one has is the new one's.
        if let Some(new) = self.workloads.get(uid).cloned() {
            self.enlist(uid, &new);
        }
    }

    fn attach_workload(&mut self, uid: &Name, new: &Workload) {
        if let Some((target, families)) = self.workload_targets(new) {
            self.use_target(&target, families);
        }
        if self.is_mine(&new.place) {
            *self.places.entry(Arc::clone(&new.place)).or_default() += 1;
            self.find_place();
        }
        self.enlist(uid, new);
    }

    /// Puts a workload into the lists by service and by address; once is as good as twice.
    fn enlist(&mut self, uid: &Name, workload: &Workload) {
        for member in &workload.traits.services {
            let list = self.members.entry(member.service.clone()).or_default();
            // Most come sorted.
            if list.last().is_none_or(|last| last < uid) {
                list.push(uid.clone());
            } else if let Err(place) = list.binary_search(uid) {
                list.insert(place, uid.clone());
            }
            self.touch_service(&member.service);
        }
        if self.is_local(&workload.place.network) {
            for ip in workload.ips.all() {
                self.at.add(*ip, uid);
                self.touch_address(*ip);
            }
        }
    }

    /// Who is at an address has changed.
    fn touch_address(&mut self, ip: IpAddr) {
        if self.dirty.all {
            return;
        }
        if self.at.is_contested(ip) {
            self.dirty.workloads.extend(self.at.all(ip).cloned());
        }
        let target = Target::Address(ip);
        if self.waypoints.contains_key(&target) {
            self.mark_waypoint(target);
        }
    }

    fn detach_workload(&mut self, uid: &Name, old: &Workload) {
        if let Some((target, families)) = self.workload_targets(old) {
            self.release_target(&target, families);
        }
        if let Some(count) = self.places.get_mut(&old.place) {
            *count -= 1;
            if *count == 0 {
                self.places.remove(&old.place);
            }
            self.find_place();
        }
        for member in &old.traits.services {
            self.touch_service(&member.service);
            if let Entry::Occupied(mut list) = self.members.entry(member.service.clone()) {
                if let Ok(place) = list.get().binary_search(uid) {
                    list.get_mut().remove(place);
                }
                if list.get().is_empty() {
                    list.remove();
                }
            }
        }
        for ip in old.ips.all() {
            let contested = self.at.is_contested(*ip);
            self.at.remove(*ip, uid);
            self.touch_address(*ip);
            if contested && !self.dirty.all {
                self.dirty.workloads.extend(self.at.all(*ip).cloned());
            }
        }
    }

    /// A service is now so, or gone.
    pub fn set_service(&mut self, name: &Name, new: Option<Service>) {
        if self.services.get(name) == new.as_ref() {
            return;
        }
        self.let_go_service(name);
        let vips = new.as_ref().map(|new| self.local_vips(new)).unwrap_or_default();
        let uses = new.as_ref().and_then(|new| self.service_targets(name, new));
        if let Some((target, families)) = uses {
            self.use_target(&target, families);
        }
        let old = match new {
            Some(new) => self.services.insert(name.clone(), new),
            None => self.services.remove(name),
        };
        if let Some(old) = old {
            self.detach_service(name, &old);
        }
        for ip in vips {
            self.vips.add(ip, name);
            self.touch_vip(ip);
        }
        self.touch_service(name);
    }

    fn detach_service(&mut self, name: &Name, old: &Service) {
        if let Some((target, families)) = self.service_targets(name, old) {
            self.release_target(&target, families);
        }
        if !self.dirty.all {
            let keys = self.service_keys(name, old);
            self.dirty.service_keys.extend(keys);
        }
        for ip in self.local_vips(old) {
            self.touch_vip(ip);
            self.vips.remove(ip, name);
            self.touch_vip(ip);
        }
    }

    fn is_mine(&self, place: &Place) -> bool {
        !self.here.node.is_empty() && place.node == self.here.node
    }

    fn touch_service(&mut self, name: &Name) {
        if self.dirty.all {
            return;
        }
        self.dirty.services.insert(name.clone());
        let target = Target::Service(name.clone());
        if self.waypoints.contains_key(&target) {
            self.mark_waypoint(target);
        }
        if let Some(service) = self.services.get(name) {
            for ip in self.local_vips(service) {
                let target = Target::Address(ip);
                if self.waypoints.contains_key(&target) {
                    self.mark_waypoint(target);
                }
            }
        }
    }

    /// Where this node is: what most of its workloads say. When that changes, every service with
    /// preferences does.
    fn find_place(&mut self) {
        let most =
            self.places.iter().max_by_key(|(place, count)| (**count, std::cmp::Reverse(*place)));
        let place = most.map(|(place, _)| Arc::clone(place)).unwrap_or_default();
        if place == self.place {
            return;
        }
        self.place = place;
        let ranked = self.services.iter().filter(|(_, service)| !service.preferences.is_empty());
        let ranked: Vec<Name> = ranked.map(|(name, _)| name.clone()).collect();
        for name in ranked {
            self.touch_service(&name);
        }
    }
}

/// What is there and no longer named.
fn gone<'a, T>(there: impl ExactSizeIterator<Item = &'a Name>, named: &[(Name, T)]) -> Vec<Name> {
    if there.len() == 0 {
        return Vec::new();
    }
    let named: HashSet<&Name> = named.iter().map(|(name, _)| name).collect();
    there.filter(|name| !named.contains(name)).cloned().collect()
}
