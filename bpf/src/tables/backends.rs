//! The mirror of `kmesh_backend`: records, found by uid.
//!
//! Two valid records of one uid (a writer died between them) are both kept: one is found, the
//! other is its twin.

use std::collections::BTreeSet;

use super::names::Names;
use super::runs::Runs;
use super::{NONE, NameIndex};
use crate::layout::{BackendRecord, BackendWord};

/// Workloads by index.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    records: Vec<BackendRecord>,
    by_uid: NameIndex,
    twins: BTreeSet<u32>,
    nameless: BTreeSet<u32>,
    pub(crate) free: Runs,
    pub(crate) quarantine: Runs,
    /// Referred to though not in use: not to be given away.
    pub(crate) reserved: BTreeSet<u32>,
}

/// Whether a record is in use.
pub(crate) fn in_use(record: &BackendRecord) -> bool {
    record.word.has(BackendWord::VALID)
}

/// Takes what a record refers to besides its name.
fn retain_others(record: &BackendRecord, names: &mut Names) {
    if record.identity_len > 0 {
        names.retain(record.identity, record.identity_len);
    }
    if record.policies_len > 0 {
        names.retain_text(record.policies, record.policies_len);
    }
}

/// Gives it back.
fn release_others(record: &BackendRecord, names: &mut Names) {
    names.release(record.identity, record.identity_len);
    names.release(record.policies, record.policies_len);
}

fn key(record: &BackendRecord) -> u64 {
    record.name.into()
}

impl Backends {
    /// The mirror of these records; every valid one takes its names.
    pub(crate) fn new(records: Vec<BackendRecord>, names: &mut Names) -> Self {
        let mut backends = Self { records, ..Self::default() };
        backends.by_uid.reserve(backends.records.len());
        for index in 0..backends.end() {
            let record = backends.records[index as usize];
            if in_use(&record) {
                backends.bind(index, &record, names);
            }
        }
        backends
    }

    /// Makes room for records below `end`.
    pub(crate) fn grow(&mut self, end: u32) {
        let end = (end as usize).max(self.records.len());
        self.records.resize(end, BackendRecord::default());
    }

    /// The first index that was never used.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(NONE)
    }

    /// The record at `index`, if it is in use.
    pub(crate) fn get(&self, index: u32) -> Option<&BackendRecord> {
        self.records.get(index as usize).filter(|record| in_use(record))
    }

    /// Every record, in use or not: dead ones keep what programs may still read.
    pub(crate) fn all(&self) -> &[BackendRecord] {
        &self.records
    }

    /// Records in use, with their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &BackendRecord)> {
        (0..).zip(&self.records).filter(|(_, record)| in_use(record))
    }

    /// The record whose uid starts at this chunk.
    pub(crate) fn by_name(&self, name: u32) -> Option<u32> {
        self.by_uid.find(name.into(), |index| self.records[index as usize].name == name)
    }

    /// Other valid records of a uid that is found elsewhere.
    pub(crate) fn twins(&self) -> &BTreeSet<u32> {
        &self.twins
    }

    /// Records in use whose uid cannot be read.
    pub(crate) fn nameless(&self) -> &BTreeSet<u32> {
        &self.nameless
    }

    /// After all references are read: what is not in use may still be in some program's hand;
    /// what is referred to all the same is left alone.
    pub(crate) fn find_free(&mut self, reserved: BTreeSet<u32>) {
        for index in 0..self.end() {
            if self.get(index).is_none() && !reserved.contains(&index) {
                self.quarantine.insert(index, 1);
            }
        }
        self.reserved = reserved;
    }

    /// Follows a write.
    pub(crate) fn write(&mut self, index: u32, record: BackendRecord, names: &mut Names) {
        let Some(there) = self.records.get_mut(index as usize) else {
            return;
        };
        let old = std::mem::replace(there, record);
        if in_use(&record) && in_use(&old) && record.name == old.name {
            retain_others(&record, names);
            release_others(&old, names);
            return;
        }
        if in_use(&old) {
            self.unbind(index, &old, names);
        }
        if in_use(&record) {
            self.free.remove(index, 1);
            self.quarantine.remove(index, 1);
            self.bind(index, &record, names);
        } else if in_use(&old) {
            self.quarantine.insert(index, 1);
        }
    }

    fn bind(&mut self, index: u32, record: &BackendRecord, names: &mut Names) {
        retain_others(record, names);
        if !names.retain(record.name, record.name_len) {
            self.nameless.insert(index);
        } else if self.by_name(record.name).is_some() {
            self.twins.insert(index);
        } else {
            self.by_uid.insert(key(record), index, |at| key(&self.records[at as usize]));
        }
    }

    fn unbind(&mut self, index: u32, record: &BackendRecord, names: &mut Names) {
        release_others(record, names);
        if self.nameless.remove(&index) {
            return;
        }
        if !self.twins.remove(&index) {
            self.by_uid.remove(key(record), index);
            let name = |twin: &&u32| self.records[**twin as usize].name == record.name;
            if let Some(twin) = self.twins.iter().find(name).copied() {
                self.twins.remove(&twin);
                self.by_uid.insert(key(record), twin, |at| key(&self.records[at as usize]));
            }
        }
        names.release(record.name, record.name_len);
    }
}
