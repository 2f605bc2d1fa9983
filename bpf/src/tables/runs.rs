//! Free runs of consecutive indices: ordered, merged, found by best fit.
//!
//! It refuses nothing: taking what is not free, or freeing what is free already, changes
//! only what it can.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Disjoint runs, never adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    /// Start → length.
    by_start: BTreeMap<u32, u32>,
    /// (length, start).
    by_len: BTreeSet<(u32, u32)>,
    elements: u64,
}

impl Runs {
    /// No runs.
    pub(crate) const EMPTY: Self =
        Self { by_start: BTreeMap::new(), by_len: BTreeSet::new(), elements: 0 };

    /// Elements in all runs.
    pub(crate) fn elements(&self) -> u64 {
        self.elements
    }

    /// Whether there is none.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// The runs by start, as (start, length).
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.by_start.iter().map(|(start, len)| (*start, *len))
    }

    /// Whether `index` lies in a run.
    #[cfg(test)]
    pub(crate) fn contains(&self, index: u32) -> bool {
        self.by_start.range(..=index).next_back().is_some_and(|(start, len)| index - start < *len)
    }

    /// The shortest run of at least `len` behind `after` in the order (length, start).
    pub(crate) fn fit(&self, len: u32, after: Option<(u32, u32)>) -> Option<(u32, u32)> {
        let from = match after {
            Some(after) if after >= (len, 0) => Bound::Excluded(after),
            _ => Bound::Included((len, 0)),
        };
        self.by_len.range((from, Bound::Unbounded)).next().copied()
    }

    /// Adds a run; what of it is there already stays once.
    pub(crate) fn insert(&mut self, start: u32, len: u32) {
        if len == 0 {
            return;
        }
        self.remove(start, len);
        let (mut start, mut len) = (start, len);
        if let Some((&before, &before_len)) = self.by_start.range(..start).next_back()
            && before + before_len == start
        {
            self.cut(before, before_len);
            start = before;
            len += before_len;
        }
        if let Some(&after_len) = self.by_start.get(&(start + len)) {
            self.cut(start + len, after_len);
            len += after_len;
        }
        self.add(start, len);
    }

    /// Takes out whatever of `start..start + len` is there.
    pub(crate) fn remove(&mut self, start: u32, len: u32) {
        let end = start.saturating_add(len);
        if let Some((&before, &before_len)) = self.by_start.range(..start).next_back()
            && before + before_len > start
        {
            self.cut(before, before_len);
            self.add(before, start - before);
            if before + before_len > end {
                self.add(end, before + before_len - end);
            }
        }
        while let Some((&run, &run_len)) = self.by_start.range(start..end).next() {
            self.cut(run, run_len);
            if run + run_len > end {
                self.add(end, run + run_len - end);
            }
        }
    }

    /// Takes all of `other`.
    pub(crate) fn absorb(&mut self, other: &mut Self) {
        for (start, len) in std::mem::take(other).by_start {
            self.insert(start, len);
        }
    }

    fn add(&mut self, start: u32, len: u32) {
        self.by_start.insert(start, len);
        self.by_len.insert((len, start));
        self.elements += u64::from(len);
    }

    fn cut(&mut self, start: u32, len: u32) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
        self.elements -= u64::from(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_merge_and_cuts_split() {
        let mut runs = Runs::default();
        runs.insert(10, 5);
        runs.insert(20, 5);
        runs.insert(15, 5);
        assert_eq!(runs.iter().collect::<Vec<_>>(), [(10, 15)]);
        runs.remove(12, 3);
        assert_eq!(runs.iter().collect::<Vec<_>>(), [(10, 2), (15, 10)]);
        assert_eq!(runs.elements(), 12);
        runs.remove(0, 100);
        assert!(runs.is_empty());
        assert_eq!(runs.elements(), 0);
    }

    #[test]
    fn the_best_fit_is_the_shortest_that_is_long_enough() {
        let mut runs = Runs::default();
        runs.insert(0, 9);
        runs.insert(20, 3);
        runs.insert(30, 3);
        assert_eq!(runs.fit(2, None), Some((3, 20)));
        assert_eq!(runs.fit(2, Some((3, 20))), Some((3, 30)));
        assert_eq!(runs.fit(2, Some((3, 30))), Some((9, 0)));
        assert_eq!(runs.fit(4, None), Some((9, 0)));
        assert_eq!(runs.fit(10, None), None);
    }

    #[test]
    fn inserting_twice_counts_once() {
        let mut runs = Runs::default();
        runs.insert(4, 4);
        runs.insert(6, 4);
        assert_eq!(runs.iter().collect::<Vec<_>>(), [(4, 6)]);
        assert_eq!(runs.elements(), 6);
        assert!(runs.contains(9) && !runs.contains(10) && !runs.contains(3));
    }
}
