//! The program in the kernel says what the meaning of policies says: random policies compiled
//! into the real maps, random connections put to the real program, no difference.

mod authz;
mod world;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use authz::{Attempt, attempts, identities, policies};
use kmesh_bpf::authz::{Identity, Image, Policy, compile, judge};
use kmesh_bpf::denials::{Namer, Ring};
use kmesh_bpf::kernel::linux::{Dial, Linux};
use kmesh_bpf::kernel::{Objects, Put, Tables};
use kmesh_bpf::layout::{
    BackendRecord, COUNTERS, ConnectionKey, DenialRecord, FrontendKey, FrontendWord, Hook, Limits,
    ManagerWord, Map, POLICY_WAIT,
};
use kmesh_bpf::pins;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use world::World;

/// So many sets, each with so many attempts, of which about half make sense: over 100,000 decisions.
const SETS: usize = 400;
const ATTEMPTS: usize = 600;
const COOKIE: u64 = 0x1234_5678_9abc;
const HOST: u64 = 1;
const LIMITS: Limits = Limits { policy_words: 60_000, policy_chunks: 6_000, ..world::SMALL };

/// The maps and the program of one pod.
struct Town {
    world: World,
    k: Linux,
    prog: PathBuf,
}

fn number(at: usize) -> u32 {
    u32::try_from(at).expect("a small number") + 1
}

/// Everybody has an address of their own, so that the address is who they are.
fn home(who: usize) -> IpAddr {
    let at = u8::try_from(who).expect("a small number");
    if who.is_multiple_of(2) {
        [10, 1, 2, at].into()
    } else {
        [0xfd00, 1, 0, 0, 0, 0, 0, at.into()].into()
    }
}

impl Town {
    fn new() -> Self {
        let world = World::new();
        let mut k = Linux::new();
        pins::adopt_maps(&mut k, &world.root, &LIMITS).expect("adopt the maps");
        let prog = world.bpffs().join("pod");
        let info =
            k.load_pod(Hook::SkLookup, COOKIE, &world.root.maps(), &LIMITS, &prog).expect("load");
        println!("sk_lookup: the verifier walked {} instructions", info.verified_insns);
        let mut town = Self { world, k, prog };
        for (who, _) in identities().iter().enumerate() {
            let record = BackendRecord { who: number(who), ..BackendRecord::default() };
            town.put(Map::Backend, &number(who), &record);
            let key = FrontendKey::workload(home(who));
            town.put(Map::Frontend, &key, &FrontendWord::new(&key, number(who)));
        }
        town
    }

    fn put<K: bytemuck::Pod, V: bytemuck::Pod>(&mut self, map: Map, key: &K, value: &V) {
        let (key, value) = (bytemuck::bytes_of(key), bytemuck::bytes_of(value));
        self.k.update(map, key, value, Put::Any).expect("write an element");
    }

    fn pod(&mut self, set: u16, flags: u8) {
        self.put(Map::Manager, &COOKIE, &ManagerWord::new(COOKIE, None, set, flags));
    }

    /// Writes a set's tables and lets the pod's word name it.
    fn enforce(&mut self, set: u16, image: &Image, words: u32, chunks: u32) {
        image.write(&mut self.k, set, words, chunks).expect("write the set");
        self.pod(set, ManagerWord::MANAGED);
    }

    fn ask(&self, source: IpAddr, destination: IpAddr, port: u16) -> bool {
        self.ask_from((source, 40_000), destination, port)
    }

    fn ask_from(&self, source: (IpAddr, u16), destination: IpAddr, port: u16) -> bool {
        let (source, destination) = (SocketAddr::from(source), (destination, port).into());
        let dial = Dial { source, destination, tcp: true };
        self.k.run_sk_lookup(&self.prog, &dial, 1).expect("run the program").passes
    }

    fn counter(&self, name: &str) -> u64 {
        let counter = COUNTERS.iter().find(|counter| counter.name == name).expect("a counter");
        self.k.lookup_per_cpu(Map::Stats, counter.index).expect("read").iter().sum()
    }
}

/// An attempt from somebody's own address; packets are of one family.
fn at_home(attempt: &Attempt) -> Option<Attempt> {
    let source = attempt.who.map_or(attempt.source, home);
    let stranger = (0..identities().len()).all(|who| home(who) != attempt.source.to_canonical());
    let fits = source.to_canonical().is_ipv4() == attempt.destination.to_canonical().is_ipv4();
    let itself = source.to_canonical() == attempt.destination.to_canonical();
    (fits && !itself && (attempt.who.is_some() || stranger))
        .then(|| Attempt { source, ..attempt.clone() })
}

fn numbered(all: &[Identity]) -> impl Iterator<Item = (u32, &Identity)> {
    all.iter().enumerate().map(|(at, identity)| (number(at), identity))
}

#[test]
fn the_program_decides_as_policies_mean() {
    let who = identities();
    let mut town = Town::new();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let (mut decisions, mut allowed) = (0, 0);
    for round in 0..SETS {
        let policies = policies().new_tree(&mut runner).expect("policies").current();
        let image = compile(&policies, numbered(&who)).expect("it fits").image();
        let round = number(round);
        let set = u16::try_from(1 + round % 6).expect("a small number");
        town.enforce(set, &image, 7 * (round % 5), 3 * (round % 7));
        let all = attempts(ATTEMPTS).new_tree(&mut runner).expect("attempts").current();
        for attempt in all.iter().filter_map(at_home) {
            let meant = judge(&policies, &attempt.connection(&who)).allows();
            let said = town.ask(attempt.source, attempt.destination, attempt.port);
            assert_eq!(said, meant, "{attempt:?} under {policies:#?}");
            decisions += 1;
            allowed += u64::from(said);
        }
    }
    println!("{decisions} decisions, {allowed} of them allowed, no difference");
    assert!(decisions >= 100_000 && allowed > decisions / 10 && allowed < decisions * 9 / 10);
    assert_eq!(town.counter("auth_allowed") + town.counter("auth_none"), allowed);
    assert_eq!(town.counter("auth_stale") + town.counter("auth_unclassified"), 0);
}

/// A set that lets nobody in.
fn closed() -> Image {
    let allow = |groups| Policy {
        name: "ns/closed".into(),
        scope: kmesh_bpf::authz::Scope::Namespace,
        action: kmesh_bpf::authz::Action::Allow,
        dry_run: false,
        groups,
    };
    compile(&[allow(Vec::new())], numbered(&identities())).expect("it fits").image()
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn a_pod_without_policies_lets_everybody_in() {
    let mut town = Town::new();
    let ask = |town: &Town| town.ask(ip("192.0.2.1"), ip("10.0.0.2"), 80);
    assert!(ask(&town), "not managed");
    town.enforce(1, &closed(), 0, 0);
    assert!(!ask(&town));
    town.pod(0, ManagerWord::MANAGED);
    assert!(ask(&town), "no policy set");
    town.pod(1, ManagerWord::MANAGED | ManagerWord::BYPASS);
    assert!(ask(&town), "bypassed");
    town.pod(1, ManagerWord::MANAGED);
    let (source, destination) =
        (SocketAddr::from(([192, 0, 2, 1], 9)), SocketAddr::from(([10, 0, 0, 2], 80)));
    let udp = Dial { source, destination, tcp: false };
    assert!(town.k.run_sk_lookup(&town.prog, &udp, 1).expect("run").passes, "UDP");
    assert_eq!(town.counter("auth_denied"), 1);
}

#[test]
fn what_cannot_be_decided_is_denied() {
    let mut town = Town::new();
    let open = compile::<Policy>(&[], numbered(&identities()).skip(1)).expect("it fits").image();
    town.enforce(1, &open, 0, 0);
    let ask = |town: &Town, who| town.ask(home(who), ip("10.0.0.2"), 80);
    assert!(!ask(&town, 0), "an identity that the set does not know");
    assert!(town.ask(home(2), ip("10.0.0.2"), 80) && town.ask(home(1), ip("fd00::2"), 80));
    assert_eq!(town.counter("auth_unclassified"), 1);
    town.pod(POLICY_WAIT, ManagerWord::MANAGED);
    assert!(!ask(&town, 2), "a pod that the model does not know yet");
    assert_eq!(town.counter("auth_wait"), 1);
    town.pod(5, ManagerWord::MANAGED);
    assert!(!ask(&town, 2), "a set that is not there");
    town.pod(600, ManagerWord::MANAGED);
    assert!(!ask(&town, 2), "a set beyond the map");
    let word = ManagerWord::new(COOKIE + 1, None, 0, ManagerWord::MANAGED);
    town.put(Map::Manager, &COOKIE, &word);
    assert!(!ask(&town, 2), "another pod's word");
    assert_eq!(town.counter("auth_stale"), 3);
    town.pod(1, ManagerWord::MANAGED);
    let key = FrontendKey::workload(home(2));
    town.put(Map::Frontend, &key, &FrontendWord::new(&FrontendKey::workload(home(4)), 3));
    assert!(!ask(&town, 2), "another address's word");
    assert_eq!(town.counter("auth_stale"), 4);
}

#[test]
fn the_pod_itself_and_what_the_host_dials_pass() {
    let mut town = Town::new();
    town.enforce(1, &closed(), 0, 0);
    assert!(town.ask(ip("10.0.0.2"), ip("10.0.0.2"), 80), "its own address");
    assert!(town.ask(ip("fd00::2"), ip("fd00::2"), 80));
    assert!(!town.ask(home(0), ip("10.0.0.2"), 80));
    let own = ManagerWord::new(COOKIE, Some(number(0)), 1, ManagerWord::MANAGED);
    town.put(Map::Manager, &COOKIE, &own);
    assert!(town.ask(home(0), ip("10.0.0.2"), 80), "another address of its own");
    assert!(!town.ask(home(2), ip("10.0.0.2"), 80));
    assert_eq!(town.counter("auth_local"), 3);
    let (host, pod) = (ip("192.0.2.9"), ip("10.0.0.2"));
    let key = ConnectionKey::new(HOST, (host, 50_000), (pod, 80));
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec;
    let now = u32::try_from(now).expect("not so long ago");
    town.put(Map::Settings, &5u32, &HOST);
    town.put(Map::HostDialled, &key, &key.word(now));
    assert!(town.ask_from((host, 50_000), pod, 80));
    assert!(!town.ask_from((host, 50_001), pod, 80), "from another port of the host");
    let elsewhere = ConnectionKey::new(HOST + 1, (host, 50_001), (pod, 80));
    town.put(Map::HostDialled, &elsewhere, &elsewhere.word(now));
    assert!(!town.ask_from((host, 50_001), pod, 80), "dialled in another pod's namespace");
    assert!(!town.ask_from((host, 50_000), pod, 81));
    assert_eq!(town.counter("auth_host"), 1);
    town.put(Map::HostDialled, &key, &key.word(now.wrapping_sub(60)));
    assert!(!town.ask_from((host, 50_000), pod, 80), "dialled a minute ago");
    let other = ConnectionKey::new(HOST, (host, 50_009), (pod, 80));
    town.put(Map::HostDialled, &key, &other.word(now));
    assert!(!town.ask_from((host, 50_000), pod, 80), "another connection's word");
}

/// Every denial that the ring holds.
fn denials(town: &Town) -> Vec<DenialRecord> {
    let mut ring = Ring::open(&town.world.root).expect("open the ring");
    std::iter::from_fn(|| ring.take()).collect()
}

#[test]
fn denials_are_told_and_what_is_lost_is_counted() {
    let mut town = Town::new();
    town.enforce(3, &closed(), 0, 0);
    assert!(!town.ask_from((home(0), 1234), ip("10.0.0.2"), 80));
    let told = denials(&town);
    let index = |name: &str| COUNTERS.iter().find(|counter| counter.name == name).map(|c| c.index);
    let expected = DenialRecord {
        time: told[0].time,
        cookie: COOKIE,
        source: FrontendKey::workload(home(0)).addr,
        destination: FrontendKey::workload(ip("10.0.0.2")).addr,
        who: number(0),
        source_port: 1234u16.to_be_bytes(),
        port: 80,
        set: 3,
        why: index("auth_denied").and_then(|index| u16::try_from(index).ok()).expect("a counter"),
        pad: 0,
    };
    assert_eq!(told, [expected]);
    let named = Namer::default().name(&town.k, &town.world.root, &expected).expect("names");
    assert_eq!((named.source, named.reason, named.set), ((home(0), 1234).into(), "denied", 3));
    assert_eq!((named.cookie, named.pod), (COOKIE, None), "enrolled by nobody");
    // Nobody reads now: the oldest stay, the rest is counted.
    for _ in 0..1000 {
        assert!(!town.ask(home(0), ip("10.0.0.2"), 80));
    }
    let (told, lost) = (denials(&town).len() as u64, town.counter("auth_lost"));
    assert!(lost > 0 && told > 500, "{told} told, {lost} lost");
    assert_eq!(told + lost, 1000);
}

#[test]
fn dry_run_policies_are_counted_and_decide_nothing() {
    let mut town = Town::new();
    let policy = Policy {
        name: "ns/trial".into(),
        scope: kmesh_bpf::authz::Scope::Global,
        action: kmesh_bpf::authz::Action::Deny,
        dry_run: true,
        groups: vec![vec![]],
    };
    let image = compile(&[policy], numbered(&identities())).expect("it fits").image();
    town.enforce(1, &image, 0, 0);
    assert!(town.ask(home(0), ip("10.0.0.2"), 80));
    assert_eq!((town.counter("auth_allowed"), town.counter("auth_dry_run")), (1, 1));
    assert_eq!(denials(&town).len(), 1);
}
