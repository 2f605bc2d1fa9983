//! Which answers of each VIP are right, and were right at any moment of the last seconds. While a
//! change is under way both the old and the new ones are.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sets older than any connect may take are forgotten.
const KEEP: Duration = Duration::from_secs(20);

/// What a connect to a VIP may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Answer {
    /// A connection to this endpoint.
    Endpoint(SocketAddr),
    /// Refused: the service has no endpoint.
    Refused,
    /// Passed unchanged: no service has this VIP.
    Unchanged,
}

/// The right answers of every VIP.
pub(crate) type Answers = HashMap<SocketAddr, BTreeSet<Answer>>;

/// Every state that was in force, from its instant to the next one's.
pub(crate) struct Truth {
    states: Mutex<VecDeque<(Instant, Arc<Answers>)>>,
    vips: Vec<SocketAddr>,
    next: Mutex<Option<Answers>>,
}

impl Truth {
    /// From now on `answers` are right. Its keys are all the VIPs there will ever be.
    pub(crate) fn new(answers: Answers) -> Self {
        let vips = answers.keys().copied().collect();
        let states = VecDeque::from([(Instant::now(), Arc::new(answers))]);
        Self { states: Mutex::new(states), vips, next: Mutex::new(None) }
    }

    /// Every VIP.
    pub(crate) fn vips(&self) -> &[SocketAddr] {
        &self.vips
    }

    /// A change towards `new` begins: the old answers stay right, the new ones become so.
    pub(crate) fn widen(&self, new: Answers) {
        let mut both = new.clone();
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, old)) = states.back() {
            for (vip, answers) in old.iter() {
                both.entry(*vip).or_default().extend(answers);
            }
        }
        states.push_back((Instant::now(), Arc::new(both)));
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
    }

    /// The change is in force: only its answers are right.
    pub(crate) fn narrow(&self) {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(next) = next else { return };
        let now = Instant::now();
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.push_back((now, Arc::new(next)));
        while states.get(1).is_some_and(|(since, _)| now - *since > KEEP) {
            states.pop_front();
        }
    }

    /// Was this answer right at any moment between the two?
    pub(crate) fn was_right(
        &self,
        vip: SocketAddr,
        answer: Answer,
        from: Instant,
        to: Instant,
    ) -> bool {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let mut until = None;
        for (since, answers) in states.iter().rev() {
            if until.is_some_and(|until| until <= from) {
                return false;
            }
            if *since <= to && answers.get(&vip).is_some_and(|right| right.contains(&answer)) {
                return true;
            }
            until = Some(*since);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(vip: SocketAddr, answers: &[Answer]) -> Answers {
        HashMap::from([(vip, answers.iter().copied().collect())])
    }

    #[test]
    fn old_and_new_are_right_during_a_change_and_only_new_after_it() {
        let vip: SocketAddr = "10.96.1.1:80".parse().unwrap();
        let (old, new) = (Answer::Refused, Answer::Unchanged);
        let truth = Truth::new(set(vip, &[old]));
        let began = Instant::now();
        let right_now = |answer| truth.was_right(vip, answer, Instant::now(), Instant::now());
        assert!(right_now(old) && !right_now(new));
        truth.widen(set(vip, &[new]));
        assert!(right_now(old) && right_now(new));
        truth.narrow();
        assert!(!right_now(old) && right_now(new));
        assert!(truth.was_right(vip, old, began, Instant::now()));
    }
}
