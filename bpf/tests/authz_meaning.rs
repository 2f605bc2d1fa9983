//! What holds of the meaning of policies, whatever they say.

mod authz;

use authz::{attempts, identities, policies};
use ipnet::IpNet;
use kmesh_bpf::authz::{Action, Match, Policy, judge};
use proptest::prelude::*;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn the_order_of_policies_decides_nothing(
        (policies, mixed) in policies().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        attempts in attempts(50),
    ) {
        let who = identities();
        for attempt in attempts {
            let connection = attempt.connection(&who);
            let (one, other) = (judge(&policies, &connection), judge(&mixed, &connection));
            prop_assert_eq!(one.allows(), other.allows());
            prop_assert_eq!(one.dry_run.allows(), other.dry_run.allows());
        }
    }

    #[test]
    fn one_more_deny_never_opens(all in policies(), more in policies(), attempts in attempts(50)) {
        let who = identities();
        let mut with = all.clone();
        with.extend(more.into_iter().map(|policy| Policy { action: Action::Deny, ..policy }));
        for attempt in attempts {
            let connection = attempt.connection(&who);
            prop_assert!(judge(&all, &connection).allows() || !judge(&with, &connection).allows());
        }
    }

    #[test]
    fn one_more_allow_never_overrules_a_deny(
        all in policies(), more in policies(), attempts in attempts(50),
    ) {
        let who = identities();
        let denies: Vec<Policy> =
            all.into_iter().filter(|policy| policy.action == Action::Deny).collect();
        let mut with = denies.clone();
        with.extend(more.into_iter().map(|policy| Policy { action: Action::Allow, ..policy }));
        for attempt in attempts {
            let connection = attempt.connection(&who);
            prop_assert!(judge(&denies, &connection).allows() || !judge(&with, &connection).allows());
        }
    }

    #[test]
    fn empty_matches_say_nothing(all in policies(), attempts in attempts(50)) {
        let who = identities();
        let mut with = all.clone();
        for rule in with.iter_mut().flat_map(|policy| &mut policy.groups).flatten() {
            // a rule without matches is true; one of empty matches only would not be
            if !rule.is_empty() {
                rule.insert(0, Match::default());
            }
        }
        for attempt in attempts {
            let connection = attempt.connection(&who);
            prop_assert_eq!(judge(&all, &connection).allows(), judge(&with, &connection).allows());
        }
    }

    #[test]
    fn dry_run_changes_no_decision(all in policies(), attempts in attempts(50)) {
        let who = identities();
        let forced: Vec<Policy> = all.iter().filter(|policy| !policy.dry_run).cloned().collect();
        let all_forced: Vec<Policy> =
            all.iter().map(|policy| Policy { dry_run: false, ..policy.clone() }).collect();
        for attempt in attempts {
            let connection = attempt.connection(&who);
            let verdict = judge(&all, &connection);
            prop_assert_eq!(verdict.allows(), judge(&forced, &connection).allows());
            prop_assert_eq!(verdict.dry_run.allows(), judge(&all_forced, &connection).allows());
        }
    }

    #[test]
    fn a_text_says_the_same_policy(all in policies(), attempts in attempts(20)) {
        let who = identities();
        let read: Result<Vec<Policy>, String> =
            all.iter().map(|policy| Policy::from_text(&policy.to_text())).collect();
        let read = read.map_err(TestCaseError::fail)?;
        for (policy, read) in all.iter().zip(&read) {
            prop_assert_eq!(policy.to_text(), read.to_text());
            prop_assert_eq!(Policy::from_text(&read.to_text()), Ok(read.clone()));
            let plain = without_mapped(policy.clone());
            prop_assert_eq!(Policy::from_text(&plain.to_text()), Ok(plain));
        }
        for attempt in attempts {
            let connection = attempt.connection(&who);
            let (one, other) = (judge(&all, &connection), judge(&read, &connection));
            prop_assert_eq!(one.allows(), other.allows());
            prop_assert_eq!(one.dry_run.allows(), other.dry_run.allows());
        }
    }
}

/// The policy with ranges in their one form: a text gives back IPv4 for a mapped IPv6 range.
fn without_mapped(mut policy: Policy) -> Policy {
    let plain = |net: &IpNet| !net.to_string().starts_with("::ffff:");
    for one in policy.groups.iter_mut().flatten().flatten() {
        for ranges in [&mut one.source_ips, &mut one.destination_ips] {
            ranges.any.retain(plain);
            ranges.none.retain(plain);
            for net in ranges.any.iter_mut().chain(&mut ranges.none) {
                *net = net.trunc();
            }
        }
    }
    policy
}
