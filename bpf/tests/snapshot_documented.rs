//! docs/snapshot.md tells every field of a snapshot, and no other: compared with what serde writes
//! and with what it says it takes.

use std::collections::BTreeSet;

use kmesh_bpf::authz::Policy;
use kmesh_bpf::snapshot::{About, PodEntry, PodMode, ServiceEntry, Snapshot, WorkloadEntry};
use kmesh_bpf::want::{Endpoint, Family, Kind, MetadataFormat, Mode, Settings, WaypointRef};
use serde::de::DeserializeOwned;
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/snapshot.md");

/// The fields that the tables below a title tell: the first one with that header.
fn told(title: &str) -> BTreeSet<String> {
    let (_, below) = PAGE.split_once(&format!("\n{title}\n")).expect(title);
    let rows = below.lines().skip_while(|line| !line.starts_with("| field"));
    rows.take_while(|line| line.starts_with('|'))
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect()
}

/// The same where a row tells several fields.
fn told_in_rows(title: &str) -> BTreeSet<String> {
    let (_, below) = PAGE.split_once(&format!("\n{title}\n")).expect(title);
    let rows = below.lines().skip_while(|line| !line.starts_with("| field"));
    let cells =
        rows.take_while(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The fields of an object that has all of them.
fn written(object: &Value) -> BTreeSet<String> {
    object.as_object().expect("an object").keys().cloned().collect()
}

/// The fields that serde takes, as it says when it meets another one.
fn taken<T: DeserializeOwned>() -> BTreeSet<String> {
    let unknown = serde_json::json!({ "no such field": 0 });
    let said = match serde_json::from_value::<T>(unknown) {
        Ok(_) => panic!("an unknown field was taken"),
        Err(error) => error.to_string(),
    };
    let (_, fields) = said.split_once("expected ").expect("what was expected");
    fields.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A policy that says everything there is to say.
fn policy() -> Policy {
    let mut one = serde_json::Map::new();
    for (fields, values) in [
        (["namespaces", "notNamespaces"], r#"[{"Exact": "a"}, "Presence"]"#),
        (["principals", "notPrincipals"], r#"[{"Prefix": "a"}, {"Suffix": "b"}]"#),
        (
            ["serviceAccounts", "notServiceAccounts"],
            r#"[{"namespace": "a", "serviceAccount": "b"}]"#,
        ),
        (["sourceIps", "notSourceIps"], r#"["10.0.0.0/8"]"#),
        (["destinationIps", "notDestinationIps"], r#"["fd00::/8"]"#),
        (["destinationPorts", "notDestinationPorts"], "[80]"),
    ] {
        for field in fields {
            one.insert(field.to_owned(), serde_json::from_str(values).expect("JSON"));
        }
    }
    let policy = serde_json::json!({
        "name": "p", "namespace": "ns", "scope": "WorkloadSelector", "action": "Deny",
        "dryRun": true, "rules": [[[one]]],
    });
    serde_json::from_value(policy).expect("a policy")
}

/// A snapshot in which every field is there.
fn whole() -> Value {
    let text = |text: &str| Some(text.to_owned());
    let waypoint = Some(WaypointRef { name: "ns/way".into(), port: 15019 });
    let family = Family::V4;
    let endpoint = Endpoint { workload: "uid".into(), port: 8080, family };
    let service = ServiceEntry {
        name: "ns/web".into(),
        port: 80,
        family,
        kind: Kind::Service,
        vips: vec![[10, 96, 0, 1].into()],
        mode: Mode::Standard,
        synced: true,
        waypoint: waypoint.clone(),
        endpoints: vec![endpoint],
    };
    let workload = WorkloadEntry {
        uid: "uid".into(),
        v4: Some([10, 0, 0, 1].into()),
        v6: Some("fd00::1".parse().expect("an address")),
        addresses: vec![[10, 0, 0, 1].into()],
        waypoint,
        identity: Some("td/ns/n/sa/a".into()),
        is_waypoint: true,
        policies: vec!["ns/p".into()],
    };
    let pod = PodEntry {
        cookie: 1,
        uid: Some("uid".into()),
        netns: text("/run/netns/a"),
        mode: PodMode::Managed,
        policies: vec!["ns/p".into()],
        waits: true,
    };
    let about = About {
        node: text("n"),
        kernel: text("6.1"),
        boot_id: text("b"),
        time: text("2026-01-01T00:00:00Z"),
        generation: Some(3),
        consistent: Some(true),
        unfinished: Some(true),
    };
    let settings =
        Settings { metadata: MetadataFormat::Tlv, peername: false, exempt_ports: vec![25] };
    let (services, workloads, pods) = (vec![service], vec![workload], Some(vec![pod]));
    let policies = Some(vec![policy().into()]);
    let snapshot = Snapshot { about, settings, services, workloads, policies, pods };
    let mut out = Vec::new();
    snapshot.write_json(&mut out).expect("to memory");
    serde_json::from_slice(&out).expect("JSON")
}

#[test]
fn every_field_that_is_written_is_told_and_every_other_is_not() {
    let file = whole();
    let service = &file["services"][0];
    for (title, object) in [
        ("## The file", &file),
        ("## `settings`", &file["settings"]),
        ("## `services[]`", service),
        ("`endpoints[]`:", &service["endpoints"][0]),
        ("`waypoint`, also of a workload:", &service["waypoint"]),
        ("## `workloads[]`", &file["workloads"][0]),
        ("## `policies[]`", &file["policies"][0]),
        ("## `pods[]`", &file["pods"][0]),
    ] {
        assert_eq!(told(title), written(object), "{title}");
    }
    let one = written(&file["policies"][0]["rules"][0][0][0]);
    assert_eq!(told_in_rows("A match, each field a list and optional:"), one);
}

#[test]
fn every_field_that_is_taken_is_told_and_every_other_is_not() {
    assert_eq!(told("## `settings`"), taken::<Settings>());
    assert_eq!(told("## `services[]`"), taken::<ServiceEntry>());
    assert_eq!(told("`endpoints[]`:"), taken::<Endpoint>());
    assert_eq!(told("`waypoint`, also of a workload:"), taken::<WaypointRef>());
    assert_eq!(told("## `workloads[]`"), taken::<WorkloadEntry>());
    assert_eq!(told("## `policies[]`"), taken::<Policy>());
    assert_eq!(told("## `pods[]`"), taken::<PodEntry>());
    let said = Snapshot::parse(b"{\"no such field\": 0}", "file").expect_err("refused").to_string();
    let (_, fields) = said.split_once("expected one of ").expect("what was expected");
    let file: BTreeSet<_> = fields.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(told("## The file"), file);
}
