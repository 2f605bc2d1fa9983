//! Workloads: which record each one keeps or gets, and which records are given up.

use std::borrow::Cow;

use super::PlanError;
use super::draft::Draft;
use crate::authz::Identity;
use crate::layout::{BackendRecord, BackendWord, FrontendKey, WaypointWord};
use crate::step::Step;
use crate::tables::names_text;
use crate::want::{Family, Workload};

/// Whether a record is dialled at these addresses.
fn same_addresses(record: &BackendRecord, workload: &Workload) -> bool {
    record.word.v4() == workload.v4 && record.v6() == workload.v6
}

impl<'a> Draft<'a> {
    /// Gives every workload of the change its record; the others of its uid are given up.
    pub(super) fn plan_workloads(&mut self) -> Result<(), PlanError> {
        let change = self.change;
        for (at, (uid, workload)) in change.workloads.iter().enumerate() {
            let candidates = self.candidates(uid);
            for index in &candidates {
                self.touch_backend(*index);
            }
            let kept = match workload {
                Some(workload) => Some(self.place_workload(at, uid, workload, &candidates)?),
                None => None,
            };
            for index in candidates {
                if Some(index) != kept {
                    self.give_up(index, kept);
                }
            }
        }
        if change.all_workloads {
            self.give_up_the_rest();
        }
        Ok(())
    }

    /// Every valid record of this uid.
    fn candidates(&self, uid: &str) -> Vec<u32> {
        let Some(name) = self.have.names.find(uid) else {
            return Vec::new();
        };
        let backends = &self.have.backends;
        let twin = |index: &u32| backends.get(*index).is_some_and(|record| record.name == name);
        let twins = backends.twins().iter().copied().filter(twin);
        backends.by_name(name).into_iter().chain(twins).collect()
    }

    fn touch_backend(&mut self, index: u32) {
        if let Some(record) = self.have.backends.get(index)
            && self.touched_backends.insert(index)
        {
            self.unname(record.waypoint_v4);
            self.unname(record.waypoint_v6);
        }
    }

    fn place_workload(
        &mut self,
        at: usize,
        uid: &'a str,
        workload: &'a Workload,
        candidates: &[u32],
    ) -> Result<u32, PlanError> {
        let record = self.backend_record(uid, workload)?;
        let old = |index: &u32| self.have.backends.get(*index).copied();
        let same = |index: &&u32| old(index).is_some_and(|old| same_addresses(&old, workload));
        let kept = candidates.iter().find(same).copied();
        let kept = kept.filter(|index| old(index) == Some(record) || !self.loses(*index, at));
        let index = if let Some(index) = kept {
            if old(&index) != Some(record) {
                self.groups.backends.push(Step::Backend { index, record });
            }
            index
        } else {
            let index = self.backends.take(1);
            let step = Step::Backend { index, record };
            self.groups.new_backends.push(step);
            self.placed.insert(index, at);
            index
        };
        self.workload_at[at] = index;
        Ok(index)
    }

    /// Whether an address that leads to `index` is wanted by another workload.
    fn loses(&self, index: u32, at: usize) -> bool {
        let mut keys = self.have.frontends.of(FrontendKey::WORKLOAD, index);
        keys.any(|key| self.claims.get(&key).is_some_and(|by| *by != at))
    }

    fn backend_record(
        &mut self,
        uid: &'a str,
        workload: &'a Workload,
    ) -> Result<BackendRecord, PlanError> {
        let mut words = [WaypointWord::NONE; 2];
        if let Some(waypoint) = &workload.waypoint {
            for (word, family) in words.iter_mut().zip([Family::V4, Family::V6]) {
                if workload.addresses.iter().any(|address| Family::of(*address) == family) {
                    *word = self.waypoint(|| format!("workload {uid}"), waypoint, family)?;
                }
            }
        }
        let mut flags = BackendWord::VALID;
        if workload.v6.is_some() {
            flags |= BackendWord::V6;
        }
        if workload.is_waypoint {
            flags |= BackendWord::WAYPOINT;
        }
        if workload.addresses.is_empty() {
            flags |= BackendWord::NO_ADDRESS;
        }
        let (name, name_len) = self.intern(uid);
        let (identity, identity_len, who) = match workload.identity.as_deref() {
            Some(identity) => self.identity(identity),
            None => Default::default(),
        };
        let (policies, policies_len) = match workload.policies.as_slice() {
            [] => Default::default(),
            named => self.intern_text(Cow::Owned(names_text(named))),
        };
        Ok(BackendRecord {
            word: BackendWord::new(workload.v4, flags),
            v6: workload.v6.map(|v6| v6.octets()).unwrap_or_default(),
            waypoint_v4: words[0],
            waypoint_v6: words[1],
            name,
            identity,
            name_len,
            identity_len,
            who,
            policies,
            policies_len,
        })
    }

    /// The first chunk, length and number of an identity. What is none by its text has no number:
    /// policies take it for nobody.
    fn identity(&mut self, identity: &'a str) -> (u32, u16, u32) {
        let (name, len) = self.intern(identity);
        let known = Identity::parse(identity).is_some();
        (name, len, if known { self.numbers.of(name, identity) } else { 0 })
    }

    /// Marks a record dead; what refers to it goes to `to`, or goes.
    fn give_up(&mut self, index: u32, to: Option<u32>) {
        let Some(mut record) = self.have.backends.get(index).copied() else {
            return;
        };
        let flags = record.word.flags() & !BackendWord::VALID;
        record.word = BackendWord::new(record.word.v4(), flags);
        self.groups.dead.push(Step::Backend { index, record });
        self.moved.insert(index, to);
    }

    fn give_up_the_rest(&mut self) {
        let have = self.have;
        for (index, _) in have.backends.iter() {
            if !self.touched_backends.contains(&index) {
                self.touch_backend(index);
                self.give_up(index, None);
            }
        }
    }
}
