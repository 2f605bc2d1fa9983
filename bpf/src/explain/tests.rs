//! Explain on tables in memory: each outcome, and tables that a foreign hand spoiled.

use std::net::{IpAddr, SocketAddr};

use super::walk::connect;
use super::{Outcome, Protocol, Socket, Trail, Verdict};
use crate::apply::converge;
use crate::kernel::{Put, Tables as _};
use crate::layout::{FrontendKey, FrontendWord, Limits, ManagerWord, Map, cookie_tag};
use crate::memory::MemoryKernel;
use crate::tables::Have;
use crate::want::{
    Change, Endpoint, Family, Kind, MetadataFormat, Mode, Service, ServiceKey, Settings,
    WaypointRef, Workload,
};

const COOKIE: u64 = 77;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn endpoint(workload: &str, family: Family) -> Endpoint {
    Endpoint { workload: workload.into(), port: 8080, family }
}

/// Service `ns/NAME` at this VIP, port 80.
fn service(name: &str, vip: &str, endpoints: &[Endpoint]) -> (ServiceKey, Service) {
    let family = Family::of(ip(vip));
    let key =
        ServiceKey { name: format!("ns/{name}").into(), port: 80, family, kind: Kind::Service };
    let endpoints = endpoints.to_vec();
    (key, Service { vips: vec![ip(vip)], endpoints, synced: true, ..Service::default() })
}

fn waypoint(name: &str, family: Family, endpoints: &[Endpoint]) -> (ServiceKey, Service) {
    let key =
        ServiceKey { name: format!("ns/{name}").into(), port: 15019, family, kind: Kind::Waypoint };
    (key, Service { endpoints: endpoints.to_vec(), synced: true, ..Service::default() })
}

fn by(name: &str) -> WaypointRef {
    WaypointRef { name: format!("ns/{name}").into(), port: 15019 }
}

fn workload(number: u8) -> Workload {
    let v6 = format!("fd77::{number}").parse().expect("an address");
    let v4 = [10, 0, 0, number].into();
    Workload {
        v4: Some(v4),
        v6: Some(v6),
        addresses: vec![v4.into(), IpAddr::V6(v6)],
        ..Workload::default()
    }
}

/// Tables with these services; workloads a (1), b (2, by waypoint), w (3, a waypoint).
fn town(services: Vec<(ServiceKey, Service)>, settings: Settings) -> MemoryKernel {
    let mut b = workload(2);
    b.waypoint = Some(by("wp"));
    let mut w = workload(3);
    w.is_waypoint = true;
    let mut k = MemoryKernel::with_tables(&Limits::default());
    let change = Change {
        services: services.into_iter().map(|(key, service)| (key, Some(service))).collect(),
        workloads: [("a", workload(1)), ("b", b), ("w", w)]
            .into_iter()
            .map(|(uid, workload)| (uid.into(), Some(workload)))
            .collect(),
        settings: Some(settings),
        all_services: true,
        all_workloads: true,
        ..Change::default()
    };
    let mut have = Have::read_locked(&k).expect("tables");
    converge(&mut k, &mut have, &change, &mut |_, _| {}).expect("applied");
    manage(&mut k, ManagerWord::new(COOKIE, have.backend("a"), 0, ManagerWord::MANAGED));
    k
}

fn manage(k: &mut MemoryKernel, word: ManagerWord) {
    let (key, value) = (COOKIE.to_ne_bytes(), word.0.to_ne_bytes());
    k.update(Map::Manager, &key, &value, Put::Any).expect("written");
}

fn wp() -> Vec<(ServiceKey, Service)> {
    [Family::V4, Family::V6].map(|family| waypoint("wp", family, &[endpoint("w", family)])).into()
}

fn plain() -> Vec<(ServiceKey, Service)> {
    let mut services = wp();
    services.push(service(
        "web",
        "10.96.0.1",
        &[endpoint("a", Family::V4), endpoint("b", Family::V4)],
    ));
    services.push(service("web", "fd96::1", &[endpoint("a", Family::V6)]));
    services
}

fn socket(family: Family) -> Socket {
    Socket { family, protocol: Protocol::Tcp, v6_only: false, bound: None }
}

fn ask(k: &MemoryKernel, to: &str) -> Trail {
    let to: SocketAddr = to.parse().expect("an address and port");
    ask_by(k, to, socket(Family::of(to.ip())))
}

fn ask_by(k: &MemoryKernel, to: SocketAddr, socket: Socket) -> Trail {
    connect(k, Some(COOKIE), to, socket).expect("read")
}

/// The only outcome.
fn only(trail: &Trail) -> Outcome {
    let [said] = trail.outcomes.as_slice() else { panic!("{:?}", trail.outcomes) };
    assert!((said.chance - 1.0).abs() < 1e-9, "{said:?}");
    said.outcome
}

fn targets(trail: &Trail) -> Vec<String> {
    trail.endpoints.iter().filter_map(|at| Some(at.target?.to_string())).collect()
}

#[test]
fn a_service_leads_to_its_endpoints_each_as_likely() {
    let k = town(plain(), Settings::default());
    let trail = ask(&k, "10.96.0.1:80");
    assert_eq!(only(&trail), Outcome::Steered);
    assert_eq!(targets(&trail), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert!(trail.endpoints.iter().all(|at| (at.chance - 0.5).abs() < 1e-9));
    let service = trail.service.expect("a service");
    assert_eq!((service.name.as_str(), service.port, service.synced), ("ns/web", 80, true));
    assert_eq!(targets(&ask(&k, "[::ffff:10.96.0.1]:80")).len(), 2);
    assert_eq!(targets(&ask(&k, "[fd96::1]:80")), ["[fd77::1]:8080"]);
    assert_eq!(only(&ask(&k, "10.96.0.1:81")), Outcome::Miss);
    assert_eq!(only(&ask(&k, "10.0.0.1:8080")), Outcome::Miss);
}

#[test]
fn the_pod_decides_first() {
    let mut k = town(plain(), Settings::default());
    let to: SocketAddr = "10.96.0.1:80".parse().expect("an address");
    let of = |cookie| connect(&k, cookie, to, socket(Family::V4)).expect("read");
    assert_eq!(only(&of(None)), Outcome::Unmanaged);
    assert_eq!(only(&of(Some(78))), Outcome::Unmanaged);
    let udp = Socket { protocol: Protocol::Udp, ..socket(Family::V4) };
    assert_eq!(only(&ask_by(&k, to, udp)), Outcome::NotTcp);
    manage(&mut k, ManagerWord::new(COOKIE, None, 0, 3));
    assert_eq!(only(&ask(&k, "10.96.0.1:80")), Outcome::Bypass);
    manage(&mut k, ManagerWord::new(COOKIE, None, 0, 2));
    assert_eq!(only(&ask(&k, "10.96.0.1:80")), Outcome::Unmanaged);
    manage(&mut k, ManagerWord(1 << 40 | u64::from(cookie_tag(COOKIE) ^ 1) << 48));
    let trail = ask(&k, "10.96.0.1:80");
    assert_eq!(only(&trail), Outcome::RefusedStale);
    assert_eq!(trail.outcomes[0].retried, 3);
}

#[test]
fn no_endpoint_passes_or_is_refused_as_the_record_says() {
    let mut services = plain();
    services.push(service("empty", "10.96.0.2", &[]));
    services.push(service("unknown", "10.96.0.3", &[]));
    services.last_mut().expect("there").1.synced = false;
    services.push(service("through", "10.96.0.4", &[endpoint("a", Family::V4)]));
    services.last_mut().expect("there").1.mode = Mode::Passthrough;
    let k = town(services, Settings::default());
    assert_eq!(only(&ask(&k, "10.96.0.2:80")), Outcome::RefusedEmpty);
    assert_eq!(only(&ask(&k, "10.96.0.3:80")), Outcome::Unsynced);
    assert_eq!(only(&ask(&k, "10.96.0.4:80")), Outcome::Passthrough);
}

#[test]
fn what_a_socket_cannot_reach_is_refused() {
    let mut services = plain();
    services.push(service("six", "10.96.0.6", &[endpoint("a", Family::V6)]));
    services.push(service("four", "fd96::4", &[endpoint("a", Family::V4)]));
    let k = town(services, Settings::default());
    assert_eq!(only(&ask(&k, "10.96.0.6:80")), Outcome::RefusedFamily);
    assert_eq!(only(&ask(&k, "[::ffff:10.96.0.6]:80")), Outcome::Steered);
    let four: SocketAddr = "[fd96::4]:80".parse().expect("an address");
    let six = socket(Family::V6);
    assert_eq!(only(&ask_by(&k, four, six)), Outcome::Steered);
    let refused = [Socket { v6_only: true, ..six }, Socket { bound: Some(ip("fd77::9")), ..six }];
    for socket in refused {
        assert_eq!(only(&ask_by(&k, four, socket)), Outcome::RefusedFamily, "{socket:?}");
    }
    for bound in ["::", "::ffff:10.0.0.9", "10.0.0.9"] {
        let bound = Socket { bound: Some(ip(bound)), ..six };
        assert_eq!(only(&ask_by(&k, four, bound)), Outcome::Steered, "{bound:?}");
    }
    // an IPv4 socket may take its place as an IPv6 one that dials v4-mapped
    let mapped: SocketAddr = "10.96.0.6:80".parse().expect("an address");
    assert_eq!(only(&ask_by(&k, mapped, six)), Outcome::Steered);
}

#[test]
fn a_waypoint_is_met_by_its_metadata_or_not_at_all() {
    let mut services = plain();
    services[2].1.waypoint = Some(by("wp"));
    services.push(waypoint("none", Family::V4, &[]));
    services.push(service("gone", "10.96.0.5", &[endpoint("a", Family::V4)]));
    services.last_mut().expect("there").1.waypoint = Some(by("none"));
    let mut k = town(services, Settings::default());
    let trail = ask(&k, "10.96.0.1:80");
    assert_eq!(only(&trail), Outcome::Waypoint);
    let waypoint = trail.waypoint.expect("a waypoint");
    assert_eq!(waypoint.service.expect("its record").name, "ns/wp");
    let bytes = waypoint.metadata.and_then(|metadata| metadata.bytes);
    assert_eq!(bytes.as_deref(), Some("01000000060a6000010050fe00000000"));
    assert_eq!(only(&ask(&k, "10.96.0.5:80")), Outcome::RefusedWaypoint);
    // a workload's own waypoint, at its own address
    let trail = ask(&k, "[fd77::2]:8080");
    assert_eq!((only(&trail), trail.workload.as_deref()), (Outcome::Waypoint, Some("b")));
    assert_eq!(targets(&trail), ["[fd77::3]:8080"]);
    // a waypoint's own connections meet none
    let own = Have::read(&k).expect("tables").backend("w");
    manage(&mut k, ManagerWord::new(COOKIE, own, 0, ManagerWord::MANAGED));
    let trail = ask(&k, "10.96.0.1:80");
    assert_eq!(only(&trail), Outcome::WaypointSelf);
    assert!(!trail.waypoint.expect("named").met);
    assert_eq!(only(&ask(&k, "10.0.0.2:8080")), Outcome::Miss);
}

#[test]
fn settings_exempt_ports_and_choose_the_metadata() {
    let mut services = plain();
    services[2].1.waypoint = Some(by("wp"));
    let exempt = Settings { exempt_ports: vec![22, 80], ..Settings::default() };
    let k = town(services.clone(), exempt);
    let trail = ask(&k, "10.96.0.1:80");
    assert_eq!((only(&trail), trail.endpoints.len()), (Outcome::Steered, 2));
    let proxy = Settings { metadata: MetadataFormat::ProxyV2, ..Settings::default() };
    let metadata =
        ask(&town(services, proxy), "[::ffff:10.96.0.1]:80").waypoint.and_then(|w| w.metadata);
    let metadata = metadata.expect("metadata");
    assert_eq!((metadata.format, metadata.bytes), ("proxy-v2", None));
    assert_eq!(metadata.destination.to_string(), "10.96.0.1:80");
}

#[test]
fn what_does_not_fit_together_is_refused_as_the_programs_refuse_it() {
    let mut k = town(plain(), Settings::default());
    let key = FrontendKey::service(ip("10.96.0.1"), 80);
    let put = |k: &mut MemoryKernel, word: FrontendWord| {
        k.update(Map::Frontend, bytemuck::bytes_of(&key), bytemuck::bytes_of(&word), Put::Any)
            .expect("written");
    };
    // another key's word; a record that is not in use; one beyond the map's end
    put(&mut k, FrontendWord::new(&FrontendKey::service(ip("10.96.0.1"), 81), 0));
    assert_eq!(only(&ask(&k, "10.96.0.1:80")), Outcome::RefusedStale);
    for index in [999, u32::MAX] {
        put(&mut k, FrontendWord::new(&key, index));
        let trail = ask(&k, "10.96.0.1:80");
        assert_eq!((only(&trail), trail.outcomes[0].retried), (Outcome::RefusedStale, 3));
        assert_eq!(trail.verdict(), Verdict::Refused);
    }
}

#[test]
fn a_slot_that_was_never_written_is_looked_up_again() {
    let mut k = town(plain(), Settings::default());
    let slots: Vec<u32> = (0..8).filter(|at| slot(&k, *at) != 0).collect();
    let web = slots.iter().find(|at| slot(&k, **at) & 0xffff_ffff == 1).expect("b's slot");
    k.update(Map::Endpoint, &web.to_ne_bytes(), &[0; 8], Put::Any).expect("written");
    let trail = ask(&k, "10.96.0.1:80");
    assert_eq!(trail.verdict(), Verdict::Varies);
    let chances: Vec<_> = trail.outcomes.iter().map(|said| (said.outcome, said.chance)).collect();
    let [(Outcome::Steered, steered), (Outcome::RefusedStale, refused)] = chances[..] else {
        panic!("{chances:?}");
    };
    assert!((steered - 15.0 / 16.0).abs() < 1e-9 && (refused - 1.0 / 16.0).abs() < 1e-9);
}

fn slot(k: &MemoryKernel, index: u32) -> u64 {
    let mut word = [0; 8];
    k.lookup(Map::Endpoint, &index.to_ne_bytes(), &mut word).expect("in reach");
    u64::from_ne_bytes(word)
}
