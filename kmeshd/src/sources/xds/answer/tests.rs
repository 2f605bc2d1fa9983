//! What responses come to: changes, refusals, what is held back; and that neither the order of
//! what arrives nor how it is cut matters.

mod bad;
mod fuzz;

use std::collections::BTreeMap;

use proptest::prelude::*;
use prost::Message as _;

use super::super::proto::{DeltaDiscoveryResponse, Payload, Resource};
use super::{Kind, Memory, Type};
use crate::decode::tests::{a_service, a_workload, encode_service, encode_workload};
use crate::model::Update;
use crate::reconcile::Served;

/// A response that names these workloads ("uid") and services ("namespace/hostname").
fn response(names: &[&str]) -> DeltaDiscoveryResponse {
    let resources = names.iter().map(|name| {
        let value = if let Some((namespace, hostname)) = name.split_once('/') {
            let mut service = a_service();
            (service.namespace, service.hostname) = (namespace.into(), hostname.into());
            encode_service(service)
        } else {
            let mut workload = a_workload();
            workload.uid = (*name).to_owned();
            encode_workload(workload)
        };
        resource(name, Type::Address.url(), value)
    });
    DeltaDiscoveryResponse {
        resources: resources.collect(),
        type_url: Type::Address.url().to_owned(),
        nonce: "n".to_owned(),
        ..DeltaDiscoveryResponse::default()
    }
}

fn resource(name: &str, url: &str, value: Vec<u8>) -> bytes::Bytes {
    let payload = Payload { type_url: url.to_owned(), value: value.into() };
    let resource =
        Resource { version: "1".to_owned(), resource: Some(payload), name: name.to_owned() };
    resource.encode_to_vec().into()
}

fn removing(names: &[&str]) -> DeltaDiscoveryResponse {
    let removed = names.iter().map(|name| (*name).to_owned()).collect();
    DeltaDiscoveryResponse { removed_resources: removed, ..response(&[]) }
}

fn no_policies() -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse { type_url: Type::Policy.url().to_owned(), ..response(&[]) }
}

/// "+a" for what is there, "-a" for what is gone.
fn said(update: &Update) -> String {
    let sign = |there: bool| if there { '+' } else { '-' };
    let workloads = update.workloads.iter().map(|(name, it)| (sign(it.is_some()), name));
    let services = update.services.iter().map(|(name, it)| (sign(it.is_some()), name));
    let policies = update.policies.iter().map(|(name, it)| (sign(it.is_some()), name));
    let mut words: Vec<_> =
        workloads.chain(services).chain(policies).map(|(s, n)| format!("{s}{n}")).collect();
    words.sort();
    words.join(" ")
}

/// A memory that was told of these, completely.
fn knowing(names: &[&str]) -> Memory {
    let mut memory = Memory::new(false, Served::default());
    memory.begin(false, 1 << 20);
    memory.take(response(names));
    memory.take(no_policies());
    assert!(memory.is_complete());
    memory
}

#[test]
fn it_is_complete_when_every_type_has_answered() {
    let mut memory = Memory::new(false, Served::default());
    memory.begin(false, 1 << 20);
    assert_eq!(memory.unanswered(), ["Address", "Authorization"]);
    assert_eq!(said(&memory.take(response(&["a", "n/s"])).update), "+a +n/s");
    assert!(!memory.is_complete());
    assert_eq!(memory.unanswered(), ["Authorization"]);
    memory.take(no_policies());
    assert!(memory.is_complete());
    assert_eq!((memory.count(Kind::Workload), memory.count(Kind::Service)), (1, 1));
}

#[test]
fn a_full_answer_removes_what_it_does_not_name_and_a_difference_does_not() {
    let mut memory = knowing(&["a", "b", "n/s"]);
    assert_eq!(memory.begin(false, 1 << 20)[0].len(), 3);
    assert_eq!(said(&memory.take(response(&["c"])).update), "+c");
    assert_eq!(said(&memory.take(removing(&["n/s", "nobody"])).update), "-n/s");
    // Too much to be told: everything comes again.
    assert!(memory.begin(false, 10)[0].is_empty());
    assert_eq!(said(&memory.take(response(&["a", "c"])).update), "+a +c -b");
}

#[test]
fn a_large_response_is_handed_on_in_portions_and_removes_with_the_last() {
    let mut memory = knowing(&["old"]);
    memory.begin(false, 0);
    let names: Vec<String> = (0..2 * super::PORTION + 10).map(|n| format!("w{n:05}")).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let mut portions = Vec::new();
    let taken = memory.take_in_portions(response(&names), &mut |portion| portions.push(portion));
    let sizes: Vec<usize> = portions.iter().map(Update::len).collect();
    assert_eq!(sizes, [super::PORTION, super::PORTION]);
    assert!(portions.iter().flat_map(|portion| &portion.workloads).all(|(_, it)| it.is_some()));
    assert_eq!(taken.update.len(), 10 + 1);
    assert!(said(&taken.update).ends_with("-old"), "{}", said(&taken.update));
}

#[test]
fn the_bad_of_a_response_is_refused_by_name_and_the_rest_is_used() {
    let mut memory = knowing(&["bad"]);
    let mut bad = a_workload();
    (bad.uid, bad.addresses) = ("bad".to_owned(), vec![vec![1, 2, 3].into()]);
    let mut answer = response(&["a", "a"]);
    let url = Type::Address.url();
    answer.resources.push(resource("bad", url, encode_workload(bad)));
    answer.resources.push(resource("other", url, encode_workload(a_workload())));
    answer.resources.push(resource("p", "x.y/z", Vec::new()));
    answer.resources.push(vec![0xff; 3].into());
    let taken = memory.take(answer);
    assert_eq!(said(&taken.update), "+a", "and what was known of `bad` stays");
    let nack = taken.nack.expect("a NACK");
    for line in [
        "a: it is there twice; the first one counts",
        "bad: address of 3 bytes: 4 or 16",
        "other: its content is of Kubernetes//Pod/n/a",
        "p: it is a x.y/z",
        "resource 6: it is no resource",
    ] {
        assert!(nack.contains(line), "{line} in {nack}");
    }
    assert_eq!(memory.refusals, 5);
    assert!(memory.refused.contains_key("bad"));
    // Mended, and a full answer does not take away what it refuses.
    memory.begin(false, 0);
    let mut again = response(&["a"]);
    again.resources.push(resource("bad", url, vec![0xff; 3]));
    assert_eq!(said(&memory.take(again).update), "+a");
    assert_eq!(said(&memory.take(response(&["bad"])).update), "+bad");
    assert!(!memory.refused.contains_key("bad"));
}

#[test]
fn an_unknown_type_is_answered_by_a_nack() {
    let mut memory = knowing(&["a"]);
    let answer = DeltaDiscoveryResponse { type_url: "x.y/z".to_owned(), ..response(&["b"]) };
    let taken = memory.take(answer);
    assert_eq!(taken.nack.as_deref(), Some("x.y/z: not subscribed to"));
    assert!(taken.update.is_empty() && memory.is_complete());
}

#[test]
fn many_refusals_are_bounded_in_words_and_memory() {
    let mut memory = knowing(&[]);
    let mut answer = response(&[]);
    for n in 0..5000 {
        let name = format!("{n}{}", "x".repeat(3000));
        answer.resources.push(resource(&name, Type::Address.url(), vec![0xff]));
    }
    let nack = memory.take(answer).nack.expect("a NACK");
    assert!(nack.len() < 10_000 && nack.ends_with("and 4980 more"), "{nack}");
    assert_eq!((memory.refusals, memory.refused.len()), (5000, 1000));
}

#[test]
fn an_answer_that_takes_everything_is_held_back_until_it_is_given_twice() {
    let mut memory = knowing(&["a", "n/s"]);
    memory.begin(false, 0);
    assert_eq!(said(&memory.take(response(&[])).update), "");
    let why = memory.held_back().expect("held back");
    assert!(why.contains("names 0 objects where there were 2"), "{why}");
    assert!(memory.is_complete(), "what is in force is in force");
    // The second answer counts, on a stream that was told nothing.
    assert!(memory.begin(true, 1 << 20)[0].is_empty());
    assert_eq!(said(&memory.take(response(&[])).update), "-a -n/s");
    assert_eq!(memory.held_back(), None);
}

#[test]
fn a_control_plane_that_recovers_is_believed_without_a_second_answer() {
    let names: Vec<String> = (0..20).map(|n| format!("w{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut memory = knowing(&names);
    // It was told what is held, and says that nearly all is gone.
    memory.begin(false, 1 << 20);
    assert_eq!(said(&memory.take(removing(&names[2..])).update), "");
    assert!(memory.held_back().is_some());
    // What it names again is there; what it removes later is gone.
    assert_eq!(said(&memory.take(response(&names[2..5])).update), "+w02 +w03 +w04");
    assert_eq!(said(&memory.take(removing(&["w00"])).update), "-w00");
    assert!(memory.held_back().is_some());
    let update = memory.take(response(&names[5..12])).update;
    assert!(memory.held_back().is_none());
    let gone = update.workloads.iter().filter(|(_, it)| it.is_none()).count();
    assert_eq!((gone, memory.count(Kind::Workload)), (8, 11));
}

#[test]
fn a_first_answer_far_below_what_the_tables_hold_completes_nothing() {
    let in_tables = Served { addresses: 100, policies: 0 };
    let mut memory = Memory::new(false, in_tables);
    memory.begin(false, 1 << 20);
    memory.take(response(&["a", "b"]));
    memory.take(no_policies());
    assert!(!memory.is_complete() && memory.held_back().is_some());
    memory.begin(true, 1 << 20);
    memory.take(response(&["a", "b"]));
    memory.take(no_policies());
    assert!(memory.is_complete());
    // Or at once, where the operator said so.
    let mut memory = Memory::new(true, in_tables);
    memory.begin(false, 1 << 20);
    memory.take(response(&[]));
    memory.take(no_policies());
    assert!(memory.is_complete());
}

#[test]
fn many_policies_are_not_gone_because_the_first_answer_after_a_start_has_none() {
    let answered = |policies| {
        let mut memory = Memory::new(false, Served { addresses: 1, policies });
        memory.begin(false, 1 << 20);
        memory.take(response(&["a"]));
        memory.take(no_policies());
        (memory.is_complete(), memory.held_back())
    };
    assert_eq!(answered(9), (true, None));
    let (complete, why) = answered(10);
    assert!(!complete && why.expect("held back").contains("0 policies where there were 10"));
}

proptest! {
    /// However a set of changes is cut into responses and ordered (each object's own changes stay
    /// in their order), the same objects are held.
    #[test]
    fn cutting_and_ordering_change_nothing(
        script in proptest::collection::vec((0_usize..6, any::<bool>()), 0..40),
        keys in proptest::collection::vec(any::<u32>(), 40),
        cut in 1_usize..5,
    ) {
        let names = ["a", "b", "c", "n/s", "n/t", "n/u"];
        let mut last = BTreeMap::new();
        for (at, there) in &script {
            last.insert(names[*at], *there);
        }
        // A stable sort by a key of the object: its own order is kept.
        let mut shuffled = script.clone();
        shuffled.sort_by_key(|(at, _)| keys[*at]);
        for script in [script, shuffled] {
            let mut memory = knowing(&["a", "n/s"]);
            for piece in script.chunks(cut) {
                for (at, there) in piece {
                    let name = names[*at];
                    memory.take(if *there { response(&[name]) } else { removing(&[name]) });
                }
            }
            for (at, name) in names.iter().enumerate() {
                let there = last.get(name).copied().unwrap_or(at == 0 || at == 3);
                prop_assert_eq!(memory.topics[0].held.name(name).is_some(), there);
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        resources in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..60), 0..10),
        removed in proptest::collection::vec(".*", 0..4),
    ) {
        let mut memory = knowing(&["a", "n/s"]);
        let resources: Vec<bytes::Bytes> = resources.into_iter().map(Into::into).collect();
        let count = resources.len();
        let mut answer = response(&[]);
        (answer.resources, answer.removed_resources) = (resources, removed);
        let taken = memory.take(answer);
        prop_assert!(count == 0 || taken.nack.is_some() || !taken.update.is_empty());
    }
}
