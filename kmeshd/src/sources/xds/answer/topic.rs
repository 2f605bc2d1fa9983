//! What is known of one type of resources, and how far an answer is believed.

use hashbrown::HashSet;

use super::super::held::Held;
use crate::model::Name;

/// Below so many objects an answer that names fewer than half is believed.
pub(super) const MANY: usize = 10;

/// How a stream began, for one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Nothing was answered.
    Awaited {
        /// The stream was not told what is held: its first answer is everything.
        afresh: bool,
    },
    /// The first answer is not believed.
    Doubted,
    /// It is.
    Believed,
}

/// What is known of one type.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) held: Held,
    /// What the control plane used to serve when the stream began.
    pub(super) served: usize,
    pub(super) opening: Opening,
    /// There was an answer that is believed.
    pub(super) complete: bool,
    /// What would be gone if the doubted answer were believed.
    pub(super) doubts: HashSet<Name>,
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            held: Held::default(),
            served: 0,
            opening: Opening::Awaited { afresh: true },
            complete: false,
            doubts: HashSet::new(),
        }
    }
}

/// Whether an answer takes away too much to be believed at once.
pub(super) fn doubtful(before: usize, now: usize) -> bool {
    (now == 0 && before > 0) || (before >= MANY && now < before / 2)
}
