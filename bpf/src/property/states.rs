//! Random states of a small world, and the changes between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;

use crate::authz::{Action, Match, Policy, Scope, StringMatch};
use crate::want::{
    Change, Endpoint, Family, Kind, MetadataFormat, Mode, Name, Service, ServiceKey, Settings,
    WaypointRef, Workload,
};

/// Random numbers that decide what a state holds.
pub(super) fn dice() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 160..400)
}

struct Dice<'a> {
    rolls: &'a [u8],
    at: usize,
}

impl Dice<'_> {
    fn roll(&mut self, sides: usize) -> usize {
        let roll = self.rolls[self.at % self.rolls.len()];
        self.at += 1;
        (usize::from(roll) + self.at / self.rolls.len()) % sides
    }
}

pub(super) fn vip(at: usize) -> IpAddr {
    let last = u8::try_from(at).expect("few");
    match at % 2 {
        0 => Ipv4Addr::new(10, 96, 0, last).into(),
        _ => Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, last.into()).into(),
    }
}

pub(super) fn address(at: usize) -> IpAddr {
    let last = u8::try_from(at).expect("few");
    match at % 2 {
        0 => Ipv4Addr::new(10, 0, 0, last).into(),
        _ => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into(),
    }
}

pub(super) const VIPS: usize = 10;
pub(super) const ADDRESSES: usize = 16;
pub(super) const PORTS: [u16; 2] = [80, 443];
const WORKLOADS: usize = 7;
const SERVICES: usize = 4;

fn long(text: &str, at: usize) -> Name {
    let tail = if at % 3 == 2 { "x".repeat(90) } else { String::new() };
    format!("{text}{at}{tail}").into()
}

/// A complete change: everything that the tables shall say.
pub(super) fn state(rolls: &[u8]) -> Change {
    let mut dice = Dice { rolls, at: 0 };
    let workloads = workloads(&mut dice);
    let mut services = waypoints(&mut dice, &workloads);
    let names: Vec<Name> = (0..2).map(|at| long("ns/waypoint", at)).collect();
    let there: Vec<_> = names
        .into_iter()
        .filter(|name| services.iter().any(|(key, _)| key.name == *name))
        .collect();
    let pick = |dice: &mut Dice<'_>| {
        let at = dice.roll(5);
        there.get(at).map(|name| WaypointRef { name: name.clone(), port: 15019 })
    };
    let workloads = workloads
        .into_iter()
        .map(|(uid, mut workload)| {
            workload.waypoint = pick(&mut dice).filter(|_| !workload.addresses.is_empty());
            (uid, Some(workload))
        })
        .collect::<Vec<_>>();
    for port in PORTS {
        let owners: Vec<usize> = (0..VIPS).map(|_| dice.roll(SERVICES + 1)).collect();
        for family in [Family::V4, Family::V6] {
            for at in 0..SERVICES {
                let vips: Vec<_> = (0..VIPS)
                    .filter(|vip_at| owners[*vip_at] == at)
                    .map(vip)
                    .filter(|vip| Family::of(*vip) == family)
                    .collect();
                if vips.is_empty() && dice.roll(4) > 0 {
                    continue;
                }
                let name = long("ns/service", at);
                let key = ServiceKey { name, port, family, kind: Kind::Service };
                let service = Service {
                    vips,
                    mode: [Mode::Standard, Mode::Standard, Mode::Failover, Mode::Passthrough]
                        [dice.roll(4)],
                    synced: dice.roll(3) > 0,
                    waypoint: pick(&mut dice),
                    endpoints: endpoints(&mut dice, &workloads),
                };
                services.push((key, Some(service)));
            }
        }
    }
    let settings = Settings {
        metadata: [MetadataFormat::Tlv, MetadataFormat::ProxyV2][dice.roll(2)],
        peername: dice.roll(2) > 0,
        exempt_ports: [vec![], vec![25, 3306]][dice.roll(2)].clone(),
    };
    Change {
        services,
        workloads,
        settings: Some(settings),
        all_services: true,
        all_workloads: true,
        all_policies: true,
        ..Change::default()
    }
}

fn workloads(dice: &mut Dice<'_>) -> Vec<(Name, Workload)> {
    let owners: Vec<usize> = (0..ADDRESSES).map(|_| dice.roll(WORKLOADS + 2)).collect();
    let mut workloads = Vec::new();
    for at in 0..WORKLOADS {
        if dice.roll(4) == 0 {
            continue;
        }
        let mut addresses: Vec<_> =
            (0..ADDRESSES).filter(|address| owners[*address] == at).map(address).collect();
        let mut workload = Workload {
            v4: addresses
                .iter()
                .find_map(|ip| if let IpAddr::V4(v4) = ip { Some(*v4) } else { None }),
            v6: addresses
                .iter()
                .find_map(|ip| if let IpAddr::V6(v6) = ip { Some(*v6) } else { None }),
            identity: [None, Some(long("td/ns/n/sa/", 1)), Some(long("td/ns/n/sa/", 2))]
                [dice.roll(3)]
            .clone(),
            is_waypoint: dice.roll(6) == 0,
            policies: Vec::new(),
            ..Workload::default()
        };
        if dice.roll(5) == 0 {
            addresses.clear();
            workload.v4 = Some(Ipv4Addr::new(192, 168, 0, 1));
        }
        workload.addresses = addresses;
        workloads.push((long("cluster//Pod/ns/w", at), workload));
    }
    workloads
}

fn waypoints(
    dice: &mut Dice<'_>,
    workloads: &[(Name, Workload)],
) -> Vec<(ServiceKey, Option<Service>)> {
    let workloads: Vec<_> =
        workloads.iter().map(|(uid, workload)| (uid.clone(), Some(workload.clone()))).collect();
    let mut services = Vec::new();
    for at in 0..2 {
        if dice.roll(4) == 0 {
            continue;
        }
        for family in [Family::V4, Family::V6] {
            let (name, port, kind) = (long("ns/waypoint", at), 15019, Kind::Waypoint);
            let endpoints = endpoints(dice, &workloads);
            let service = Service { synced: true, endpoints, ..Service::default() };
            services.push((ServiceKey { name, port, family, kind }, Some(service)));
        }
    }
    services
}

fn endpoints(dice: &mut Dice<'_>, workloads: &[(Name, Option<Workload>)]) -> Vec<Endpoint> {
    let few = dice.roll(3) + 1;
    let mut endpoints = Vec::new();
    for (uid, workload) in workloads {
        let Some(workload) = workload else { continue };
        for (family, there) in
            [(Family::V4, workload.v4.is_some()), (Family::V6, workload.v6.is_some())]
        {
            for port in [8080, 8081] {
                if there && dice.roll(4) < few {
                    endpoints.push(Endpoint { workload: uid.clone(), port, family });
                }
            }
        }
    }
    endpoints
}

/// As [`state`], with authorization policies, and workloads that name some of them.
pub(super) fn governed(rolls: &[u8]) -> Change {
    let mut state = state(rolls);
    let mut dice = Dice { rolls, at: 7 };
    for at in 0..5 {
        if dice.roll(3) > 0 {
            let policy = policy(at, &mut dice);
            state.policies.push((policy.name.clone(), Some(Arc::new(policy))));
        }
    }
    for (_, workload) in &mut state.workloads {
        let Some(workload) = workload else { continue };
        let named = (0..5).filter(|_| dice.roll(2) > 0);
        workload.policies = named.map(policy_name).collect();
        workload.policies.sort_unstable();
        let accounts = ["td/ns/n/sa/a", "td/ns/n/sa/b", "td/ns/m/sa/a", "td2/ns/m/sa/c"];
        workload.identity = accounts.get(dice.roll(5)).map(|text| (*text).into());
    }
    state
}

fn policy_name(at: usize) -> Name {
    format!("{}/p{at}", ["n", "m"][at % 2]).into()
}

fn policy(at: usize, dice: &mut Dice<'_>) -> Policy {
    let name = policy_name(at);
    let scope = [Scope::Global, Scope::Namespace, Scope::WorkloadSelector][dice.roll(3)];
    let action = [Action::Allow, Action::Deny][dice.roll(2)];
    let groups = (0..=dice.roll(2)).map(|_| {
        let rules =
            (0..=dice.roll(2)).map(|_| (0..=dice.roll(2)).map(|_| one_match(dice)).collect());
        rules.collect()
    });
    let groups = groups.collect();
    Policy { name, scope, action, dry_run: dice.roll(6) == 0, groups }
}

fn one_match(dice: &mut Dice<'_>) -> Match {
    let mut one = Match::default();
    let exact = |text: &str| vec![StringMatch::Exact(text.to_owned())];
    match dice.roll(6) {
        0 => one.namespaces.any = exact(["n", "m"][dice.roll(2)]),
        1 => one.namespaces.none = exact(["n", "m"][dice.roll(2)]),
        2 => one.principals.any = exact(["td/ns/n/sa/a", "td/ns/m/sa/a"][dice.roll(2)]),
        3 => one.principals.none = vec![StringMatch::Suffix("a".to_owned())],
        4 => one.destination_ports.any = vec![PORTS[dice.roll(2)]],
        _ => one.source_ips.any = vec!["10.0.0.4/30".parse().expect("a range")],
    }
    one
}

/// What must change from `a` to `b`, and no more.
pub(super) fn difference(a: &Change, b: &Change) -> Change {
    Change {
        services: entries(&a.services, &b.services),
        workloads: entries(&a.workloads, &b.workloads),
        policies: entries(&a.policies, &b.policies),
        settings: b.settings.clone().filter(|_| a.settings != b.settings),
        all_services: false,
        all_workloads: false,
        ..Change::default()
    }
}

fn entries<K: PartialEq + Clone, V: PartialEq + Clone>(
    a: &[(K, Option<V>)],
    b: &[(K, Option<V>)],
) -> Vec<(K, Option<V>)> {
    let changed = b.iter().filter(|entry| !a.contains(entry)).cloned();
    let gone = a.iter().filter(|(key, _)| b.iter().all(|(other, _)| other != key));
    changed.chain(gone.map(|(key, _)| (key.clone(), None))).collect()
}
