//! The numbers of identities, as the records of workloads carry them.
//!
//! A number that nobody carries any more may still be in some program's hand, and its words stand
//! in the sets: it waits for a grace period. Right after a reading nobody knows which numbers
//! were carried a moment ago, so the first one that is given waits, too.

use std::collections::{BTreeSet, HashMap};

use crate::layout::BackendRecord;

/// Who has a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Holder {
    /// First chunk of the identity's name.
    name: u32,
    len: u16,
    /// Workloads that carry it.
    refs: u32,
}

/// Identities by number; they start at 1.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    holders: Vec<Holder>,
    /// By the first chunk of the identity's name.
    numbers: HashMap<u32, u32>,
    free: BTreeSet<u32>,
    waiting: BTreeSet<u32>,
    /// A grace was waited for since the tables were read.
    settled: bool,
}

impl Identities {
    /// The numbers in these records; those of dead ones wait.
    pub(crate) fn new(records: &[BackendRecord], in_use: impl Fn(&BackendRecord) -> bool) -> Self {
        let mut all = Self::default();
        for record in records {
            all.grow(record.who);
        }
        for record in records.iter().filter(|record| in_use(record)) {
            all.retain(record);
        }
        all
    }

    /// The first number that was never given.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.holders.len()).unwrap_or(u32::MAX).max(1)
    }

    /// Makes room; what was skipped waits.
    fn grow(&mut self, number: u32) {
        for skipped in self.end()..=number {
            self.waiting.insert(skipped);
        }
        let len = self.holders.len().max(number as usize + 1);
        self.holders.resize(len, Holder::default());
    }

    /// Numbers that may be given now, in order.
    pub(crate) fn free(&self) -> &BTreeSet<u32> {
        &self.free
    }

    /// Numbers that may be given after a grace period.
    pub(crate) fn waiting(&self) -> &BTreeSet<u32> {
        &self.waiting
    }

    /// Whether a grace was waited for since the tables were read.
    pub(crate) fn settled(&self) -> bool {
        self.settled
    }

    /// The number of the identity whose name starts at this chunk.
    pub(crate) fn number(&self, name: u32) -> Option<u32> {
        self.numbers.get(&name).copied()
    }

    /// The first chunk and the length of the name of who has this number.
    pub(crate) fn name(&self, number: u32) -> Option<(u32, u16)> {
        let holder = self.holders.get(number as usize).filter(|holder| holder.refs > 0)?;
        Some((holder.name, holder.len))
    }

    /// Numbers in use, with the first chunk and the length of the name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32, u16)> + '_ {
        let holders = (0_u32..).zip(&self.holders).filter(|(_, holder)| holder.refs > 0);
        holders.map(|(number, holder)| (number, holder.name, holder.len))
    }

    /// Follows a record that comes.
    pub(crate) fn retain(&mut self, record: &BackendRecord) {
        if record.who == 0 || record.identity_len == 0 {
            return;
        }
        self.grow(record.who);
        let holder = &mut self.holders[record.who as usize];
        if holder.refs == 0 {
            *holder = Holder { name: record.identity, len: record.identity_len, refs: 0 };
            self.numbers.entry(record.identity).or_insert(record.who);
            self.free.remove(&record.who);
            self.waiting.remove(&record.who);
        }
        // another identity under this number is a foreign hand's: its records are written again
        holder.refs += u32::from(holder.name == record.identity);
    }

    /// Follows a record that goes.
    pub(crate) fn release(&mut self, record: &BackendRecord) {
        let Some(holder) = self.holders.get_mut(record.who as usize) else {
            return;
        };
        if record.who == 0 || holder.refs == 0 || holder.name != record.identity {
            return;
        }
        holder.refs -= 1;
        if holder.refs > 0 {
            return;
        }
        if self.number(record.identity) == Some(record.who) {
            self.numbers.remove(&record.identity);
        }
        self.waiting.insert(record.who);
    }

    /// Follows a grace period.
    pub(crate) fn absorb(&mut self) {
        self.free.append(&mut self.waiting);
        self.settled = true;
    }
}
