//! Random policies and connections over a small world, so that they meet.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::IpAddr;

use ipnet::IpNet;
use kmesh_bpf::authz::{
    Account, Action, Condition, Connection, Identity, Match, Policy, Scope, StringMatch,
};
use proptest::prelude::*;
use proptest::sample::select;

/// A connection that owns its identity; the identity's place in [`identities`] is its number.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub source: IpAddr,
    pub who: Option<usize>,
    pub destination: IpAddr,
    pub port: u16,
}

impl Attempt {
    pub fn connection<'a>(&self, identities: &'a [Identity]) -> Connection<'a> {
        Connection {
            source: self.source,
            identity: self.who.map(|at| &identities[at]),
            destination: self.destination,
            port: self.port,
        }
    }
}

const DOMAINS: [&str; 2] = ["td", "td2"];
const NAMESPACES: [&str; 3] = ["a", "ab", "b"];
const ACCOUNTS: [&str; 3] = ["x", "xy", "a"];
const PORTS: [u16; 6] = [1, 80, 81, 443, 8080, 65535];
const NETS: [&str; 16] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "10.1.2.4/31",
    "128.0.0.0/1",
    "255.255.255.255/32",
    "::/0",
    "fd00::/8",
    "fd00:1::/32",
    "fd00:1::1/128",
    "fe80::/10",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
    "::ffff:10.1.0.0/112",
    "::ffff:0.0.0.0/96",
];
const ADDRESSES: [&str; 13] = [
    "0.0.0.0",
    "10.0.0.1",
    "10.1.0.1",
    "10.1.2.3",
    "10.1.2.4",
    "11.0.0.0",
    "192.0.2.1",
    "255.255.255.255",
    "::ffff:10.1.2.3",
    "fd00:1::1",
    "fd00:2::1",
    "fe80::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

/// Everybody there is.
pub fn identities() -> Vec<Identity> {
    let mut all = Vec::new();
    for trust_domain in DOMAINS {
        for namespace in NAMESPACES {
            all.extend(ACCOUNTS.map(|account| Identity {
                trust_domain: trust_domain.to_owned(),
                namespace: namespace.to_owned(),
                service_account: account.to_owned(),
            }));
        }
    }
    all
}

pub fn attempt() -> impl Strategy<Value = Attempt> {
    let who = prop::option::weighted(0.8, 0..identities().len());
    (address(), who, address(), select(&PORTS[..]))
        .prop_map(|(source, who, destination, port)| Attempt { source, who, destination, port })
}

pub fn attempts(count: usize) -> impl Strategy<Value = Vec<Attempt>> {
    prop::collection::vec(attempt(), count)
}

fn address() -> impl Strategy<Value = IpAddr> {
    select(&ADDRESSES[..]).prop_map(|text| text.parse().expect("an address"))
}

fn net() -> impl Strategy<Value = IpNet> {
    select(&NETS[..]).prop_map(|text| text.parse().expect("a range"))
}

fn test_of(texts: Vec<String>) -> impl Strategy<Value = StringMatch> {
    let text = select(texts);
    prop_oneof![
        4 => text.clone().prop_map(StringMatch::Exact),
        2 => (text.clone(), 1..4usize).prop_map(|(text, some)| {
            StringMatch::Prefix(text[..some.min(text.len())].to_owned())
        }),
        2 => (text, 1..4usize).prop_map(|(text, some)| {
            StringMatch::Suffix(text[text.len() - some.min(text.len())..].to_owned())
        }),
        1 => Just(StringMatch::Presence),
    ]
}

fn condition<T: Clone + std::fmt::Debug + 'static>(
    values: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Condition<T>> {
    let some = |most| prop::collection::vec(values.clone(), 0..most);
    prop_oneof![
        5 => Just(Condition::default()),
        2 => some(4).prop_map(|any| Condition { any, none: Vec::new() }),
        1 => some(3).prop_map(|none| Condition { any: Vec::new(), none }),
        1 => (some(3), some(3)).prop_map(|(any, none)| Condition { any, none }),
    ]
}

fn one_match() -> impl Strategy<Value = Match> {
    let principals = identities().iter().map(ToString::to_string).collect();
    let namespaces = NAMESPACES.map(str::to_owned).to_vec();
    let account = (select(&NAMESPACES[..]), select(&ACCOUNTS[..])).prop_map(|(namespace, name)| {
        Account { namespace: namespace.to_owned(), service_account: name.to_owned() }
    });
    (
        condition(test_of(namespaces).boxed()),
        condition(test_of(principals).boxed()),
        condition(account.boxed()),
        condition(net().boxed()),
        condition(net().boxed()),
        condition(select(&PORTS[..]).boxed()),
    )
        .prop_map(|of| Match {
            namespaces: of.0,
            principals: of.1,
            accounts: of.2,
            source_ips: of.3,
            destination_ips: of.4,
            destination_ports: of.5,
        })
}

/// A match that asks of several dimensions, so that many of them stay many bits.
fn narrow() -> impl Strategy<Value = Match> {
    let ports = (0..PORTS.len()).prop_map(|at| vec![PORTS[at]]);
    (one_match(), net(), ports).prop_map(|(one, net, ports)| Match {
        source_ips: Condition { any: vec![net], ..one.source_ips },
        destination_ports: Condition { any: ports, none: Vec::new() },
        ..one
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let rule = prop_oneof![1 => Just(Vec::new()), 9 => prop::collection::vec(one_match(), 1..5)];
    let group = prop::collection::vec(rule, 0..4);
    // rules that reach over several words of a row
    let wide = prop::collection::vec(prop::collection::vec(narrow(), 20..100), 2..4);
    let groups = prop::collection::vec(prop_oneof![30 => group.boxed(), 1 => wide.boxed()], 0..4);
    let action = select(&[Action::Allow, Action::Deny][..]);
    (groups, action, prop::bool::weighted(0.2)).prop_map(|(groups, action, dry_run)| Policy {
        name: "ns/p".into(),
        scope: Scope::Global,
        action,
        dry_run,
        groups,
    })
}

/// All policies that apply to a pod.
pub fn policies() -> impl Strategy<Value = Vec<Policy>> {
    prop::collection::vec(policy(), 0..6)
}
