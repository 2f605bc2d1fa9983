//! What was seen: the counts, the first few wrong answers in words, one line for people.
//!
//! It refuses to keep more than [`SAMPLES`] wrong answers: the counts say how many there were.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::expect::Verdict;

/// Wrong answers kept in words.
const SAMPLES: usize = 20;

/// The counts of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Connections tried and judged.
    pub(crate) connections: u64,
    /// No connection or no echo, where one was right.
    pub(crate) failed: u64,
    /// Answered by an endpoint that was not right at that moment.
    pub(crate) misrouted: u64,
    /// Went to the service address itself.
    pub(crate) ungoverned: u64,
    /// Long-lived connections that were kept.
    pub(crate) long_lived: u64,
    /// Of these, how many broke.
    pub(crate) broken: u64,
    /// Echoes over them.
    pub(crate) echoes: u64,
    /// Ticks at which too many connects were still under way.
    pub(crate) held_back: u64,
    /// The slowest connect, in microseconds.
    pub(crate) slowest_us: u64,
    /// Target → who answered → how often.
    pub(crate) answers: BTreeMap<String, BTreeMap<String, u64>>,
    /// The first wrong answers.
    pub(crate) wrong: Vec<String>,
}

impl Report {
    /// Nothing was wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.failed + self.misrouted + self.ungoverned + self.broken == 0
    }

    /// Counts one judged connection.
    pub(crate) fn count(&mut self, target: &str, answer: &str, verdict: Verdict) {
        self.connections += 1;
        let answers = self.answers.entry(target.to_owned()).or_default();
        *answers.entry(answer.to_owned()).or_default() += 1;
        match verdict {
            Verdict::Right => {}
            Verdict::Misrouted => self.misrouted += 1,
            Verdict::Ungoverned => self.ungoverned += 1,
            Verdict::Failed => self.failed += 1,
        }
    }

    /// Notes a wrong answer in words.
    pub(crate) fn note(&mut self, words: String) {
        if self.wrong.len() < SAMPLES {
            self.wrong.push(words);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} connections: {} failed, {} misrouted, {} ungoverned; {} long-lived, {} echoes: \
             {} broken",
            self.connections,
            self.failed,
            self.misrouted,
            self.ungoverned,
            self.long_lived,
            self.echoes,
            self.broken
        )
    }
}
