//! Random objects of a mesh, as a control plane sends them, each with the states that it goes
//! through. Few names and few addresses: they meet all the time.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use proptest::prelude::*;
use prost::Message as _;

use crate::decode::tests::{encode_service, encode_workload, security, wire};

const SERVICES: usize = 4;
const WAYPOINTS: usize = 2;
const WORKLOADS: usize = 7;
const POLICIES: usize = 3;
/// What workloads without addresses are named.
pub(super) const HOSTNAMES: [&str; 2] = ["db.example", "queue.example"];

/// What becomes of one thing.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// A resource: workload, service, or (`true`) policy; its content, or that it is gone.
    Resource(String, bool, Vec<Option<Vec<u8>>>),
    /// Which of its versions the mesh file has.
    File(Vec<usize>),
    /// What DNS says of a hostname.
    Answers(usize, Vec<Vec<IpAddr>>),
}

impl What {
    /// How many states it goes through.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Resource(_, _, states) => states.len(),
            Self::File(states) => states.len(),
            Self::Answers(_, states) => states.len(),
        }
    }
}

fn v4(net: u8, host: usize) -> Vec<u8> {
    vec![10, net, 0, u8::try_from(host).expect("a small number")]
}

fn v6(net: u8, host: usize) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    (bytes[0], bytes[3]) = (0xfd, net);
    bytes[15] = u8::try_from(host).expect("a small number");
    bytes
}

fn vip(network: &str, address: Vec<u8>, length: Option<u32>) -> wire::NetworkAddress {
    wire::NetworkAddress { network: network.to_owned(), address: address.into(), length }
}

/// The host part of a service's name: those after the last are waypoints.
fn host(service: usize) -> String {
    if service < SERVICES { format!("s{service}") } else { format!("wp{}", service - SERVICES) }
}

fn gateway() -> impl Strategy<Value = Option<wire::GatewayAddress>> {
    use wire::gateway_address::Destination;
    let by_name = |at| {
        let (namespace, hostname) = ("n".to_owned(), host(SERVICES + at));
        Destination::Hostname(wire::NamespacedHostname { namespace, hostname })
    };
    let by_address = |network: &str, address| Destination::Address(vip(network, address, None));
    let destination = prop_oneof![
        6 => (0..WAYPOINTS).prop_map(by_name),
        2 => (0..WORKLOADS).prop_map(move |at| by_address("", v4(0, at + 1))),
        2 => (0..SERVICES + WAYPOINTS).prop_map(move |at| by_address("", v4(1, at + 1))),
        1 => Just(by_address("", v4(9, 9))),
        1 => Just(by_address("far", v4(0, 1))),
    ];
    let gateway = |destination| wire::GatewayAddress { destination: Some(destination) };
    prop::option::weighted(0.5, destination.prop_map(gateway))
}

fn balancing() -> impl Strategy<Value = Option<wire::LoadBalancing>> {
    use wire::load_balancing::{Mode, Scope};
    let modes = prop_oneof![
        Just((Mode::UnspecifiedMode, vec![])),
        Just((Mode::Strict, vec![Scope::Zone])),
        Just((Mode::Strict, vec![Scope::Node])),
        Just((Mode::Failover, vec![Scope::Network, Scope::Region, Scope::Zone])),
        Just((Mode::Passthrough, vec![])),
    ];
    let all = |((mode, scopes), health_policy): ((Mode, Vec<Scope>), i32)| wire::LoadBalancing {
        routing_preference: scopes.into_iter().map(|scope| scope as i32).collect(),
        mode: mode as i32,
        health_policy,
    };
    prop::option::weighted(0.5, (modes, 0..2).prop_map(all))
}

fn service(at: usize) -> impl Strategy<Value = Vec<u8>> {
    let ports = prop::collection::btree_map(80..83_u32, prop_oneof![Just(0), Just(8080)], 0..3);
    (0..4_u8, any::<[bool; 3]>(), ports, gateway(), balancing()).prop_map(
        move |(families, [shared, far, range], ports, waypoint, load_balancing)| {
            let mut addresses = Vec::new();
            if families & 1 == 1 {
                addresses.push(vip("", v4(1, at + 1), None));
            }
            if families & 2 == 2 {
                addresses.push(vip("", v6(1, at + 1), Some(128)));
            }
            if shared {
                addresses.push(vip("", v4(1, 99), None));
            }
            if far {
                addresses.push(vip("far", v4(1, 98), None));
            }
            if range {
                addresses.push(vip("", v4(2, 0), Some(24)));
            }
            let port = |(service_port, target_port)| wire::Port { service_port, target_port };
            encode_service(wire::Service {
                namespace: "n".to_owned(),
                hostname: host(at),
                addresses,
                ports: ports.into_iter().map(port).collect(),
                waypoint,
                load_balancing,
                ..wire::Service::default()
            })
        },
    )
}

fn workload(at: usize) -> impl Strategy<Value = Vec<u8>> {
    let members = prop::collection::btree_set(0..SERVICES + WAYPOINTS, 0..4);
    let policies = prop::collection::btree_set(0..POLICIES, 0..3);
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::bool::weighted(0.1));
    (members, policies, gateway(), flags, (0..6_u8, 0..6_u8), any::<[bool; 2]>()).prop_map(
        move |(members, policies, waypoint, flags, (kind, place), [named, target])| {
            let (moved, sick, host_network) = flags;
            // Some address is another's, too.
            let near = if moved { (at + 1) % WORKLOADS } else { at } + 1;
            let addresses = match kind {
                0 | 1 => vec![v4(0, near)],
                2 => vec![v6(0, near)],
                3 => vec![v4(0, near), v6(0, near), v4(3, near)],
                4 if named => Vec::new(),
                _ => vec![v6(0, near), v4(0, near)],
            };
            let hostname = if addresses.is_empty() { HOSTNAMES[at % 2] } else { "" };
            let ports = if target {
                vec![wire::Port { service_port: 80, target_port: 7000 + u32::from(place) }]
            } else {
                Vec::new()
            };
            let list =
                |service| (format!("n/{}", host(service)), wire::PortList { ports: ports.clone() });
            encode_workload(wire::Workload {
                uid: format!("w{at}"),
                namespace: "n".to_owned(),
                addresses: addresses.into_iter().map(Into::into).collect(),
                hostname: hostname.to_owned(),
                network: if place == 5 { "far" } else { "" }.to_owned(),
                node: format!("n{}", 1 + place % 2),
                locality: Some(wire::Locality {
                    region: "r".to_owned(),
                    zone: format!("z{}", place % 3),
                    subzone: String::new(),
                }),
                waypoint,
                status: i32::from(sick),
                network_mode: i32::from(host_network),
                services: members.into_iter().map(list).collect::<HashMap<_, _>>(),
                authorization_policies: policies.iter().map(|at| format!("n/p{at}")).collect(),
                ..wire::Workload::default()
            })
        },
    )
}

fn policy(at: usize) -> impl Strategy<Value = Vec<u8>> {
    (0..3, 0..2, any::<bool>(), 1..5_u32).prop_map(move |(scope, action, dry_run, port)| {
        let matches = vec![security::Match { destination_ports: vec![port], ..Default::default() }];
        let groups = vec![security::Group { rules: vec![security::Rules { matches }] }];
        let (name, namespace) = (format!("p{at}"), "n".to_owned());
        security::Authorization { name, namespace, scope, action, groups, dry_run }.encode_to_vec()
    })
}

/// The states that something goes through, some of them that it is not there; at the end too,
/// unless it must be `there` then.
fn states(one: BoxedStrategy<Vec<u8>>, there: bool) -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    let last = one.clone().prop_map(Some);
    let last = if there { last.boxed() } else { prop_oneof![6 => last, 1 => Just(None)].boxed() };
    (prop::collection::vec(prop::option::weighted(0.7, one), 0..3), last).prop_map(
        |(mut states, last)| {
            states.push(last);
            states
        },
    )
}

/// Everything there is. Waypoints that are named by hostname are there in the end: what is in
/// force while they are not is history's.
pub(super) fn mesh() -> impl Strategy<Value = Vec<What>> {
    let resource = |name: String, policy, states: BoxedStrategy<Vec<Option<Vec<u8>>>>| {
        states.prop_map(move |states| What::Resource(name.clone(), policy, states)).boxed()
    };
    let mut all = Vec::new();
    for at in 0..SERVICES + WAYPOINTS {
        let states = states(service(at).boxed(), at >= SERVICES).boxed();
        all.push(resource(format!("n/{}", host(at)), false, states));
    }
    for at in 0..WORKLOADS {
        all.push(resource(format!("w{at}"), false, states(workload(at).boxed(), false).boxed()));
    }
    for at in 0..POLICIES {
        all.push(resource(format!("n/p{at}"), true, states(policy(at).boxed(), false).boxed()));
    }
    all.push(prop::collection::vec(0..super::FILES.len(), 1..4).prop_map(What::File).boxed());
    for at in 0..HOSTNAMES.len() {
        let ip = prop_oneof![
            3 => (1..4_u8).prop_map(|host| IpAddr::from([192, 0, 2, host])),
            1 => (1..4_u8).prop_map(|host| IpAddr::from([10, 0, 0, host])),
            1 => (1..4_u16).prop_map(|host| IpAddr::from([0xfd09, 0, 0, 0, 0, 0, 0, host])),
        ];
        let answer = prop::collection::btree_set(ip, 0..3)
            .prop_map(|ips: BTreeSet<_>| ips.into_iter().collect());
        let answers = prop::collection::vec(answer, 1..4);
        all.push(answers.prop_map(move |answers| What::Answers(at, answers)).boxed());
    }
    all
}
