//! From the slots that a service has to those that it wants, in as few writes as it takes.

use hashbrown::HashMap;

use crate::layout::EndpointWord;

/// How a service gets its slots; positions count from its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In a range of its own, elsewhere.
    Anew,
    /// Where they are.
    InPlace {
        /// Slots in reach: to be written before the count is lowered.
        overwrites: Vec<(u32, EndpointWord)>,
        /// Slots out of reach: to be written before the count is raised.
        appends: Vec<(u32, EndpointWord)>,
    },
}

impl Layout {
    /// Keeps what stays where it is, fills holes with what comes, then with the last ones;
    /// [`Self::Anew`] when `capacity` is too small.
    pub(super) fn in_place(have: &[EndpointWord], want: &[EndpointWord], capacity: u32) -> Self {
        if want.len() > capacity as usize {
            return Self::Anew;
        }
        let mut missing: HashMap<EndpointWord, u32> = HashMap::with_capacity(want.len());
        for word in want {
            *missing.entry(*word).or_default() += 1;
        }
        let mut take = |word: &EndpointWord| match missing.get_mut(word) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        };
        let kept: Vec<bool> = have.iter().map(&mut take).collect();
        let mut added = want.iter().copied().filter(|word| take(word));
        let end = want.len().min(have.len());
        let mut movers = (end..have.len()).rev().filter(|at| kept[*at]).map(|at| have[at]);
        let mut overwrites = Vec::new();
        for at in (0..end).filter(|at| !kept[*at]) {
            if let Some(word) = added.next().or_else(|| movers.next()) {
                overwrites.push((position(at), word));
            }
        }
        let appends = (have.len()..).map(position).zip(added).collect();
        Self::InPlace { overwrites, appends }
    }

    /// Whether slots in reach are written.
    pub(super) fn overwrites(&self) -> bool {
        matches!(self, Self::InPlace { overwrites, .. } if !overwrites.is_empty())
    }

    /// Whether any slot is written or the range moves; a mere lower count is not told here.
    pub(super) fn changes(&self) -> bool {
        match self {
            Self::Anew => true,
            Self::InPlace { overwrites, appends } => !overwrites.is_empty() || !appends.is_empty(),
        }
    }
}

fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
