//! The compiler's tables say what the meaning of policies says: random policies, random
//! connections, no difference.

mod authz;

use authz::{Attempt, attempts, identities, policies};
use kmesh_bpf::authz::{Compiled, Decision, Identity, Policy, compile, judge};
use proptest::prelude::*;

/// So many sets, each with so many connections: 120,000 decisions.
const SETS: u32 = 800;
const ATTEMPTS: usize = 150;

fn number(at: usize) -> u32 {
    u32::try_from(at).expect("a small number") + 1
}

fn numbered(all: &[Identity]) -> impl Iterator<Item = (u32, &Identity)> {
    all.iter().enumerate().map(|(at, identity)| (number(at), identity))
}

fn decide(compiled: &Compiled, attempts: &[Attempt]) -> Vec<Decision> {
    let image = compiled.image();
    let decide = |a: &Attempt| image.decide(a.source, a.who.map(number), a.destination, a.port);
    attempts.iter().map(decide).collect()
}

fn meant(policies: &[Policy], attempts: &[Attempt]) -> Vec<Decision> {
    let who = identities();
    let meant = |attempt: &Attempt| {
        let verdict = judge(policies, &attempt.connection(&who));
        Decision::Judged { allows: verdict.allows(), dry_run_allows: verdict.dry_run.allows() }
    };
    attempts.iter().map(meant).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: SETS, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn tables_decide_as_policies_mean(policies in policies(), attempts in attempts(ATTEMPTS)) {
        let who = identities();
        let compiled = compile(&policies, numbered(&who)).expect("it fits");
        prop_assert_eq!(decide(&compiled, &attempts), meant(&policies, &attempts));
    }

    #[test]
    fn identities_can_be_added_one_by_one(
        policies in policies(), attempts in attempts(20), first in 0..19usize,
    ) {
        let who = identities();
        let mut compiled = compile(&policies, numbered(&who).take(first)).expect("it fits");
        for (number, identity) in numbered(&who).skip(first) {
            let image = compiled.image();
            for attempt in &attempts {
                let (from, to) = (attempt.source, attempt.destination);
                let decision = image.decide(from, Some(number), to, attempt.port);
                prop_assert_eq!(decision, Decision::Unclassified, "before it is added");
            }
            prop_assert!(compiled.add(number, identity).expect("it fits"));
            // what was there stays where it was: only words and chunks behind it are new
            let after = compiled.image();
            prop_assert_eq!(after.header, image.header);
            prop_assert_eq!(&after.bits[..image.bits.len()], &image.bits[..]);
            let changed = (0..image.words.len()).filter(|at| after.words[*at] != image.words[*at]);
            let word = (image.header.identities.at + number) as usize;
            prop_assert_eq!(changed.collect::<Vec<_>>(), [word]);
        }
        prop_assert_eq!(decide(&compiled, &attempts), meant(&policies, &attempts));
    }
}

#[test]
fn a_number_beyond_the_room_asks_for_a_new_set() {
    let who = identities();
    let mut compiled = compile::<Policy>(&[], numbered(&who)).expect("it fits");
    assert!(!compiled.add(1_000_000, &who[0]).expect("it fits"));
}
