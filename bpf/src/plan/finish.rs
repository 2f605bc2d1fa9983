//! The order of steps: every prefix of it is safe. Why, stands in the head of [`super`].

use std::collections::BTreeSet;
use std::net::IpAddr;

use hashbrown::HashMap;

use super::draft::Draft;
use super::{Plan, PlanError};
use crate::layout::{BackendRecord, FrontendKey, Map, SettingsWords};
use crate::step::Step;

impl Draft<'_> {
    /// The steps in their order, if all of it fits.
    pub(super) fn finish(self) -> Result<Plan, PlanError> {
        self.check()?;
        let sources = self.sources();
        let (flag_on, flag_off) = (self.flag(true), self.flag(false));
        let grace = |needed: bool| if needed { vec![Step::Grace] } else { Vec::new() };
        let first = grace(self.needs_grace());
        let noted = grace(!flag_on.is_empty());
        // what a program holds from before the flips does not know the new identities
        let taught = !self.numbers.given().is_empty() && !self.have.sets.is_empty();
        let groups = self.groups;
        let flipped = grace(taught && !groups.flips.is_empty());
        let last = grace(!groups.cleared_sets.is_empty());
        let groups = [
            first,
            groups.names,
            groups.policies,
            groups.set_words,
            groups.set_chunks,
            groups.sets,
            groups.rows,
            groups.row_chunks,
            groups.identities,
            flag_on,
            noted,
            groups.flips,
            flipped,
            groups.new_backends,
            groups.fresh_slots,
            groups.removes,
            groups.waypoints.slots,
            groups.waypoints.records,
            groups.backends,
            groups.services.slots,
            groups.services.records,
            groups.settings,
            groups.managers,
            groups.puts,
            groups.cleared,
            groups.dead,
            last,
            groups.cleared_sets,
            groups.cleared_policies,
            flag_off,
        ];
        let mut steps = Vec::with_capacity(groups.iter().map(Vec::len).sum());
        steps.extend(groups.into_iter().flatten());
        let (refused, unstored) = (self.refused, self.policy.unstored);
        Ok(Plan { steps, refused, sources, unstored })
    }

    fn needs_grace(&self) -> bool {
        let pools = [&self.backends, &self.services, &self.slots];
        let sets = !self.have.sets.is_empty();
        pools.iter().any(|pool| pool.needs_grace()) || (sets && self.numbers.needs_grace())
    }

    /// Refuses what the maps cannot hold.
    fn check(&self) -> Result<(), PlanError> {
        let (puts, removes) = (&self.groups.puts, &self.groups.removes);
        let new = |step: &&Step| matches!(step, Step::Frontend { key, .. } if self.have.frontends.get(key).is_none());
        let added = puts.iter().filter(new).count();
        let needed = (self.have.frontends.len() + added - removes.len()) as u64;
        let limit = self.have.limits().frontends;
        if needed > u64::from(limit) && added > 0 {
            return Err(PlanError::Full { map: Map::Frontend, needed, limit });
        }
        let auth = [&self.policies, &self.sets, &self.auth_words, &self.auth_chunks];
        let pools = [&self.backends, &self.services, &self.slots, &self.names];
        pools.into_iter().chain(auth).try_for_each(super::pool::Pool::check)
    }

    /// The step that sets or clears the flag of policies.
    fn flag(&self, on: bool) -> Vec<Step> {
        if self.set.flag != Some(on) {
            return Vec::new();
        }
        let there = self.have.settings.flags();
        let index = 0;
        let written = self.groups.settings.iter().find_map(|step| match step {
            Step::Setting { index: 0, word } => Some(*word),
            _ => None,
        });
        let word = if on {
            there | SettingsWords::POLICIES
        } else {
            written.unwrap_or(there) & !SettingsWords::POLICIES
        };
        vec![Step::Setting { index, word }]
    }

    /// Addresses whose identity comes, goes or changes, while some set is in force.
    fn sources(&self) -> Vec<IpAddr> {
        let (have, groups) = (self.have, &self.groups);
        if have.sets.is_empty() {
            return Vec::new();
        }
        let records = groups.new_backends.iter().chain(&groups.backends);
        let records: HashMap<u32, &BackendRecord> = records
            .filter_map(|step| match step {
                Step::Backend { index, record } => Some((*index, record)),
                _ => None,
            })
            .collect();
        let who = |index: u32| have.backends.get(index).map_or(0, |record| record.who);
        let new = |index: u32| records.get(&index).map_or_else(|| who(index), |new| new.who);
        let mut sources = BTreeSet::new();
        for step in groups.puts.iter().chain(&groups.removes) {
            let (key, to) = match step {
                Step::Frontend { key, word } => (key, new(word.index())),
                Step::RemoveFrontend { key } => (key, 0),
                _ => continue,
            };
            let from = have.frontends.get(key).map_or(0, |word| who(word.index()));
            if key.kind() == FrontendKey::WORKLOAD && from != to {
                sources.insert(key.address());
            }
        }
        for (index, record) in &records {
            if who(*index) != record.who {
                let keys = have.frontends.of(FrontendKey::WORKLOAD, *index);
                sources.extend(keys.map(|key| key.address()));
            }
        }
        sources.into_iter().collect()
    }
}
