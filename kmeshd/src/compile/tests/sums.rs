//! Changes add up to the whole, and the whole does not depend on their order.

use std::net::IpAddr;
use std::sync::Arc;

use kmesh_bpf::authz::{Action, Policy, Scope as PolicyScope};
use kmesh_bpf::want::Mode;
use proptest::prelude::*;

use super::{Tables, changed, everything, here, ip, ip6};
use crate::desired::Desired;
use crate::model::{
    Destination, Ips, Membership, Model, Name, Place, Scope, Service, Standing, Traits, Workload,
};

#[derive(Clone, Debug)]
enum Event {
    Workload(usize, Option<Workload>),
    Service(usize, Option<Service>),
    Policy(usize, Option<Arc<Policy>>),
    Resolved(Vec<IpAddr>),
    Replace(Vec<Option<Workload>>, Vec<Option<Service>>, Vec<Option<Arc<Policy>>>),
    Compile,
}

const WORKLOADS: usize = 5;
const SERVICES: usize = 4;
const POLICIES: usize = 3;

fn name(service: usize) -> Name {
    format!("n/s{service}").into()
}

fn uid(workload: usize) -> Name {
    format!("w{workload}").into()
}

fn policy_name(policy: usize) -> Name {
    format!("n/p{policy}").into()
}

fn policy(at: usize) -> impl Strategy<Value = Arc<Policy>> {
    (any::<bool>(), any::<bool>()).prop_map(move |(deny, selects)| {
        Arc::new(Policy {
            name: policy_name(at),
            scope: if selects { PolicyScope::WorkloadSelector } else { PolicyScope::Global },
            action: if deny { Action::Deny } else { Action::Allow },
            dry_run: false,
            groups: Vec::new(),
        })
    })
}

fn waypoint() -> impl Strategy<Value = Option<Destination>> {
    let local = || Name::from("");
    prop_oneof![
        4 => Just(None),
        4 => (0..SERVICES + 1).prop_map(|at| Some(Destination::Hostname(name(at)))),
        2 => (0..WORKLOADS).prop_map(move |at| Some(Destination::Address(local(), ip(0, at)))),
        2 => (0..SERVICES).prop_map(move |at| Some(Destination::Address(local(), ip(1, at)))),
        1 => Just(Some(Destination::Address("".into(), ip(9, 9)))),
        1 => Just(Some(Destination::Address("far".into(), ip(0, 1)))),
    ]
}

fn workload(at: usize) -> impl Strategy<Value = Workload> {
    let members = prop::collection::btree_set(0..SERVICES, 0..3);
    let flags = (any::<bool>(), prop::bool::weighted(0.8), prop::bool::weighted(0.1), 0..3_u8);
    let policies = prop::collection::btree_set(0..POLICIES, 0..3);
    (members, waypoint(), flags, (0..4_u8, 0..3_u8), policies).prop_map(
        move |(members, waypoint, flags, (families, network), policies)| {
            let (moved, healthy, host_network, place) = flags;
            // Some address is another's, too.
            let host = if moved { 2 } else { at };
            let ips = match families {
                0 => vec![ip(0, host)].into(),
                1 => vec![ip6(0, host)].into(),
                2 => vec![ip(0, host), ip6(0, host)].into(),
                _ => Ips::Hostname("db.example".into()),
            };
            let place = Place {
                node: if place < 2 { "n1".into() } else { "n2".into() },
                zone: format!("z{}", place % 2).into(),
                network: if network == 2 { "far".into() } else { "".into() },
                ..Place::default()
            };
            let services = members
                .into_iter()
                .map(|service| Membership { service: name(service), ports: [(80, 8000)].into() });
            let traits = Traits {
                identity: "i".into(),
                waypoint,
                services: services.collect(),
                policies: policies.into_iter().map(policy_name).collect(),
            };
            Workload {
                ips,
                place: Arc::new(place),
                traits: Arc::new(traits),
                healthy,
                host_network,
            }
        },
    )
}

fn service(at: usize) -> impl Strategy<Value = Service> {
    let mode = prop_oneof![
        Just((Mode::Standard, vec![])),
        Just((Mode::Strict, vec![Scope::Zone])),
        Just((Mode::Failover, vec![Scope::Node, Scope::Zone])),
        Just((Mode::Passthrough, vec![])),
    ];
    (0..4_u8, prop::collection::btree_set(80..83_u16, 0..3), waypoint(), mode, any::<bool>())
        .prop_map(move |(families, ports, waypoint, (mode, preferences), allow_unhealthy)| {
            let mut vips: Vec<(Name, IpAddr)> = Vec::new();
            if families & 1 == 0 {
                vips.push(("".into(), ip(1, at)));
                vips.push(("".into(), ip(1, 99)));
                vips.push(("far".into(), ip(1, 98)));
            }
            if families & 2 == 0 {
                vips.push(("".into(), ip6(1, at)));
            }
            Service {
                vips: vips.into(),
                ports: ports.into_iter().map(|port| (port, port)).collect(),
                waypoint,
                mode,
                preferences: preferences.into(),
                allow_unhealthy,
                left_out: 0,
                standing: if allow_unhealthy { Standing::Private } else { Standing::Kubernetes },
            }
        })
}

fn event() -> impl Strategy<Value = Event> {
    let one_workload = (0..WORKLOADS).prop_flat_map(|at| {
        prop::option::weighted(0.8, workload(at)).prop_map(move |new| Event::Workload(at, new))
    });
    let one_service = (0..SERVICES).prop_flat_map(|at| {
        prop::option::weighted(0.8, service(at)).prop_map(move |new| Event::Service(at, new))
    });
    let workloads: Vec<_> =
        (0..WORKLOADS).map(|at| prop::option::weighted(0.8, workload(at))).collect();
    let services: Vec<_> =
        (0..SERVICES).map(|at| prop::option::weighted(0.8, service(at))).collect();
    let one_policy = (0..POLICIES).prop_flat_map(|at| {
        prop::option::weighted(0.8, policy(at)).prop_map(move |new| Event::Policy(at, new))
    });
    let policies: Vec<_> =
        (0..POLICIES).map(|at| prop::option::weighted(0.8, policy(at))).collect();
    prop_oneof![
        6 => one_workload,
        3 => one_policy,
        1 => prop::collection::vec((0..3_usize).prop_map(|host| ip(0, host)), 0..3)
            .prop_map(Event::Resolved),
        4 => one_service,
        1 => (workloads, services, policies).prop_map(|(w, s, p)| Event::Replace(w, s, p)),
        3 => Just(Event::Compile),
    ]
}

fn model(
    workloads: Vec<Option<Workload>>,
    services: Vec<Option<Service>>,
    policies: Vec<Option<Arc<Policy>>>,
) -> Model {
    let workloads = workloads.into_iter().enumerate();
    let services = services.into_iter().enumerate();
    let policies = policies.into_iter().enumerate();
    Model {
        workloads: workloads.filter_map(|(at, new)| Some((uid(at), new?))).collect(),
        services: services.filter_map(|(at, new)| Some((name(at), new?))).collect(),
        policies: policies.filter_map(|(at, new)| Some((policy_name(at), new?))).collect(),
        ..Model::default()
    }
}

fn has_hostnames(desired: &Desired) -> bool {
    let said = |uid| desired.said(uid).map(|workload| workload.ips);
    desired.workloads.keys().any(|uid| matches!(said(uid), Some(Ips::Hostname(_))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn changes_add_up_to_the_whole(events in prop::collection::vec(event(), 1..30)) {
        let mut desired = Desired::new(here(""));
        let mut tables = Tables::default();
        let hostname: Name = "db.example".into();
        let mut answer = Vec::new();
        for event in events.into_iter().chain([Event::Compile]) {
            match event {
                Event::Workload(at, new) => desired.set_workload(&uid(at), new),
                Event::Service(at, new) => desired.set_service(&name(at), new),
                Event::Resolved(ips) => {
                    desired.answer(&hostname, ips.clone());
                    if has_hostnames(&desired) {
                        answer = ips;
                    }
                }
                Event::Policy(at, new) => desired.set_policy(&policy_name(at), new),
                Event::Replace(workloads, services, policies) => {
                    desired.replace(model(workloads, services, policies));
                }
                Event::Compile => {
                    let before = tables.clone();
                    desired.settle(&before);
                    let dirty = desired.take_dirty();
                    tables.apply(&changed(&desired, &dirty));
                    let mut whole = Tables::default();
                    whole.apply(&everything(&desired));
                    prop_assert_eq!(&tables, &whole);
                    whole.assert_whole();
                    // Nothing depends on what came first.
                    let mut other = Desired::new(here(""));
                    for uid in desired.workloads.keys() {
                        other.set_workload(uid, desired.said(uid));
                    }
                    if desired.unanswered().is_empty() {
                        other.answer(&hostname, answer.clone());
                    }
                    for (name, service) in &desired.services {
                        other.set_service(name, Some(service.clone()));
                    }
                    for (name, policy) in &desired.policies {
                        other.set_policy(name, Some(policy.clone()));
                    }
                    other.settle(&before);
                    let mut again = Tables::default();
                    again.apply(&everything(&other));
                    prop_assert_eq!(&again, &whole);
                    // Nor on what this process knows of the past: the tables tell it.
                    other.mark_all();
                    other.settle(&whole);
                    let mut restarted = Tables::default();
                    restarted.apply(&everything(&other));
                    prop_assert_eq!(&restarted, &whole);
                }
            }
        }
    }
}
