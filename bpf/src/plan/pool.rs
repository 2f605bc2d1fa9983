//! Gives indices away, on top of what the mirror says is free, without touching it.
//!
//! It never fails: what goes beyond the limit is counted, and [`Pool::check`] says so once
//! everything that is needed is known.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::PlanError;
use crate::layout::Map;
use crate::tables::Runs;

/// Runs that are taken whole, once each.
#[derive(Debug)]
struct Source<'a> {
    runs: &'a Runs,
    taken: HashSet<u32>,
    /// Where the search for each length has come to.
    after: HashMap<u32, (u32, u32)>,
}

impl<'a> Source<'a> {
    fn new(runs: &'a Runs) -> Self {
        Self { runs, taken: HashSet::new(), after: HashMap::new() }
    }

    /// Whether [`Self::take`] would find a run.
    fn has(&self, len: u32) -> bool {
        let mut after = self.after.get(&len).copied();
        while let Some(found) = self.runs.fit(len, after) {
            if !self.taken.contains(&found.1) {
                return true;
            }
            after = Some(found);
        }
        false
    }

    fn take(&mut self, len: u32) -> Option<(u32, u32)> {
        loop {
            let found = self.runs.fit(len, self.after.get(&len).copied())?;
            self.after.insert(len, found);
            if self.taken.insert(found.1) {
                return Some(found);
            }
        }
    }
}

/// Indices of one map.
#[derive(Debug)]
pub(super) struct Pool<'a> {
    map: Map,
    free: Source<'a>,
    /// Free after a grace period.
    waiting: Source<'a>,
    reserved: &'a BTreeSet<u32>,
    /// What is left of the runs taken so far.
    rest: Runs,
    end: u32,
    limit: u32,
    used: u64,
    given: u64,
    /// Waiting elements that are rather used again than added to.
    patience: u64,
    grace: bool,
}

/// What a pool gives from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stock<'a> {
    pub(super) map: Map,
    pub(super) free: &'a Runs,
    pub(super) waiting: &'a Runs,
    pub(super) reserved: &'a BTreeSet<u32>,
    pub(super) end: u32,
    pub(super) limit: u32,
    pub(super) patience: u64,
}

impl<'a> Pool<'a> {
    /// A pool that has given nothing yet.
    pub(super) fn new(stock: Stock<'a>) -> Self {
        let idle = stock.free.elements() + stock.waiting.elements();
        Self {
            map: stock.map,
            free: Source::new(stock.free),
            waiting: Source::new(stock.waiting),
            reserved: stock.reserved,
            rest: Runs::default(),
            end: stock.end,
            limit: stock.limit,
            used: u64::from(stock.end).saturating_sub(idle),
            given: 0,
            patience: stock.patience,
            grace: false,
        }
    }

    /// `len` consecutive indices.
    pub(super) fn take(&mut self, len: u32) -> u32 {
        self.given += u64::from(len);
        if let Some((_, start)) = self.rest.fit(len, None) {
            self.rest.remove(start, len);
            return start;
        }
        let waited = self.grace || self.runs_short(len);
        let found = self.free.take(len).or_else(|| {
            let found = if waited { self.waiting.take(len) } else { None };
            self.grace |= found.is_some();
            found
        });
        if let Some((run, start)) = found {
            self.rest.insert(start + len, run - len);
            return start;
        }
        while self.reserved.contains(&self.end) {
            self.end += 1;
        }
        let start = self.end;
        self.end = self.end.saturating_add(len);
        start
    }

    /// `wanted` consecutive indices, or `least` where there is no room for as many.
    pub(super) fn take_up_to(&mut self, wanted: u32, least: u32) -> (u32, u32) {
        let len = if self.has_room(wanted) { wanted } else { least };
        (self.take(len), len)
    }

    /// Whether `len` consecutive indices are there to be given.
    pub(super) fn has_room(&self, len: u32) -> bool {
        self.rest.fit(len, None).is_some()
            || self.free.has(len)
            || self.end.saturating_add(len) <= self.limit
            || self.waiting.has(len)
    }

    fn runs_short(&self, len: u32) -> bool {
        self.end.saturating_add(len) > self.limit || self.waiting.runs.elements() > self.patience
    }

    /// Whether something was given that must wait for a grace period.
    pub(super) fn needs_grace(&self) -> bool {
        self.grace
    }

    /// Whether everything given fits.
    pub(super) fn check(&self) -> Result<(), PlanError> {
        if self.end <= self.limit {
            return Ok(());
        }
        let needed = (self.used + self.given).max(u64::from(self.limit) + 1);
        Err(PlanError::Full { map: self.map, needed, limit: self.limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(of: &[(u32, u32)]) -> Runs {
        let mut runs = Runs::default();
        for (start, len) in of {
            runs.insert(*start, *len);
        }
        runs
    }

    fn pool<'a>(
        free: &'a Runs,
        waiting: &'a Runs,
        reserved: &'a BTreeSet<u32>,
        end: u32,
    ) -> Pool<'a> {
        let map = Map::Endpoint;
        Pool::new(Stock { map, free, waiting, reserved, end, limit: 20, patience: 4 })
    }

    #[test]
    fn free_comes_before_the_end_and_the_end_before_waiting() {
        let (free, waiting) = (runs(&[(2, 2)]), runs(&[(6, 3)]));
        let none = BTreeSet::new();
        let mut pool = pool(&free, &waiting, &none, 10);
        assert_eq!([pool.take(1), pool.take(1), pool.take(1)], [2, 3, 10]);
        assert_eq!(pool.take(8), 11);
        assert!(!pool.needs_grace());
        assert_eq!(pool.take(2), 6, "the end would go beyond the limit");
        assert!(pool.needs_grace());
        assert!(pool.check().is_ok());
    }

    #[test]
    fn much_that_waits_is_used_before_the_end() {
        let (free, waiting) = (runs(&[]), runs(&[(1, 5)]));
        let none = BTreeSet::new();
        let mut pool = pool(&free, &waiting, &none, 10);
        assert_eq!(pool.take(1), 1);
        assert!(pool.needs_grace());
    }

    #[test]
    fn what_is_referred_to_is_not_given() {
        let free = runs(&[]);
        let reserved = BTreeSet::from([10, 11]);
        let mut pool = pool(&free, &free, &reserved, 10);
        assert_eq!(pool.take(1), 12);
    }

    #[test]
    fn too_much_is_told_in_all() {
        let free = runs(&[]);
        let none = BTreeSet::new();
        let mut pool = pool(&free, &free, &none, 15);
        pool.take(4);
        assert!(pool.check().is_ok());
        pool.take(9);
        let full = PlanError::Full { map: Map::Endpoint, needed: 28, limit: 20 };
        assert_eq!(pool.check(), Err(full));
    }
}
