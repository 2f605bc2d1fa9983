//! Which answers of a target are right, and since when. An answer is right if its name was in any
//! set that was in force between the start of the connect and its return: around a change, the old
//! and the new set both hold.
//!
//! It refuses nothing: a target nobody said anything of has an empty set, and every answer is
//! wrong.

use std::collections::BTreeSet;
use std::time::Instant;

/// The name that stands for "connection refused" where that is the right answer.
pub(crate) const REFUSED: &str = "refused";

/// The name of the server that gets what nobody steered.
pub(crate) const LEAK: &str = "leak";

/// Every set that was in force, in order, each from its instant to the next one's.
pub(crate) struct Expectation {
    sets: Vec<(Instant, BTreeSet<String>)>,
}

/// What an answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// One of the right ones.
    Right,
    /// An endpoint, but not one of the right ones.
    Misrouted,
    /// It reached the service address itself: nobody steered it.
    Ungoverned,
    /// No connection, where one was right.
    Failed,
}

impl Expectation {
    /// From now on `names` are right.
    pub(crate) fn new(now: Instant, names: &str) -> Self {
        Self { sets: vec![(now, parse(names))] }
    }

    /// From `now` on `names` are right, and no others.
    pub(crate) fn change(&mut self, now: Instant, names: &str) {
        self.sets.push((now, parse(names)));
    }

    /// Judges the answer to a connect that was started and returned at these instants.
    pub(crate) fn judge(&self, name: &str, started: Instant, returned: Instant) -> Verdict {
        if self.held(name, started, returned) {
            return Verdict::Right;
        }
        match name {
            LEAK => Verdict::Ungoverned,
            REFUSED => Verdict::Failed,
            _ => Verdict::Misrouted,
        }
    }

    fn held(&self, name: &str, started: Instant, returned: Instant) -> bool {
        let mut until = None;
        for (since, names) in self.sets.iter().rev() {
            if until.is_some_and(|until| until <= started) {
                return false;
            }
            if *since <= returned && names.contains(name) {
                return true;
            }
            until = Some(*since);
        }
        false
    }

    /// The set in force, for messages.
    pub(crate) fn now(&self) -> String {
        let names = self.sets.last().map(|(_, names)| names.iter().cloned().collect::<Vec<_>>());
        names.unwrap_or_default().join(",")
    }
}

fn parse(names: &str) -> BTreeSet<String> {
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(base: Instant, ms: u64) -> Instant {
        base + Duration::from_millis(ms)
    }

    #[test]
    fn a_connect_across_a_change_may_land_in_either_set() {
        let base = Instant::now();
        let mut expectation = Expectation::new(base, "a,b");
        expectation.change(at(base, 100), "b,c");
        let judge = |name, from, to| expectation.judge(name, at(base, from), at(base, to));
        assert_eq!(judge("a", 90, 110), Verdict::Right);
        assert_eq!(judge("c", 90, 110), Verdict::Right);
        assert_eq!(judge("a", 90, 99), Verdict::Right);
        assert_eq!(judge("c", 90, 99), Verdict::Misrouted);
        assert_eq!(judge("a", 100, 101), Verdict::Misrouted);
        assert_eq!(judge("b", 50, 150), Verdict::Right);
        assert_eq!(judge("d", 50, 150), Verdict::Misrouted);
    }

    #[test]
    fn a_set_that_was_in_force_for_the_whole_or_a_part_of_the_connect_counts() {
        let base = Instant::now();
        let mut expectation = Expectation::new(base, "a");
        expectation.change(at(base, 100), "b");
        expectation.change(at(base, 200), "c");
        let judge = |name, from, to| expectation.judge(name, at(base, from), at(base, to));
        assert_eq!(judge("b", 50, 250), Verdict::Right);
        assert_eq!(judge("b", 120, 130), Verdict::Right);
        assert_eq!(judge("b", 199, 300), Verdict::Right);
        assert_eq!(judge("b", 200, 300), Verdict::Misrouted);
        assert_eq!(judge("a", 150, 300), Verdict::Misrouted);
    }

    #[test]
    fn refusals_and_leaks_are_told_apart() {
        let base = Instant::now();
        let expectation = Expectation::new(base, "a");
        assert_eq!(expectation.judge(LEAK, base, base), Verdict::Ungoverned);
        assert_eq!(expectation.judge(REFUSED, base, base), Verdict::Failed);
        let refusing = Expectation::new(base, REFUSED);
        assert_eq!(refusing.judge(REFUSED, base, base), Verdict::Right);
        assert_eq!(refusing.judge("a", base, base), Verdict::Misrouted);
    }
}
