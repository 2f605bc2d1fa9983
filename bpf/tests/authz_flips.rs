//! Policies change hundreds of times while clients dial as fast as they can, in namespaces of their
//! own. Every connection's outcome must be what one of the policies says that were in force at some
//! instant between its beginning and its end: never a mixture, never open in between.
//!
//! The truth is `authz::judge`, of each state, asked after the fact.

mod wire;
mod world;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kmesh_bpf::apply::converge;
use kmesh_bpf::authz::{
    Action, Condition, Connection, Identity, Match, Policy, Scope, StringMatch,
};
use kmesh_bpf::netns;
use kmesh_bpf::pods::{self, Pod};
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::{Change, Workload};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use wire::{Wire, ip};
use world::World;

/// How often the policies change.
const CHANGES: usize = 300;
/// Where the pod listens.
const PORTS: [u16; 2] = [7000, 7001];
const POD: &str = "10.9.1.2";
/// Addresses of the client's namespace: each a workload of its own, the last one nobody's.
const SOURCES: [&str; 4] = ["10.9.1.1", "10.9.1.11", "10.9.1.12", "10.9.1.13"];

/// Small numbers, always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }
}

fn identity(of: usize) -> Identity {
    let service_account = format!("client-{of}");
    Identity { trust_domain: "td".to_owned(), namespace: "ns".to_owned(), service_account }
}

/// One match of something that some of the connections have.
fn some_match(dice: &mut Dice) -> Match {
    let mut found = Match::default();
    if dice.below(2) == 0 {
        let who = StringMatch::Exact(identity(dice.below(3)).to_string());
        found.principals = Condition { any: vec![who], none: Vec::new() };
    } else {
        let net = format!("{}/32", SOURCES[dice.below(4)]).parse().expect("a range");
        found.source_ips = Condition { any: vec![net], none: Vec::new() };
    }
    if dice.below(2) == 0 {
        let port = PORTS[dice.below(2)];
        found.destination_ports = Condition { any: vec![port], none: Vec::new() };
    }
    found
}

fn some_policies(dice: &mut Dice) -> Vec<Policy> {
    let count = dice.below(4);
    let policy = |at: usize| Policy {
        name: format!("ns/p{at}").into(),
        scope: if dice.below(4) == 0 { Scope::Global } else { Scope::Namespace },
        action: if dice.below(2) == 0 { Action::Allow } else { Action::Deny },
        dry_run: false,
        groups: (0..=dice.below(3)).map(|_| vec![vec![some_match(dice)]]).collect(),
    };
    (0..count).map(policy).collect()
}

/// A connection that was tried, and by which states it may have been decided.
struct Tried {
    source: usize,
    port: u16,
    connected: bool,
    states: (usize, usize),
}

/// Which state the tables certainly had reached, and which they may have reached.
#[derive(Default)]
struct Clock {
    settled: AtomicUsize,
    begun: AtomicUsize,
    over: AtomicBool,
}

/// Dials from a given address; the connection ends with a reset, so that no port waits.
fn dial(source: &str, port: u16) -> bool {
    let from: SocketAddr = format!("{source}:0").parse().expect("an address");
    let to: SocketAddr = format!("{POD}:{port}").parse().expect("an address");
    let dialling = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    sockopt::set_socket_linger(&dialling, Some(Duration::ZERO)).expect("no lingering");
    bind(&dialling, &from).expect("bind");
    match connect(&dialling, &to) {
        Ok(()) => true,
        Err(rustix::io::Errno::CONNREFUSED) => false,
        Err(other) => panic!("{source} to {to}: {other}"),
    }
}

fn storm(clock: &Clock, seed: u64) -> Vec<Tried> {
    let mut dice = Dice(seed);
    let mut tried = Vec::new();
    while !clock.over.load(Ordering::SeqCst) {
        let (source, port) = (dice.below(4), PORTS[dice.below(2)]);
        let from = clock.settled.load(Ordering::SeqCst);
        let connected = dial(SOURCES[source], port);
        let states = (from, clock.begun.load(Ordering::SeqCst));
        tried.push(Tried { source, port, connected, states });
    }
    tried
}

/// The model: clients by address, and the pod.
fn workloads() -> Change {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let of = |text: &str, identity: String| Workload {
        v4: Some(text.parse().expect("IPv4")),
        addresses: vec![address(text)],
        identity: Some(identity.into()),
        ..Workload::default()
    };
    let client = |at: usize| {
        (format!("c//Pod/ns/client-{at}").into(), Some(of(SOURCES[at], identity(at).to_string())))
    };
    let mut workloads: Vec<_> = (0..3).map(client).collect();
    workloads.push(("c//Pod/ns/pod".into(), Some(of(POD, "td/ns/ns/sa/pod".to_owned()))));
    Change { workloads, pods: vec!["c//Pod/ns/pod".into()], ..Change::default() }
}

fn listen(wire: &Wire) {
    for port in PORTS {
        let listener = wire.inside(1, || TcpListener::bind(("0.0.0.0", port)).expect("listen"));
        // It ends with the process.
        std::thread::spawn(move || while listener.accept().is_ok() {});
    }
}

#[test]
fn a_storm_of_changes_never_decides_by_what_was_not_in_force() {
    let (world, wire) = (World::new(), Wire::new());
    let (mut k, ..) = world.start();
    for address in &SOURCES[1..] {
        ip(&["-n", &wire.names[0], "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
    }
    let mut have = Have::read(&k).expect("read");
    converge(&mut k, &mut have, &workloads(), &mut |_, _| {}).expect("the model");
    let cookie = netns::cookie_of(&wire.path(1)).expect("a cookie");
    let pod = Pod { cookie, uid: "c//Pod/ns/pod".into(), netns: wire.path(1), bypass: false };
    let standing = have.standing(&pod.uid, None);
    let done = pods::enrol(&mut k, &world.root, &pod, standing).expect("enrol");
    done.hook.expect("a hook");
    have.note_manager(cookie, Some(done.word));
    listen(&wire);

    let mut dice = Dice(7);
    let mut states = vec![Vec::new()];
    states.extend((0..CHANGES).map(|_| some_policies(&mut dice)));
    let clock = Clock::default();
    let tried: Vec<Tried> = wire.inside(0, || {
        std::thread::scope(|scope| {
            let storms: Vec<_> = (1..=3)
                .map(|seed| {
                    scope.spawn({
                        let clock = &clock;
                        move || storm(clock, seed)
                    })
                })
                .collect();
            for (at, state) in states.iter().enumerate().skip(1) {
                clock.begun.store(at, Ordering::SeqCst);
                let named = |policy: &Policy| (policy.name.clone(), Some(Arc::new(policy.clone())));
                let policies = state.iter().map(named).collect();
                let change = Change { policies, all_policies: true, ..Change::default() };
                let applied = converge(&mut k, &mut have, &change, &mut |_, _| {});
                applied.expect("the policies fit");
                clock.settled.store(at, Ordering::SeqCst);
            }
            clock.over.store(true, Ordering::SeqCst);
            storms.into_iter().flat_map(|storm| storm.join().expect("a storm")).collect()
        })
    });
    judge(&states, &tried);
}

fn judge(states: &[Vec<Policy>], tried: &[Tried]) {
    let destination: IpAddr = POD.parse().expect("an address");
    let (mut let_in, mut kept_out, mut decided) = (0, 0, 0);
    for one in tried {
        let identity = (one.source < 3).then(|| identity(one.source));
        let source = SOURCES[one.source].parse().expect("an address");
        let connection =
            Connection { source, identity: identity.as_ref(), destination, port: one.port };
        let may = |state: &Vec<Policy>| kmesh_bpf::authz::judge(state, &connection).allows();
        let (from, to) = one.states;
        let window = &states[from..=to];
        assert!(
            window.iter().any(|state| may(state) == one.connected),
            "{} to port {}: connected {} in the states {from} to {to}",
            SOURCES[one.source],
            one.port,
            one.connected
        );
        decided += usize::from(window.iter().all(|state| may(state) == one.connected));
        if one.connected { let_in += 1 } else { kept_out += 1 }
    }
    println!(
        "{CHANGES} changes, {let_in} let in, {kept_out} kept out, {decided} of them beyond doubt"
    );
    assert!(let_in > 500 && kept_out > 500 && decided > 1000, "too few to tell");
}
