//! A set of record indices, found by a number that stands for what they are named.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Indices by key; several may share one.
#[derive(Debug, Default)]
pub(crate) struct NameIndex {
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl NameIndex {
    /// Makes room for `count` more.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.table.reserve(count, |_| 0);
    }

    /// The index with this key for which `same` holds.
    pub(crate) fn find(&self, key: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        self.table.find(self.hasher.hash_one(key), |index| same(*index)).copied()
    }

    /// Adds an index; `key_of` tells the key of those that are there.
    pub(crate) fn insert(&mut self, key: u64, index: u32, key_of: impl Fn(u32) -> u64) {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(key);
        self.table.insert_unique(hash, index, |at| hasher.hash_one(key_of(*at)));
    }

    /// Takes an index out.
    pub(crate) fn remove(&mut self, key: u64, index: u32) {
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.table.find_entry(hash, |at| *at == index) {
            entry.remove();
        }
    }
}
