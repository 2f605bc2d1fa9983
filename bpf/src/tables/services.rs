//! The mirror of `kmesh_service`: records, found by name, port, family and kind.

use std::collections::{BTreeSet, HashMap};

use super::names::Names;
use super::runs::Runs;
use super::{NONE, NameIndex};
use crate::layout::{ServiceRecord, ServiceWord, WaypointWord};

/// What a record is found by; the name by its first chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) name: u32,
    pub(crate) port: u16,
    pub(crate) family: u8,
    pub(crate) kind: u8,
}

impl Place {
    /// What this record is found by.
    pub(crate) fn of(record: &ServiceRecord) -> Self {
        let ServiceRecord { name, port, family, kind, .. } = *record;
        Self { name, port, family, kind }
    }

    fn key(self) -> u64 {
        u64::from(self.name) << 32
            | u64::from(self.port) << 16
            | u64::from(self.family) << 8
            | u64::from(self.kind)
    }
}

/// Services by index.
#[derive(Debug, Default)]
pub(crate) struct Services {
    records: Vec<ServiceRecord>,
    by_place: NameIndex,
    twins: BTreeSet<u32>,
    nameless: BTreeSet<u32>,
    /// How many waypoint words name each service.
    named: HashMap<u32, u32>,
    pub(crate) free: Runs,
    pub(crate) quarantine: Runs,
    /// Referred to though not in use: not to be given away.
    pub(crate) reserved: BTreeSet<u32>,
}

/// Whether a record is in use.
pub(crate) fn in_use(record: &ServiceRecord) -> bool {
    record.word.has(ServiceWord::VALID)
}

fn key(record: &ServiceRecord) -> u64 {
    Place::of(record).key()
}

impl Services {
    /// The mirror of these records; every valid one takes its name.
    pub(crate) fn new(records: Vec<ServiceRecord>, names: &mut Names) -> Self {
        let mut services = Self { records, ..Self::default() };
        services.by_place.reserve(services.records.len());
        for index in 0..services.end() {
            let record = services.records[index as usize];
            if in_use(&record) {
                services.bind(index, &record, names);
            }
        }
        services
    }

    /// Makes room for records below `end`.
    pub(crate) fn grow(&mut self, end: u32) {
        let end = (end as usize).max(self.records.len());
        self.records.resize(end, ServiceRecord::default());
    }

    /// The first index that was never used.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(NONE)
    }

    /// The record at `index`, if it is in use.
    pub(crate) fn get(&self, index: u32) -> Option<&ServiceRecord> {
        self.records.get(index as usize).filter(|record| in_use(record))
    }

    /// Every record, in use or not.
    pub(crate) fn all(&self) -> &[ServiceRecord] {
        &self.records
    }

    /// Records in use, with their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &ServiceRecord)> {
        (0..).zip(&self.records).filter(|(_, record)| in_use(record))
    }

    /// The record of that name, port, family and kind.
    pub(crate) fn at(&self, place: Place) -> Option<u32> {
        let same = |index: u32| Place::of(&self.records[index as usize]) == place;
        self.by_place.find(place.key(), same)
    }

    /// Other valid records of a service that is found elsewhere.
    pub(crate) fn twins(&self) -> &BTreeSet<u32> {
        &self.twins
    }

    /// Records in use whose name cannot be read.
    pub(crate) fn nameless(&self) -> &BTreeSet<u32> {
        &self.nameless
    }

    /// How many waypoint words name this service.
    pub(crate) fn named(&self, index: u32) -> u32 {
        self.named.get(&index).copied().unwrap_or_default()
    }

    /// Follows a waypoint word that comes.
    pub(crate) fn name(&mut self, word: WaypointWord) {
        if let Some(index) = word.service() {
            *self.named.entry(index).or_default() += 1;
        }
    }

    /// Follows a waypoint word that goes.
    pub(crate) fn unname(&mut self, word: WaypointWord) {
        let Some(index) = word.service() else { return };
        if let Some(count) = self.named.get_mut(&index) {
            *count -= 1;
            if *count == 0 {
                self.named.remove(&index);
            }
        }
    }

    /// See [`super::backends::Backends::find_free`].
    pub(crate) fn find_free(&mut self, reserved: BTreeSet<u32>) {
        for index in 0..self.end() {
            if self.get(index).is_none() && !reserved.contains(&index) {
                self.quarantine.insert(index, 1);
            }
        }
        self.reserved = reserved;
    }

    /// Follows a write; the old record is the answer.
    pub(crate) fn write(
        &mut self,
        index: u32,
        record: ServiceRecord,
        names: &mut Names,
    ) -> ServiceRecord {
        let Some(there) = self.records.get_mut(index as usize) else {
            return record;
        };
        let old = std::mem::replace(there, record);
        if in_use(&old) {
            self.unname(old.waypoint);
        }
        if in_use(&record) {
            self.name(record.waypoint);
        }
        if in_use(&old) && in_use(&record) && Place::of(&old) == Place::of(&record) {
            return old;
        }
        if in_use(&old) {
            self.unbind(index, &old, names);
        }
        if in_use(&record) {
            self.free.remove(index, 1);
            self.quarantine.remove(index, 1);
            self.bind_place(index, &record, names);
        } else if in_use(&old) {
            self.quarantine.insert(index, 1);
        }
        old
    }

    fn bind(&mut self, index: u32, record: &ServiceRecord, names: &mut Names) {
        self.name(record.waypoint);
        self.bind_place(index, record, names);
    }

    fn bind_place(&mut self, index: u32, record: &ServiceRecord, names: &mut Names) {
        if !names.retain(record.name, record.name_len) {
            self.nameless.insert(index);
        } else if self.at(Place::of(record)).is_some() {
            self.twins.insert(index);
        } else {
            self.by_place.insert(key(record), index, |at| key(&self.records[at as usize]));
        }
    }

    fn unbind(&mut self, index: u32, record: &ServiceRecord, names: &mut Names) {
        if self.nameless.remove(&index) {
            return;
        }
        if !self.twins.remove(&index) {
            self.by_place.remove(key(record), index);
            let place = Place::of(record);
            let same = |twin: &&u32| Place::of(&self.records[**twin as usize]) == place;
            if let Some(twin) = self.twins.iter().find(same).copied() {
                self.twins.remove(&twin);
                self.by_place.insert(key(record), twin, |at| key(&self.records[at as usize]));
            }
        }
        names.release(record.name, record.name_len);
    }
}
