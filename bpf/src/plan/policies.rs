//! Policies: which record each one keeps or gets, and which versions are superseded.
//!
//! A changed policy is a new record, written before the old one is marked. What no set stands for
//! is cleared at the end. A policy that has no room is refused by itself: see [`Refused`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::draft::Draft;
use super::refused::{Refused, Why};
use crate::authz::Policy;
use crate::layout::{Map, PolicyRecord};
use crate::step::Step;
use crate::tables::chunks_of;
use crate::want::Name;

/// What becomes of the policies.
#[derive(Debug, Default)]
pub(super) struct Placing<'a> {
    /// Whether any is another than before.
    pub(super) changed: bool,
    /// The version in force of each policy that the change names; `None`: it goes.
    pub(super) now: BTreeMap<&'a str, Option<u32>>,
    /// New records.
    pub(super) fresh: HashMap<u32, &'a Arc<Policy>>,
    /// Versions that are no longer the policy.
    pub(super) retired: HashSet<u32>,
    /// Policies that have no room, of earlier changes too.
    pub(super) unstored: BTreeMap<Name, Arc<Policy>>,
    /// Versions that some set stands for.
    listed: HashSet<u32>,
}

impl<'a> Draft<'a> {
    /// Gives every policy of the change its record.
    pub(super) fn plan_policies(&mut self) {
        let change = self.change;
        self.policy.unstored = self.have.unstored.clone();
        if change.policies.is_empty() && !change.all_policies {
            return;
        }
        let lists = self.have.sets.iter().filter_map(|(_, held)| held.list.as_deref());
        self.policy.listed = lists.flatten().copied().collect();
        if change.all_policies {
            self.policy.unstored.clear();
        }
        for (name, policy) in &change.policies {
            self.policy.unstored.remove(name);
            match policy {
                Some(policy) => self.place_policy(name, policy),
                None => self.settle_policy(name, None),
            }
        }
        if change.all_policies {
            self.retire_the_rest();
        }
        self.policy.changed |= self.policy.unstored != self.have.unstored;
    }

    fn place_policy(&mut self, name: &'a Name, policy: &'a Arc<Policy>) {
        let have = self.have;
        let text = policy.to_text();
        let start = have.names.find(&text);
        let same = |index: &u32| have.policies.record(*index).map(|record| record.text) == start;
        let twins: Vec<u32> = have.policies.versions(name).filter(same).collect();
        let current = twins.iter().copied().find(|index| have.policies.is_current(*index));
        if let Some(index) = current {
            return self.settle_policy(name, Some(index));
        }
        if let Some((index, record)) =
            twins.first().and_then(|index| Some((*index, *have.policies.record(*index)?)))
        {
            let record = PolicyRecord { flags: PolicyRecord::VALID, ..record };
            self.write_policy(index, record);
            return self.settle_policy(name, Some(index));
        }
        if let Some(why) = self.no_room(name, &text) {
            self.refused.push(Refused { policies: vec![name.clone()], why });
            self.policy.unstored.insert(name.clone(), policy.clone());
            // what was in force stays
            self.policy.now.insert(name, None);
            return;
        }
        let index = self.policies.take(1);
        let (name_at, name_len) = self.intern(name);
        let (text, text_len) = self.intern_text(Cow::Owned(text));
        let flags = PolicyRecord::VALID;
        let record = PolicyRecord { flags, name: name_at, text, text_len, name_len, pad: [0; 3] };
        self.write_policy(index, record);
        self.policy.fresh.insert(index, policy);
        self.settle_policy(name, Some(index));
    }

    fn no_room(&self, name: &str, text: &str) -> Option<Why> {
        let full = |map, needed| {
            let limit = self.have.limits().of(map);
            Some(Why::Full { map, needed: u64::from(needed), limit })
        };
        if !self.policies.has_room(1) {
            return full(Map::Policy, 1);
        }
        let name = self.interned(name).map_or_else(|| chunks_of(name.len()), |_| 0);
        let needed = name + chunks_of(text.len());
        if self.names.has_room(needed) { None } else { full(Map::Names, needed) }
    }

    fn write_policy(&mut self, index: u32, record: PolicyRecord) {
        self.policy.changed = true;
        self.groups.policies.push(Step::Policy { index, record });
    }

    /// From now on this version is the policy, and no other.
    fn settle_policy(&mut self, name: &'a str, kept: Option<u32>) {
        let have = self.have;
        self.policy.now.insert(name, kept);
        for index in have.policies.versions(name).filter(|index| Some(*index) != kept) {
            self.retire(index);
        }
    }

    /// What a set stands for is marked; anything else is cleared at once.
    fn retire(&mut self, index: u32) {
        let have = self.have;
        let Some(record) = have.policies.record(index) else { return };
        if !self.policy.listed.contains(&index) {
            self.write_policy(index, PolicyRecord::default());
        } else if record.flags & PolicyRecord::SUPERSEDED == 0 {
            let flags = PolicyRecord::VALID | PolicyRecord::SUPERSEDED;
            self.write_policy(index, PolicyRecord { flags, ..*record });
        }
        self.policy.retired.insert(index);
    }

    /// What a complete change does not name, and what cannot be read.
    fn retire_the_rest(&mut self) {
        let have = self.have;
        let named = |index: &u32| {
            let policy = have.policies.get(*index);
            policy.is_some_and(|policy| self.policy.now.contains_key(&*policy.name))
        };
        let all = have.policies.iter().map(|(index, _)| index);
        let rest: Vec<u32> = all.filter(|index| !named(index)).collect();
        for index in rest {
            self.retire(index);
        }
    }

    /// The policy of this version, in the tables or about to be.
    pub(super) fn policy_at(&self, index: u32) -> Option<&'a Arc<Policy>> {
        self.policy.fresh.get(&index).copied().or_else(|| self.have.policies.get(index))
    }

    /// Versions that are no longer the policy and that no set stands for any more. `stays`: what
    /// sets still stand for.
    pub(super) fn clear_policies(&mut self, stays: &HashSet<u32>) {
        let policies = &self.have.policies;
        let now: HashSet<u32> = self.policy.now.values().flatten().copied().collect();
        for (index, _) in policies.iter() {
            let retired = self.policy.retired.contains(&index);
            let superseded = policies.get(index).is_some() && !policies.is_current(index);
            let listed = self.policy.listed.contains(&index);
            let gone = (retired && listed) || (superseded && !retired);
            if gone && !now.contains(&index) && !stays.contains(&index) {
                let record = PolicyRecord::default();
                self.groups.cleared_policies.push(Step::Policy { index, record });
            }
        }
    }
}
