//! Bad input as it comes over the wire, in one response with good resources: what is said of each,
//! and that the others are taken.

use prost::Message as _;

use super::super::super::proto::{Payload, Resource};
use super::super::Type;
use super::{knowing, removing, resource, response, said};
use crate::decode::proto::{security, workload as wire};
use crate::decode::tests::{a_service, a_workload, encode_service, encode_workload};

/// A workload of this uid, but for a change.
fn workload(uid: &str, change: impl FnOnce(&mut wire::Workload)) -> bytes::Bytes {
    let mut it = a_workload();
    it.uid = uid.to_owned();
    change(&mut it);
    resource(uid, Type::Address.url(), encode_workload(it))
}

fn service(name: &str, change: impl FnOnce(&mut wire::Service)) -> bytes::Bytes {
    let mut it = a_service();
    change(&mut it);
    resource(name, Type::Address.url(), encode_service(it))
}

#[test]
fn each_bad_address_is_named_and_the_good_ones_are_taken() {
    let long = "x".repeat(10 << 20);
    let mut twisted = workload("latin", |it| it.node = "XXXX".to_owned()).to_vec();
    let at = twisted.windows(4).position(|four| four == b"XXXX").expect("the node");
    twisted[at..at + 4].fill(0xe4);
    let bad = [
        (workload("short", |it| it.addresses = vec![vec![1, 2, 3].into()]), "address of 3 bytes"),
        (workload("nul", |it| it.node = "a\0b".to_owned()), "node holds a control character"),
        (workload("escape", |it| it.node = "\u{1b}[2J".to_owned()), "node holds a control"),
        (twisted.into(), "malformed"),
        (workload("a", |_| {}), "it is there twice; the first one counts"),
        (workload(&long, |_| {}), "it has 104857"),
        (service("n/none", |it| it.hostname.clear()), "hostname of the service is empty"),
        (
            service("n/h", |it| {
                it.ports = vec![wire::Port { service_port: 70000, target_port: 1 }];
            }),
            "port 70000: at most 65535",
        ),
        (vec![0xff; 9].into(), "it is no resource"),
        (resource("thing", "type.googleapis.com/a.Thing", vec![]), "it is a type.googleapis.com"),
    ];
    let mut answer = response(&["a"]);
    let (resources, words): (Vec<_>, Vec<_>) = bad.into_iter().unzip();
    answer.resources.extend(resources);
    answer.resources.extend(response(&["b", "n/s"]).resources);
    let mut memory = knowing(&[]);
    let taken = memory.take(answer);
    assert_eq!(said(&taken.update), "+a +b +n/s");
    let nack = taken.nack.expect("a NACK");
    let lines: Vec<&str> = nack.lines().collect();
    assert_eq!(lines.len(), words.len(), "{nack}");
    for (line, words) in lines.iter().zip(words) {
        assert!(line.contains(words), "{words}: {line}");
        assert!(line.len() < 400, "{line}");
    }
    assert!(lines[5].starts_with("xxx") && lines[5].contains("… (10485760 bytes)"), "{}", lines[5]);
}

#[test]
fn ranges_that_are_none_are_refused_and_empty_nesting_means_what_it_says() {
    let policy = |name: &str, groups: Vec<security::Group>| {
        let namespace = "n".to_owned();
        let it = security::Authorization {
            name: name.to_owned(),
            namespace,
            groups,
            ..Default::default()
        };
        let value = it.encode_to_vec().into();
        let payload = Payload { type_url: Type::Policy.url().to_owned(), value };
        let resource =
            Resource { name: format!("n/{name}"), resource: Some(payload), ..Default::default() };
        bytes::Bytes::from(resource.encode_to_vec())
    };
    let range = |bytes: usize, length| {
        let source_ips = vec![security::Address { address: vec![10; bytes].into(), length }];
        let one = security::Match { source_ips, ..Default::default() };
        vec![security::Group { rules: vec![security::Rules { matches: vec![one] }] }]
    };
    let mut memory = knowing(&[]);
    let mut answer = response(&[]);
    answer.type_url = Type::Policy.url().to_owned();
    answer.resources = vec![
        policy("v4", range(4, 33)),
        policy("v6", range(16, 129)),
        policy("none", range(0, 0)),
        policy("empty", vec![]),
        policy("groups", vec![security::Group::default(); 100]),
        policy("rules", vec![security::Group { rules: vec![security::Rules::default(); 100] }]),
    ];
    let taken = memory.take(answer);
    assert_eq!(said(&taken.update), "+n/empty +n/groups +n/rules");
    let nack = taken.nack.expect("a NACK");
    for words in ["n/v4: bad address range 10.10.10.10/33", "/129", "address range of 0 bytes"] {
        assert!(nack.contains(words), "{words}: {nack}");
    }
}

#[test]
fn what_is_removed_and_there_in_one_response_is_there() {
    let mut memory = knowing(&["a", "b"]);
    memory.begin(false, 1 << 20);
    memory.take(response(&[]));
    let mut answer = removing(&["a", "b"]);
    answer.resources = response(&["a"]).resources;
    assert_eq!(said(&memory.take(answer).update), "+a -b");
}
