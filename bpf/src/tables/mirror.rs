//! For tests: whether a mirror that followed is what a fresh reading says.

use std::collections::BTreeSet;

use super::{Have, Runs};
use crate::layout::FrontendKey;

fn idle(free: &Runs, quarantine: &Runs) -> Runs {
    let mut idle = free.clone();
    idle.absorb(&mut quarantine.clone());
    idle
}

impl Have {
    /// Everything that `fresh` read is known here, and no more.
    pub(crate) fn assert_mirrors(&self, fresh: &Self) {
        assert_eq!(self.meta, fresh.meta);
        assert_eq!(self.settings, fresh.settings);
        assert_eq!(self.managers, fresh.managers);
        assert_eq!(self.names.free(), fresh.names.free());
        self.assert_authorization(fresh);
        assert_eq!(self.usage(), fresh.usage());
        let (one, other) = (&self.backends, &fresh.backends);
        assert!(one.iter().eq(other.iter()), "backends differ");
        assert_eq!(idle(&one.free, &one.quarantine), idle(&other.free, &other.quarantine));
        assert_eq!((one.twins(), one.nameless()), (other.twins(), other.nameless()));
        let (one, other) = (&self.services, &fresh.services);
        assert!(one.iter().eq(other.iter()), "services differ");
        assert_eq!(idle(&one.free, &one.quarantine), idle(&other.free, &other.quarantine));
        let (one, other) = (&self.slots, &fresh.slots);
        assert_eq!(idle(&one.free, &one.quarantine), idle(&other.free, &other.quarantine));
        assert_eq!(one.damaged(), other.damaged());
        for index in 0..self.meta.endpoints_end {
            assert_eq!(one.word(index), other.word(index), "slot {index}");
        }
        let all = |have: &Self| -> BTreeSet<_> {
            have.frontends.iter().map(|(key, word)| (key, word.0)).collect()
        };
        assert_eq!(all(self), all(fresh));
        for index in 0..self.meta.backends_end {
            let slots = |have: &Self| have.slots.leading_to(index).collect::<BTreeSet<_>>();
            assert_eq!(slots(self), slots(fresh), "slots that lead to backend {index}");
            self.assert_chain(fresh, FrontendKey::WORKLOAD, index);
        }
        for index in 0..self.meta.services_end {
            assert_eq!(self.services.named(index), fresh.services.named(index));
            self.assert_chain(fresh, FrontendKey::SERVICE, index);
        }
    }

    fn assert_authorization(&self, fresh: &Self) {
        let (one, other) = (&self.policies, &fresh.policies);
        assert!(one.iter().eq(other.iter()), "policies differ");
        assert!(one.in_force().eq(other.in_force()), "policies in force differ");
        assert_eq!((&one.free, one.unreadable()), (&other.free, other.unreadable()));
        let (one, other) = (&self.sets, &fresh.sets);
        assert!(one.iter().map(|(set, _)| set).eq(other.iter().map(|(set, _)| set)), "sets differ");
        for ((set, one), (_, other)) in one.iter().zip(other.iter()) {
            assert_eq!((one.record, &one.list), (other.record, &other.list), "set {set}");
            for who in 0..one.record.identities.count {
                let word = |have: &Self| have.sets.word(&one.record, who);
                assert_eq!(word(self), word(fresh), "identity {who} in set {set}");
            }
        }
        assert_eq!(one.free, other.free);
        assert_eq!(one.free_words, other.free_words);
        assert_eq!(one.free_chunks, other.free_chunks);
        let who = |have: &Self| {
            let numbers = have.identities.iter().map(|(number, _, _)| number);
            numbers.map(|number| (number, have.who_name(number))).collect::<Vec<_>>()
        };
        assert_eq!(who(self), who(fresh));
    }

    fn assert_chain(&self, fresh: &Self, kind: u16, index: u32) {
        let keys = |have: &Self| have.frontends.of(kind, index).collect::<BTreeSet<_>>();
        assert_eq!(keys(self), keys(fresh), "frontends that lead to {kind} {index}");
    }
}
