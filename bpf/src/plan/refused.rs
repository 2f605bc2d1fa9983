//! Policies that could not be brought in force. The rest of a change goes on without them: their
//! pods keep the set that they had, and a pod that had none lets nobody in.

use std::fmt;

use crate::authz::TooLarge;
use crate::layout::Map;
use crate::want::Name;

/// Policies that are not in force as they are written, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// By name: the policies of a set, or one that is not stored.
    pub policies: Vec<Name>,
    /// What is in the way.
    pub why: Why,
}

/// What is in the way of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The policies of a set say more than a set can hold.
    TooLarge(TooLarge),
    /// A map has no room.
    Full {
        /// The map.
        map: Map,
        /// Elements that would have to lie there side by side.
        needed: u64,
        /// Its `max_entries`.
        limit: u32,
    },
    /// A policy of the set is refused itself.
    Unstored,
    /// The text of a policy of the set cannot be read from the tables.
    Unreadable,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let names: Vec<&str> = self.policies.iter().take(SHOWN).map(|name| &**name).collect();
        write!(f, "policies {}", names.join(", "))?;
        if let Some(more) = self.policies.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            write!(f, " and {more} more")?;
        }
        write!(f, " are not in force together as written: ")?;
        match &self.why {
            Why::TooLarge(why) => write!(f, "{why}")?,
            Why::Full { map, needed, limit } => {
                let name = map.name();
                write!(
                    f,
                    "map {name} has no room for {needed} more elements, its limit is {limit}"
                )?;
                if let Some(option) = map.limit_option() {
                    write!(f, "; raise it with {option}")?;
                }
            }
            Why::Unstored => write!(f, "one of them is refused itself; see there")?,
            Why::Unreadable => {
                write!(f, "the tables' text of one cannot be read; start kmeshd again")?;
            }
        }
        write!(f, ". Their pods keep the policies they had; a pod without any lets nobody in")
    }
}
