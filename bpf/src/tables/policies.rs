//! The mirror of `kmesh_policy`: versions of policies, found by name.
//!
//! A version is immutable; a changed policy is another record. What is superseded stays while a
//! set stands for it. Of two versions that both say they are the policy (a writer died between
//! them) the first one is it. A record that cannot be read is kept for `check` to name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::names::Names;
use super::runs::Runs;
use crate::authz::Policy;
use crate::layout::PolicyRecord;
use crate::want::Name;

/// Policies by index.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    records: Vec<PolicyRecord>,
    /// What the valid records say.
    read: BTreeMap<u32, Arc<Policy>>,
    by_name: BTreeMap<Name, BTreeSet<u32>>,
    unreadable: BTreeSet<u32>,
    pub(crate) free: Runs,
}

/// Whether a record is in use.
fn in_use(record: &PolicyRecord) -> bool {
    record.flags & PolicyRecord::VALID != 0
}

fn superseded(record: &PolicyRecord) -> bool {
    record.flags & PolicyRecord::SUPERSEDED != 0
}

impl Policies {
    /// The mirror of these records: all that the map has.
    pub(crate) fn new(records: Vec<PolicyRecord>, names: &mut Names) -> Self {
        let mut policies = Self { records, ..Self::default() };
        for index in 0..policies.end() {
            let record = policies.records[index as usize];
            if in_use(&record) {
                policies.bind(index, &record, names);
            } else {
                policies.free.insert(index, 1);
            }
        }
        policies
    }

    fn end(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// Records in use.
    pub(crate) fn used(&self) -> u64 {
        self.records.len() as u64 - self.free.elements()
    }

    /// The record at `index`, if it is in use.
    pub(crate) fn record(&self, index: u32) -> Option<&PolicyRecord> {
        self.records.get(index as usize).filter(|record| in_use(record))
    }

    /// Records in use, with their indices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &PolicyRecord)> {
        (0..).zip(&self.records).filter(|(_, record)| in_use(record))
    }

    /// The policy at `index`, superseded or not.
    pub(crate) fn get(&self, index: u32) -> Option<&Arc<Policy>> {
        self.read.get(&index)
    }

    /// Every version of a policy, superseded ones too.
    pub(crate) fn versions(&self, name: &str) -> impl Iterator<Item = u32> + '_ {
        self.by_name.get(name).into_iter().flatten().copied()
    }

    /// The version that is in force.
    pub(crate) fn current(&self, name: &str) -> Option<u32> {
        self.versions(name).find(|index| self.is_current(*index))
    }

    /// Whether a version is not superseded.
    pub(crate) fn is_current(&self, index: u32) -> bool {
        self.record(index).is_some_and(|record| !superseded(record))
    }

    /// The policies in force, by name.
    pub(crate) fn in_force(&self) -> impl Iterator<Item = (u32, &Arc<Policy>)> {
        self.by_name.values().filter_map(|versions| {
            let index = versions.iter().copied().find(|index| self.is_current(*index))?;
            Some((index, self.get(index)?))
        })
    }

    /// Records in use that cannot be read.
    pub(crate) fn unreadable(&self) -> &BTreeSet<u32> {
        &self.unreadable
    }

    /// Follows a write.
    pub(crate) fn write(&mut self, index: u32, record: PolicyRecord, names: &mut Names) {
        let Some(there) = self.records.get_mut(index as usize) else {
            return;
        };
        let old = std::mem::replace(there, record);
        if in_use(&record) {
            self.free.remove(index, 1);
        }
        let same = |one: &PolicyRecord, other: &PolicyRecord| {
            PolicyRecord { flags: 0, ..*one } == PolicyRecord { flags: 0, ..*other }
        };
        if in_use(&old) && in_use(&record) && same(&old, &record) {
            return;
        }
        if in_use(&record) {
            self.bind(index, &record, names);
        }
        if in_use(&old) {
            self.unbind(index, &old, names, in_use(&record));
        }
    }

    fn bind(&mut self, index: u32, record: &PolicyRecord, names: &mut Names) {
        let held = names.retain(record.name, record.name_len)
            & names.retain_text(record.text, record.text_len);
        let text = names.text(record.text, record.text_len).filter(|_| held);
        let policy = text.and_then(|text| Policy::from_text(text).ok());
        let is_it =
            |policy: &Policy| names.text(record.name, record.name_len) == Some(&*policy.name);
        match policy.filter(is_it) {
            Some(policy) => {
                self.unreadable.remove(&index);
                self.by_name.entry(policy.name.clone()).or_default().insert(index);
                self.read.insert(index, Arc::new(policy));
            }
            None => {
                self.unreadable.insert(index);
            }
        }
    }

    fn unbind(&mut self, index: u32, old: &PolicyRecord, names: &mut Names, replaced: bool) {
        names.release(old.name, old.name_len);
        names.release(old.text, old.text_len);
        if replaced {
            return;
        }
        self.unreadable.remove(&index);
        if let Some(policy) = self.read.remove(&index)
            && let Some(versions) = self.by_name.get_mut(&policy.name)
        {
            versions.remove(&index);
            if versions.is_empty() {
                self.by_name.remove(&policy.name);
            }
        }
        self.free.insert(index, 1);
    }
}
