//! The mirror of `kmesh_auth_set` and `kmesh_auth_word`: policy sets, found by the policies that
//! they were compiled from, and what is free for others.
//!
//! A set is cleared only after a grace period, so its number and its places are free at once. Of
//! the words only those of identities are looked at here. A set that this process wrote keeps
//! what it was compiled to: it can take more identities.

use std::collections::BTreeMap;

use super::names::Names;
use super::runs::Runs;
use crate::authz::CLASSIFIED;
use crate::layout::{AuthSetRecord, POLICY_WAIT};
use crate::step::Made;

/// A set in use.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) record: AuthSetRecord,
    /// Indices of its policies; `None` where they cannot be read.
    pub(crate) list: Option<Vec<u32>>,
    /// What it was compiled to, if this process did that; as much of it is in the maps.
    pub(crate) made: Option<Made>,
}

/// Sets by number.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    held: BTreeMap<u16, Held>,
    by_list: BTreeMap<Vec<u32>, u16>,
    /// Number by the set's first word, and by its first chunk.
    by_word: BTreeMap<u32, u16>,
    by_chunk: BTreeMap<u32, u16>,
    words: Vec<u64>,
    /// Places that the maps have: numbers, words, chunks.
    limits: [u32; 3],
    pub(crate) free: Runs,
    pub(crate) free_words: Runs,
    pub(crate) free_chunks: Runs,
}

fn in_use(record: &AuthSetRecord) -> bool {
    record.flags & AuthSetRecord::VALID != 0
}

/// The list of policies as a set's record leads to it.
pub(crate) fn list_text(list: &[u32]) -> String {
    serde_json::to_string(list).unwrap_or_default()
}

impl Sets {
    /// The mirror of these records, all that the map has, and of the words below the last set's
    /// end. `limits`: words, chunks.
    pub(crate) fn new(
        records: &[AuthSetRecord],
        words: Vec<u64>,
        limits: (u32, u32),
        names: &mut Names,
    ) -> Self {
        let numbers = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let limits = [numbers.min(POLICY_WAIT.into()), limits.0, limits.1];
        let mut sets = Self { words, limits, ..Self::default() };
        sets.free.insert(1, limits[0].saturating_sub(1));
        sets.free_words.insert(0, limits[1]);
        sets.free_chunks.insert(0, limits[2]);
        for (number, record) in (0_u16..POLICY_WAIT).zip(records) {
            if number > 0 && in_use(record) {
                sets.bind(number, *record, None, names);
            }
        }
        sets
    }

    /// Sets in use.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Held)> {
        self.held.iter().map(|(number, held)| (*number, held))
    }

    /// A set in use.
    pub(crate) fn get(&self, number: u16) -> Option<&Held> {
        self.held.get(&number)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The set that was compiled from exactly these policies.
    pub(crate) fn find(&self, list: &[u32]) -> Option<u16> {
        self.by_list.get(list).copied()
    }

    /// Sets, words and chunks in use, room included.
    pub(crate) fn used(&self) -> [u64; 3] {
        let [_, words, chunks] = self.limits.map(u64::from);
        let free = [&self.free_words, &self.free_chunks].map(Runs::elements);
        [self.held.len() as u64, words - free[0], chunks - free[1]]
    }

    /// An identity's word in a set; `None` where the set has no room for its number.
    pub(crate) fn word(&self, record: &AuthSetRecord, who: u32) -> Option<u64> {
        let run = record.identities;
        let place = record.words.checked_add(run.at)?.checked_add(who)?;
        (who < run.count).then(|| self.words.get(place as usize).copied().unwrap_or_default())
    }

    /// Whether a set knows this identity.
    pub(crate) fn classifies(&self, record: &AuthSetRecord, who: u32) -> bool {
        self.word(record, who).is_some_and(|word| word & CLASSIFIED != 0)
    }

    /// Follows the write of a word.
    pub(crate) fn write_word(&mut self, index: u32, word: u64) {
        let end = self.words.len().max(index as usize + 1);
        self.words.resize(end, 0);
        self.words[index as usize] = word;
        let set = self.by_word.range(..=index).next_back();
        if let Some(held) = set.and_then(|(_, number)| self.held.get_mut(number))
            && index - held.record.words < held.record.words_room
            && let Some(made) = &mut held.made
        {
            made.words = made.words.max(index - held.record.words + 1);
        }
    }

    /// Follows the write of a chunk.
    pub(crate) fn write_chunk(&mut self, index: u32) {
        let set = self.by_chunk.range(..=index).next_back();
        if let Some(held) = set.and_then(|(_, number)| self.held.get_mut(number))
            && index - held.record.chunks < held.record.chunks_room
            && let Some(made) = &mut held.made
        {
            made.chunks = made.chunks.max(index - held.record.chunks + 1);
        }
    }

    /// Follows the write of a record.
    pub(crate) fn write(
        &mut self,
        number: u16,
        record: AuthSetRecord,
        made: Option<Made>,
        names: &mut Names,
    ) {
        let old = self.held.remove(&number);
        if in_use(&record) {
            self.bind(number, record, made, names);
        }
        if let Some(old) = old {
            self.unbind(number, &old, names);
        }
    }

    fn bind(&mut self, number: u16, record: AuthSetRecord, made: Option<Made>, names: &mut Names) {
        let list = names
            .retain_text(record.policies, record.policies_len)
            .then(|| names.text(record.policies, record.policies_len))
            .flatten()
            .and_then(|text| serde_json::from_str::<Vec<u32>>(text).ok());
        if let Some(list) = &list {
            self.by_list.entry(list.clone()).or_insert(number);
        }
        self.by_word.insert(record.words, number);
        self.by_chunk.insert(record.chunks, number);
        self.free.remove(number.into(), 1);
        self.free_words.remove(record.words, record.words_room);
        self.free_chunks.remove(record.chunks, record.chunks_room);
        self.held.insert(number, Held { record, list, made });
    }

    fn unbind(&mut self, number: u16, old: &Held, names: &mut Names) {
        let record = &old.record;
        names.release(record.policies, record.policies_len);
        if let Some(list) = &old.list
            && self.find(list) == Some(number)
            && !self.held.contains_key(&number)
        {
            self.by_list.remove(list);
            let twin = self.held.iter().find(|(_, held)| held.list.as_ref() == Some(list));
            if let Some(twin) = twin.map(|(number, _)| *number) {
                self.by_list.insert(list.clone(), twin);
            }
        }
        if !self.held.contains_key(&number) {
            self.free.insert(number.into(), 1);
            self.by_word.retain(|_, set| *set != number);
            self.by_chunk.retain(|_, set| *set != number);
        }
        let within = |start: u32, room: u32, limit: u32| room.min(limit.saturating_sub(start));
        let words = within(record.words, record.words_room, self.limits[1]);
        let chunks = within(record.chunks, record.chunks_room, self.limits[2]);
        self.free_words.insert(record.words, words);
        self.free_chunks.insert(record.chunks, chunks);
        // a foreign hand may have let two sets overlap: what another one has is not free
        for held in self.held.values() {
            self.free_words.remove(held.record.words, held.record.words_room);
            self.free_chunks.remove(held.record.chunks, held.record.chunks_room);
        }
    }
}
