//! The meaning of policies, case by case.

use std::net::IpAddr;

use super::*;

fn text(whole: &str) -> StringMatch {
    StringMatch::Exact(whole.to_owned())
}

fn any<T>(any: Vec<T>) -> Condition<T> {
    Condition { any, none: Vec::new() }
}

fn none<T>(none: Vec<T>) -> Condition<T> {
    Condition { any: Vec::new(), none }
}

fn policy(action: Action, groups: Vec<Vec<Vec<Match>>>) -> Policy {
    Policy { name: "ns/p".into(), scope: Scope::Namespace, action, dry_run: false, groups }
}

/// A policy with one group of one rule of one match.
fn one(action: Action, matches: Match) -> Policy {
    policy(action, vec![vec![vec![matches]]])
}

fn ports(ports: &[u16]) -> Match {
    Match { destination_ports: any(ports.to_vec()), ..Match::default() }
}

fn who(text: &str) -> Identity {
    Identity::parse(text).expect("an identity")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// From pod 10.0.0.1 of td/ns/shop/sa/web to 10.0.0.2:80.
fn allows(policies: &[Policy]) -> bool {
    from(policies, Some("td/ns/shop/sa/web"), "10.0.0.1")
}

fn from(policies: &[Policy], identity: Option<&str>, source: &str) -> bool {
    let identity = identity.map(who);
    let connection = Connection {
        source: ip(source),
        identity: identity.as_ref(),
        destination: ip("10.0.0.2"),
        port: 80,
    };
    judge(policies, &connection).allows()
}

/// Whether the match holds for the connection of [`allows`]: an ALLOW policy of nothing else.
fn holds(matches: Match) -> bool {
    allows(&[one(Action::Allow, matches)])
}

#[test]
fn without_policies_everything_is_allowed() {
    assert!(allows(&[]));
    assert!(from(&[], None, "192.0.2.1"));
}

#[test]
fn deny_comes_before_allow() {
    let both = [one(Action::Allow, ports(&[80])), one(Action::Deny, ports(&[80]))];
    assert!(!allows(&both));
    assert!(allows(&[one(Action::Deny, ports(&[81]))]), "a DENY that does not match");
    assert!(!allows(&[one(Action::Allow, ports(&[81]))]), "an ALLOW that does not match");
    assert!(allows(&[one(Action::Allow, ports(&[81])), one(Action::Allow, ports(&[80]))]));
}

#[test]
fn groups_are_any_rules_are_all_matches_are_any() {
    let (yes, no) = (|| ports(&[80]), || ports(&[81]));
    let allow = |groups| allows(&[policy(Action::Allow, groups)]);
    assert!(!allow(vec![]), "a policy without groups matches nothing");
    assert!(allow(vec![vec![]]), "a group without rules: all of them match");
    assert!(allow(vec![vec![vec![]]]), "a rule without matches is true");
    assert!(allow(vec![vec![vec![no()]], vec![vec![yes()]]]), "any group");
    assert!(!allow(vec![vec![vec![yes()], vec![no()]]]), "all rules");
    assert!(allow(vec![vec![vec![yes()], vec![yes()]]]), "all rules");
    assert!(allow(vec![vec![vec![no(), yes()]]]), "any match");
    assert!(!allow(vec![vec![vec![no(), no()]]]), "any match");
}

#[test]
fn an_empty_match_matches_nothing() {
    assert!(!holds(Match::default()));
    let beside = policy(Action::Allow, vec![vec![vec![Match::default(), ports(&[80])]]]);
    assert!(allows(&[beside]), "it is skipped");
    let denied = one(Action::Deny, Match::default());
    assert!(allows(&[denied]), "a DENY of what only a proxy could see denies nothing here");
}

#[test]
fn values_of_a_kind_are_any_kinds_are_all() {
    assert!(holds(ports(&[81, 80])));
    let both =
        |port| Match { source_ips: any(vec!["10.0.0.0/8".parse().unwrap()]), ..ports(&[port]) };
    assert!(holds(both(80)));
    assert!(!holds(both(81)));
    let except = Condition { any: vec![80, 81], none: vec![80] };
    assert!(!holds(Match { destination_ports: except, ..Match::default() }));
    assert!(holds(Match { destination_ports: none(vec![81]), ..Match::default() }));
}

#[test]
fn texts_are_compared_whole_from_the_start_and_from_the_end() {
    let namespaces = |test| holds(Match { namespaces: any(vec![test]), ..Match::default() });
    assert!(namespaces(text("shop")) && !namespaces(text("sho")));
    assert!(namespaces(StringMatch::Prefix("sh".into())));
    assert!(!namespaces(StringMatch::Prefix("hop".into())));
    assert!(namespaces(StringMatch::Suffix("hop".into())));
    assert!(!namespaces(StringMatch::Suffix("sh".into())));
    assert!(namespaces(StringMatch::Presence));
    let principals = |test| holds(Match { principals: any(vec![test]), ..Match::default() });
    assert!(principals(text("td/ns/shop/sa/web")));
    assert!(!principals(text("spiffe://td/ns/shop/sa/web")));
    assert!(!principals(text("other/ns/shop/sa/web")));
    assert!(principals(StringMatch::Prefix("td/ns/shop/".into())));
    assert!(principals(StringMatch::Suffix("/sa/web".into())));
    let none_of = |test| holds(Match { principals: none(vec![test]), ..Match::default() });
    assert!(!none_of(StringMatch::Presence) && none_of(text("td/ns/shop/sa/db")));
}

#[test]
fn service_accounts_are_of_any_trust_domain() {
    let account = |namespace: &str, name: &str| Account {
        namespace: namespace.to_owned(),
        service_account: name.to_owned(),
    };
    let allow = [one(
        Action::Allow,
        Match { accounts: any(vec![account("shop", "web")]), ..Match::default() },
    )];
    assert!(from(&allow, Some("td/ns/shop/sa/web"), "10.0.0.1"));
    assert!(from(&allow, Some("other/ns/shop/sa/web"), "10.0.0.1"));
    assert!(!from(&allow, Some("td/ns/shop/sa/db"), "10.0.0.1"));
    assert!(!from(&allow, Some("td/ns/web/sa/shop"), "10.0.0.1"));
}

#[test]
fn without_identity_only_negations_hold() {
    let unknown = |matches| from(&[one(Action::Allow, matches)], None, "10.0.0.1");
    let account = Account { namespace: "shop".into(), service_account: "web".into() };
    for test in [text("shop"), StringMatch::Prefix(String::new()), StringMatch::Presence] {
        let (yes, no) = (any(vec![test.clone()]), none(vec![test]));
        assert!(!unknown(Match { namespaces: yes.clone(), ..Match::default() }));
        assert!(unknown(Match { namespaces: no.clone(), ..Match::default() }));
        assert!(!unknown(Match { principals: yes, ..Match::default() }));
        assert!(unknown(Match { principals: no, ..Match::default() }));
    }
    assert!(!unknown(Match { accounts: any(vec![account.clone()]), ..Match::default() }));
    assert!(unknown(Match { accounts: none(vec![account]), ..Match::default() }));
}

#[test]
fn strict_mutual_tls_is_met_by_any_known_pod() {
    // what Istio makes of a STRICT PeerAuthentication
    let principals = none(vec![StringMatch::Presence]);
    let strict = [one(Action::Deny, Match { principals, ..Match::default() })];
    assert!(from(&strict, Some("td/ns/any/sa/body"), "10.0.0.1"));
    assert!(!from(&strict, None, "10.0.0.1"));
}

#[test]
fn addresses_are_of_one_family_and_mapped_ones_are_ipv4() {
    let sources = |net: &str| any(vec![net.parse().expect("a range")]);
    let met = |net: &str, source: &str| {
        let matches = Match { source_ips: sources(net), ..Match::default() };
        from(&[one(Action::Allow, matches)], None, source)
    };
    assert!(met("10.0.0.0/8", "10.255.0.1") && !met("10.0.0.0/8", "11.0.0.1"));
    assert!(met("10.0.0.77/8", "10.255.0.1"), "bits behind the prefix say nothing");
    assert!(met("10.0.0.0/8", "::ffff:10.0.0.1"));
    assert!(met("::ffff:10.0.0.0/104", "10.0.0.1"));
    assert!(met("::ffff:10.0.0.0/104", "::ffff:10.0.0.1"));
    assert!(!met("::/0", "10.0.0.1") && !met("0.0.0.0/0", "fd00::1"));
    assert!(met("::/0", "fd00::1") && met("0.0.0.0/0", "10.0.0.1"));
    assert!(met("fe80::/10", "fe80::1") && !met("fd00::1/128", "fd00::2"));
}

#[test]
fn the_destination_counts_too() {
    let to = |net: &str| any(vec![net.parse().expect("a range")]);
    assert!(holds(Match { destination_ips: to("10.0.0.2/32"), ..Match::default() }));
    assert!(!holds(Match { destination_ips: to("10.0.0.1/32"), ..Match::default() }));
    let except = none(vec!["10.0.0.2/32".parse().expect("a range")]);
    assert!(!holds(Match { destination_ips: except, ..Match::default() }));
}

#[test]
fn dry_run_changes_nothing_and_says_what_it_would() {
    let dry = |policy: Policy| Policy { dry_run: true, ..policy };
    let deny = [dry(one(Action::Deny, ports(&[80])))];
    let connection = Connection {
        source: ip("10.0.0.1"),
        identity: None,
        destination: ip("10.0.0.2"),
        port: 80,
    };
    let verdict = judge(&deny, &connection);
    assert_eq!(verdict.reason, Reason::NoneApplies);
    assert!(matches!(verdict.dry_run, Reason::Denied(_)));
    let allow = [dry(one(Action::Allow, ports(&[81])))];
    let verdict = judge(&allow, &connection);
    assert_eq!((verdict.reason, verdict.dry_run), (Reason::NoneApplies, Reason::NoneAllows));
}

#[test]
fn the_verdict_names_policy_group_and_matches() {
    let groups = vec![vec![vec![ports(&[81])]], vec![vec![], vec![ports(&[81]), ports(&[80])]]];
    let policies = [one(Action::Allow, ports(&[80])), policy(Action::Deny, groups)];
    let connection = Connection {
        source: ip("10.0.0.1"),
        identity: None,
        destination: ip("10.0.0.2"),
        port: 80,
    };
    let hit = Hit { policy: &policies[1], group: 1, matches: vec![None, Some(1)] };
    assert_eq!(judge(&policies, &connection).reason, Reason::Denied(hit));
}

#[test]
fn scopes_say_where_a_policy_applies() {
    let at = |scope, named: &[&str]| {
        let policy = Policy { scope, ..policy(Action::Deny, vec![]) };
        let named: Vec<_> = named.iter().map(|name| (*name).into()).collect();
        (policy.applies_to("ns", &named), policy.applies_to("other", &named))
    };
    assert_eq!(at(Scope::Global, &[]), (true, true));
    assert_eq!(at(Scope::Namespace, &["ns/p"]), (true, false));
    assert_eq!(at(Scope::WorkloadSelector, &[]), (false, false));
    assert_eq!(at(Scope::WorkloadSelector, &["ns/q"]), (false, false));
    assert_eq!(at(Scope::WorkloadSelector, &["ns/q", "ns/p"]), (true, true));
}

#[test]
fn an_identity_is_its_text() {
    let text = "td/ns/shop/sa/web";
    assert_eq!(who(text).to_string(), text);
    assert_eq!(who(text).namespace, "shop");
    for wrong in ["", "td", "td/ns/shop", "td/ns/shop/sa/a/b", "a/b/ns/shop/sa/web"] {
        assert_eq!(Identity::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn what_makes_no_sense_is_said_with_the_policys_name() {
    let said = |policy: &Policy| -> Vec<String> {
        policy.problems().iter().map(ToString::to_string).collect()
    };
    assert_eq!(said(&one(Action::Deny, ports(&[1]))), Vec::<String>::new());
    assert_eq!(said(&one(Action::Deny, ports(&[0]))), ["policy ns/p: group 1: port 0 is no port"]);
    let long = text(&"x".repeat(513));
    let principals = Condition { any: vec![long], none: vec![text("")] };
    let account = Account { namespace: String::new(), service_account: "a".into() };
    let wrong = Match { principals, accounts: none(vec![account]), ..Match::default() };
    assert_eq!(
        said(&one(Action::Deny, wrong)),
        [
            "policy ns/p: group 1: principal of 513 bytes: at most 512",
            "policy ns/p: group 1: an empty principal; to ask that there is one, say Presence",
            "policy ns/p: group 1: a service account with an empty namespace",
        ]
    );
    for name in ["", "ns", "ns/", "/p"] {
        let policy = Policy { name: name.into(), ..policy(Action::Deny, vec![]) };
        let expected = format!("policy {name}: name and namespace must not be empty");
        assert_eq!(said(&policy), [expected]);
    }
}
