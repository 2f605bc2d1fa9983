//! What a pod says to a connection, on tables in memory: each answer, and tables that contradict
//! the policies they stand for.

use super::*;
use crate::apply::converge;
use crate::authz::{Identity, compile};
use crate::explain::{Admission, Protocol};
use crate::kernel::Put;
use crate::layout::{Limits, NAME_CHUNK, PolicyRecord};
use crate::memory::MemoryKernel;
use crate::tables::Have;
use crate::want::{Change, Family, Workload};

/// The pod that is asked, its client, and where texts are written in `kmesh_names`.
const POD: u64 = 77;
const CLIENT: u64 = 78;
const TEXTS: u32 = 1000;
const SET: u16 = 3;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn put(k: &mut MemoryKernel, map: Map, key: &[u8], value: &[u8]) {
    k.update(map, key, value, Put::Any).expect("written");
}

/// Workloads web (10.0.0.1, the pod) and cart (10.0.0.2, the client).
fn town() -> (MemoryKernel, Have) {
    let mut k = MemoryKernel::with_tables(&Limits::default());
    let workload = |last: u8, account: &str| Workload {
        v4: Some([10, 0, 0, last].into()),
        addresses: vec![[10, 0, 0, last].into()],
        identity: Some(format!("td/ns/shop/sa/{account}").into()),
        ..Workload::default()
    };
    let change = Change {
        workloads: vec![
            ("web".into(), Some(workload(1, "web"))),
            ("cart".into(), Some(workload(2, "cart"))),
        ],
        all_workloads: true,
        ..Change::default()
    };
    let mut have = Have::read_locked(&k).expect("tables");
    converge(&mut k, &mut have, &change, &mut |_, _| {}).expect("applied");
    (k, have)
}

fn manage(k: &mut MemoryKernel, have: &Have, set: u16, flags: u8) {
    for (cookie, uid, set) in [(POD, "web", set), (CLIENT, "cart", 0)] {
        let word = ManagerWord::new(cookie, have.backend(uid), set, flags);
        put(k, Map::Manager, &cookie.to_ne_bytes(), &word.0.to_ne_bytes());
    }
}

/// The number of an identity, as the tables have it or as this test gives it.
fn numbered(k: &MemoryKernel, have: &Have, uid: &str, number: u32) -> u32 {
    let index = have.backend(uid).expect("a workload");
    let mut record = BackendRecord::default();
    k.lookup(Map::Backend, &index.to_ne_bytes(), bytemuck::bytes_of_mut(&mut record))
        .expect("read");
    if record.who == 0 { number } else { record.who }
}

fn text(k: &mut MemoryKernel, at: u32, text: &str) -> (u32, u32) {
    for (chunk, piece) in (at..).zip(text.as_bytes().chunks(NAME_CHUNK)) {
        let mut bytes = [0; NAME_CHUNK];
        bytes[..piece.len()].copy_from_slice(piece);
        put(k, Map::Names, &chunk.to_ne_bytes(), &bytes);
    }
    (at, u32::try_from(text.len()).expect("a short text"))
}

/// Writes set 3: the tables of `compiled`, which say that they stand for `named`.
fn enforce(k: &mut MemoryKernel, have: &Have, compiled: &[Policy], named: &[Policy]) {
    let who = [("web", 1), ("cart", 2)].map(|(uid, number)| {
        let identity = Identity::parse(&format!("td/ns/shop/sa/{uid}")).expect("an identity");
        let number = numbered(k, have, uid, number);
        let index = have.backend(uid).expect("a workload").to_ne_bytes();
        let mut record = BackendRecord::default();
        k.lookup(Map::Backend, &index, bytemuck::bytes_of_mut(&mut record)).expect("read");
        record.who = number;
        put(k, Map::Backend, &index, bytemuck::bytes_of(&record));
        (number, identity)
    });
    let numbers = who.iter().map(|(number, identity)| (*number, identity));
    compile(compiled, numbers).expect("it fits").image().write(k, SET, 16, 4).expect("written");
    let mut indices = Vec::new();
    for (index, policy) in (0_u32..).zip(named) {
        let (start, text_len) = text(k, TEXTS + 100 * index, &policy.to_text());
        let (name, name_len) = text(k, TEXTS + 100 * index + 90, &policy.name);
        let record = PolicyRecord {
            flags: PolicyRecord::VALID,
            name,
            text: start,
            text_len,
            name_len: u16::try_from(name_len).expect("a short name"),
            ..PolicyRecord::default()
        };
        put(k, Map::Policy, &index.to_ne_bytes(), bytemuck::bytes_of(&record));
        indices.push(index);
    }
    let list = serde_json::to_string(&indices).expect("JSON");
    let (policies, policies_len) = text(k, TEXTS - 10, &list);
    let mut set = LiveSet::at(k, SET).expect("read").expect("a set").record;
    (set.policies, set.policies_len) = (policies, policies_len);
    put(k, Map::AuthSet, &u32::from(SET).to_ne_bytes(), bytemuck::bytes_of(&set));
}

fn policy(name: &str, action: &str, rest: &str) -> Policy {
    let text = format!(
        r#"{{"name":"{name}","namespace":"shop","scope":"Namespace","action":"{action}",{rest}}}"#
    );
    Policy::from_text(&text).expect("a policy")
}

fn allow_cart() -> Policy {
    let who = r#"[{"notDestinationPorts":[9]},{"principals":[{"Exact":"td/ns/shop/sa/cart"}]}]"#;
    policy("allow-cart", "Allow", &format!(r#""rules":[[[],{who}]]"#))
}

fn ask_by(k: &MemoryKernel, caller: &Caller, to: &str) -> Result<InboundSaid, ExplainError> {
    let pods = [POD, CLIENT].map(|cookie| PodHere { cookie, uid: None, hooked: true });
    let socket =
        Socket { family: Family::V4, protocol: Protocol::Tcp, v6_only: false, bound: None };
    let mut inbound = Inbound::new(k, &pods, caller, socket).expect("read");
    inbound.judge(to.parse().expect("an address")).map(|said| said.expect("a pod of this node"))
}

fn ask(k: &MemoryKernel, address: &str, to: &str) -> InboundSaid {
    let caller = Caller { cookie: None, address: Some(ip(address)) };
    ask_by(k, &caller, to).expect("it agrees")
}

#[test]
fn the_policy_that_decides_is_told_with_group_rule_and_match() {
    let (mut k, have) = town();
    let policies =
        [allow_cart(), policy("no-admin", "Deny", r#""rules":[[[{"destinationPorts":[9]}]]]"#)];
    enforce(&mut k, &have, &policies, &policies);
    manage(&mut k, &have, SET, ManagerWord::MANAGED);
    let said = ask(&k, "10.0.0.2", "10.0.0.1:8080");
    assert_eq!((said.admission, said.counter), (Admission::Allowed, Some("auth_allowed")));
    assert_eq!(said.identity.as_deref(), Some("td/ns/shop/sa/cart"));
    assert_eq!(said.policies, ["shop/allow-cart", "shop/no-admin"]);
    let by = said.by.expect("a policy");
    assert_eq!((&*by.policy, by.group, by.matches), ("shop/allow-cart", 1, vec![None, Some(1)]));
    let denied = ask(&k, "10.0.0.2", "10.0.0.1:9");
    assert_eq!(denied.admission.refusal(), Some(Outcome::AuthDenied));
    assert!(denied.why.contains("policy shop/no-admin, group 1 (rule 1 by match 1)"), "{denied:?}");
    // By its own address, as a pod of this node has it.
    let caller = Caller { cookie: Some(CLIENT), address: None };
    let said = ask_by(&k, &caller, "10.0.0.1:8080").expect("it agrees");
    assert_eq!((said.source, said.admission), (Some(ip("10.0.0.2")), Admission::Allowed));
    let unknown = Caller { cookie: Some(99), address: None };
    let said = ask_by(&k, &unknown, "10.0.0.1:8080").expect("nothing to compare");
    assert_eq!(said.admission, Admission::SourceUnknown);
}

#[test]
fn strangers_are_judged_without_identity() {
    let (mut k, have) = town();
    let policies = [policy("a", "Allow", r#""rules":[[[{"principals":["Presence"]}]]]"#)];
    enforce(&mut k, &have, &policies, &policies);
    manage(&mut k, &have, SET, ManagerWord::MANAGED);
    let said = ask(&k, "192.0.2.7", "10.0.0.1:8080");
    assert_eq!((said.admission, &said.workload, &said.identity), (Admission::Denied, &None, &None));
    assert!(said.why.contains("none of them matches"), "{said:?}");
    assert_eq!(ask(&k, "10.0.0.2", "10.0.0.1:8080").admission, Admission::Allowed);
}

#[test]
fn who_is_not_judged_is_let_in_and_who_cannot_be_is_not() {
    let (mut k, have) = town();
    let closed = [policy("closed", "Allow", r#""rules":[]"#)];
    enforce(&mut k, &have, &closed, &closed);
    let says = |k: &MemoryKernel| ask(k, "10.0.0.2", "10.0.0.1:80").admission;
    for (set, flags, admission) in [
        (SET, ManagerWord::MANAGED, Admission::Denied),
        (0, ManagerWord::MANAGED, Admission::NoPolicy),
        (POLICY_WAIT, ManagerWord::MANAGED, Admission::Wait),
        (9, ManagerWord::MANAGED, Admission::Stale),
        (SET, ManagerWord::MANAGED | ManagerWord::BYPASS, Admission::Bypass),
    ] {
        manage(&mut k, &have, set, flags);
        assert_eq!(says(&k), admission, "set {set}");
    }
    manage(&mut k, &have, SET, ManagerWord::MANAGED);
    assert_eq!(ask(&k, "10.0.0.1", "10.0.0.1:80").admission, Admission::Local);
    let itself = Caller { cookie: Some(POD), address: None };
    assert_eq!(ask_by(&k, &itself, "10.0.0.1:80").expect("agreed").admission, Admission::Local);
    let host = Caller { cookie: Some(1), address: None };
    for (setting, value) in
        [(SettingsWords::FLAGS, SettingsWords::POLICIES), (SettingsWords::HOST, 1)]
    {
        let index = u32::try_from(setting).expect("a small number");
        put(&mut k, Map::Settings, &index.to_ne_bytes(), &value.to_ne_bytes());
    }
    assert_eq!(ask_by(&k, &host, "10.0.0.1:80").expect("agreed").admission, Admission::Host);
    // An identity that the set was not compiled for.
    let index = have.backend("cart").expect("a workload").to_ne_bytes();
    let mut record = BackendRecord::default();
    k.lookup(Map::Backend, &index, bytemuck::bytes_of_mut(&mut record)).expect("read");
    record.who = 60_000;
    put(&mut k, Map::Backend, &index, bytemuck::bytes_of(&record));
    assert_eq!(says(&k), Admission::Unclassified);
}

#[test]
fn what_dry_run_policies_would_change_is_told() {
    let (mut k, have) = town();
    let trial =
        [policy("trial", "Deny", r#""dryRun":true,"rules":[[[{"destinationPorts":[80]}]]]"#)];
    enforce(&mut k, &have, &trial, &trial);
    manage(&mut k, &have, SET, ManagerWord::MANAGED);
    let said = ask(&k, "10.0.0.2", "10.0.0.1:80");
    assert_eq!(said.admission, Admission::Allowed);
    let dry_run = said.dry_run.expect("it would be otherwise");
    assert!(!dry_run.lets_in && dry_run.why.contains("shop/trial"), "{dry_run:?}");
    assert_eq!(ask(&k, "10.0.0.2", "10.0.0.1:81").dry_run, None);
}

#[test]
fn tables_that_contradict_their_policies_are_an_error() {
    let (mut k, have) = town();
    let open = [policy("open", "Deny", r#""rules":[]"#)];
    let closed = [policy("closed", "Allow", r#""rules":[]"#)];
    enforce(&mut k, &have, &open, &closed);
    manage(&mut k, &have, SET, ManagerWord::MANAGED);
    let caller = Caller { cookie: None, address: Some(ip("10.0.0.2")) };
    let error = ask_by(&k, &caller, "10.0.0.1:80").expect_err("they differ").to_string();
    assert!(error.contains("policy set 3 let in") && error.contains("shop/closed"), "{error}");
}

#[test]
fn tables_that_a_foreign_hand_spoiled_are_read_without_harm() {
    let (mut k, have) = town();
    let policies = [allow_cart()];
    enforce(&mut k, &have, &policies, &policies);
    manage(&mut k, &have, SET, ManagerWord::MANAGED);
    let key = u32::from(SET).to_ne_bytes();
    let good = LiveSet::at(&k, SET).expect("read").expect("a set").record;
    let caller = Caller { cookie: None, address: Some(ip("10.0.0.2")) };
    let bytes = bytemuck::bytes_of(&good).to_vec();
    for at in (8..bytes.len()).step_by(2) {
        for value in [0_u8, 0x7f, 0xff] {
            let mut bad = bytes.clone();
            bad[at..at + 2].fill(value);
            put(&mut k, Map::AuthSet, &key, &bad);
            // Whatever it says: it neither panics nor takes all memory.
            let _ = ask_by(&k, &caller, "10.0.0.1:80");
        }
    }
}
