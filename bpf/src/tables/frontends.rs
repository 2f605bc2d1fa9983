//! The mirror of `kmesh_frontend`: an arena of entries, found by key, chained by target.
//!
//! An entry whose kind or target nobody can know is kept unchained.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::NONE;
use crate::layout::{FrontendKey, FrontendWord};

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: FrontendKey,
    index: u32,
    tag: u32,
    /// The next entry with the same target, or the next free one.
    next: u32,
}

impl Entry {
    fn word(&self) -> FrontendWord {
        FrontendWord(u64::from(self.tag) << 32 | u64::from(self.index))
    }
}

/// VIPs and addresses.
#[derive(Debug)]
pub(crate) struct Frontends {
    entries: Vec<Entry>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    vacant: u32,
    /// First entry of each service and of each backend.
    heads: [Vec<u32>; 2],
}

impl Default for Frontends {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            vacant: NONE,
            heads: [Vec::new(), Vec::new()],
        }
    }
}

impl Frontends {
    /// Makes room for targets below these ends.
    pub(crate) fn grow(&mut self, services: u32, backends: u32) {
        for (heads, end) in self.heads.iter_mut().zip([services, backends]) {
            let end = (end as usize).max(heads.len());
            heads.resize(end, NONE);
        }
    }

    /// Makes room for so many entries at once.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.entries.reserve(count);
        let Self { entries, table, hasher, .. } = self;
        table.reserve(count, |at| hasher.hash_one(entries[*at as usize].key));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// What `key` leads to.
    pub(crate) fn get(&self, key: &FrontendKey) -> Option<FrontendWord> {
        self.find(key).map(|at| self.entries[at as usize].word())
    }

    /// Whether there is any that no Kmesh wrote.
    pub(crate) fn any_foreign(&self) -> bool {
        self.iter().any(|(key, _)| key.kind() > FrontendKey::WORKLOAD)
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (FrontendKey, FrontendWord)> + '_ {
        self.table.iter().map(|at| {
            let entry = &self.entries[*at as usize];
            (entry.key, entry.word())
        })
    }

    /// The keys that lead to `index`; `kind` is [`FrontendKey::SERVICE`] or
    /// [`FrontendKey::WORKLOAD`].
    pub(crate) fn of(&self, kind: u16, index: u32) -> impl Iterator<Item = FrontendKey> + '_ {
        self.leading_to(kind, index).map(|(key, _)| key)
    }

    /// As [`Self::of`], with the words.
    pub(crate) fn leading_to(
        &self,
        kind: u16,
        index: u32,
    ) -> impl Iterator<Item = (FrontendKey, FrontendWord)> + '_ {
        let head = self.heads[usize::from(kind & 1)].get(index as usize).copied();
        let mut at = head.unwrap_or(NONE);
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.next;
            Some((entry.key, entry.word()))
        })
    }

    fn find(&self, key: &FrontendKey) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |at| self.entries[*at as usize].key == *key).copied()
    }

    fn head(&mut self, key: &FrontendKey, index: u32) -> Option<&mut u32> {
        self.heads.get_mut(usize::from(key.kind()))?.get_mut(index as usize)
    }

    fn link(&mut self, at: u32) {
        let Entry { key, index, .. } = self.entries[at as usize];
        let Some(head) = self.head(&key, index) else {
            return;
        };
        let next = std::mem::replace(head, at);
        self.entries[at as usize].next = next;
    }

    fn unlink(&mut self, at: u32) {
        let Entry { key, index, next, .. } = self.entries[at as usize];
        let Some(head) = self.head(&key, index) else {
            return;
        };
        let mut here = *head;
        if here == at {
            *head = next;
            return;
        }
        while let Some(entry) = self.entries.get_mut(here as usize) {
            if entry.next == at {
                entry.next = next;
                return;
            }
            here = entry.next;
        }
    }

    /// Follows a put.
    pub(crate) fn insert(&mut self, key: FrontendKey, word: FrontendWord) {
        if let Some(at) = self.find(&key) {
            self.unlink(at);
            let entry = &mut self.entries[at as usize];
            (entry.index, entry.tag, entry.next) = (word.index(), word.tag(), NONE);
            self.link(at);
            return;
        }
        let entry = Entry { key, index: word.index(), tag: word.tag(), next: NONE };
        let at = self.place(entry);
        let Self { entries, table, hasher, .. } = self;
        let hash = hasher.hash_one(key);
        table.insert_unique(hash, at, |at| hasher.hash_one(entries[*at as usize].key));
        self.link(at);
    }

    fn place(&mut self, entry: Entry) -> u32 {
        let at = self.vacant;
        if let Some(vacant) = self.entries.get_mut(at as usize) {
            self.vacant = vacant.next;
            *vacant = entry;
            return at;
        }
        self.entries.push(entry);
        u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
    }

    /// Follows a removal.
    pub(crate) fn remove(&mut self, key: &FrontendKey) {
        let Some(at) = self.find(key) else { return };
        self.unlink(at);
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.table.find_entry(hash, |other| *other == at) {
            entry.remove();
        }
        self.entries[at as usize].next = self.vacant;
        self.vacant = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(last: u8) -> FrontendKey {
        FrontendKey::workload([10, 0, 0, last].into())
    }

    fn of(frontends: &Frontends, index: u32) -> Vec<FrontendKey> {
        let mut keys: Vec<_> = frontends.of(FrontendKey::WORKLOAD, index).collect();
        keys.sort();
        keys
    }

    #[test]
    fn chains_follow_moves_and_removals() {
        let mut frontends = Frontends::default();
        frontends.grow(0, 3);
        for last in 1..=4 {
            frontends.insert(key(last), FrontendWord::new(&key(last), 1));
        }
        frontends.insert(key(2), FrontendWord::new(&key(2), 2));
        frontends.remove(&key(3));
        assert_eq!(of(&frontends, 1), [key(1), key(4)]);
        assert_eq!(of(&frontends, 2), [key(2)]);
        frontends.insert(key(5), FrontendWord::new(&key(5), 1));
        assert_eq!(of(&frontends, 1), [key(1), key(4), key(5)]);
        assert_eq!(frontends.len(), 4);
        assert_eq!(frontends.entries.len(), 4, "the vacant entry is used again");
    }

    #[test]
    fn targets_beyond_the_end_are_kept_unchained() {
        let mut frontends = Frontends::default();
        frontends.grow(0, 1);
        frontends.insert(key(1), FrontendWord::new(&key(1), 7));
        assert_eq!(of(&frontends, 7), []);
        assert_eq!(frontends.get(&key(1)).map(FrontendWord::index), Some(7));
        frontends.remove(&key(1));
        assert_eq!(frontends.len(), 0);
    }
}
