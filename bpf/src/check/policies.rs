//! What is wrong with policies, their sets and the pods' words that name them.

use super::tables::Checker;
use crate::layout::{AuthSetRecord, ManagerWord, POLICY_NONE, POLICY_WAIT};
use crate::tables::Held;

/// The layer of these findings.
pub const POLICIES: &str = "policies";

impl Checker<'_> {
    /// Records of policies and of sets.
    pub(super) fn policies(&mut self) {
        let have = self.have;
        for index in have.policies.unreadable() {
            self.say(POLICIES, format!("policy record {index}"), "it cannot be read");
        }
        for (set, held) in have.sets.iter() {
            self.set(set, held);
        }
    }

    fn set(&mut self, set: u16, held: &Held) {
        let have = self.have;
        let AuthSetRecord { words, words_room, chunks, chunks_room, .. } = held.record;
        let object = || {
            let policies = have.set_policies(set);
            let names: Vec<&str> = policies.iter().take(3).map(|policy| &*policy.name).collect();
            format!("policy set {set} ({})", names.join(", "))
        };
        let ends = [
            (words, words_room, have.limits().policy_words),
            (chunks, chunks_room, have.limits().policy_chunks),
        ];
        if ends.iter().any(|(at, room, limit)| at.saturating_add(*room) > *limit) {
            self.say(POLICIES, object(), "its tables end beyond the map");
        }
        let missing = |list: &Vec<u32>| list.iter().any(|at| have.policies.get(*at).is_none());
        if held.list.as_ref().is_none_or(missing) {
            self.say(POLICIES, object(), "the policies that it was compiled from cannot be read");
        }
        if !have.managers.values().any(|word| word.policy_set() == set) {
            return;
        }
        let unknown = |who: &u32| !have.sets.classifies(&held.record, *who);
        let mut lacking = have.identities.iter().map(|(who, _, _)| who).filter(unknown);
        if let Some(first) = lacking.next() {
            let name = have.who_name(first).unwrap_or_default();
            let problem = match lacking.count() {
                0 => format!("does not know the identity {name}: it lets it in nowhere"),
                more => format!(
                    "does not know the identity {name} and {more} more: it lets them in nowhere"
                ),
            };
            self.say(POLICIES, object(), problem);
        }
    }

    /// The set that a pod's word names, beside the one that the policies ask for.
    pub(super) fn pods_set(&mut self, object: &str, word: ManagerWord) {
        let have = self.have;
        let set = word.policy_set();
        let there = set == POLICY_NONE || set == POLICY_WAIT || have.sets.get(set).is_some();
        if !there {
            let problem =
                format!("its policy set is {set}, which is not in use: it lets nobody in");
            return self.say(POLICIES, object.to_owned(), problem);
        }
        let Some(uid) = word.backend().and_then(|index| have.uid(index)) else { return };
        let wanted = have.standing(uid, None).policy_set;
        if wanted == set && set != POLICY_WAIT {
            return;
        }
        let problem = match (set, wanted) {
            (POLICY_WAIT, _) => "it lets nobody in: its policies are not in force yet".to_owned(),
            (_, POLICY_WAIT) => {
                "the policies that apply to it are not compiled: older ones are in force".to_owned()
            }
            _ => format!("its policy set is {set}, its policies ask for {wanted}"),
        };
        self.say(POLICIES, object.to_owned(), problem);
    }
}
