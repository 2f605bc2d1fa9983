//! What a real istiod sent (`tests/fixtures/istiod`), replayed through decoder, desired state and
//! writer: after each step of its log the tables say what the log says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kmesh_bpf::check;
use kmesh_bpf::memory::MemoryKernel;
use kmesh_bpf::want::{Family, Kind, ServiceKey};
use prost::Message as _;

use super::{Machine, kill};
use crate::reconcile::{Awaited, Order, Served, Writer};
use crate::sources::xds::replay::{DeltaDiscoveryResponse, Memory};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/istiod")
}

fn captured(part: &str, number: usize) -> DeltaDiscoveryResponse {
    let path = ["Address", "Authorization"]
        .map(|of| fixtures().join(part).join(format!("{number:04}-{of}.pb")));
    let bytes = path.iter().find_map(|path| std::fs::read(path).ok()).expect("a capture");
    DeltaDiscoveryResponse::decode(&*bytes).expect("a response")
}

/// The steps of the log: what was done, and the numbers of the responses that it caused.
fn steps() -> Vec<(String, Vec<usize>)> {
    let log = std::fs::read_to_string(fixtures().join("churn/log.txt")).expect("the log");
    let mut steps = vec![("first answers".to_owned(), Vec::new())];
    for line in log.lines() {
        if let Some(done) = line.strip_prefix("---- ") {
            if done != "(end)" {
                steps.push((done.to_owned(), Vec::new()));
            }
        } else if let Some((_, rest)) = line.split_once("< #") {
            let number = rest.split(' ').next().and_then(|number| number.parse().ok());
            let last = steps.last_mut().expect("a step");
            last.1.push(number.expect("a number"));
        }
    }
    steps
}

fn on_node_a(machine: &mut Machine, kernel: MemoryKernel) -> Writer<MemoryKernel> {
    let mut writer = machine.start(kernel);
    writer.awaited = Awaited { file: false, xds: true };
    writer.tokens.file = None;
    writer.layers = super::super::Layers::new(true);
    let mut here = writer.desired.here.clone();
    (here.node, here.cluster) = ("node-a".into(), "Kubernetes".into());
    writer.desired = crate::desired::Desired::new(here);
    writer
}

fn feed(writer: &mut Writer<MemoryKernel>, memory: &mut Memory, response: DeltaDiscoveryResponse) {
    let taken = memory.take(response);
    assert_eq!(taken.nack, None);
    writer.obey(Order::Update { update: Box::new(taken.update), complete: memory.is_complete() });
    writer.work();
    assert_eq!(writer.status.facts().failing, None);
}

/// "web-1:8080 web-2:8080"; "-" without a record.
fn endpoints(
    writer: &Writer<MemoryKernel>,
    name: &str,
    port: u16,
    kind: Kind,
    family: Family,
) -> String {
    let key = ServiceKey { name: name.into(), port, family, kind };
    let Some(service) = writer.have.service(&key) else {
        return "-".to_owned();
    };
    let mut said: Vec<String> = service
        .endpoints
        .iter()
        .map(|e| format!("{}:{}", e.workload.rsplit('/').next().unwrap_or_default(), e.port))
        .collect();
    said.sort();
    said.join(" ")
}

/// What a line of `expected.txt` is about, and what it says.
type Expected = BTreeMap<String, String>;

/// `churn/expected.txt`: by step, what it says anew.
fn expectations() -> Vec<(String, Expected)> {
    let text = std::fs::read_to_string(fixtures().join("churn/expected.txt")).expect("the file");
    let mut steps: Vec<(String, Expected)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match (line.strip_prefix("---- "), line.split_once(": ")) {
            (Some(label), _) => steps.push((label.to_owned(), Expected::new())),
            (None, Some((about, says))) => {
                let (_, said) = steps.last_mut().expect("a step");
                said.insert(about.to_owned(), says.to_owned());
            }
            (None, None) => panic!("neither a step nor a line: {line}"),
        }
    }
    steps
}

/// What the tables say of `about`, in the words of `expected.txt`.
fn said(writer: &Writer<MemoryKernel>, about: &str) -> String {
    if about == "policies" {
        let policies = writer.have.policies().map(|policy| policy.name.to_string());
        let policies: std::collections::BTreeSet<_> = policies.collect();
        return policies.into_iter().collect::<Vec<_>>().join(" ");
    }
    let words: Vec<&str> = about.split(' ').collect();
    let [name, port, family] = words[..] else { panic!("no service: {about}") };
    let (namespace, host) = name.split_once('/').expect("a name");
    let name = format!("{namespace}/{host}.{namespace}.svc.cluster.local");
    let family = if family == "ipv6" { Family::V6 } else { Family::V4 };
    let port = port.parse().expect("a port");
    match endpoints(writer, &name, port, Kind::Service, family) {
        none if none.is_empty() => "none".to_owned(),
        some => some,
    }
}

#[test]
fn after_each_step_of_the_log_the_tables_say_what_it_says() {
    let (mut machine, kernel) = Machine::new();
    let mut writer = on_node_a(&mut machine, kernel);
    let mut memory = Memory::new(false, Served::default());
    memory.begin(false, 1 << 20);
    let (steps, expected) = (steps(), expectations());
    assert_eq!(steps.len(), expected.len(), "each step of the log is expected to do something");
    let mut now = Expected::new();
    for ((done, numbers), (label, says)) in steps.into_iter().zip(expected) {
        assert!(done.starts_with(&label), "the log has {done}, expected.txt {label}");
        for number in numbers {
            feed(&mut writer, &mut memory, captured("churn", number));
        }
        now.extend(says);
        for (about, says) in &now {
            assert_eq!(said(&writer, about), *says, "{about} after: {done}");
        }
        let wrong = check::check(&writer.have);
        assert!(wrong.is_empty(), "after {done}: {wrong:?}");
    }
    is_state(&memory, "churn");
    assert_eq!(writer.desired.policies(), 7);

    // The next daemon gets everything at once, in the same words, and writes nothing.
    let kernel = kill(writer);
    let before = kernel.written();
    let mut writer = on_node_a(&mut machine, kernel);
    let mut memory = Memory::new(false, Served { addresses: 12, policies: 7 });
    memory.begin(false, 1 << 20);
    let mut all = BTreeMap::new();
    for (_, numbers) in self::steps() {
        for number in numbers {
            let response = captured("churn", number);
            let of: &mut BTreeMap<String, bytes::Bytes> =
                all.entry(response.type_url.clone()).or_default();
            for bytes in response.resources {
                of.insert(crate::sources::xds::replay::name_of(&bytes), bytes);
            }
            for name in response.removed_resources {
                of.remove(&name);
            }
        }
    }
    for (type_url, of) in all {
        let resources = of.into_values().collect();
        let response =
            DeltaDiscoveryResponse { type_url, resources, ..DeltaDiscoveryResponse::default() };
        feed(&mut writer, &mut memory, response);
    }
    for (about, says) in &now {
        assert_eq!(said(&writer, about), *says, "{about}");
    }
    assert_eq!(kill(writer).written(), before, "nothing differs");
}

/// The names and versions are those that the capture's own client had at the end.
fn is_state(memory: &Memory, part: &str) {
    let text = std::fs::read(fixtures().join(part).join("state.json")).expect("the state");
    let state: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_slice(&text).expect("JSON");
    let said = memory.versions();
    for (type_url, names) in state {
        let held: BTreeMap<String, String> = said[&*type_url].clone().into_iter().collect();
        assert_eq!(held, names, "{type_url}");
    }
}

#[test]
fn the_first_answers_lead_through_the_waypoint_and_to_both_families() {
    let (mut machine, kernel) = Machine::new();
    let mut writer = on_node_a(&mut machine, kernel);
    let mut memory = Memory::new(false, Served::default());
    memory.begin(false, 1 << 20);
    let before = writer.k.written();
    feed(&mut writer, &mut memory, captured("initial", 1));
    assert_eq!(writer.k.written(), before, "half an answer writes nothing");
    assert!(!machine.is_ready());
    feed(&mut writer, &mut memory, captured("initial", 2));
    is_state(&memory, "initial");
    assert!(machine.is_ready(), "{:?}", machine.readiness.pending());
    let say = |name: &str, port, kind, family| endpoints(&writer, name, port, kind, family);
    let kweb = "app-k/kweb.app-k.svc.cluster.local";
    let waypoint = "app-k/waypoint.app-k.svc.cluster.local";
    assert_eq!(say(kweb, 80, Kind::Service, Family::V4), "kweb-1:8080");
    assert_eq!(say(waypoint, 15019, Kind::Waypoint, Family::V4), "waypoint-0:15019");
    let key = ServiceKey { name: kweb.into(), port: 80, family: Family::V4, kind: Kind::Service };
    let through = writer.have.service(&key).and_then(|service| service.waypoint);
    assert_eq!(through.expect("a waypoint").name.as_ref(), waypoint);
    let dual = "app-a/dual.app-a.svc.cluster.local";
    assert_eq!(say(dual, 81, Kind::Service, Family::V6), "web-1:8081");
    // Headless: nothing to steer. No endpoints: refused, since the answer is complete.
    let headless = "app-a/headless.app-a.svc.cluster.local";
    assert_eq!(say(headless, 82, Kind::Service, Family::V4), "-");
    let api = "default/kubernetes.default.svc.cluster.local";
    assert_eq!(say(api, 443, Kind::Service, Family::V4), "");
    // On the host's network: no address of its own.
    let host = writer.have.workloads().find(|(uid, _)| uid.ends_with("hostnet-1"));
    assert!(host.expect("a backend").1.addresses.is_empty());
}
