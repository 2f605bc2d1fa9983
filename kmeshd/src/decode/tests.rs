//! What is refused, by which words; that nothing makes a decoder panic; and what a real control
//! plane sent.

use std::net::IpAddr;

use proptest::prelude::*;
use prost::Message;

pub(crate) use super::proto::{security, workload as wire};
use super::{Address, DecodeError, Decoder};
use crate::model::{Destination, Ips, Mode, Scope, Standing};

fn encode(address: wire::address::Type) -> Vec<u8> {
    wire::Address { r#type: Some(address) }.encode_to_vec()
}

/// The bytes of a workload.
pub(crate) fn encode_workload(workload: wire::Workload) -> Vec<u8> {
    encode(wire::address::Type::Workload(workload))
}

/// The bytes of a service.
pub(crate) fn encode_service(service: wire::Service) -> Vec<u8> {
    encode(wire::address::Type::Service(service))
}

/// A good workload.
pub(crate) fn a_workload() -> wire::Workload {
    wire::Workload {
        uid: "Kubernetes//Pod/n/a".to_owned(),
        namespace: "n".to_owned(),
        addresses: vec![vec![10, 0, 0, 1].into()],
        ..wire::Workload::default()
    }
}

/// A good service.
pub(crate) fn a_service() -> wire::Service {
    wire::Service {
        namespace: "n".to_owned(),
        hostname: "h".to_owned(),
        ports: vec![wire::Port { service_port: 80, target_port: 8080 }],
        ..wire::Service::default()
    }
}

fn refused_workload(change: impl FnOnce(&mut wire::Workload)) -> String {
    let mut workload = a_workload();
    change(&mut workload);
    let bytes = encode(wire::address::Type::Workload(workload));
    Decoder::default().address(&bytes).expect_err("it makes no sense").to_string()
}

fn refused_service(change: impl FnOnce(&mut wire::Service)) -> String {
    let mut service = a_service();
    change(&mut service);
    let bytes = encode(wire::address::Type::Service(service));
    Decoder::default().address(&bytes).expect_err("it makes no sense").to_string()
}

#[test]
fn bad_workloads_are_refused_by_name_of_the_field() {
    let said = refused_workload(|w| w.addresses.push(vec![1, 2, 3].into()));
    assert_eq!(said, "address of 3 bytes: 4 or 16");
    let said = refused_workload(|w| w.addresses.push(vec![0; 16].into()));
    assert_eq!(said, "address :: is no address of one host");
    assert_eq!(refused_workload(|w| w.uid.clear()), "uid is empty");
    let said = refused_workload(|w| w.uid = "x".repeat(10 << 20));
    assert_eq!(said, "uid of 10485760 bytes: at most 512");
    let said = refused_workload(|w| w.node = "x".repeat(10 << 20));
    assert_eq!(said, "node of 10485760 bytes: at most 253");
    let said = refused_workload(|w| w.uid = "net/10.0.0.1".to_owned());
    assert_eq!(said, "a uid must not read as network/address");
    let said = refused_workload(|w| {
        let ports = vec![wire::Port { service_port: 70000, target_port: 1 }];
        w.services.insert("n/h".to_owned(), wire::PortList { ports });
    });
    assert_eq!(said, "port 70000: at most 65535");
    let said = refused_workload(|w| {
        w.services.insert("nobody".to_owned(), wire::PortList::default());
    });
    assert_eq!(said, "service \"nobody\" that it serves: not namespace/hostname");
    let said = refused_workload(|w| w.namespace = "a\nb".to_owned());
    assert!(said.starts_with("namespace holds a control character"), "{said}");
}

#[test]
fn bad_services_are_refused_by_name_of_the_field() {
    let said = refused_service(|s| s.hostname.clear());
    assert_eq!(said, "hostname of the service is empty");
    let said = refused_service(|s| s.ports[0].target_port = 70000);
    assert_eq!(said, "target port 70000: at most 65535");
    let said = refused_service(|s| s.ports[0].service_port = 0);
    assert_eq!(said, "port 0 is no service port");
    let said = refused_service(|s| {
        s.addresses =
            vec![wire::NetworkAddress { address: vec![1; 5].into(), ..Default::default() }];
    });
    assert_eq!(said, "VIP of 5 bytes: 4 or 16");
    let said = refused_service(|s| {
        let preference = vec![4, 9];
        let mode = wire::load_balancing::Mode::Strict.into();
        s.load_balancing =
            Some(wire::LoadBalancing { routing_preference: preference, mode, health_policy: 0 });
    });
    assert_eq!(said, "scope 9 of the routing preference is not known");
    let said = refused_service(|s| {
        let hostname = wire::NamespacedHostname { namespace: "n".to_owned(), ..Default::default() };
        let destination = Some(wire::gateway_address::Destination::Hostname(hostname));
        s.waypoint = Some(wire::GatewayAddress { destination });
    });
    assert_eq!(said, "hostname of the waypoint is empty");
}

#[test]
fn bad_policies_are_refused_by_name_of_the_field() {
    let policy = |change: &dyn Fn(&mut security::Match)| {
        let mut one = security::Match::default();
        change(&mut one);
        let rules = vec![security::Rules { matches: vec![one] }];
        let policy = security::Authorization {
            name: "p".to_owned(),
            namespace: "n".to_owned(),
            groups: vec![security::Group { rules }],
            ..Default::default()
        };
        let decoded = Decoder::default().policy(&policy.encode_to_vec());
        decoded.map(|policy| policy.name.to_string()).map_err(|error| error.to_string())
    };
    let range = |bytes: Vec<u8>, length| security::Address { address: bytes.into(), length };
    assert_eq!(policy(&|_| {}), Ok("n/p".to_owned()));
    let said = policy(&|one| one.source_ips = vec![range(vec![10, 0, 0, 0], 33)]);
    assert_eq!(said, Err("bad address range 10.0.0.0/33".to_owned()));
    let said = policy(&|one| one.source_ips = vec![range(vec![10, 0, 0], 8)]);
    assert_eq!(said, Err("address range of 3 bytes: 4 or 16".to_owned()));
    let said = policy(&|one| one.not_destination_ports = vec![65536]);
    assert_eq!(said, Err("port 65536: at most 65535".to_owned()));
    let said = policy(&|one| one.principals = vec![security::StringMatch::default()]);
    assert_eq!(said, Err("a test of a text of a kind that is not known".to_owned()));
}

#[test]
fn what_is_no_protobuf_or_says_nothing_is_refused() {
    let mut decoder = Decoder::default();
    assert!(matches!(decoder.address(&[0xff; 9]), Err(DecodeError::Malformed { .. })));
    assert!(matches!(decoder.address(&[]), Err(DecodeError::Nothing)));
    assert!(matches!(decoder.policy(&[0xff; 9]), Err(DecodeError::Malformed { .. })));
}

#[test]
fn a_service_keeps_every_network_and_leaves_out_what_is_no_host() {
    let mut service = a_service();
    let vip = |network: &str, address: &[u8], length| wire::NetworkAddress {
        network: network.to_owned(),
        address: address.to_vec().into(),
        length,
    };
    service.addresses = vec![
        vip("", &[10, 0, 0, 1], None),
        vip("far", &[10, 0, 0, 1], Some(32)),
        vip("", &[10, 9, 0, 0], Some(16)),
        vip("", &[10, 0, 0, 1], None),
        vip("", &[0; 4], None),
        vip("", &[224, 0, 0, 1], Some(32)),
    ];
    // A scope that is not known ends a preference.
    let preference = vec![6, 1, 9, 2];
    service.load_balancing =
        Some(wire::LoadBalancing { routing_preference: preference, mode: 2, health_policy: 1 });
    let bytes = encode(wire::address::Type::Service(service));
    let Ok(Address::Service(name, service)) = Decoder::default().address(&bytes) else {
        panic!("a good service")
    };
    assert_eq!(&*name, "n/h");
    let ip: IpAddr = [10, 0, 0, 1].into();
    assert_eq!(*service.vips, [("".into(), ip), ("far".into(), ip)]);
    assert_eq!(service.left_out, 3, "a range, an address of nobody, a group");
    assert_eq!((service.mode, service.allow_unhealthy), (Mode::Failover, true));
    assert_eq!(*service.preferences, [Scope::Network, Scope::Region]);
}

#[test]
fn a_workload_without_address_waits_for_its_name_to_be_resolved() {
    let mut workload = a_workload();
    workload.addresses.clear();
    workload.hostname = "db.example".to_owned();
    let address = wire::gateway_address::Destination::Address(wire::NetworkAddress {
        network: "net".to_owned(),
        address: vec![10, 0, 0, 9].into(),
        length: None,
    });
    workload.waypoint = Some(wire::GatewayAddress { destination: Some(address) });
    let bytes = encode(wire::address::Type::Workload(workload));
    let Ok(Address::Workload(_, workload)) = Decoder::default().address(&bytes) else {
        panic!("a good workload")
    };
    assert_eq!(workload.ips, Ips::Hostname("db.example".into()));
    assert!(workload.ips.all().is_empty() && workload.ips.is_unresolved());
    let waypoint = Destination::Address("net".into(), [10, 0, 0, 9].into());
    assert_eq!(workload.traits.waypoint, Some(waypoint));
    assert_eq!(&*workload.traits.identity, "cluster.local/ns/n/sa/default");
}

#[test]
fn what_later_control_planes_may_say_of_a_workload_is_read_the_safe_way() {
    let workload = wire::Workload { status: 7, network_mode: 7, ..a_workload() };
    let bytes = encode(wire::address::Type::Workload(workload));
    let Ok(Address::Workload(_, workload)) = Decoder::default().address(&bytes) else {
        panic!("a good workload")
    };
    assert!(!workload.healthy && workload.host_network);
}

#[test]
fn kubernetes_services_go_before_what_anybody_may_write() {
    let standing = |change: &dyn Fn(&mut wire::Service)| {
        let mut service = a_service();
        change(&mut service);
        match Decoder::default().address(&encode(wire::address::Type::Service(service))) {
            Ok(Address::Service(_, service)) => service.standing,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(standing(&|_| {}), Standing::Public);
    assert_eq!(standing(&|s| s.canonical = true), Standing::Canonical);
    assert_eq!(standing(&|s| (s.canonical, s.ip_families) = (true, 3)), Standing::Kubernetes);
    assert_eq!(standing(&|s| (s.canonical, s.visibility) = (true, 1)), Standing::Private);
    assert_eq!(standing(&|s| s.visibility = 2), Standing::Private, "later ones");
}

#[test]
fn of_two_ports_with_one_number_the_last_one_with_a_target_counts() {
    let port = |service_port, target_port| wire::Port { service_port, target_port };
    let mut service = a_service();
    service.ports = vec![port(53, 5353), port(80, 0), port(53, 8053), port(53, 0)];
    let bytes = encode(wire::address::Type::Service(service));
    let Ok(Address::Service(_, service)) = Decoder::default().address(&bytes) else {
        panic!("a good service")
    };
    assert_eq!(*service.ports, [(53, 8053), (80, 0)]);
}

#[test]
fn what_is_shared_is_stored_once_and_let_go() {
    let mut decoder = Decoder::default();
    let mut decode = |uid: &str, node: &str| {
        let workload =
            wire::Workload { uid: uid.to_owned(), node: node.to_owned(), ..a_workload() };
        match decoder.address(&encode(wire::address::Type::Workload(workload))) {
            Ok(Address::Workload(_, workload)) => workload,
            other => panic!("{other:?}"),
        }
    };
    let (a, b) = (decode("a", "n1"), decode("b", "n1"));
    assert!(std::sync::Arc::ptr_eq(&a.traits, &b.traits));
    assert!(std::sync::Arc::ptr_eq(&a.place, &b.place));
    for n in 0..2100 {
        decode("c", &format!("node {n}"));
    }
    decoder.tidy();
    let again = decoder.places.share(crate::model::Place::clone(&a.place));
    assert!(std::sync::Arc::ptr_eq(&a.place, &again), "what is in use stays");
}

#[test]
fn what_is_known_by_its_bytes_is_decoded_as_before() {
    let mut decoder = Decoder::default();
    let mut known = 0;
    for n in 0..50_u8 {
        let mut workload = a_workload();
        workload.uid = format!("uid {n}");
        workload.node = format!("node {}", n % 2);
        workload.service_account = format!("account {}", n % 3);
        workload.addresses = vec![vec![10, 0, 0, n + 1].into()];
        (workload.status, workload.network_mode) = (i32::from(n % 5 == 0), i32::from(n % 7 == 0));
        let bytes = encode(wire::address::Type::Workload(workload));
        known += usize::from(decoder.known.workload(&bytes).is_some());
        let now = decoder.address(&bytes).expect("good");
        assert_eq!(now, Decoder::default().address(&bytes).expect("good"));
    }
    assert_eq!(known, 50 - 3, "two nodes and three accounts come in three steps");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut decoder = Decoder::default();
        let _ = decoder.policy(&bytes);
        let _ = decoder.address(&bytes);
    }

    /// Nearly good ones come further.
    #[test]
    fn no_damage_makes_a_decoder_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        keep in any::<prop::sample::Index>(),
        which in 0..2,
    ) {
        let mut full = a_workload();
        full.addresses.push(vec![0xfd; 16].into());
        full.services.insert("n/h".to_owned(), wire::PortList {
            ports: vec![wire::Port { service_port: 80, target_port: 0 }],
        });
        full.waypoint = Some(wire::GatewayAddress {
            destination: Some(wire::gateway_address::Destination::Hostname(
                wire::NamespacedHostname { namespace: "n".to_owned(), hostname: "w".to_owned() },
            )),
        });
        full.authorization_policies = vec!["n/p".to_owned()];
        full.locality = Some(wire::Locality { region: "r".to_owned(), ..Default::default() });
        let mut service = a_service();
        service.addresses = vec![wire::NetworkAddress {
            network: "m".to_owned(), address: vec![10, 1, 1, 1].into(), length: Some(32),
        }];
        let mut bytes = match which {
            0 => encode(wire::address::Type::Workload(full)),
            _ => encode(wire::address::Type::Service(service)),
        };
        let mut decoder = Decoder::default();
        prop_assert!(decoder.address(&bytes).is_ok());
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(keep.index(bytes.len() * 4).max(1));
        let fresh = Decoder::default().address(&bytes);
        // That much of it is known changes nothing.
        let known = decoder.address(&bytes);
        prop_assert_eq!(format!("{:?}", &fresh), format!("{:?}", known));
        if let Ok(Address::Workload(uid, workload)) = fresh {
            prop_assert!(!uid.is_empty() && uid.len() <= kmesh_bpf::layout::NAME_MAX);
            prop_assert!(workload.ips.all().iter().all(|ip| !ip.is_unspecified()));
        }
        let _ = Decoder::default().policy(&bytes);
    }
}
