//! Does to the mirror what a successful step did to the maps.

use super::Have;
use crate::layout::{ManagerWord, MetaRecord};
use crate::step::Step;

impl Have {
    /// Does to the mirror what a successful write of `step` did to the maps.
    pub fn follow(&mut self, step: &Step) {
        match *step {
            Step::Grace => {
                self.identities.absorb();
                self.backends.free.absorb(&mut self.backends.quarantine);
                self.services.free.absorb(&mut self.services.quarantine);
                self.slots.free.absorb(&mut self.slots.quarantine);
            }
            Step::Name { chunk, bytes } => self.names.write(chunk, bytes),
            Step::Backend { index, record } => {
                let old = self.backends.get(index).copied();
                self.backends.write(index, record, &mut self.names);
                if self.backends.get(index).is_some() {
                    self.services.name(record.waypoint_v4);
                    self.services.name(record.waypoint_v6);
                    self.identities.retain(&record);
                }
                if let Some(old) = old {
                    self.services.unname(old.waypoint_v4);
                    self.services.unname(old.waypoint_v6);
                    self.identities.release(&old);
                }
            }
            Step::Slot { index, word } => self.slots.write(index, word),
            Step::Service { index, record } => {
                let old = self.services.write(index, record, &mut self.names);
                self.slots.own(index, &old, &record);
            }
            Step::Frontend { key, word } => self.frontends.insert(key, word),
            Step::RemoveFrontend { key } => self.frontends.remove(&key),
            Step::Manager { cookie, word } => self.note_manager(cookie, Some(word)),
            Step::Policy { index, record } => {
                self.policies.write(index, record, &mut self.names);
            }
            Step::AuthWord { index, word } => self.sets.write_word(index, word),
            Step::AuthChunk { index, .. } => self.sets.write_chunk(index),
            Step::AuthSet { set, ref record, ref made } => {
                self.sets.write(set, **record, made.clone(), &mut self.names);
            }
            Step::Setting { index, word } => {
                if let Some(there) = self.settings.0.get_mut(index as usize) {
                    *there = word;
                }
            }
        }
    }

    /// Follows the write of `kmesh_meta`: what lies below its ends exists from now on.
    pub(crate) fn follow_meta(&mut self, meta: MetaRecord) {
        self.names.grow(meta.names_end);
        self.backends.grow(meta.backends_end);
        self.services.grow(meta.services_end);
        self.slots.grow(meta.endpoints_end, meta.backends_end);
        self.frontends.grow(meta.services_end, meta.backends_end);
        self.meta = meta;
    }

    /// Says who writes: from now on each transaction signs `kmesh_meta` so.
    pub fn sign(&mut self, pid: u32, start: u64) {
        self.signature = (pid, start);
    }

    /// Tells the mirror what was written to `map_of_manager` outside of a plan.
    pub fn note_manager(&mut self, cookie: u64, word: Option<ManagerWord>) {
        match word {
            Some(word) => self.managers.insert(cookie, word),
            None => self.managers.remove(&cookie),
        };
    }
}
