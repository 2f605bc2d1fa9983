//! What a mesh file may say, and what is said of one that is wrong.

use std::fmt::Write;

use kmesh_bpf::authz::StringMatch;

use super::{References, parse, read};
use crate::model::{Destination, Mode, Scope};

fn problems(text: &str) -> String {
    parse(text).expect_err("a file that is wrong").to_string()
}

const MESH: &str = r#"
workloads:
- uid: cluster1//Pod/shop/web-1
  name: web-1
  namespace: shop
  serviceAccount: web
  workloadIps: [10.0.0.1, "fd00::1"]
  node: node-a
  status: Unhealthy
  protocol: HBONE
  locality: {region: eu, zone: a}
  waypoint: {destination: /10.0.0.9, hboneMtlsPort: 15008}
  authorizationPolicies: [shop/only-me]
  services:
    shop/web.shop.svc:
      80: 8080
  netns: web-1
  bypass: true
- {name: db, namespace: shop, workloadIps: [10.0.0.2], networkMode: HostNetwork}
services:
- name: web
  namespace: shop
  hostname: web.shop.svc
  vips: [/10.96.0.1, "net2/10.96.0.1"]
  ports: {443: 0, 80: 8080}
  loadBalancer: {mode: Failover, routingPreferences: [Region, Zone], healthPolicy: AllowAll}
policies:
- name: only-me
  namespace: shop
  scope: WorkloadSelector
  action: Deny
  rules:
  - - - principals: [{Exact: a}, !Prefix b, Presence]
        notSourceIps: [10.0.0.0/8, 192.168.0.1]
        destinationPorts: [80]
"#;

#[test]
fn yaml_says_all_that_the_format_knows() {
    let model = parse(MESH).expect("a good file");
    let (uid, web) = &model.workloads[0];
    assert_eq!(&**uid, "cluster1//Pod/shop/web-1");
    assert_eq!(web.ips.v4().map(|ip| ip.to_string()).as_deref(), Some("10.0.0.1"));
    assert_eq!(web.ips.v6().map(|ip| ip.to_string()).as_deref(), Some("fd00::1"));
    assert!(!web.healthy && !web.host_network);
    assert_eq!(&*web.traits.identity, "cluster.local/ns/shop/sa/web");
    assert!(matches!(&web.traits.waypoint, Some(Destination::Address(net, _)) if net.is_empty()));
    assert_eq!(*web.traits.services[0].ports, [(80, 8080)]);
    let (uid, db) = &model.workloads[1];
    assert_eq!(&**uid, "Kubernetes//Pod/shop/db");
    assert!(db.host_network && db.healthy);
    let (name, service) = &model.services[0];
    assert_eq!(&**name, "shop/web.shop.svc");
    assert_eq!(*service.ports, [(80, 8080), (443, 0)]);
    assert_eq!(service.mode, Mode::Failover);
    assert_eq!(*service.preferences, [Scope::Region, Scope::Zone]);
    assert!(service.allow_unhealthy);
    assert_eq!(service.vips.len(), 2);
    let tests = &model.policies[0].1.groups[0][0][0];
    let exact = StringMatch::Exact("a".to_owned());
    let prefix = StringMatch::Prefix("b".to_owned());
    assert_eq!(tests.principals.any, [exact, prefix, StringMatch::Presence]);
    assert_eq!(tests.source_ips.none.len(), 2);
    assert_eq!(model.pods.len(), 1);
    assert!(model.pods[0].bypass);
}

#[test]
fn a_netns_without_address_only_says_that_the_pod_is_governed() {
    let model = parse("workloads: [{name: a, namespace: n, netns: a}]").expect("a good file");
    assert_eq!((model.workloads.len(), model.pods.len()), (0, 1));
    assert_eq!(&*model.pods[0].uid, "Kubernetes//Pod/n/a");
}

#[test]
fn json_is_told_by_its_content() {
    let text = r#"{"services": [{"hostname": "h", "namespace": "n", "vips": ["/10.0.0.1"],
        "ports": {"80": 8080}}], "workloads": [{"uid": "u", "workloadIps": ["10.0.0.2"],
        "services": {"n/h": {"80": 1}}}]}"#;
    let model = parse(text).expect("a good file");
    assert_eq!(*model.services[0].1.ports, [(80, 8080)]);
    assert_eq!(*model.workloads[0].1.traits.services[0].ports, [(80, 1)]);
}

#[test]
fn form_errors_have_line_and_column() {
    let yaml = problems("workloads:\n- uid: a\n  workloadIp: 10.0.0.1\n");
    assert!(yaml.contains("line 3 column 3") && yaml.contains("`workloadIp`"), "{yaml}");
    let json = problems("{\"workloads\": [\n {\"uid\": \"a\", \"workloadIp\": \"1\"}]}");
    assert!(json.contains("line 2 column") && json.contains("`workloadIp`"), "{json}");
    let port = problems("services:\n- hostname: h\n  namespace: n\n  ports: {80: 70000}\n");
    assert!(port.contains("line 4 column"), "{port}");
    let cut = problems("{\"workloads\": [");
    assert!(cut.contains("line 1 column") && cut.contains("EOF"), "{cut}");
}

#[test]
fn an_empty_file_is_refused_and_an_empty_mesh_is_not() {
    assert!(problems(" \n").contains("empty"));
    assert_eq!(parse("{}").expect("an empty mesh"), super::Model::default());
    assert_eq!(parse("workloads: []").expect("an empty mesh"), super::Model::default());
    assert!(problems("{}\n---\n{}\n").contains("line 2"));
    assert!(problems("workloads: []\n---\nservices: []\n").contains("more than one"));
}

#[test]
fn every_wrong_object_is_named_in_one_report() {
    let text = r"
workloads:
- {uid: w1, workloadIps: [10.0.0.1], services: {n/none: {80: 80}}}
- {uid: w1, workloadIps: [10.0.0.2]}
- {uid: w2, workloadIps: [10.0.0.1]}
- {uid: w3, workloadIps: [10.0.0.300], waypoint: {destination: n/nowhere}}
- {uid: w4, workloadIps: [0.0.0.0], netns: pod}
- {uid: w5, netns: pod, authorizationPolicies: [n/p]}
- {uid: w6, bypass: true, services: {n/a: {80: 0}}}
- {uid: /10.0.0.7}
services:
- {namespace: n, hostname: a, vips: [/10.1.0.1], ports: {0: 80}}
- {namespace: n, hostname: b, vips: [/10.1.0.1, 10.1.0.2]}
- {namespace: n, hostname: b, waypoint: {destination: nonsense}}
";
    let said = problems(text);
    for part in [
        "workload w1: unknown service n/none",
        "workload w1: duplicate uid",
        "workload w2: duplicate address 10.0.0.1, also of workload w1",
        "workload w3: bad address \"10.0.0.300\"",
        "workload w3: unknown waypoint n/nowhere",
        "workload w4: 0.0.0.0 is no address of one host",
        "workload w5: netns pod given twice, also by workload w4",
        "workload w5: unknown policy n/p",
        "workload w6: bypass says nothing without netns",
        "workload w6: port 0 for service n/a",
        "workload /10.0.0.7: a uid must not read as network/address",
        "service n/a: port 0 is no service port",
        "service n/b: duplicate VIP /10.1.0.1, also of service n/a",
        "service n/b: bad VIP \"10.1.0.2\"",
        "service n/b: there twice",
        "service n/b: bad waypoint \"nonsense\"",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
}

#[test]
fn long_names_are_refused_and_long_reports_are_cut() {
    let long = "x".repeat(300);
    let said = problems(&format!("workloads: [{{uid: u, name: {long}}}]"));
    assert!(said.contains("workload u: name of 300 characters: at most 253"), "{said}");
    let said = problems(&format!("services: [{{namespace: n, hostname: {long}}}]"));
    assert!(said.contains("hostname of 300 characters"), "{said}");
    let said = problems(&format!("workloads: [{{uid: {}}}]", "y".repeat(600)));
    assert!(said.contains("uid of 600 bytes: at most 512"), "{said}");
    let mut many = String::from("workloads:\n");
    for n in 0..30 {
        writeln!(many, "- {{uid: u{n}, workloadIps: [bad]}}").expect("a text");
    }
    assert!(problems(&many).ends_with("and 10 more"));
}

#[test]
fn a_policy_that_makes_no_sense_is_named() {
    let text = "
policies:
- {name: p, namespace: n, scope: Global, action: Deny, rules: [[[{destinationPorts: [0, 70000]}]]]}
- {name: q, namespace: n, scope: Global, action: Deny, rules: [[[{sourceIps: [10.0.0.0/33]}]]]}
- {name: r, namespace: n, scope: Global, action: Deny, rules: [[[{principals: [{Exact: ''}]}]]]}
- {name: '', namespace: n, scope: Global, action: Deny}
";
    let said = problems(text);
    for part in [
        "policy n/p: group 1: port 0 is no port",
        "policy n/p: port 70000: at most 65535",
        "policy n/q: bad address range \"10.0.0.0/33\"",
        "policy n/r: group 1: an empty principal",
        "policy n/: name and namespace must not be empty",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
}

#[test]
fn beside_a_control_plane_references_may_lead_to_its_objects() {
    let text = "workloads: [{uid: w, netns: p, services: {n/far: {80: 80}}, \
        waypoint: {destination: n/way}, authorizationPolicies: [n/p]}]";
    assert!(parse(text).is_err());
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("mesh.yaml");
    std::fs::write(&path, text).expect("a file");
    let model = read(&path, References::Beyond).expect("a good file");
    assert_eq!(model.workloads.len(), 1);
    assert!(read(&path, References::Within).is_err());
}
