//! Workloads: which record each one keeps or gets, and which records are given up.

use super::PlanError;
use super::draft::Draft;
use super::record::backend_record;
use crate::layout::{BackendRecord, BackendWord, FrontendKey};
use crate::step::Step;
use crate::want::Workload;

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
        let name = self.intern(uid);
        let record = backend_record(self, uid, name, workload)?;
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
