//! What stays in force while a waypoint is not known.

use kmesh_bpf::want::{Service as Record, ServiceKey, Workload as Backend};

use super::{Tables, changed, everything, here, known_as};
use crate::desired::{Desired, InForce};
use crate::model::Name;
use crate::sources::mesh_file;

impl InForce for Tables {
    fn service(&self, key: &ServiceKey) -> Option<Record> {
        self.services.get(&known_as(key)).cloned()
    }

    fn waypoint_of(&self, service: &str) -> Option<Option<Name>> {
        let of = |(name, _, _, waypoint): &(String, u16, u8, bool)| name == service && !waypoint;
        let (_, first) = self.services.iter().find(|(key, _)| of(key))?;
        Some(first.waypoint.as_ref().map(|waypoint| waypoint.name.clone()))
    }

    fn workload(&self, uid: &str) -> Option<Backend> {
        self.workloads.get(uid).cloned()
    }
}

/// A daemon: what its sources say, and the tables of its kernel.
struct Daemon {
    desired: Desired,
    tables: Tables,
}

impl Daemon {
    fn start(tables: Tables) -> Self {
        Self { desired: Desired::new(here("")), tables }
    }

    /// The mesh is this now: "service …" and "workload …" as in a mesh file. Such a file may name
    /// only what it has; a control plane may name anything.
    fn say(&mut self, parts: &[&str]) {
        let list = |parts: &[&str]| {
            parts.iter().fold(String::new(), |list, part| list + "- {" + part + "}\n")
        };
        let of = |kind| parts.iter().filter_map(move |part| part.strip_prefix(kind));
        let (mut services, workloads): (Vec<_>, Vec<_>) =
            (of("service ").collect(), of("workload ").collect());
        let named = ["namespace: n, hostname: a", "namespace: n, hostname: b"];
        let unsaid: Vec<_> = named.into_iter().filter(|it| !services.contains(it)).collect();
        services.extend(&unsaid);
        let text = format!("services:\n{}workloads:\n{}", list(&services), list(&workloads));
        let mut model = mesh_file::parse(&text).expect("a good mesh");
        let is_unsaid =
            |name: &str| unsaid.iter().any(|it| it.ends_with(&name[1..].replace('/', " ")));
        model.services.retain(|(name, _)| !is_unsaid(name));
        self.desired.replace(model);
        self.write();
    }

    fn write(&mut self) {
        self.desired.settle(&self.tables);
        let dirty = self.desired.take_dirty();
        self.tables.apply(&changed(&self.desired, &dirty));
        self.tables.assert_whole();
        let mut whole = Tables::default();
        whole.apply(&everything(&self.desired));
        assert_eq!(self.tables, whole);
    }

    /// The next process, which is told the same: the tables stay as they are.
    fn restart(&mut self, parts: &[&str]) {
        let before = self.tables.clone();
        *self = Self::start(before.clone());
        self.say(parts);
        assert_eq!(self.tables, before);
    }

    /// "via a: a1:15019/4" of the service n/s.
    fn service(&self) -> String {
        let record = &self.tables.services[&("n/s".to_owned(), 80, 4, false)];
        self.through(record.waypoint.as_ref().map(|waypoint| &*waypoint.name))
    }

    fn workload(&self) -> String {
        let workload = &self.tables.workloads["w"];
        self.through(workload.waypoint.as_ref().map(|waypoint| &*waypoint.name))
    }

    fn through(&self, waypoint: Option<&str>) -> String {
        match waypoint {
            None => "direct".to_owned(),
            Some(name) => format!("via {name}: {}", self.tables.endpoints(name, 15019, 4)),
        }
    }

    /// What is said of waypoints that are not known.
    fn said(&self) -> String {
        let waypoints = self.desired.oddities().waypoints;
        waypoints.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

const S: &str = "service namespace: n, hostname: s, vips: [/10.1.0.1], ports: {80: 1}";
const S_A: &str = "service namespace: n, hostname: s, vips: [/10.1.0.1], ports: {80: 1}, \
                   waypoint: {destination: n/a}";
const S_B: &str = "service namespace: n, hostname: s, vips: [/10.1.0.1], ports: {80: 1}, \
                   waypoint: {destination: n/b}";
/// The same, of other ports.
const S_B_81: &str = "service namespace: n, hostname: s, vips: [/10.1.0.1], ports: {81: 1}, \
                      waypoint: {destination: n/b}";
const W: &str = "workload uid: w, workloadIps: [10.0.0.9]";
const W_A: &str = "workload uid: w, workloadIps: [10.0.0.9], waypoint: {destination: n/a}";
const W_B: &str = "workload uid: w, workloadIps: [10.0.0.9], waypoint: {destination: n/b}";
const A: &str = "service namespace: n, hostname: a";
const A1: &str = "workload uid: a1, workloadIps: [10.0.0.1], services: {n/a: {}}";
const A2: &str = "workload uid: a2, workloadIps: [10.0.0.2], services: {n/a: {}}";
const B1: &str = "workload uid: b1, workloadIps: [10.0.0.3], services: {n/b: {}}";

#[test]
fn who_changes_to_an_unknown_waypoint_stays_until_it_appears() {
    let mut daemon = Daemon::start(Tables::default());
    daemon.say(&[S_A, W_A, A, A1]);
    assert_eq!([daemon.service(), daemon.workload()], ["via n/a: a1:15019/4"; 2]);
    for parts in [[S_B, W_B, A, A1].as_slice(), &[S_B_81, W_B, A, A1], &[S_B, W_B, A, A1]] {
        daemon.say(parts);
        assert_eq!(daemon.workload(), "via n/a: a1:15019/4");
        assert_eq!(daemon.said(), "n/b (2 stay as they were, named by service n/s, workload w)");
        daemon.restart(parts);
    }
    assert_eq!(daemon.service(), "via n/a: a1:15019/4");
    // What it stays with changes, too.
    daemon.say(&[S_B, W_B, A, A1, A2]);
    assert_eq!(daemon.service(), "via n/a: a1:15019/4 a2:15019/4");
    // And vanishes: its last endpoints stay.
    daemon.say(&[S_B, W_B]);
    assert_eq!(daemon.service(), "via n/a: a1:15019/4 a2:15019/4");
    daemon.restart(&[S_B, W_B]);
    daemon.say(&[S_B, W_B, B1]);
    assert_eq!([daemon.service(), daemon.workload()], ["via n/b: b1:15019/4"; 2]);
    assert_eq!(daemon.said(), "");
    assert!(!daemon.tables.workloads.contains_key("a1"), "nobody needs it");
    assert!(!daemon.tables.services.keys().any(|(name, ..)| name == "n/a"));
}

#[test]
fn what_had_no_waypoint_goes_on_without_and_what_is_new_is_refused() {
    let mut daemon = Daemon::start(Tables::default());
    daemon.say(&[S, W]);
    daemon.say(&[S_B, W_B]);
    assert_eq!([daemon.service(), daemon.workload()], ["direct"; 2]);
    daemon.restart(&[S_B, W_B]);
    daemon.say(&[S_B, W_B, B1]);
    assert_eq!([daemon.service(), daemon.workload()], ["via n/b: b1:15019/4"; 2]);

    let mut daemon = Daemon::start(Tables::default());
    daemon.say(&[S_B, W_B]);
    assert_eq!([daemon.service(), daemon.workload()], ["via n/b: "; 2], "it is refused");
    assert_eq!(daemon.said(), "n/b (2 are refused, named by service n/s, workload w)");
    daemon.restart(&[S_B, W_B]);
    // One that names none goes direct, and stays so.
    daemon.say(&[S, W_B]);
    daemon.say(&[S_B, W_B]);
    assert_eq!([daemon.service(), daemon.workload()], ["direct", "via n/b: "]);
    assert!(daemon.said().contains("1 stay as they were, 1 are refused"), "{}", daemon.said());
}

#[test]
fn a_waypoint_that_vanishes_keeps_its_last_endpoints_until_others_are_there() {
    let mut daemon = Daemon::start(Tables::default());
    daemon.say(&[S_A, W_A, A, A1, A2]);
    daemon.say(&[S_A, W_A]);
    assert_eq!([daemon.service(), daemon.workload()], ["via n/a: a1:15019/4 a2:15019/4"; 2]);
    let said = "n/a (2 go to its last 2 endpoints, named by service n/s, workload w)";
    assert_eq!(daemon.said(), said);
    let ghost = &daemon.tables.workloads["a1"];
    assert!(ghost.addresses.is_empty() && ghost.is_waypoint, "no address leads to it: {ghost:?}");
    daemon.restart(&[S_A, W_A]);
    // Its address is another's now.
    let other = "workload uid: other, workloadIps: [10.0.0.1]";
    daemon.say(&[S_A, W_A, other]);
    assert_eq!(daemon.service(), "via n/a: a2:15019/4");
    assert!(!daemon.tables.workloads.contains_key("a1"));
    daemon.restart(&[S_A, W_A, other]);
    // The other goes: what was let go does not come back by itself.
    daemon.say(&[S_A, W_A]);
    assert_eq!(daemon.service(), "via n/a: a2:15019/4");
    // It is back, elsewhere.
    let moved = "workload uid: a1, workloadIps: [10.0.0.7], services: {n/a: {}}";
    daemon.say(&[S_A, W_A, moved]);
    assert_eq!(daemon.service(), "via n/a: a1:15019/4");
    assert_eq!(daemon.tables.workloads["a1"].v4, Some([10, 0, 0, 7].into()));
    assert_eq!((daemon.said(), daemon.tables.workloads.contains_key("a2")), (String::new(), false));
    // Known, and without any endpoint: refused.
    daemon.say(&[S_A, W_A, A]);
    assert_eq!(daemon.service(), "via n/a: ");
    // Nobody needs it.
    daemon.say(&[S, W]);
    assert!(!daemon.tables.services.keys().any(|(name, ..)| name == "n/a"));
}

#[test]
fn a_last_endpoint_that_is_still_there_stays_under_its_own_name() {
    let left = "workload uid: a1, workloadIps: [10.0.0.1]";
    let moved = "workload uid: a1, workloadIps: [10.0.0.7]";
    let mut daemon = Daemon::start(Tables::default());
    daemon.say(&[S_A, A1]);
    daemon.say(&[S_A, left]);
    assert_eq!(daemon.service(), "via n/a: a1:15019/4");
    let there = &daemon.tables.workloads["a1"];
    assert!(there.is_waypoint && !there.addresses.is_empty(), "{there:?}");
    daemon.restart(&[S_A, left]);
    daemon.say(&[S_A, moved]);
    assert_eq!(daemon.service(), "via n/a: ", "what it has now is not what was resolved");
    assert!(!daemon.tables.workloads["a1"].is_waypoint);
}
