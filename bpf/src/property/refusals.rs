//! Policies that do not fit are refused by themselves: what was in force stays, the rest of the
//! change goes on.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::bring;
use crate::apply::Applied;
use crate::authz::{Action, Match, Policy, Scope, StringMatch};
use crate::kernel::{Put, Tables};
use crate::layout::{Limits, ManagerWord, Map, POLICY_WAIT, SettingsWords};
use crate::memory::MemoryKernel;
use crate::tables::Have;
use crate::want::{Change, Name, Settings, Workload};

const COOKIE: u64 = 7;
const UID: &str = "cluster//Pod/n/a";

fn tables(limits: &Limits) -> (MemoryKernel, Have) {
    let kernel = MemoryKernel::with_tables(limits);
    let have = Have::read_locked(&kernel).expect("read");
    (kernel, have)
}

fn deny(principals: usize) -> (Name, Option<Arc<Policy>>) {
    let name: Name = "n/deny".into();
    let mut one = Match::default();
    let exact = |at| StringMatch::Exact(format!("td/ns/n/sa/{at}"));
    one.principals.any = (0..principals).map(exact).collect();
    let (scope, action) = (Scope::Global, Action::Deny);
    let groups = vec![vec![vec![one]]];
    let policy = Policy { name: name.clone(), scope, action, dry_run: false, groups };
    (name, Some(Arc::new(policy)))
}

fn workload(uid: &str, last: u8) -> (Name, Option<Workload>) {
    let v4 = Some(Ipv4Addr::new(10, 0, 0, last));
    let addresses = v4.iter().map(|v4| (*v4).into()).collect();
    let identity = Some(format!("td/ns/n/sa/{last}").into());
    (uid.into(), Some(Workload { v4, addresses, identity, ..Workload::default() }))
}

fn policy(principals: usize) -> Change {
    Change { policies: vec![deny(principals)], ..Change::default() }
}

fn enrol(kernel: &mut MemoryKernel, have: &mut Have) -> u16 {
    let standing = have.standing(UID, None);
    let flags = ManagerWord::MANAGED;
    let word = ManagerWord::new(COOKIE, standing.backend, standing.policy_set, flags);
    let (key, value) = (COOKIE.to_ne_bytes(), word.0.to_ne_bytes());
    kernel.update(Map::Manager, &key, &value, Put::Any).expect("enrol");
    have.note_manager(COOKIE, Some(word));
    word.policy_set()
}

fn set(have: &Have) -> u16 {
    have.managers()[0].1.policy_set()
}

/// Names the policy and the option that helps.
fn assert_refused(applied: &Applied, option: &str) {
    let said: Vec<String> = applied.refused.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), applied.refused.len());
    assert!(said.iter().any(|said| said.contains("n/deny") && said.contains(option)), "{said:?}");
}

#[test]
fn a_set_that_does_not_fit_leaves_the_old_one_in_force() {
    let (mut kernel, mut have) = tables(&Limits { policy_sets: 2, ..Limits::default() });
    let first = Change { workloads: vec![workload(UID, 1)], pods: vec![UID.into()], ..policy(1) };
    assert_eq!(bring(&mut kernel, &mut have, &first).refused, []);
    assert_eq!(enrol(&mut kernel, &mut have), 1);
    let second = Change { workloads: vec![workload("b", 2)], ..policy(2) };
    let applied = bring(&mut kernel, &mut have, &second);
    assert_refused(&applied, "--max-policy-sets");
    assert_eq!((set(&have), applied.flipped), (1, vec![]));
    let in_force = have.set_policies(1)[0].groups[0][0][0].principals.any.len();
    assert_eq!(in_force, 1, "the version that was in force");
    assert!(have.workload("b").is_some(), "the rest of the change goes on");
    assert_eq!(have.standing(UID, None).policy_set, POLICY_WAIT, "a pod without any");
    let again = bring(&mut kernel, &mut have, &second);
    assert_refused(&again, "--max-policy-sets");
    assert_eq!(again.elements, 0, "what is refused is not written again and again");
    let gone = Change { policies: vec![("n/deny".into(), None)], ..Change::default() };
    let applied = bring(&mut kernel, &mut have, &gone);
    assert_eq!((set(&have), applied.flipped), (0, vec![COOKIE]));
    assert_eq!(bring(&mut kernel, &mut have, &policy(2)).refused, []);
    assert_eq!(set(&have), 1, "the number is free again");
    have.assert_mirrors(&Have::read_locked(&kernel).expect("read"));
}

#[test]
fn a_text_that_has_no_room_names_its_policy_and_lets_nobody_new_in() {
    let (mut kernel, mut have) = tables(&Limits { names: 64, ..Limits::default() });
    let change = Change { workloads: vec![workload(UID, 1)], ..policy(1000) };
    let applied = bring(&mut kernel, &mut have, &change);
    assert_refused(&applied, "--max-names");
    assert!(have.workload(UID).is_some() && have.policies().next().is_none());
    assert_eq!(enrol(&mut kernel, &mut have), POLICY_WAIT);
    // a change that says nothing of it does not forget it
    bring(&mut kernel, &mut have, &Change { pods: vec![UID.into()], ..Change::default() });
    assert_eq!(set(&have), POLICY_WAIT);
    let applied = bring(&mut kernel, &mut have, &policy(1));
    assert_eq!((applied.refused, applied.flipped), (vec![], vec![COOKIE]));
    assert_eq!(have.standing(UID, None).policy_set, set(&have));
    have.assert_mirrors(&Have::read_locked(&kernel).expect("read"));
}

#[test]
fn an_identity_that_comes_is_written_into_the_sets_in_force_and_no_more() {
    let (mut kernel, mut have) = tables(&Limits::default());
    let first = Change { workloads: vec![workload(UID, 1)], pods: vec![UID.into()], ..policy(2) };
    bring(&mut kernel, &mut have, &first);
    let before = enrol(&mut kernel, &mut have);
    let more = Change { workloads: vec![workload("b", 0)], ..Change::default() };
    let applied = bring(&mut kernel, &mut have, &more);
    // meta twice, names, record, address, the identity's word and a row
    assert!(applied.elements <= 10, "{applied:?}");
    assert_eq!(set(&have), before, "the set is the same");
    assert_eq!(applied.sources, [Ipv4Addr::new(10, 0, 0, 0)]);
    assert_eq!(
        crate::check::check(&have).iter().filter(|found| found.layer == "policies").count(),
        0
    );
    // another process cannot add to it: a new version, once
    let mut fresh = Have::read_locked(&kernel).expect("read");
    let more = Change { workloads: vec![workload("c", 9)], ..Change::default() };
    let applied = bring(&mut kernel, &mut fresh, &more);
    assert_eq!(applied.flipped, [COOKIE]);
    assert_eq!(fresh.policy_sets().count(), 1, "the old version is cleared");
}

#[test]
fn the_hosts_word_is_not_touched_by_settings() {
    let (mut kernel, _) = tables(&Limits::default());
    let key = u32::try_from(SettingsWords::HOST).expect("small").to_ne_bytes();
    kernel.update(Map::Settings, &key, &99_u64.to_ne_bytes(), Put::Any).expect("write");
    let mut have = Have::read_locked(&kernel).expect("read");
    let settings = Settings { peername: true, ..Settings::default() };
    let change = Change { settings: Some(settings.clone()), ..Change::default() };
    bring(&mut kernel, &mut have, &change);
    let fresh = Have::read_locked(&kernel).expect("read");
    assert_eq!((fresh.settings.0[SettingsWords::HOST], fresh.settings()), (99, settings));
}

#[test]
fn what_is_wrong_with_sets_and_pods_words_is_found() {
    let (mut kernel, mut have) = tables(&Limits::default());
    let first = Change { workloads: vec![workload(UID, 1)], pods: vec![UID.into()], ..policy(2) };
    bring(&mut kernel, &mut have, &first);
    let number = enrol(&mut kernel, &mut have);
    let problems = |have: &Have| {
        let found = crate::check::check(have).into_iter();
        let found = found.filter(|found| found.layer == "policies");
        found.map(|found| format!("{}: {}", found.object, found.problem)).collect::<Vec<_>>()
    };
    assert_eq!(problems(&have), [] as [&str; 0]);
    let spoil = |set: u16, says: &str| {
        let mut have = Have::read_locked(&kernel).expect("read");
        have.note_manager(COOKIE, Some(have.managers()[0].1.with_policy_set(set)));
        let found = problems(&have);
        assert!(found.iter().any(|found| found.contains(says)), "{says}: {found:?}");
    };
    spoil(0, "its policy set is 0, its policies ask for 1");
    spoil(77, "its policy set is 77, which is not in use");
    spoil(POLICY_WAIT, "it lets nobody in: its policies are not in force yet");
    let record = have.policy_sets().next().expect("a set").record;
    let word = record.words + record.identities.at + 1;
    kernel.update(Map::AuthWord, &word.to_ne_bytes(), &[0; 8], Put::Any).expect("spoil");
    let mut have = Have::read_locked(&kernel).expect("read");
    let unknown = format!("policy set {number} (n/deny): does not know the identity td/ns/n/sa/1");
    assert!(
        problems(&have).iter().any(|found| found.starts_with(&unknown)),
        "{:?}",
        problems(&have)
    );
    // a complete change mends it
    let all = Change { all_workloads: true, all_policies: true, ..first };
    bring(&mut kernel, &mut have, &all);
    assert_eq!(problems(&have), [] as [&str; 0]);
}
