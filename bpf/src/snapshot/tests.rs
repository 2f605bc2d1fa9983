//! Snapshots as files: there and back, and what is refused.

use super::{About, Only, PodEntry, PodMode, Snapshot, SnapshotError};
use crate::authz::Policy;
use crate::want::{Change, Endpoint, Family, Kind, Service, ServiceKey, Workload};

fn snapshot() -> Snapshot {
    let uid = || "cluster//Pod/ns/\u{fc}ber".into();
    let workload = Workload {
        v4: Some([10, 0, 0, 1].into()),
        addresses: vec![[10, 0, 0, 1].into()],
        identity: Some("td/ns/n/sa/a".into()),
        policies: vec!["n/p".into()],
        ..Workload::default()
    };
    let key =
        ServiceKey { name: "ns/web".into(), port: 80, family: Family::V4, kind: Kind::Service };
    let service = Service {
        vips: vec![[10, 96, 0, 2].into(), [10, 96, 0, 1].into()],
        synced: true,
        endpoints: vec![Endpoint { workload: uid(), port: 8080, family: Family::V4 }],
        ..Service::default()
    };
    let change = Change {
        services: vec![(key, Some(service))],
        workloads: vec![(uid(), Some(workload))],
        policies: vec![("n/p".into(), Some(policy("p").into()))],
        all_policies: true,
        ..Change::default()
    };
    let about = About { node: Some("node-1".to_owned()), generation: Some(8), ..About::default() };
    let pod = PodEntry {
        cookie: 7,
        uid: Some(uid()),
        netns: None,
        mode: PodMode::Bypass,
        policies: Vec::new(),
        waits: false,
    };
    Snapshot { pods: Some(vec![pod]), ..Snapshot::of_change(&change, about) }
}

fn policy(name: &str) -> Policy {
    let text = format!(
        r#"{{"name":"{name}","namespace":"n","scope":"Namespace","action":"Deny",
            "rules":[[[{{"sourceIps":["10.0.0.0/8"]}}]]]}}"#
    );
    Policy::from_text(&text).expect("a policy")
}

fn json(snapshot: &Snapshot) -> String {
    let mut out = Vec::new();
    snapshot.write_json(&mut out).expect("to memory");
    String::from_utf8(out).expect("text")
}

fn refused(text: &str) -> String {
    let error = Snapshot::parse(text.as_bytes(), "file").expect_err("refused");
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}

#[test]
fn json_and_yaml_lead_back_to_the_same() {
    let mut yaml = Vec::new();
    snapshot().write_yaml(&mut yaml).expect("to memory");
    assert_eq!(Snapshot::parse(&yaml, "yaml").expect("yaml"), snapshot());
    let text = json(&snapshot());
    assert_eq!(Snapshot::parse(text.as_bytes(), "json").expect("json"), snapshot());
    assert_eq!(json(&snapshot()), text, "two dumps differ");
    let checksum = |text: &str| text.split("sha256:").nth(1).expect("one")[..64].to_owned();
    assert_eq!(checksum(&text), checksum(&String::from_utf8(yaml).expect("text")));
}

#[test]
fn an_edited_file_is_refused_until_its_checksum_is_taken_out() {
    let edited = json(&snapshot()).replace("10.96.0.2", "10.96.0.3");
    assert!(refused(&edited).contains("remove the line `checksum`"), "{}", refused(&edited));
    let lines: Vec<_> = edited.lines().filter(|line| !line.contains("checksum")).collect();
    let accepted = Snapshot::parse(lines.join("\n").as_bytes(), "file").expect("accepted");
    assert_eq!(accepted.services[0].vips[1].to_string(), "10.96.0.3");
}

#[test]
fn what_is_not_of_this_schema_is_refused() {
    let newer = "{\"schemaVersion\": 3, \"moreThings\": []}";
    assert!(refused(newer).contains("schema version 3 is newer than 2"), "{}", refused(newer));
    let unknown = "{\"schemaVersion\": 1, \"services\": [], \"workloads\": [], \"x\": 1}";
    let said = refused(unknown);
    assert!(said.contains("unknown field `x`") && said.contains("line 1"), "{said}");
    assert!(refused("{}").contains("schemaVersion"));
    assert!(refused("").contains("file: "));
    let yaml = "schemaVersion: 1\nservices: []\nworkloads:\n- uid: a\n  v4: 10.0.0.300\n";
    assert!(refused(yaml).contains("line 5"), "{}", refused(yaml));
    let silent = "{\"schemaVersion\": 1}";
    assert!(refused(silent).contains("services"), "nothing said must not mean: remove all");
}

#[test]
fn a_contradiction_is_refused_by_name() {
    let mut twice = snapshot();
    twice.services.push(twice.services[0].clone());
    twice.services[1].port = 81;
    twice.services[1].endpoints[0].workload = "nobody".into();
    let said = refused(&json(&twice));
    assert!(said.contains("service ns/web port 81 (IPv4): endpoint nobody"), "{said}");
    twice.services.truncate(1);
    twice.pods.as_mut().expect("pods").push(snapshot().pods.expect("pods").remove(0));
    assert!(matches!(
        Snapshot::parse(json(&twice).as_bytes(), "file"),
        Err(SnapshotError::Invalid { .. })
    ));
}

#[test]
fn a_policy_that_is_wrong_is_named_with_its_place() {
    let good = json(&snapshot());
    let bare =
        good.lines().filter(|line| !line.contains("checksum")).collect::<Vec<_>>().join("\n");
    for (is, wrong, said) in [
        ("10.0.0.0/8", "10.0.0.0/33", "policy n/p: bad address range \"10.0.0.0/33\""),
        ("sourceIps", "sourceIp", "unknown field `sourceIp`"),
        ("\"name\": \"p\"", "\"name\": \"\"", "policy n/: name and namespace must not be empty"),
    ] {
        assert!(bare.contains(is), "{is} is not in {bare}");
        let refused = refused(&bare.replace(is, wrong));
        assert!(refused.contains(said) && refused.contains("at line"), "{refused}");
    }
    let mut twice = snapshot();
    twice.policies.as_mut().expect("policies").push(policy("p").into());
    assert!(refused(&json(&twice)).contains("policy n/p: is there twice"));
    let mut named = snapshot();
    named.workloads[0].policies.push("n/p".into());
    assert!(refused(&json(&named)).contains("names policy n/p twice"));
}

#[test]
fn a_file_that_says_nothing_of_policies_changes_none() {
    let old = r#"{"schemaVersion": 1, "services": [], "workloads": [{"uid": "a"}]}"#;
    let old = Snapshot::parse(old.as_bytes(), "old").expect("an older file");
    assert_eq!(old.policies, None);
    let change = old.into_change();
    assert!(!change.all_policies && change.policies.is_empty());
    let none = r#"{"schemaVersion": 2, "services": [], "workloads": [], "policies": []}"#;
    assert!(Snapshot::parse(none.as_bytes(), "none").expect("a file").into_change().all_policies);
}

#[test]
fn parts_are_named() {
    assert_eq!("services".parse(), Ok(Only::Services));
    assert_eq!("service=ns/web".parse(), Ok(Only::Service("ns/web".to_owned())));
    assert_eq!("pods".parse(), Ok(Only::Pods));
    assert_eq!("policies".parse(), Ok(Only::Policies));
    assert_eq!("policy=n/p".parse(), Ok(Only::Policy("n/p".to_owned())));
    for wrong in ["", "service", "service=", "all", "pod=1"] {
        assert!(wrong.parse::<Only>().is_err(), "{wrong}");
    }
}

#[test]
fn hostile_files_take_no_more_memory_than_their_length() {
    let header = "schemaVersion: 1\nworkloads: []\nservices:\n";
    let service = "{name: ns/a, port: 80, family: ipv4, kind: service, synced: true, vips: ";
    let list = vec!["1.2.3.4"; 10_000].join(",");
    let bomb =
        format!("{header}- {service}&a [{list}]}}\n") + &format!("- {service}*a}}\n").repeat(1_000);
    assert!(refused(&bomb).contains("YAML aliases"), "{}", refused(&bomb));
    let deep = format!("{{\"schemaVersion\": 1, \"services\": {}", "[".repeat(100_000));
    assert!(refused(&deep).contains("column"), "{}", refused(&deep));
    assert!(refused(&format!("schemaVersion: 1\nservices: {}", "[".repeat(1_000))).len() < 600);
    let long =
        format!("{{\"schemaVersion\": 1, \"services\": [{{\"name\": \"{}", "x".repeat(1 << 23));
    let said = refused(&(long.clone() + "\""));
    assert!(said.contains("has 8388608 bytes") && said.len() < 600, "{}", said.len());
    assert!(refused(&long).contains("EOF while parsing a string"), "{}", refused(&long));
    let policy =
        "{name: a, namespace: n, scope: Global, action: Deny, rules: [[[{destinationPorts: ";
    let ports = vec!["80"; 10_000].join(",");
    let bomb = format!("{header}  []\npolicies:\n- {policy}&a [{ports}]}}]]]}}\n")
        + &format!("- {policy}*a}}]]]}}\n").repeat(1_000);
    assert!(refused(&bomb).contains("YAML aliases"), "{}", refused(&bomb));
    let number = "{\"schemaVersion\": 99999999999999999999999999}";
    assert!(refused(number).contains("line 1 column"), "{}", refused(number));
    assert!(refused(&"\n".repeat(1 << 20)).contains("the file is empty"));
    let field = format!("{{\"schemaVersion\": 1, \"{}\": 1}}", "y".repeat(1 << 20));
    let said = refused(&field);
    assert!(said.len() < 700 && said.contains("at line 1"), "{}", said.len());
}

#[test]
fn names_that_are_alike_are_kept_once() {
    let text = json(&snapshot());
    let read = Snapshot::parse(text.as_bytes(), "json").expect("json");
    let endpoint = &read.services[0].endpoints[0].workload;
    assert!(std::sync::Arc::ptr_eq(endpoint, &read.workloads[0].uid));
}
