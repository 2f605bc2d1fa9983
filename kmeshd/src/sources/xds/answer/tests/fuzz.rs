//! Responses of a real istiod with one resource damaged: bytes flipped, cut, doubled; fields made
//! absurd. Whatever the damage: no panic, every other resource is taken, the damaged one is taken or
//! refused by name in few words, and its repair ends the refusal. `KMESH_FUZZ_CASES` says how many.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use prost::Message as _;

use super::super::super::proto::{DeltaDiscoveryResponse, Payload, Resource};
use super::super::{Memory, Type};
use crate::decode::proto::{security, workload as wire};
use crate::reconcile::Served;

/// A case takes at most so many resources beside the damaged one.
const BESIDE: usize = 6;
/// What a NACK may have for one resource.
const SAID: usize = 2000;

/// What istiod sent, by type and name: the first of each.
fn corpus() -> [BTreeMap<String, Resource>; 2] {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/istiod");
    let mut all = [BTreeMap::new(), BTreeMap::new()];
    for part in ["initial", "churn"] {
        for entry in std::fs::read_dir(fixtures.join(part)).expect("the fixtures") {
            let file = entry.expect("an entry").path();
            if file.extension().is_none_or(|kind| kind != "pb") {
                continue;
            }
            let bytes = std::fs::read(file).expect("a capture");
            let response = DeltaDiscoveryResponse::decode(&*bytes).expect("a response");
            let of = Type::ALL.into_iter().find(|of| of.url() == response.type_url);
            for bytes in response.resources {
                let resource = Resource::decode(bytes).expect("a resource");
                let of = of.expect("a type") as usize;
                all[of].entry(resource.name.clone()).or_insert(resource);
            }
        }
    }
    assert!(all[0].len() > 15 && all[1].len() > 7);
    all
}

/// Flips, cuts, doubles and inserts.
fn damage_bytes(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(1..4) {
        if bytes.is_empty() {
            return;
        }
        let (at, to) = (rng.usize(..bytes.len()), rng.usize(..bytes.len()));
        match rng.u8(..6) {
            0 => bytes[at] ^= 1 << rng.u8(..8),
            1 => bytes[at] = [0, 0x7f, 0x80, 0xff][rng.usize(..4)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at.min(to)..at.max(to))),
            4 => {
                let part = bytes[at.min(to)..at.max(to)].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let count = rng.usize(1..20);
                let noise: Vec<u8> = (0..count).map(|_| rng.u8(..)).collect();
                bytes.splice(at..at, noise);
            }
        }
    }
}

/// A text that is no name.
fn odd_text(rng: &mut fastrand::Rng) -> String {
    match rng.u8(..7) {
        0 => String::new(),
        1 => "x".repeat(rng.usize(1..100_000)),
        2 => "a\0b".to_owned(),
        3 => "a\nb\u{1b}[31m".to_owned(),
        4 => "/".repeat(rng.usize(1..5)),
        5 => "net/10.0.0.1".to_owned(),
        _ => "ä\u{202e}\u{10ffff}".to_owned(),
    }
}

fn odd_bytes(rng: &mut fastrand::Rng) -> Bytes {
    let len = [0, 3, 4, 5, 15, 16, 17, 1000][rng.usize(..8)];
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

fn odd_port(rng: &mut fastrand::Rng) -> wire::Port {
    let odd = [0, 1, 65535, 65536, 70000, u32::MAX];
    wire::Port { service_port: odd[rng.usize(..6)], target_port: odd[rng.usize(..6)] }
}

/// An absurd number of the same.
fn many(rng: &mut fastrand::Rng) -> usize {
    [1, 2, 1000, 100_000][rng.usize(..4)]
}

fn damage_workload(rng: &mut fastrand::Rng, it: &mut wire::Workload) {
    match rng.u8(..12) {
        0 => it.uid = odd_text(rng),
        1 => it.namespace = odd_text(rng),
        2 => it.addresses = vec![odd_bytes(rng); many(rng)],
        3 => it.hostname = odd_text(rng),
        4 => it.status = rng.i32(..),
        5 => it.network_mode = rng.i32(..),
        6 => it.authorization_policies = vec![odd_text(rng); rng.usize(1..300)],
        7 => it.node = odd_text(rng),
        8 => {
            let ports = vec![odd_port(rng); many(rng)];
            it.services.insert(odd_text(rng), wire::PortList { ports });
        }
        9 => it.locality = Some(wire::Locality { region: odd_text(rng), ..Default::default() }),
        10 => it.waypoint = Some(wire::GatewayAddress { destination: None }),
        _ => it.trust_domain = odd_text(rng),
    }
}

fn damage_service(rng: &mut fastrand::Rng, it: &mut wire::Service) {
    match rng.u8(..7) {
        0 => it.hostname = odd_text(rng),
        1 => it.namespace = odd_text(rng),
        2 => it.ports = vec![odd_port(rng); many(rng)],
        3 => {
            let length = [None, Some(0), Some(33), Some(129), Some(u32::MAX)][rng.usize(..5)];
            let vip =
                wire::NetworkAddress { network: odd_text(rng), address: odd_bytes(rng), length };
            it.addresses = vec![vip; rng.usize(1..300)];
        }
        4 => {
            let routing_preference = vec![rng.i32(..9); many(rng)];
            let (mode, health_policy) = (rng.i32(..5), rng.i32(..3));
            it.load_balancing =
                Some(wire::LoadBalancing { routing_preference, mode, health_policy });
        }
        5 => {
            let name =
                wire::NamespacedHostname { namespace: odd_text(rng), hostname: odd_text(rng) };
            let destination = Some(wire::gateway_address::Destination::Hostname(name));
            it.waypoint = Some(wire::GatewayAddress { destination });
        }
        _ => it.name = odd_text(rng),
    }
}

fn damage_policy(rng: &mut fastrand::Rng, it: &mut security::Authorization) {
    let one = match rng.u8(..6) {
        0 => {
            let length = [0, 32, 33, 128, 129, u32::MAX][rng.usize(..6)];
            let range = security::Address { address: odd_bytes(rng), length };
            security::Match { source_ips: vec![range; rng.usize(1..300)], ..Default::default() }
        }
        1 => security::Match {
            destination_ports: vec![rng.u32(..); many(rng)],
            ..Default::default()
        },
        2 => {
            let text = security::string_match::MatchType::Exact(odd_text(rng));
            let text = security::StringMatch { match_type: Some(text) };
            security::Match { principals: vec![text; rng.usize(1..300)], ..Default::default() }
        }
        3 => security::Match {
            namespaces: vec![security::StringMatch::default(); many(rng)],
            ..Default::default()
        },
        _ => security::Match::default(),
    };
    match rng.u8(..6) {
        0 => it.groups = vec![security::Group::default(); many(rng)],
        1 => {
            let rules = vec![security::Rules::default(); many(rng)];
            it.groups.push(security::Group { rules });
        }
        2 => it.scope = rng.i32(..),
        3 => it.name = odd_text(rng),
        _ => {
            let rules = vec![security::Rules { matches: vec![one] }];
            it.groups.push(security::Group { rules });
        }
    }
}

/// The resource, damaged in one way or the other.
fn damaged(rng: &mut fastrand::Rng, of: Type, good: &Resource) -> Bytes {
    let mut resource = good.clone();
    let content = resource.resource.as_mut().expect("content");
    match rng.u8(..8) {
        0 => {
            let mut bytes = good.encode_to_vec();
            damage_bytes(rng, &mut bytes);
            return bytes.into();
        }
        1 | 2 => {
            let mut bytes = content.value.to_vec();
            damage_bytes(rng, &mut bytes);
            content.value = bytes.into();
        }
        3 => resource.name = odd_text(rng),
        4 => content.type_url = odd_text(rng),
        _ if of == Type::Policy => {
            let mut it = security::Authorization::decode(&*content.value).expect("a policy");
            damage_policy(rng, &mut it);
            content.value = it.encode_to_vec().into();
        }
        _ => {
            let mut it = wire::Address::decode(&*content.value).expect("an address");
            match it.r#type.as_mut().expect("one of both") {
                wire::address::Type::Workload(workload) => damage_workload(rng, workload),
                wire::address::Type::Service(service) => damage_service(rng, service),
            }
            content.value = it.encode_to_vec().into();
        }
    }
    resource.encode_to_vec().into()
}

fn respond(of: Type, resources: Vec<Bytes>) -> DeltaDiscoveryResponse {
    let type_url = of.url().to_owned();
    DeltaDiscoveryResponse { type_url, resources, ..DeltaDiscoveryResponse::default() }
}

/// One case; whether the damaged resource was refused.
fn case(rng: &mut fastrand::Rng, corpus: &[BTreeMap<String, Resource>; 2]) -> bool {
    let of = Type::ALL[rng.usize(..2)];
    let mut all: Vec<&Resource> = corpus[of as usize].values().collect();
    rng.shuffle(&mut all);
    let victim = all.pop().expect("a resource");
    all.truncate(rng.usize(..=BESIDE));
    let bad = damaged(rng, of, victim);
    let called = Resource::decode(bad.clone()).map(|it| it.name);
    let mut resources: Vec<Bytes> = all.iter().map(|it| it.encode_to_vec().into()).collect();
    // Whoever comes first by a name has it.
    let stolen = all.iter().any(|it| called.as_ref().is_ok_and(|name| *name == it.name));
    let at = if stolen { resources.len() } else { rng.usize(..=resources.len()) };
    resources.insert(at, bad);

    let mut memory = Memory::new(false, Served::default());
    memory.begin(false, 1 << 20);
    let taken = memory.take(respond(of, resources));
    let versions = memory.versions();
    for good in &all {
        assert!(versions[of.url()].contains_key(&good.name), "{} is not taken", good.name);
    }
    let refused = memory.refused.len();
    assert!(refused <= 1);
    assert_eq!(versions[of.url()].len(), all.len() + 1 - refused);
    let Some(said) = taken.nack else {
        assert_eq!(refused, 0);
        return false;
    };
    assert!(said.len() < SAID, "{said}");
    assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
    let name = match &called {
        Ok(name) => crate::decode::shown(name),
        Err(_) => format!("resource {}", at + 1),
    };
    assert!(said.starts_with(&format!("{name}: ")), "{name} is not named: {said}");
    // What was wrong is mended.
    let mended = memory.take(respond(of, vec![victim.encode_to_vec().into()]));
    assert_eq!(mended.nack, None);
    assert!(called.is_ok_and(|name| name != victim.name) || !memory.refused.contains_key(&name));
    true
}

#[test]
fn one_damaged_resource_harms_no_other() {
    let asked = std::env::var("KMESH_FUZZ_CASES").ok().and_then(|text| text.parse().ok());
    let cases: usize = asked.unwrap_or(200);
    let corpus = corpus();
    let start = if asked.is_some() { fastrand::u64(..) } else { 7 };
    let mut refused = 0;
    for seed in (0..cases as u64).map(|n| start.wrapping_add(n)) {
        let run = || case(&mut fastrand::Rng::with_seed(seed), &corpus);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        refused += usize::from(ran.unwrap_or_else(|_| panic!("seed {seed}")));
    }
    assert!(refused > cases / 4 && refused < cases, "{refused}");
    println!("{refused} refused by name, {} taken whole: {cases} of {cases}", cases - refused);
}

#[test]
fn what_is_larger_than_any_object_is_refused_before_it_is_unpacked() {
    // Two bytes each on the wire, hundreds in memory.
    let rules = vec![security::Rules { matches: vec![security::Match::default(); 2_000_000] }];
    let policy = security::Authorization {
        name: "p".to_owned(),
        namespace: "n".to_owned(),
        groups: vec![security::Group { rules }],
        ..Default::default()
    };
    let value = policy.encode_to_vec().into();
    let resource = Some(Payload { type_url: Type::Policy.url().to_owned(), value });
    let resource = Resource { name: "n/p".to_owned(), resource, ..Resource::default() };
    let mut memory = Memory::new(false, Served::default());
    memory.begin(false, 1 << 20);
    let taken = memory.take(respond(Type::Policy, vec![resource.encode_to_vec().into()]));
    let said = taken.nack.expect("it is refused");
    assert!(said.starts_with("n/p: it has 4"), "{said}");
    assert!(said.contains("at most 2097152"), "{said}");
}
