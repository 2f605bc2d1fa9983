//! What a change is refused for.

use std::sync::Arc;

use super::validate;
use crate::authz::{Action, Policy, Scope};
use crate::want::{
    Change, Endpoint, Family, Kind, Name, Service, ServiceKey, Settings, WaypointRef, Workload,
};

fn key(name: &str, kind: Kind) -> ServiceKey {
    ServiceKey { name: name.into(), port: 80, family: Family::V4, kind }
}

fn good() -> Change {
    let workload = Workload {
        v4: Some([10, 0, 0, 1].into()),
        addresses: vec![[10, 0, 0, 1].into()],
        ..Workload::default()
    };
    let endpoint = Endpoint { workload: "a".into(), port: 8080, family: Family::V4 };
    let service = Service {
        vips: vec![[10, 96, 0, 1].into()],
        endpoints: vec![endpoint],
        ..Service::default()
    };
    Change {
        services: vec![(key("ns/web", Kind::Service), Some(service))],
        workloads: vec![("a".into(), Some(workload))],
        all_services: true,
        all_workloads: true,
        ..Change::default()
    }
}

fn service(change: &mut Change) -> &mut Service {
    change.services[0].1.as_mut().expect("there")
}

fn workload(change: &mut Change) -> &mut Workload {
    change.workloads[0].1.as_mut().expect("there")
}

#[test]
fn a_good_change_is_accepted() {
    assert_eq!(validate(&good()), Ok(()));
}

/// Spoils a good change, and what must be said of it.
type Spoiled = (&'static str, fn(&mut Change));

fn policy(name: &str) -> (Name, Option<Arc<Policy>>) {
    let (scope, action) = (Scope::Global, Action::Deny);
    let policy = Policy { name: name.into(), scope, action, dry_run: false, groups: Vec::new() };
    (name.into(), Some(Arc::new(policy)))
}

const SPOILED: [Spoiled; 24] = [
    ("policy ns/p: is there twice", |c| c.policies = vec![policy("ns/p"), policy("ns/p")]),
    ("policy ns/p: calls itself ns/q", |c| c.policies = vec![("ns/p".into(), policy("ns/q").1)]),
    ("policy p: name and namespace must not be empty", |c| c.policies = vec![policy("p")]),
    ("workload a: a policy that it names is empty", |c| workload(c).policies = vec!["".into()]),
    ("port 0 is no port", |c| c.services[0].0.port = 0),
    ("endpoint a: port 0", |c| service(c).endpoints[0].port = 0),
    ("is there twice", |c| {
        let again = c.workloads[0].clone();
        c.workloads.push(again);
    }),
    ("service ns/web port 80 (IPv4): is there twice", |c| {
        let again = c.services[0].clone();
        c.services.push(again);
    }),
    ("belongs to service ns/web port 80 (IPv4) too", |c| {
        let again = c.services[0].1.clone();
        c.services.push((key("ns/other", Kind::Service), again));
    }),
    ("belongs to workload a too", |c| {
        let again = c.workloads[0].1.clone();
        c.workloads.push(("b".into(), again));
    }),
    ("endpoint b is no known workload", |c| {
        service(c).endpoints[0].workload = "b".into();
    }),
    ("endpoint a has no IPv6 address", |c| {
        service(c).endpoints[0].family = Family::V6;
    }),
    ("endpoint a port 8080 is there twice", |c| {
        let again = service(c).endpoints[0].clone();
        service(c).endpoints.push(again);
    }),
    ("waypoint ns/w port 15008 (IPv4) is not known", |c| {
        service(c).waypoint = Some(WaypointRef { name: "ns/w".into(), port: 15008 });
    }),
    ("its waypoint's name is empty", |c| {
        workload(c).waypoint = Some(WaypointRef { name: "".into(), port: 15008 });
    }),
    ("is not IPv4", |c| {
        service(c).vips.push("fd00::1".parse().expect("an address"));
    }),
    ("write it as 10.0.0.9", |c| {
        workload(c).addresses.push("::ffff:10.0.0.9".parse().expect("an address"));
    }),
    ("0.0.0.0 is no address of one host", |c| {
        service(c).vips.push([0, 0, 0, 0].into());
    }),
    ("a waypoint has no VIPs", |c| {
        c.services[0].0.kind = Kind::Waypoint;
    }),
    ("its uid has 600 bytes; the tables hold at most 512", |c| {
        c.workloads.push(("x".repeat(600).into(), Some(Workload::default())));
    }),
    ("its uid is empty", |c| c.workloads.push(("".into(), None))),
    ("its identity has control characters", |c| {
        workload(c).identity = Some("a\nb".into());
    }),
    ("17 exempt ports; there is room for 16", |c| {
        let exempt_ports = (1..18).collect();
        c.settings = Some(Settings { exempt_ports, ..Settings::default() });
    }),
    ("endpoint a is removed by the same change", |c| {
        c.workloads[0].1 = None;
    }),
];

#[test]
fn each_contradiction_is_told_with_its_object() {
    for (told, spoil) in SPOILED {
        let mut change = good();
        spoil(&mut change);
        let said = validate(&change).expect_err(told).to_string();
        assert!(said.contains(told), "wanted {told:?}, said {said:?}");
    }
}
