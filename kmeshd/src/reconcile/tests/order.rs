//! The order of what arrives, and how it is cut, mean nothing, down to the tables.
//!
//! A random mesh, each object with the states that it goes through, is told to daemons in
//! different ways: in any order across objects (each one's own order stays), cut into responses
//! anywhere, states of one object merged into its last, resources repeated, over streams that break
//! and come again, by a daemon that is killed and started in the middle, and at once to a fresh one.
//! All end with the same tables; between two responses these are valid, and what the daemon wants.

mod mesh;

use std::collections::BTreeMap;
use std::net::IpAddr;

use kmesh_bpf::check;
use kmesh_bpf::memory::MemoryKernel;
use kmesh_bpf::snapshot::{About, Snapshot};
use kmesh_bpf::tables::Have;
use proptest::prelude::*;
use prost::Message as _;

use super::{Machine, kill};
use crate::reconcile::{Awaited, Layers, Order, Served, Writer};
use crate::sources::mesh_file;
use crate::sources::xds::replay::{DeltaDiscoveryResponse, Memory, Payload, Resource};
use mesh::{HOSTNAMES, What};

/// What the mesh file says, one after the other: it names objects that the control plane names.
const FILES: [&str; 3] = [
    "{}",
    "
workloads:
- {uid: w0, workloadIps: [10.0.0.77], services: {n/s0: {80: 7}}}
- {uid: file, workloadIps: [10.0.0.2], services: {n/s0: {}}}
services:
- {namespace: n, hostname: s0, vips: [/10.1.0.77, /10.1.0.99], ports: {80: 1}}
policies:
- {name: p0, namespace: n, action: Deny, scope: Global, rules: []}
",
    "
workloads:
- {uid: w1, workloadIps: [10.0.0.1], waypoint: {destination: n/wp0}}
services:
- {namespace: n, hostname: wp0, ports: {15019: 0}}
",
];

const URLS: [&str; 2] = [
    "type.googleapis.com/istio.workload.Address",
    "type.googleapis.com/istio.security.Authorization",
];

/// Resources by name: `None` where one is gone.
type Changes = Vec<(String, Option<Vec<u8>>)>;

/// One step of what a daemon lives through.
#[derive(Clone, Debug)]
enum Step {
    /// A response about workloads and services, or (`true`) policies.
    Response(bool, Changes),
    File(usize),
    Answer(usize, Vec<IpAddr>),
    /// The stream breaks; `true`: the next one begins afresh.
    Reconnect(bool),
    Restart,
}

/// What a way of telling does beside ordering and cutting.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Plain,
    Reconnecting,
    Restarting,
}

/// Cuts what it is told into responses.
struct Teller<'a> {
    random: &'a mut fastrand::Rng,
    steps: Vec<Step>,
    /// What the next response of each type will say.
    open: [Changes; 2],
    /// The last that was said of each resource.
    said: BTreeMap<String, (bool, Option<Vec<u8>>)>,
}

impl Teller<'_> {
    fn say(&mut self, name: &str, policy: bool, state: Option<&Vec<u8>>) {
        let open = &mut self.open[usize::from(policy)];
        if let Some(place) = open.iter().position(|(other, _)| other == name) {
            if self.random.bool() {
                // The control plane merges what it has not sent yet.
                open.remove(place);
            } else {
                self.steps.push(Step::Response(policy, std::mem::take(open)));
            }
        }
        open.push((name.to_owned(), state.cloned()));
        self.said.insert(name.to_owned(), (policy, state.cloned()));
    }

    /// Something is said again: it is what it is.
    fn repeat(&mut self) {
        if let Some((name, (policy, state))) = self.random.choice(&self.said) {
            let open = &mut self.open[usize::from(*policy)];
            if !open.iter().any(|(other, _)| other == name) {
                open.push((name.clone(), state.clone()));
            }
        }
    }

    fn cut(&mut self) {
        let first = self.random.usize(0..2);
        for of in [first, 1 - first] {
            if !self.open[of].is_empty() {
                let mut open = std::mem::take(&mut self.open[of]);
                self.random.shuffle(&mut open);
                self.steps.push(Step::Response(of == 1, open));
            }
        }
    }
}

/// Tells a mesh in an order and a cut that the random numbers say.
fn told(mesh: &[What], random: &mut fastrand::Rng, way: Way) -> Vec<Step> {
    let mut turns: Vec<usize> =
        mesh.iter().enumerate().flat_map(|(at, what)| vec![at; what.len()]).collect();
    random.shuffle(&mut turns);
    let mut next = vec![0; mesh.len()];
    let often = random.u8(1..12);
    let steps = vec![Step::Response(false, Vec::new()), Step::Response(true, Vec::new())];
    let (open, said) = Default::default();
    let mut teller = Teller { random, steps, open, said };
    for at in turns {
        let state = next[at];
        next[at] += 1;
        match &mesh[at] {
            What::Resource(name, policy, states) => {
                teller.say(name, *policy, states[state].as_ref());
            }
            What::File(states) => teller.steps.push(Step::File(states[state])),
            What::Answers(name, states) => {
                teller.steps.push(Step::Answer(*name, states[state].clone()));
            }
        }
        if teller.random.u8(0..12) < often {
            teller.cut();
        }
        if teller.random.u8(0..8) == 0 {
            teller.repeat();
        }
        if way == Way::Reconnecting && teller.random.u8(0..6) == 0 {
            let afresh = teller.random.bool();
            teller.steps.push(Step::Reconnect(afresh));
        }
    }
    teller.cut();
    let mut steps = teller.steps;
    if way == Way::Restarting {
        steps.insert(random.usize(1..=steps.len()), Step::Restart);
    }
    steps.extend(answers(mesh));
    steps
}

/// What DNS says in the end, whoever asked for it when.
fn answers(mesh: &[What]) -> impl Iterator<Item = Step> {
    mesh.iter().filter_map(|what| match what {
        What::Answers(name, states) => Some(Step::Answer(*name, states.last()?.clone())),
        _ => None,
    })
}

/// The last of everything, in one response of each type.
fn at_once(mesh: &[What]) -> Vec<Step> {
    let mut last: [Changes; 2] = Default::default();
    let mut file = None;
    for what in mesh {
        match what {
            What::Resource(name, policy, states) => {
                let state = states.last().expect("a state").clone();
                last[usize::from(*policy)].extend(state.map(|state| (name.clone(), Some(state))));
            }
            What::File(states) => file = states.last().copied().map(Step::File),
            What::Answers(..) => {}
        }
    }
    let [addresses, policies] = last;
    let mut steps = vec![Step::Response(false, addresses), Step::Response(true, policies)];
    steps.extend(file);
    steps.extend(answers(mesh));
    steps
}

/// A daemon, and the control plane that it hears.
struct Run {
    machine: Machine,
    /// None for the moment of a restart.
    writer: Option<Writer<MemoryKernel>>,
    memory: Memory,
    /// What the control plane says is there, by type.
    there: [BTreeMap<String, Vec<u8>>; 2],
    /// What the mesh file says; what DNS last said.
    file: Option<usize>,
    answers: BTreeMap<usize, Vec<IpAddr>>,
}

impl Run {
    fn new() -> Self {
        let (mut machine, kernel) = Machine::new();
        machine.limits = kmesh_bpf::layout::Limits::default();
        let writer = Some(start(&mut machine, kernel));
        let (there, answers) = Default::default();
        let mut run = Self {
            machine,
            writer,
            memory: Memory::new(true, Served::default()),
            there,
            file: None,
            answers,
        };
        run.memory.begin(false, 1 << 20);
        run
    }

    fn order(&mut self, order: Order) {
        let writer = self.writer.as_mut().expect("a daemon");
        writer.obey(order);
        writer.work();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Response(policy, changes) => {
                for (name, state) in &changes {
                    let there = &mut self.there[usize::from(policy)];
                    match state {
                        Some(state) => drop(there.insert(name.clone(), state.clone())),
                        None => drop(there.remove(name)),
                    }
                }
                self.hear(policy, changes);
            }
            Step::File(at) => {
                self.file = Some(at);
                let model = mesh_file::parse(FILES[at]).expect("a good file");
                self.order(Order::Model(Box::new(model)));
            }
            Step::Answer(name, ips) => {
                self.answers.insert(name, ips.clone());
                self.order(Order::Resolved(HOSTNAMES[name].into(), ips));
            }
            Step::Reconnect(afresh) => self.reconnect(if afresh { 0 } else { 1 << 20 }),
            Step::Restart => {
                let kernel = kill(self.writer.take().expect("a daemon"));
                self.writer = Some(start(&mut self.machine, kernel));
                self.memory = Memory::new(true, Served::default());
                if let Some(at) = self.file {
                    self.step(Step::File(at));
                }
                self.reconnect(1 << 20);
            }
        }
    }

    /// A new stream: what the control plane is told decides what it answers first.
    fn reconnect(&mut self, max: usize) {
        let known = self.memory.begin(false, max);
        for (policy, known) in [false, true].into_iter().zip(known) {
            let all = self.there[usize::from(policy)].clone();
            let first = all.into_iter().map(|(name, state)| (name, Some(state)));
            let first = if known.is_empty() { first.collect() } else { Vec::new() };
            self.hear(policy, first);
        }
    }

    fn hear(&mut self, policy: bool, changes: Changes) {
        let type_url = URLS[usize::from(policy)].to_owned();
        let mut response = DeltaDiscoveryResponse { type_url, ..DeltaDiscoveryResponse::default() };
        for (name, state) in changes {
            let Some(value) = state else {
                response.removed_resources.push(name);
                continue;
            };
            let payload = Payload { type_url: response.type_url.clone(), value: value.into() };
            let resource = Resource { version: "1".to_owned(), resource: Some(payload), name };
            response.resources.push(resource.encode_to_vec().into());
        }
        let taken = self.memory.take(response);
        assert_eq!(taken.nack, None);
        let complete = self.memory.is_complete();
        self.order(Order::Update { update: Box::new(taken.update), complete });
    }

    /// What is in force is valid, and what is wanted.
    fn check(&mut self) {
        let writer = self.writer.as_mut().expect("a daemon");
        assert_eq!(writer.status.facts().failing, None);
        assert_eq!(check::check(&writer.have), []);
        if writer.is_complete() {
            let wanted = writer.wanted();
            assert_eq!(check::compare(&writer.have, &wanted), []);
        }
    }

    /// The tables, as the kernel holds them.
    fn dump(self) -> Snapshot {
        let writer = self.writer.expect("a daemon");
        let mirror = Snapshot::of(&writer.have, About::default(), None);
        let have = Have::read_locked(&writer.k).expect("tables");
        assert_eq!(check::check(&have), []);
        let dump = Snapshot::of(&have, About::default(), None);
        assert_eq!(dump, mirror, "the daemon knows what the kernel holds");
        dump
    }
}

fn start(machine: &mut Machine, kernel: MemoryKernel) -> Writer<MemoryKernel> {
    let mut writer = machine.start(kernel);
    writer.awaited = Awaited { file: true, xds: true };
    writer.layers = Layers::new(true);
    writer
}

fn run(steps: Vec<Step>) -> Snapshot {
    let mut run = Run::new();
    for step in steps {
        run.step(step);
        run.check();
    }
    run.dump()
}

/// Few, since each is some fifty syncs; as many as `PROPTEST_CASES` says.
fn cases() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let config = ProptestConfig::default();
    if asked { config } else { ProptestConfig { cases: 32, ..config } }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whatever_the_order_the_tables_end_the_same(mesh in mesh::mesh(), seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let expected = run(at_once(&mesh));
        for way in [Way::Plain, Way::Reconnecting, Way::Restarting] {
            let steps = told(&mesh, &mut random, way);
            prop_assert_eq!(&run(steps), &expected, "{:?}", way);
        }
    }
}
