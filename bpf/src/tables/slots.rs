//! The mirror of `kmesh_endpoint`: slots, the ranges that services own, and for each backend
//! the chain of reachable slots that lead to it.
//!
//! Ranges that overlap or lie beyond the end are kept and marked damaged: they are never
//! written in place and never given to another before the next reading.

use std::collections::{BTreeMap, BTreeSet};

use super::NONE;
use super::runs::Runs;
use crate::layout::{EndpointWord, ServiceRecord};

/// Not in any chain.
const UNLINKED: u32 = NONE - 1;

/// What a service owns from its base on.
#[derive(Clone, Copy, Debug)]
struct Extent {
    capacity: u32,
    count: u32,
}

/// Slots and ranges.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    words: Vec<EndpointWord>,
    next: Vec<u32>,
    /// First reachable slot of each backend.
    heads: Vec<u32>,
    /// By (base, service).
    ranges: BTreeMap<(u32, u32), Extent>,
    damaged: BTreeSet<u32>,
    pub(crate) free: Runs,
    pub(crate) quarantine: Runs,
}

impl Slots {
    /// The mirror of these words, no service known yet.
    pub(crate) fn new(words: Vec<EndpointWord>, backends: u32) -> Self {
        let next = vec![UNLINKED; words.len()];
        Self { words, next, heads: vec![NONE; backends as usize], ..Self::default() }
    }

    /// Makes room for slots and backends below these ends.
    pub(crate) fn grow(&mut self, slots: u32, backends: u32) {
        let slots = (slots as usize).max(self.words.len());
        self.words.resize(slots, EndpointWord::default());
        self.next.resize(slots, UNLINKED);
        let backends = (backends as usize).max(self.heads.len());
        self.heads.resize(backends, NONE);
    }

    /// The word of a slot; zero beyond the end.
    #[cfg(test)]
    pub(crate) fn word(&self, slot: u32) -> EndpointWord {
        self.words.get(slot as usize).copied().unwrap_or_default()
    }

    /// The reachable words of a service.
    pub(crate) fn of(&self, record: &ServiceRecord) -> &[EndpointWord] {
        let base = (record.word.base() as usize).min(self.words.len());
        let end = (base + record.word.count() as usize).min(self.words.len());
        &self.words[base..end]
    }

    /// Whether the range of this service overlaps another or the end.
    pub(crate) fn is_damaged(&self, service: u32) -> bool {
        self.damaged.contains(&service)
    }

    /// Whether that of any service does.
    pub(crate) fn any_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// The services with such ranges.
    #[cfg(test)]
    pub(crate) fn damaged(&self) -> &BTreeSet<u32> {
        &self.damaged
    }

    /// Slots that no range owns and that wait for nothing.
    pub(crate) fn used(&self) -> u64 {
        self.words.len() as u64 - self.free.elements() - self.quarantine.elements()
    }

    /// The reachable slots that lead to `backend`, with the service that each belongs to.
    pub(crate) fn leading_to(&self, backend: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut at = self.heads.get(backend as usize).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let slot = at;
            at = *self.next.get(slot as usize)?;
            Some((slot, self.owner(slot).unwrap_or(NONE)))
        })
    }

    /// The service through which `slot` is reachable.
    fn owner(&self, slot: u32) -> Option<u32> {
        let ((base, service), extent) = self.ranges.range(..=(slot, NONE)).next_back()?;
        (slot - base < extent.count).then_some(*service)
    }

    fn link(&mut self, slot: u32) {
        let Some(word) = self.words.get(slot as usize) else {
            return;
        };
        let Some(head) = self.heads.get_mut(word.backend() as usize) else {
            return;
        };
        if word.valid() && self.next[slot as usize] == UNLINKED {
            self.next[slot as usize] = std::mem::replace(head, slot);
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(&next) = self.next.get(slot as usize) else {
            return;
        };
        if next == UNLINKED {
            return;
        }
        self.next[slot as usize] = UNLINKED;
        let Some(head) = self.heads.get_mut(self.words[slot as usize].backend() as usize) else {
            return;
        };
        let mut here = *head;
        if here == slot {
            *head = next;
            return;
        }
        while let Some(there) = self.next.get_mut(here as usize) {
            if *there == slot {
                *there = next;
                return;
            }
            here = *there;
        }
    }

    /// Follows the write of a slot.
    pub(crate) fn write(&mut self, slot: u32, word: EndpointWord) {
        if slot as usize >= self.words.len() {
            return;
        }
        self.unlink(slot);
        self.words[slot as usize] = word;
        self.free.remove(slot, 1);
        self.quarantine.remove(slot, 1);
        if self.owner(slot).is_some() {
            self.link(slot);
        }
    }

    /// Follows the write of service `service`: from the old record's range to the new one's.
    pub(crate) fn own(&mut self, service: u32, old: &ServiceRecord, new: &ServiceRecord) {
        let (from, to) = (old.word, new.word);
        if old.capacity > 0 && from.base() == to.base() && old.capacity == new.capacity {
            for slot in to.count()..from.count() {
                self.unlink(from.base() + slot);
            }
            if let Some(extent) = self.ranges.get_mut(&(to.base(), service)) {
                extent.count = to.count();
            }
            for slot in from.count()..to.count() {
                self.link(to.base() + slot);
            }
            return;
        }
        self.disown(service, old);
        self.claim(service, new);
    }

    fn disown(&mut self, service: u32, record: &ServiceRecord) {
        let base = record.word.base();
        let Some(extent) = self.ranges.remove(&(base, service)) else {
            return;
        };
        for slot in base..base + extent.count {
            self.unlink(slot);
        }
        if !self.damaged.remove(&service) {
            self.quarantine.insert(base, extent.capacity);
        }
    }

    /// Takes the range of a valid record; a range that cannot be is clipped and marked.
    pub(crate) fn claim(&mut self, service: u32, record: &ServiceRecord) {
        let base = record.word.base();
        let end = u32::try_from(self.words.len()).unwrap_or(NONE);
        let wanted = record.capacity.max(record.word.count());
        let capacity = wanted.min(end.saturating_sub(base));
        if wanted == 0 {
            return;
        }
        let count = record.word.count().min(capacity);
        if capacity < record.capacity || record.word.count() > record.capacity {
            self.damaged.insert(service);
        }
        self.mark_overlaps(service, base, capacity);
        self.ranges.insert((base, service), Extent { capacity, count });
        self.free.remove(base, capacity);
        self.quarantine.remove(base, capacity);
        for slot in base..base + count {
            self.link(slot);
        }
    }

    fn mark_overlaps(&mut self, service: u32, base: u32, capacity: u32) {
        let before = self.ranges.range(..(base, 0)).next_back();
        let before = before.filter(|((start, _), extent)| start + extent.capacity > base);
        let behind = self.ranges.range((base, 0)..(base + capacity, 0));
        let others: Vec<u32> = before.into_iter().chain(behind).map(|((_, own), _)| *own).collect();
        if !others.is_empty() {
            self.damaged.insert(service);
            self.damaged.extend(others);
        }
    }

    /// After all services are read: what none of them owns may still be in some program's hand.
    pub(crate) fn find_free(&mut self) {
        let mut at = 0;
        for ((base, _), extent) in &self.ranges {
            if *base > at {
                self.quarantine.insert(at, base - at);
            }
            at = at.max(base + extent.capacity);
        }
        let end = u32::try_from(self.words.len()).unwrap_or(NONE);
        self.quarantine.insert(at, end.saturating_sub(at));
    }
}
