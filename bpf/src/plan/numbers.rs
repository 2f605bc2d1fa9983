//! Gives numbers to identities: dense, since every policy set has a word for each.

use hashbrown::HashMap;

use crate::tables::Identities;

/// Numbers that wait for a grace period and are rather used again than added to.
const PATIENCE: usize = 64;

/// Numbers on top of what the mirror says, which it does not touch.
#[derive(Debug)]
pub(super) struct Numbers<'a> {
    there: &'a Identities,
    end: u32,
    /// The places of the search among free and waiting numbers.
    next: [u32; 2],
    grace: bool,
    /// By the first chunk of the identity's name.
    by_name: HashMap<u32, u32>,
    /// New numbers, with the identity's text.
    given: Vec<(u32, &'a str)>,
}

impl<'a> Numbers<'a> {
    /// None given yet.
    pub(super) fn new(there: &'a Identities) -> Self {
        let (end, next) = (there.end(), [0, 0]);
        Self { there, end, next, grace: false, by_name: HashMap::new(), given: Vec::new() }
    }

    /// The number of the identity of this text, whose name starts at this chunk.
    pub(super) fn of(&mut self, name: u32, identity: &'a str) -> u32 {
        if let Some(number) = self.there.number(name).or_else(|| self.by_name.get(&name).copied()) {
            return number;
        }
        let number = self.take();
        self.by_name.insert(name, number);
        self.given.push((number, identity));
        number
    }

    fn take(&mut self) -> u32 {
        let [free, waiting] = &mut self.next;
        if let Some(number) = self.there.free().range(*free..).next() {
            *free = number + 1;
            return *number;
        }
        if self.there.waiting().len() > PATIENCE
            && let Some(number) = self.there.waiting().range(*waiting..).next()
        {
            *waiting = number + 1;
            self.grace = true;
            return *number;
        }
        self.end += 1;
        self.end - 1
    }

    /// New numbers, with the identity's text.
    pub(super) fn given(&self) -> &[(u32, &'a str)] {
        &self.given
    }

    /// Whether a number was given that some program may hold as another's.
    pub(super) fn needs_grace(&self) -> bool {
        self.grace || (!self.given.is_empty() && !self.there.settled())
    }
}
