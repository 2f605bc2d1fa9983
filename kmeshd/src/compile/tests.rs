//! That what is published is what this node should use, and that changes add up to the whole.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use kmesh_bpf::authz::Policy;
use kmesh_bpf::want::{
    Change, Family, Kind, Service as Record, ServiceKey, Settings, Workload as Backend,
};

use super::{changed, everything};
use crate::desired::{Desired, Here};
use crate::model::{Ips, Membership, Service, Standing, Traits, Workload};
use crate::sources::mesh_file;

mod kept;
mod sums;

fn ip(net: u8, host: usize) -> IpAddr {
    IpAddr::from([10, net, 0, u8::try_from(host).expect("a small number")])
}

fn ip6(net: u16, host: usize) -> IpAddr {
    IpAddr::from([0xfd00, net, 0, 0, 0, 0, 0, u16::try_from(host).expect("a small number")])
}

fn here(network: &str) -> Here {
    Here {
        node: "n1".into(),
        network: network.into(),
        cluster: "Kubernetes".into(),
        waypoint_port: 15019,
        settings: Settings::default(),
    }
}

fn compiled(network: &str, text: &str) -> Tables {
    let mut desired = Desired::new(here(network));
    desired.replace(mesh_file::parse(text).expect("a good mesh"));
    let mut tables = Tables::default();
    tables.apply(&everything(&desired));
    tables
}

/// What a sequence of changes leaves: the least that a kernel could be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tables {
    services: BTreeMap<(String, u16, u8, bool), Record>,
    workloads: BTreeMap<String, Backend>,
    policies: BTreeMap<String, Arc<Policy>>,
}

/// As [`Tables`] knows a service.
fn known_as(key: &ServiceKey) -> (String, u16, u8, bool) {
    let family = if key.family == Family::V4 { 4 } else { 6 };
    (key.name.to_string(), key.port, family, key.kind == Kind::Waypoint)
}

impl Tables {
    fn apply(&mut self, change: &Change) {
        if change.all_services {
            self.services.clear();
        }
        if change.all_workloads {
            self.workloads.clear();
        }
        if change.all_policies {
            self.policies.clear();
        }
        for (key, record) in &change.services {
            let key = known_as(key);
            match record.clone() {
                Some(mut record) => {
                    record.endpoints.sort();
                    record.vips.sort();
                    assert!(record.endpoints.windows(2).all(|pair| pair[0] != pair[1]));
                    self.services.insert(key, record);
                }
                None => drop(self.services.remove(&key)),
            }
        }
        for (uid, workload) in &change.workloads {
            match workload.clone() {
                Some(workload) => drop(self.workloads.insert(uid.to_string(), workload)),
                None => drop(self.workloads.remove(&**uid)),
            }
        }
        for (name, policy) in &change.policies {
            match policy {
                Some(policy) => drop(self.policies.insert(name.to_string(), policy.clone())),
                None => drop(self.policies.remove(&**name)),
            }
        }
    }

    /// "uid:port/family …" of a service record, or "-" without one.
    fn endpoints(&self, name: &str, port: u16, family: u8) -> String {
        let kind = name.starts_with('/') || port == 15019;
        let Some(record) = self.services.get(&(name.to_owned(), port, family, kind)) else {
            return "-".to_owned();
        };
        let said = record.endpoints.iter().map(|endpoint| {
            let family = if endpoint.family == Family::V4 { 4 } else { 6 };
            format!("{}:{}/{family}", endpoint.workload, endpoint.port)
        });
        said.collect::<Vec<_>>().join(" ")
    }

    /// Every reference leads somewhere: what `plan` demands of a change.
    fn assert_whole(&self) {
        for (key, record) in &self.services {
            for endpoint in &record.endpoints {
                let workload = &self.workloads.get(&*endpoint.workload);
                let workload = workload.unwrap_or_else(|| panic!("{key:?}: {endpoint:?}"));
                match endpoint.family {
                    Family::V4 => assert!(workload.v4.is_some(), "{endpoint:?}"),
                    Family::V6 => assert!(workload.v6.is_some(), "{endpoint:?}"),
                }
            }
            if let Some(waypoint) = &record.waypoint {
                let key = (waypoint.name.to_string(), waypoint.port, key.2, true);
                assert!(self.services.contains_key(&key), "{key:?}");
            }
        }
        let vips = self.services.iter().flat_map(|(key, r)| r.vips.iter().map(|ip| (*ip, key.1)));
        assert_once(vips);
        assert_once(self.workloads.values().flat_map(|w| w.addresses.iter().copied()));
        for workload in self.workloads.values() {
            for ip in &workload.addresses {
                let family = if ip.is_ipv4() { 4 } else { 6 };
                if let Some(waypoint) = &workload.waypoint {
                    let key = (waypoint.name.to_string(), waypoint.port, family, true);
                    assert!(self.services.contains_key(&key), "{key:?}");
                }
            }
        }
    }
}

fn assert_once<T: Ord + std::fmt::Debug>(items: impl Iterator<Item = T>) {
    let mut all: Vec<T> = items.collect();
    all.sort();
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "claimed twice: {all:?}");
}

#[test]
fn health_ports_and_networks_decide_who_is_an_endpoint() {
    let tables = compiled(
        "here",
        "
workloads:
- {uid: own-port, workloadIps: [10.0.0.1], services: {n/s: {80: 8080}}}
- {uid: by-service, workloadIps: [10.0.0.2], services: {n/s: {}}}
- {uid: sick, workloadIps: [10.0.0.3], status: Unhealthy, services: {n/s: {80: 1}, n/any: {80: 1}}}
- {uid: away, workloadIps: [10.0.0.4], network: other, services: {n/s: {80: 1}}}
- {uid: near, workloadIps: [10.0.0.5], network: here, services: {n/s: {80: 1}}}
- {uid: named, workloadIps: [10.0.0.6], services: {n/s: {81: 7}}}
- {uid: host, workloadIps: [10.0.0.7], networkMode: HostNetwork, services: {n/s: {82: 9}}}
- {uid: nowhere, services: {n/s: {80: 1}}}
services:
- {namespace: n, hostname: s, vips: [/10.1.0.1, other/10.1.0.9], ports: {80: 90, 81: 0, 82: 0}}
- {namespace: n, hostname: any, vips: [here/10.1.0.2], ports: {80: 0},
   loadBalancer: {healthPolicy: AllowAll}}
- {namespace: n, hostname: headless, ports: {80: 80}}
",
    );
    assert_eq!(
        tables.endpoints("n/s", 80, 4),
        "by-service:90/4 host:90/4 named:90/4 near:1/4 own-port:8080/4"
    );
    assert_eq!(tables.endpoints("n/s", 81, 4), "named:7/4");
    assert_eq!(tables.endpoints("n/s", 82, 4), "host:9/4");
    assert_eq!(tables.endpoints("n/any", 80, 4), "sick:1/4");
    assert_eq!(tables.endpoints("n/headless", 80, 4), "-");
    assert_eq!(tables.endpoints("n/s", 80, 6), "-");
    let key = ("n/s".to_owned(), 80, 4, false);
    assert_eq!(tables.services[&key].vips, ["10.1.0.1".parse::<IpAddr>().expect("an address")]);
    assert!(tables.workloads["host"].addresses.is_empty());
    assert!(!tables.workloads.contains_key("away") && !tables.workloads.contains_key("nowhere"));
    tables.assert_whole();
}

#[test]
fn families_stand_in_for_each_other_only_where_they_can() {
    let tables = compiled(
        "",
        "
workloads:
- {uid: both, workloadIps: [10.0.0.1, 'fd00::1'], services: {n/s: {80: 1}}}
- {uid: four, workloadIps: [10.0.0.2], services: {n/s: {80: 1}}}
- {uid: six, workloadIps: ['fd00::3'], services: {n/s: {80: 1}, n/six: {80: 1}}}
services:
- {namespace: n, hostname: s, vips: [/10.1.0.1, '/fd01::1'], ports: {80: 1}}
- {namespace: n, hostname: six, vips: [/10.1.0.2], ports: {80: 1}}
",
    );
    assert_eq!(tables.endpoints("n/s", 80, 4), "both:1/4 four:1/4");
    assert_eq!(tables.endpoints("n/s", 80, 6), "both:1/6 four:1/4 six:1/6");
    assert_eq!(tables.endpoints("n/six", 80, 4), "six:1/6");
}

#[test]
fn locality_is_relative_to_this_node() {
    let mesh = |balancer: &str, near: &str| {
        format!(
            "
workloads:
- {{uid: me, workloadIps: [10.0.0.9], node: n1, locality: {{region: eu, zone: a}}}}
- {{uid: a, workloadIps: [10.0.0.1], node: n2, status: {near}, locality: {{region: eu, zone: a}}, services: {{n/s: {{}}}}}}
- {{uid: b, workloadIps: [10.0.0.2], node: n3, locality: {{region: eu, zone: b}}, services: {{n/s: {{}}}}}}
- {{uid: c, workloadIps: [10.0.0.3], node: n4, clusterId: far, locality: {{region: us, zone: a}}, services: {{n/s: {{}}}}}}
services:
- {{namespace: n, hostname: s, vips: [/10.1.0.1], ports: {{80: 1}}, loadBalancer: {balancer}}}
"
        )
    };
    let uses = |balancer: &str, near: &str| {
        let said = compiled("", &mesh(balancer, near)).endpoints("n/s", 80, 4);
        said.replace(":1/4", "")
    };
    let failover = "{mode: Failover, routingPreferences: [Region, Zone]}";
    assert_eq!(uses(failover, "Healthy"), "a");
    assert_eq!(uses(failover, "Unhealthy"), "b");
    assert_eq!(uses("{mode: Strict, routingPreferences: [Region]}", "Healthy"), "a b");
    assert_eq!(uses("{mode: Strict, routingPreferences: [Zone, Region]}", "Unhealthy"), "");
    assert_eq!(uses("{mode: Strict, routingPreferences: [Node]}", "Healthy"), "");
    assert_eq!(uses("{mode: Strict, routingPreferences: [Cluster]}", "Healthy"), "a b");
    assert_eq!(uses("{mode: Strict, routingPreferences: [Network]}", "Healthy"), "a b c");
    assert_eq!(uses("{mode: Standard, routingPreferences: [Node]}", "Healthy"), "a b c");
    assert_eq!(uses("{mode: Passthrough}", "Healthy"), "");
}

#[test]
fn waypoints_by_name_by_address_and_by_vip() {
    let tables = compiled(
        "",
        "
workloads:
- {uid: wp1, workloadIps: [10.0.0.1], services: {n/wp: {15019: 25019}}}
- {uid: wp2, workloadIps: [10.0.0.2, 'fd00::2'], services: {n/wp: {}}, waypoint: {destination: n/wp}}
- {uid: wp3, workloadIps: [10.0.0.3]}
- {uid: app, workloadIps: [10.0.0.4], waypoint: {destination: /10.0.0.3}}
- {uid: app2, workloadIps: [10.0.0.5], waypoint: {destination: /10.1.0.9}}
- {uid: app3, workloadIps: [10.0.0.6], waypoint: {destination: /192.0.2.1}}
- {uid: app4, workloadIps: [10.0.0.7], waypoint: {destination: other/10.0.0.3}}
services:
- {namespace: n, hostname: wp, vips: [/10.1.0.9], ports: {15019: 0, 443: 443}}
- {namespace: n, hostname: s, vips: [/10.1.0.1, '/fd01::1'], ports: {80: 1}, waypoint: {destination: n/wp}}
",
    );
    tables.assert_whole();
    assert_eq!(tables.endpoints("n/wp", 15019, 4), "wp1:25019/4 wp2:15019/4");
    assert_eq!(tables.endpoints("n/wp", 15019, 6), "wp1:25019/4 wp2:15019/6");
    assert_eq!(tables.endpoints("/10.0.0.3", 15019, 4), "wp3:15019/4");
    assert_eq!(tables.endpoints("/10.0.0.3", 15019, 6), "-");
    assert_eq!(tables.endpoints("/10.1.0.9", 15019, 4), "wp1:25019/4 wp2:15019/4");
    assert_eq!(tables.endpoints("/192.0.2.1", 15019, 4), "/192.0.2.1:15019/4");
    assert_eq!(tables.endpoints("other/10.0.0.3", 15019, 4), "");
    for (uid, is) in
        [("wp1", true), ("wp2", true), ("wp3", true), ("app", false), ("/192.0.2.1", true)]
    {
        assert_eq!(tables.workloads[uid].is_waypoint, is, "{uid}");
    }
    assert!(tables.workloads["wp2"].waypoint.is_none(), "it is its own waypoint");
    assert!(tables.workloads["/192.0.2.1"].addresses.is_empty());
}

#[test]
fn one_change_touches_what_it_concerns_and_no_more() {
    let mesh = |ip: &str| {
        let service = |n| {
            format!(
                "- {{namespace: n, hostname: s{n}, vips: [/10.1.0.{n}], ports: {{80: 1, 81: 1}}}}\n"
            )
        };
        let workload =
            |n| format!("- {{uid: w{n}, workloadIps: [10.0.1.{n}], services: {{n/s{n}: {{}}}}}}\n");
        let services: String = (1..100).map(service).collect();
        let workloads: String = (1..100).map(workload).collect();
        format!(
            "services:\n{services}workloads:\n{workloads}- {{uid: x, workloadIps: [{ip}], services: {{n/s7: {{}}}}}}\n"
        )
    };
    let mut desired = Desired::new(here(""));
    desired.replace(mesh_file::parse(&mesh("10.0.2.1")).expect("a good mesh"));
    let first = desired.take_dirty();
    assert!(first.all);
    desired.replace(mesh_file::parse(&mesh("10.0.2.2")).expect("a good mesh"));
    let dirty = desired.take_dirty();
    let change = changed(&desired, &dirty);
    assert_eq!(change.workloads.len(), 1);
    assert_eq!(change.services.len(), 2);
    desired.replace(mesh_file::parse(&mesh("10.0.2.2")).expect("a good mesh"));
    let dirty = desired.take_dirty();
    assert_eq!(changed(&desired, &dirty), Change::default());
}

#[test]
fn a_contested_vip_is_the_first_services_and_a_contested_address_a_pods() {
    let mut desired = Desired::new(here(""));
    let vip = || Box::from([("".into(), ip(1, 1))]);
    let add = |desired: &mut Desired, name: &str, ports: &[u16]| {
        let ports = ports.iter().map(|port| (*port, *port)).collect();
        let service = Service { vips: vip(), ports, ..Service::default() };
        desired.set_service(&name.into(), Some(service));
    };
    add(&mut desired, "n/b", &[80, 81]);
    add(&mut desired, "n/a", &[80]);
    let workload = |healthy| Workload {
        ips: vec![ip(0, 1)].into(),
        place: Arc::default(),
        traits: Arc::new(Traits {
            identity: "i".into(),
            waypoint: None,
            services: Box::default(),
            policies: Box::default(),
        }),
        healthy,
        host_network: false,
    };
    desired.set_workload(&"old".into(), Some(workload(false)));
    desired.set_workload(&"new".into(), Some(workload(true)));
    let mut tables = Tables::default();
    let dirty = desired.take_dirty();
    tables.apply(&changed(&desired, &dirty));
    let has = |tables: &Tables, name: &str, port| {
        tables.services.contains_key(&(name.to_owned(), port, 4, false))
    };
    assert_eq!((has(&tables, "n/a", 80), has(&tables, "n/b", 80)), (true, false));
    assert!(has(&tables, "n/b", 81), "what the first does not publish is the second's");
    assert!(tables.workloads["old"].addresses.is_empty());
    assert_eq!(tables.workloads["new"].addresses, [ip(0, 1)]);
    // The others get it when it is free.
    desired.set_service(&"n/a".into(), None);
    desired.set_workload(&"new".into(), None);
    let dirty = desired.take_dirty();
    tables.apply(&changed(&desired, &dirty));
    assert!(has(&tables, "n/b", 80) && !has(&tables, "n/a", 80));
    assert_eq!(tables.workloads["old"].addresses, [ip(0, 1)]);
    // A service of Kubernetes has its VIP, whatever others say and however they are named.
    let kubernetes = Service {
        vips: vip(),
        ports: [(80, 80)].into(),
        standing: Standing::Kubernetes,
        ..Service::default()
    };
    desired.set_service(&"n/z".into(), Some(kubernetes));
    let dirty = desired.take_dirty();
    tables.apply(&changed(&desired, &dirty));
    assert!(has(&tables, "n/z", 80) && !has(&tables, "n/b", 80) && has(&tables, "n/b", 81));
    // What is not a pod only stands in where no pod has the address, ready or not.
    desired.set_workload(&"new".into(), Some(workload(true)));
    desired.set_workload(&"Kubernetes//Pod/n/p".into(), Some(workload(false)));
    let dirty = desired.take_dirty();
    tables.apply(&changed(&desired, &dirty));
    assert_eq!(tables.workloads["Kubernetes//Pod/n/p"].addresses, [ip(0, 1)]);
    assert!(tables.workloads["new"].addresses.is_empty());
}

#[test]
fn a_service_whose_names_were_never_resolved_is_not_synced() {
    let mut desired = Desired::new(here(""));
    let ports = || Box::from([(80, 80)]);
    let service =
        Service { vips: [("".into(), ip(1, 1))].into(), ports: ports(), ..Service::default() };
    desired.set_service(&"n/s".into(), Some(service));
    let membership = Membership { service: "n/s".into(), ports: ports() };
    let workload = |ips: Ips| Workload {
        ips,
        place: Arc::default(),
        traits: Arc::new(Traits {
            identity: "i".into(),
            waypoint: None,
            services: [membership.clone()].into(),
            policies: Box::default(),
        }),
        healthy: true,
        host_network: false,
    };
    let synced = |desired: &Desired| {
        let mut tables = Tables::default();
        tables.apply(&everything(desired));
        tables.services[&("n/s".to_owned(), 80, 4, false)].synced
    };
    assert!(synced(&desired), "it is known to be empty");
    desired.set_workload(&"w".into(), Some(workload(Ips::Hostname("db.example".into()))));
    assert!(!synced(&desired));
    desired.set_workload(&"v".into(), Some(workload(vec![ip(0, 1)].into())));
    assert!(synced(&desired));
}
