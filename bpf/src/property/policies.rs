//! Policies: every change between random states, every element of it, every failing call, and
//! what each pod would answer to whom meanwhile, read from the raw maps as the program does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::states::{ADDRESSES, PORTS, address, dice, difference, governed};
use super::walk::array;
use super::{assert_safe, assert_says, bring, limits};
use crate::apply::apply;
use crate::authz::{Connection, Decision, Identity, Image, Known, LiveSet, Policy, judge};
use crate::kernel::{Put, Tables};
use crate::layout::{
    BackendRecord, BackendWord, Limits, ManagerWord, Map, POLICY_NONE, POLICY_WAIT, SettingsWords,
};
use crate::memory::{Fault, MemoryKernel};
use crate::plan::plan;
use crate::tables::Have;
use crate::want::{Change, Name, Workload};

/// Room for the texts of policies.
fn roomy() -> Limits {
    let (policy_sets, policy_words, policy_chunks) = (16, 1 << 14, 1 << 10);
    Limits { names: 2000, policy_sets, policy_words, policy_chunks, ..limits() }
}

fn kernel() -> (MemoryKernel, Have) {
    let kernel = MemoryKernel::with_tables(&roomy());
    let have = Have::read_locked(&kernel).expect("read");
    (kernel, have)
}

/// A pod of this test: its cookie and the uid of its workload.
type Pods = Vec<(u64, Name)>;

/// Enrols the first workloads of `state`, as the daemon does: the set, then the word.
fn enrol(kernel: &mut MemoryKernel, have: &mut Have, state: &Change) -> Pods {
    let uids: Vec<Name> = state.workloads.iter().take(4).map(|(uid, _)| uid.clone()).collect();
    bring(kernel, have, &Change { pods: uids.clone(), ..Change::default() });
    let pods: Pods = (1_u64..).zip(uids).collect();
    for (cookie, uid) in &pods {
        let standing = have.standing(uid, None);
        let flags = ManagerWord::MANAGED;
        let word = ManagerWord::new(*cookie, standing.backend, standing.policy_set, flags);
        let (key, value) = (cookie.to_ne_bytes(), word.0.to_ne_bytes());
        kernel.update(Map::Manager, &key, &value, Put::Any).expect("enrol");
        have.note_manager(*cookie, Some(word));
    }
    pods
}

fn word_of(kernel: &MemoryKernel, cookie: u64) -> ManagerWord {
    let mut value = [0; 8];
    kernel.lookup(Map::Manager, &cookie.to_ne_bytes(), &mut value).expect("look up");
    ManagerWord(u64::from_ne_bytes(value))
}

/// Whether the tables let a connection in.
fn lets_in(
    kernel: &MemoryKernel,
    images: &mut BTreeMap<u16, Image>,
    set: u16,
    from: IpAddr,
    port: u16,
) -> bool {
    match set {
        POLICY_NONE => return true,
        POLICY_WAIT => return false,
        _ => {}
    }
    let image = images.entry(set).or_insert_with(|| {
        let set = LiveSet::at(kernel, set).expect("read").expect("a pod names a set that is there");
        set.image(kernel).expect("read")
    });
    let who = Known::at(kernel, from).expect("read").map(|known| known.who).filter(|who| *who > 0);
    match image.decide(from, who, address(0), port) {
        Decision::Unclassified => {
            panic!("{from} has number {who:?}, which set {set} does not know")
        }
        Decision::Judged { allows, .. } => allows,
    }
}

fn workload<'a>(state: &'a Change, uid: &str) -> Option<&'a Workload> {
    let found = state.workloads.iter().find(|(other, _)| **other == *uid)?;
    found.1.as_ref()
}

fn identity(state: &Change, from: IpAddr) -> Option<Identity> {
    let all = state.workloads.iter().filter_map(|(_, workload)| workload.as_ref());
    let owner = all.into_iter().find(|workload| workload.addresses.contains(&from))?;
    Identity::parse(owner.identity.as_deref()?)
}

/// What the policies of one state say of a connection from who has that address in another;
/// `None` where the pod's workload is not known there.
fn meant(rules: &Change, who: &Change, uid: &str, from: IpAddr, port: u16) -> Option<bool> {
    let pod = workload(rules, uid)?;
    let own = pod.identity.as_deref().and_then(Identity::parse).map(|own| own.namespace);
    let all = rules.policies.iter().filter_map(|(_, policy)| policy.as_ref());
    let namespace = own.unwrap_or_default();
    let applies = |policy: &&Arc<Policy>| policy.applies_to(&namespace, &pod.policies);
    let policies: Vec<_> = all.filter(applies).cloned().collect();
    let identity = identity(who, from);
    let (identity, destination) = (identity.as_ref(), address(0));
    Some(judge(&policies, &Connection { source: from, identity, destination, port }).allows())
}

/// Every pod answers as the old or the new policies say, of the source as it was or will be; new
/// policies come before new identities.
fn assert_decides(kernel: &MemoryKernel, pods: &Pods, a: &Change, b: &Change) {
    let mut images = BTreeMap::new();
    for (cookie, uid) in pods {
        if workload(a, uid).is_none() || workload(b, uid).is_none() {
            continue;
        }
        let word = word_of(kernel, *cookie);
        for from in (0..ADDRESSES).map(address) {
            for port in PORTS {
                let now = lets_in(kernel, &mut images, word.policy_set(), from, port);
                let may = [(a, a), (b, a), (b, b)].map(|(p, w)| meant(p, w, uid, from, port));
                assert!(
                    may.contains(&Some(now)),
                    "{uid} from {from} to {port}: {now}, not {may:?}"
                );
            }
        }
    }
}

/// Watches that no number is given and no place of a set is written before a grace period.
#[derive(Default)]
struct Reuse {
    /// Who has each number, and the graces at which a number was last in use.
    who: BTreeMap<u32, String>,
    left: BTreeMap<u32, (String, u64)>,
    /// Places of sets that pods name; and of those that they named, with the graces at that time.
    named: BTreeMap<u16, (u32, u32)>,
    dropped: Vec<(u16, (u32, u32), u64)>,
    written: BTreeMap<u16, (u32, u32)>,
}

impl Reuse {
    fn look(&mut self, kernel: &MemoryKernel, pods: &Pods) {
        let graces = kernel.graces();
        let mut who = BTreeMap::new();
        for index in 0..roomy().workloads {
            let record: BackendRecord = array(kernel, Map::Backend, index);
            if record.word.has(BackendWord::VALID) && record.who > 0 {
                let at = crate::tables::name_at(kernel, record.identity, record.identity_len);
                who.insert(record.who, at.expect("read"));
            }
        }
        for (number, identity) in &who {
            if let Some((old, left)) = self.left.get(number) {
                assert!(old == identity || *left < graces, "number {number} is given again");
            }
        }
        let gone = self.who.iter().filter(|(number, _)| !who.contains_key(*number));
        self.left.extend(gone.map(|(number, old)| (*number, (old.clone(), graces))));
        self.who = who;
        self.look_at_sets(kernel, pods, graces);
    }

    fn look_at_sets(&mut self, kernel: &MemoryKernel, pods: &Pods, graces: u64) {
        let mut there = BTreeMap::new();
        for set in 1..u16::try_from(roomy().policy_sets).expect("few") {
            if let Some(found) = LiveSet::at(kernel, set).expect("read") {
                there.insert(set, (found.record.words, found.record.words_room));
            }
        }
        for (set, place) in
            there.iter().filter(|(set, place)| self.written.get(*set) != Some(*place))
        {
            for (old, (at, room), left) in &self.dropped {
                let apart = place.0 >= at + room || place.0 + place.1 <= *at;
                assert!(*left < graces || (apart && set != old), "set {set} takes places of {old}");
            }
        }
        let words = pods.iter().map(|(cookie, _)| word_of(kernel, *cookie).policy_set());
        let named: BTreeSet<u16> = words.collect();
        let named: BTreeMap<_, _> = there
            .iter()
            .filter(|(set, _)| named.contains(*set))
            .map(|(set, place)| (*set, *place))
            .collect();
        for (set, place) in &self.named {
            if named.get(set) != Some(place) {
                self.dropped.push((*set, *place, graces));
            }
        }
        (self.named, self.written) = (named, there);
    }
}

/// The setting says whether any pod has a policy set.
fn assert_flag(have: &Have, pods: &Pods) {
    let governed = pods.iter().any(|(cookie, _)| {
        have.managers().iter().any(|(other, word)| other == cookie && word.policy_set() != 0)
    });
    assert_eq!(have.settings.flags() & SettingsWords::POLICIES != 0, governed);
}

/// Goes through all states with pods enrolled, watching every element.
fn journey(states: &[Change], complete: bool) {
    let (mut kernel, mut have) = kernel();
    bring(&mut kernel, &mut have, &states[0]);
    let reuse = Arc::new(Mutex::new(Reuse::default()));
    for pair in states.windows(2) {
        let [a, b] = pair else { continue };
        let pods = enrol(&mut kernel, &mut have, a);
        assert_decides(&kernel, &pods, a, a);
        let (before, after, watch, all) = (a.clone(), b.clone(), Arc::clone(&reuse), pods.clone());
        kernel.watch(move |kernel| {
            assert_safe(kernel, &before, &after);
            assert_decides(kernel, &all, &before, &after);
            watch.lock().expect("one thread").look(kernel, &all);
        });
        let change = if complete { b.clone() } else { difference(a, b) };
        let steps = plan(&have, &change).expect("plan");
        assert_eq!(steps.refused, []);
        apply(&mut kernel, &mut have, &steps, &mut |_, _| {}).expect("apply");
        kernel.unwatch();
        assert_says(&kernel, &have, b);
        assert_decides(&kernel, &pods, b, b);
        assert_flag(&have, &pods);
        assert_eq!(plan(&have, &change).expect("plan").steps, [], "a second plan is not empty");
        let fresh = Have::read_locked(&kernel).expect("read");
        assert_eq!(plan(&fresh, b).expect("plan").steps, [], "a restart writes");
    }
}

/// After a writer died anywhere: safe, and the next complete change arrives.
fn recover(kernel: &mut MemoryKernel, pods: &Pods, a: &Change, b: &Change) {
    kernel.set_fault(None);
    assert_decides(kernel, pods, a, b);
    let mut have = Have::read_locked(kernel).expect("read");
    bring(kernel, &mut have, b);
    assert_says(kernel, &have, b);
    assert_decides(kernel, pods, b, b);
    assert_eq!(bring(kernel, &mut have, b).elements, 0, "a second start writes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn policies_change_with_every_element_safe(
        rolls in proptest::collection::vec(dice(), 2..5), complete: bool,
    ) {
        let states: Vec<_> = rolls.iter().map(|rolls| governed(rolls)).collect();
        journey(&states, complete);
    }

    #[test]
    fn a_writer_of_policies_may_die_at_any_call(
        a in dice(), b in dice(), elements in 0_usize..12,
    ) {
        let (a, b) = (governed(&a), governed(&b));
        for call in 1.. {
            let (mut kernel, mut have) = kernel();
            bring(&mut kernel, &mut have, &a);
            let pods = enrol(&mut kernel, &mut have, &a);
            kernel.set_fault(Some(Fault { call, elements, errno: libc::EAGAIN, for_good: true }));
            let steps = plan(&have, &difference(&a, &b)).expect("plan");
            if apply(&mut kernel, &mut have, &steps, &mut |_, _| {}).is_ok() {
                break;
            }
            recover(&mut kernel, &pods, &a, &b);
        }
    }

    #[test]
    fn one_failing_call_is_passed_over(a in dice(), b in dice(), call in 1_u64..24) {
        let (a, b) = (governed(&a), governed(&b));
        let (mut kernel, mut have) = kernel();
        bring(&mut kernel, &mut have, &a);
        let pods = enrol(&mut kernel, &mut have, &a);
        let words = |kernel: &MemoryKernel| -> Vec<u16> {
            pods.iter().map(|(cookie, _)| word_of(kernel, *cookie).policy_set()).collect()
        };
        let before = words(&kernel);
        kernel.set_fault(Some(Fault { call, elements: 1, errno: libc::EAGAIN, for_good: false }));
        let applied = bring(&mut kernel, &mut have, &difference(&a, &b));
        assert_says(&kernel, &have, &b);
        assert_decides(&kernel, &pods, &b, &b);
        for ((cookie, _), (old, new)) in pods.iter().zip(before.into_iter().zip(words(&kernel))) {
            prop_assert!(old == new || applied.flipped.contains(cookie), "a flip is not told");
        }
    }
}
