//! What is left to do of everything: objects are offered one by one, and only those that the tables
//! do not say already are kept. So a restart that finds nothing new makes an empty change, and
//! neither memory nor planning is spent on what stays as it is.
//!
//! It judges nothing. Where the tables are damaged (a dead writer's twin, a foreign hand's record, a
//! reference to what is not in use) it keeps everything: only a complete plan mends that.

use std::borrow::Cow;

use super::record::{Refer, backend_record, service_record};
use crate::authz::Identity;
use crate::layout::{
    BackendRecord, EndpointWord, FrontendKey, FrontendWord, ServiceRecord, ServiceWord,
    WaypointWord,
};
use crate::tables::{Consistency, Have, Shared};
use crate::want::{
    Change, Endpoint, Family, Kind, Name, Service, ServiceKey, WaypointRef, Workload,
};

/// The part of a complete change that the tables do not say yet. See the module.
#[derive(Debug)]
pub struct Rest<'a> {
    have: &'a Have,
    change: Change,
    /// Records that were offered, and stay or are changed.
    services: Vec<bool>,
    workloads: Vec<bool>,
}

impl<'a> Rest<'a> {
    /// Of a complete change of which `change` has the policies and settings; its services and
    /// workloads are still to be offered.
    #[must_use]
    pub fn new(have: &'a Have, change: Change) -> Self {
        let whole = !have.is_sound();
        let change = Change { all_services: whole, all_workloads: whole, ..change };
        let services = vec![false; have.services.all().len()];
        let workloads = vec![false; have.backends.all().len()];
        Self { have, change, services, workloads }
    }

    /// A second one, that objects are offered to on another thread.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self::new(self.have, Change::default())
    }

    /// What was offered to the other one was offered here.
    pub fn join(&mut self, other: Self) {
        let mut change = other.change;
        self.change.services.append(&mut change.services);
        self.change.workloads.append(&mut change.workloads);
        let seen = [(&mut self.services, other.services), (&mut self.workloads, other.workloads)];
        for (here, there) in seen {
            here.iter_mut().zip(there).for_each(|(here, there)| *here |= there);
        }
    }

    /// Offers a service or waypoint.
    pub fn service(&mut self, key: ServiceKey, service: Service) {
        let there = self.have.service_index(&key);
        if let Some(index) = there {
            self.services[index as usize] = true;
        }
        let same = there.is_some_and(|index| self.have.says_service(index, &key, &service));
        if self.change.all_services || !same {
            self.change.services.push((key, Some(service)));
        }
    }

    /// Offers a workload.
    pub fn workload(&mut self, uid: Name, workload: Workload) {
        let name = self.have.names.find(&uid);
        let there = name.and_then(|name| Some((name, self.have.backends.by_name(name)?)));
        if let Some((_, index)) = there {
            self.workloads[index as usize] = true;
        }
        let same = there
            .is_some_and(|(name, index)| self.have.says_workload(index, &uid, name, &workload));
        if self.change.all_workloads || !same {
            self.change.workloads.push((uid, Some(workload)));
        }
    }

    /// The change: what differs, and that what was not offered goes.
    #[must_use]
    pub fn finish(self) -> Change {
        let Self { have, mut change, services, workloads } = self;
        if !change.all_services {
            let shared = &mut Shared::forgetting();
            let rest = have.services.iter().filter(|(index, _)| !services[*index as usize]);
            change.services.extend(rest.map(|(_, record)| (have.key_of(record, shared), None)));
        }
        if !change.all_workloads {
            let rest = have.backends.iter().filter(|(index, _)| !workloads[*index as usize]);
            change.workloads.extend(rest.map(|(_, record)| (have.record_uid(record), None)));
        }
        change
    }
}

/// Finds what is in the tables; what is not makes the record that refers to it another one.
struct There<'a>(&'a Have);

/// It is not in the tables.
struct Missing;

impl<'a> Refer<'a> for There<'_> {
    type Error = Missing;

    fn name(&mut self, name: &'a str) -> Result<(u32, u16), Missing> {
        let start = self.0.names.find(name).ok_or(Missing)?;
        Ok((start, u16::try_from(name.len()).map_err(|_| Missing)?))
    }

    fn text(&mut self, text: Cow<'a, str>) -> Result<(u32, u32), Missing> {
        let start = self.0.names.find(&text).ok_or(Missing)?;
        Ok((start, u32::try_from(text.len()).map_err(|_| Missing)?))
    }

    fn number(&mut self, name: u32, identity: &'a str) -> Result<u32, Missing> {
        match self.0.identities.number(name) {
            Some(number) => Ok(number),
            None if Identity::parse(identity).is_some() => Err(Missing),
            None => Ok(0),
        }
    }

    fn waypoint(
        &self,
        _object: impl Fn() -> String,
        waypoint: &WaypointRef,
        family: Family,
    ) -> Result<WaypointWord, Missing> {
        let WaypointRef { name, port } = waypoint.clone();
        let key = ServiceKey { name, port, family, kind: Kind::Waypoint };
        self.0.service_index(&key).map(WaypointWord::new).ok_or(Missing)
    }
}

impl Have {
    /// Whether everything in the tables fits together, so that what is not changed needs no look.
    fn is_sound(&self) -> bool {
        let (backends, services) = (&self.backends, &self.services);
        let whole =
            |sets: [&std::collections::BTreeSet<u32>; 3]| sets.iter().all(|set| set.is_empty());
        !self.stale
            && self.consistency == Consistency::Settled
            && whole([backends.twins(), backends.nameless(), &backends.reserved])
            && whole([services.twins(), services.nameless(), &services.reserved])
            && !self.slots.any_damaged()
            && !self.frontends.any_foreign()
    }

    /// Whether record `index`, its addresses included, says this of the workload whose uid lies at
    /// `name`.
    fn says_workload(&self, index: u32, uid: &str, name: u32, workload: &Workload) -> bool {
        let Some(there) = self.backends.get(index) else { return false };
        let len = there.name_len;
        let wanted: Result<BackendRecord, Missing> =
            backend_record(&mut There(self), uid, (name, len), workload);
        let keys = workload.addresses.iter().map(|address| FrontendKey::workload(*address));
        wanted.is_ok_and(|wanted| wanted == *there)
            && self.leads(FrontendKey::WORKLOAD, index, keys)
    }

    /// Whether record `index`, its VIPs and endpoints included, says this of a service.
    fn says_service(&self, index: u32, key: &ServiceKey, service: &Service) -> bool {
        let Some(there) = self.services.get(index) else { return false };
        let name = (there.name, there.name_len);
        let Ok(wanted) = service_record(&There(self), key, name, service) else { return false };
        let (word, capacity) = (there.word, there.capacity);
        let wanted = ServiceRecord {
            word: ServiceWord::new(word.base(), word.count(), wanted.word.flags()),
            capacity,
            ..wanted
        };
        let keys = service.vips.iter().map(|vip| FrontendKey::service(*vip, key.port));
        wanted == *there
            && word.count() <= capacity
            && self.leads(FrontendKey::SERVICE, index, keys)
            && self.serves(there, &service.endpoints)
    }

    /// Whether these keys lead to `index`, and no others.
    fn leads(
        &self,
        kind: u16,
        index: u32,
        mut keys: impl ExactSizeIterator<Item = FrontendKey>,
    ) -> bool {
        let there = || self.frontends.leading_to(kind, index);
        let led =
            |key: FrontendKey| there().any(|entry| entry == (key, FrontendWord::new(&key, index)));
        there().count() == keys.len() && keys.all(led)
    }

    /// Whether the slots of a service hold these endpoints, in whatever order.
    fn serves(&self, record: &ServiceRecord, endpoints: &[Endpoint]) -> bool {
        let there = self.slots.of(record);
        if there.len() != endpoints.len() {
            return false;
        }
        let wanted: Option<Vec<_>> = endpoints.iter().map(|endpoint| self.slot(endpoint)).collect();
        let Some(mut wanted) = wanted else { return false };
        if wanted == there {
            return true;
        }
        let mut there = there.to_vec();
        wanted.sort_unstable_by_key(|word| word.0);
        there.sort_unstable_by_key(|word| word.0);
        wanted == there
    }

    /// The word of an endpoint, if its workload is in the tables.
    fn slot(&self, endpoint: &Endpoint) -> Option<EndpointWord> {
        let index = self.backend(&endpoint.workload)?;
        Some(EndpointWord::new(index, endpoint.port, endpoint.family == Family::V6))
    }
}
