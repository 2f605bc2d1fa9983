//! Services and waypoints: which record each one keeps or gets, and its words.

use std::collections::BTreeSet;

use super::PlanError;
use super::draft::Draft;
use super::record::service_record;
use super::slots::Layout;
use crate::layout::{
    EndpointWord, FrontendKey, KIND_SERVICE, ServiceRecord, ServiceWord, WaypointWord,
};
use crate::step::Step;
use crate::tables::{NONE, Place};
use crate::want::{Endpoint, Family, Kind, Service, ServiceKey};

/// Flags that steer: slots in reach are not overwritten while these change.
const STEERING: u16 = ServiceWord::WAYPOINT | ServiceWord::PASSTHROUGH;

impl<'a> Draft<'a> {
    /// Gives waypoints their indices: workloads and services name them.
    pub(super) fn place_waypoints(&mut self) {
        for (at, (key, service)) in self.change.services.iter().enumerate() {
            if key.kind == Kind::Waypoint && service.is_some() {
                let index = self.have.service_index(key);
                self.service_at[at] = index.unwrap_or_else(|| self.services.take(1));
            }
        }
    }

    /// Plans every service that the change names, and those that lead to what moved.
    pub(super) fn plan_services(&mut self) -> Result<(), PlanError> {
        let change = self.change;
        for (at, (key, service)) in change.services.iter().enumerate() {
            let old = self.have.service_index(key);
            let twins = old.map(|index| self.twins(index)).unwrap_or_default();
            for index in old.into_iter().chain(twins.iter().copied()) {
                self.touch_service(index);
            }
            for twin in twins {
                self.clear(twin);
            }
            match (service, old) {
                (Some(service), _) => self.plan_service(at, key, service, old)?,
                (None, Some(index)) => self.clear(index),
                (None, None) => {}
            }
        }
        if change.all_services {
            self.clear_the_rest();
        } else {
            self.follow_moves()?;
        }
        Ok(())
    }

    /// Other records of the same service: a writer died between the new one and the old one.
    /// Of a waypoint there is never a second one, but by a foreign hand; a complete change
    /// clears it.
    fn twins(&self, index: u32) -> Vec<u32> {
        let services = &self.have.services;
        let Some(record) = services.get(index).filter(|record| record.kind == KIND_SERVICE) else {
            return Vec::new();
        };
        let place = Place::of(record);
        let twin = |twin: &u32| services.get(*twin).is_some_and(|other| Place::of(other) == place);
        services.twins().iter().copied().filter(twin).collect()
    }

    fn touch_service(&mut self, index: u32) {
        if let Some(record) = self.have.services.get(index)
            && self.touched_services.insert(index)
        {
            self.unname(record.waypoint);
        }
    }

    fn clear(&mut self, index: u32) {
        self.groups.cleared.push(Step::Service { index, record: ServiceRecord::default() });
    }

    fn clear_the_rest(&mut self) {
        let have = self.have;
        for (index, _) in have.services.iter() {
            if !self.touched_services.contains(&index) {
                self.touch_service(index);
                self.clear(index);
            }
        }
    }

    fn plan_service(
        &mut self,
        at: usize,
        key: &'a ServiceKey,
        service: &'a Service,
        old: Option<u32>,
    ) -> Result<(), PlanError> {
        let wanted = self.words(key, service)?;
        let name = self.intern(&key.name);
        let mut record = service_record(self, key, name, service)?;
        let have = self.have;
        let place = old.and_then(|index| Some((index, have.services.get(index)?)));
        let Some((index, there)) = place else {
            let index = match self.service_at[at] {
                NONE => self.services.take(1),
                index => index,
            };
            self.write_anew(index, &mut record, &wanted);
            self.service_at[at] = index;
            return Ok(());
        };
        self.service_at[at] = index;
        let layout = self.lay_out(index, there, &record, &wanted);
        let same = length(&wanted) == there.word.count() && !layout.changes();
        let moves = !same || !same_meaning(there, &record);
        if moves && self.loses_vip(index, at) {
            let fresh = self.services.take(1);
            self.write_anew(fresh, &mut record, &wanted);
            self.clear(index);
            self.service_at[at] = fresh;
        } else {
            self.write_over(index, there, record, layout, &wanted);
        }
        Ok(())
    }

    /// Whether a VIP that leads to `index` is wanted by another service.
    fn loses_vip(&self, index: u32, at: usize) -> bool {
        let mut keys = self.have.frontends.of(FrontendKey::SERVICE, index);
        keys.any(|key| self.claims.get(&key).is_some_and(|by| *by != at))
    }

    /// How to get from the slots of `there` to `wanted`.
    fn lay_out(
        &self,
        index: u32,
        there: &ServiceRecord,
        record: &ServiceRecord,
        wanted: &[EndpointWord],
    ) -> Layout {
        let layout = Layout::in_place(self.have.slots.of(there), wanted, there.capacity);
        let steers = (there.word.flags() ^ record.word.flags()) & STEERING != 0;
        let unfit = self.have.slots.is_damaged(index) || steers && layout.overwrites();
        if unfit { Layout::Anew } else { layout }
    }

    fn write_over(
        &mut self,
        index: u32,
        there: &ServiceRecord,
        mut record: ServiceRecord,
        layout: Layout,
        wanted: &[EndpointWord],
    ) {
        let flags = record.word.flags();
        match layout {
            Layout::Anew => return self.write_anew(index, &mut record, wanted),
            Layout::InPlace { overwrites, appends } => {
                let base = there.word.base();
                let slot = |(at, word)| Step::Slot { index: base + at, word };
                self.groups.fresh_slots.extend(appends.into_iter().map(slot));
                let flips = self.groups.flips(record.kind);
                flips.slots.extend(overwrites.into_iter().map(slot));
                record.word = ServiceWord::new(base, length(wanted), flags);
                record.capacity = there.capacity;
            }
        }
        if record != *there {
            self.groups.flips(record.kind).records.push(Step::Service { index, record });
        }
    }

    /// Writes the slots to a range of their own, then the record.
    fn write_anew(&mut self, index: u32, record: &mut ServiceRecord, wanted: &[EndpointWord]) {
        let count = length(wanted);
        let (base, capacity) = match count {
            0 => (0, 0),
            _ => self.slots.take_up_to(count + (count / 8).max(1), count),
        };
        let slots = (base..).zip(wanted).map(|(index, word)| Step::Slot { index, word: *word });
        self.groups.fresh_slots.extend(slots);
        record.word = ServiceWord::new(base, count, record.word.flags());
        record.capacity = capacity;
        self.groups.flips(record.kind).records.push(Step::Service { index, record: *record });
    }

    fn words(&self, key: &ServiceKey, service: &Service) -> Result<Vec<EndpointWord>, PlanError> {
        service.endpoints.iter().map(|endpoint| self.word(key, endpoint)).collect()
    }

    fn word(&self, key: &ServiceKey, endpoint: &Endpoint) -> Result<EndpointWord, PlanError> {
        let Endpoint { workload: uid, port, family } = endpoint;
        let unknown =
            || PlanError::UnknownWorkload { service: key.to_string(), workload: uid.to_string() };
        let (index, v4, v6) = match self.uids.get(&**uid) {
            Some(at) => {
                let workload = self.change.workloads[*at].1.as_ref().ok_or_else(unknown)?;
                (self.workload_at[*at], workload.v4, workload.v6)
            }
            None if self.change.all_workloads => return Err(unknown()),
            None => {
                let index = self.have.backend(uid).ok_or_else(unknown)?;
                let record = self.have.backends.get(index).ok_or_else(unknown)?;
                (index, record.word.v4(), record.v6())
            }
        };
        let (there, name) = match family {
            Family::V4 => (v4.is_some(), "IPv4"),
            Family::V6 => (v6.is_some(), "IPv6"),
        };
        if !there {
            let (service, workload) = (key.to_string(), uid.to_string());
            return Err(PlanError::NoAddress { service, workload, family: name });
        }
        Ok(EndpointWord::new(index, *port, *family == Family::V6))
    }

    /// Services that the change does not name, but that lead to a backend that moved or goes.
    fn follow_moves(&mut self) -> Result<(), PlanError> {
        let slots = &self.have.slots;
        let leading = self.moved.keys().flat_map(|index| slots.leading_to(*index));
        let services: BTreeSet<u32> = leading.map(|(_, service)| service).collect();
        for index in services {
            let Some(there) = self.have.services.get(index) else {
                continue;
            };
            if self.touched_services.contains(&index) {
                continue;
            }
            let wanted = self.moved_words(there)?;
            let layout = self.lay_out(index, there, there, &wanted);
            self.write_over(index, there, *there, layout, &wanted);
        }
        Ok(())
    }

    fn moved_words(&self, there: &ServiceRecord) -> Result<Vec<EndpointWord>, PlanError> {
        let mut words = Vec::new();
        for word in self.have.slots.of(there) {
            let to = match self.moved.get(&word.backend()) {
                None => Some(word.backend()).filter(|at| self.have.backends.get(*at).is_some()),
                Some(None) => None,
                Some(Some(to)) => Some(self.still_dialled(there, *word, *to)?),
            };
            words.extend(to.map(|to| EndpointWord::new(to, word.port(), word.v6())));
        }
        Ok(words)
    }

    /// The new record of an endpoint's workload, if it still has an address of that family.
    fn still_dialled(
        &self,
        there: &ServiceRecord,
        word: EndpointWord,
        to: u32,
    ) -> Result<u32, PlanError> {
        let new = self.placed.get(&to).and_then(|at| self.change.workloads[*at].1.as_ref());
        let gone = new.is_some_and(|w| if word.v6() { w.v6.is_none() } else { w.v4.is_none() });
        if !gone {
            return Ok(to);
        }
        Err(PlanError::NoAddress {
            service: self.have.service_name(there),
            workload: self.have.uid(word.backend()).unwrap_or_default().to_owned(),
            family: if word.v6() { "IPv6" } else { "IPv4" },
        })
    }

    /// A waypoint that goes must be named by nothing that stays.
    pub(super) fn check_waypoints_gone(&self) -> Result<(), PlanError> {
        for step in &self.groups.cleared {
            let Step::Service { index, .. } = step else {
                continue;
            };
            let dropped = self.unnamed.get(index).copied().unwrap_or_default();
            if self.have.services.named(*index) > dropped {
                return Err(self.in_use(*index));
            }
        }
        Ok(())
    }

    fn in_use(&self, index: u32) -> PlanError {
        let names = |word: WaypointWord| word.service() == Some(index);
        let waypoint = self.have.services.get(index).map(|record| self.have.service_name(record));
        let service = self
            .have
            .services
            .iter()
            .find(|(at, record)| !self.touched_services.contains(at) && names(record.waypoint));
        let workload = self.have.backends.iter().find(|(at, record)| {
            !self.touched_backends.contains(at)
                && (names(record.waypoint_v4) || names(record.waypoint_v6))
        });
        let object = service.map(|(_, record)| self.have.service_name(record)).or_else(|| {
            workload.map(|(_, record)| format!("workload {}", self.have.record_uid(record)))
        });
        PlanError::WaypointInUse {
            waypoint: waypoint.unwrap_or_default(),
            object: object.unwrap_or_default(),
        }
    }
}

/// Whether two records steer alike, slots aside.
fn same_meaning(old: &ServiceRecord, new: &ServiceRecord) -> bool {
    old.word.flags() == new.word.flags() && old.waypoint == new.waypoint
}

fn length(words: &[EndpointWord]) -> u32 {
    u32::try_from(words.len()).unwrap_or(u32::MAX)
}
