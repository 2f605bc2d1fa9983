//! Property tests of the tables: plan, apply, read and follow on the kernel in memory.
//!
//! Random states of a small world, every change between them, every element of every
//! change, every failing call.

mod bounds;
mod faults;
mod policies;
mod refusals;
mod states;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use crate::apply::{Applied, apply, converge, converge_by_portions};
use crate::check::check;
use crate::kernel::Tables;
use crate::layout::{
    BackendRecord, BackendWord, FrontendKey, Limits, ManagerWord, Map, MetaRecord, ServiceRecord,
    ServiceWord,
};
use crate::memory::MemoryKernel;
use crate::plan::{Rest, plan};
use crate::snapshot::{About, Format, Listing, Snapshot};
use crate::tables::Have;
use crate::want::{Change, Family, WaypointRef};

use states::{ADDRESSES, PORTS, VIPS, address, dice, difference, state, vip};
use walk::{Landing, array};

/// Small enough that indices must be used again.
fn limits() -> Limits {
    Limits {
        frontends: 200,
        services: 70,
        endpoints: 700,
        workloads: 22,
        names: 120,
        pods: 8,
        sockets: 8,
        policies: 16,
        policy_sets: 8,
        policy_words: 4096,
        policy_chunks: 256,
        connections: 64,
    }
}

fn empty() -> (MemoryKernel, Have) {
    let kernel = MemoryKernel::with_tables(&limits());
    let have = Have::read_locked(&kernel).expect("read");
    (kernel, have)
}

fn bring(kernel: &mut MemoryKernel, have: &mut Have, change: &Change) -> Applied {
    converge(kernel, have, change, &mut |_, _| {}).expect("converge")
}

/// The tables say exactly this, by the mirror and by a fresh reading, and nothing is wrong.
fn assert_says(kernel: &MemoryKernel, have: &Have, wanted: &Change) {
    let wanted = Snapshot::of_change(wanted, About::default());
    let fresh = Have::read_locked(kernel).expect("read");
    assert_eq!(Snapshot::of(have, About::default(), None), wanted);
    let (one, other) = (listed(have), text(&wanted));
    let differs = one.lines().zip(other.lines()).skip(3).find(|(one, other)| one != other);
    assert_eq!(differs, None, "written entry by entry it is another text");
    assert_eq!(one, other);
    assert_eq!(Snapshot::of(&fresh, About::default(), None), wanted);
    have.assert_mirrors(&fresh);
    let found: Vec<_> = check(&fresh).into_iter().filter(|f| f.layer != "capacity").collect();
    assert_eq!(found, []);
}

/// Where every VIP and address may land while the tables go from one state to another.
fn allowed(
    now: &Landing,
    old: &(Landing, Option<WaypointRef>),
    new: &(Landing, Option<WaypointRef>),
    waypoints: &BTreeSet<(IpAddr, u16)>,
) -> bool {
    match now {
        Landing::Direct(now) => {
            let set = |landing: &Landing| match landing {
                Landing::Direct(set) => set.clone(),
                _ => BTreeSet::new(),
            };
            let either: BTreeSet<_> = set(&old.0).union(&set(&new.0)).copied().collect();
            now.is_subset(&either)
        }
        Landing::Via(now) => {
            let via = |landing: &Landing| matches!(landing, Landing::Via(_));
            (via(&old.0) || via(&new.0)) && now.is_subset(waypoints)
        }
        now => *now == old.0 || *now == new.0,
    }
}

fn assert_safe(kernel: &MemoryKernel, a: &Change, b: &Change) {
    let judge = |what: String,
                 now: Landing,
                 old: (Landing, Option<WaypointRef>),
                 new: (Landing, Option<WaypointRef>),
                 family| {
        let named = [&old.1, &new.1].into_iter().flatten();
        let waypoints = named
            .flat_map(|waypoint| {
                [a, b].map(|state| walk::waypoint_targets(state, waypoint, family))
            })
            .flatten()
            .collect();
        assert!(allowed(&now, &old, &new, &waypoints), "{what}: {now:?}; old {old:?}; new {new:?}");
    };
    for at in 0..VIPS {
        for port in PORTS {
            let vip = vip(at);
            let now = walk::dial_vip(kernel, vip, port);
            let (old, new) = (walk::wanted_vip(a, vip, port), walk::wanted_vip(b, vip, port));
            judge(format!("{vip} port {port}"), now, old, new, Family::of(vip));
        }
    }
    for at in 0..ADDRESSES {
        let address = address(at);
        let now = walk::dial_address(kernel, address);
        let (old, new) = (walk::wanted_address(a, address), walk::wanted_address(b, address));
        judge(address.to_string(), now, old, new, Family::of(address));
    }
}

/// Watches that nothing freed is used again before a grace period.
#[derive(Default)]
struct Reuse {
    /// Graces at which an index was last in use, by map and index.
    left: BTreeMap<(Map, u32), u64>,
    /// What is in use now; of a slot, by whom.
    used: BTreeMap<(Map, u32), u32>,
}

impl Reuse {
    fn look(&mut self, kernel: &MemoryKernel) {
        let meta: MetaRecord = array(kernel, Map::Meta, 0);
        let mut used = BTreeMap::new();
        for index in 0..meta.backends_end {
            let record: BackendRecord = array(kernel, Map::Backend, index);
            if record.word.has(BackendWord::VALID) {
                used.insert((Map::Backend, index), 0);
            }
        }
        for index in 0..meta.services_end {
            let record: ServiceRecord = array(kernel, Map::Service, index);
            if record.word.has(ServiceWord::VALID) {
                used.insert((Map::Service, index), 0);
                let base = record.word.base();
                let slots = base..base + record.capacity;
                used.extend(slots.map(|slot| ((Map::Endpoint, slot), index)));
            }
        }
        let graces = kernel.graces();
        for (what, by) in &used {
            if self.used.get(what) != Some(by) {
                let waited = self.left.get(what).is_none_or(|left| *left < graces);
                assert!(waited, "{what:?} is used again before a grace period");
            }
        }
        let gone = self.used.iter().filter(|(what, by)| used.get(what) != Some(by));
        self.left.extend(gone.map(|(what, _)| (*what, graces)));
        self.used = used;
    }
}

fn indices(have: &Have, states: [&Change; 2]) -> BTreeMap<String, Option<u32>> {
    let [a, b] = states;
    let workloads = a.workloads.iter().filter(|entry| b.workloads.contains(entry));
    let services = a.services.iter().filter(|entry| b.services.contains(entry));
    workloads
        .map(|(uid, _)| (uid.to_string(), have.backend(uid)))
        .chain(services.map(|(key, _)| (key.to_string(), have.service_index(key))))
        .collect()
}

/// How a journey goes from state to state.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// By what differs between the states.
    Differences,
    /// By complete changes.
    All,
    /// By what of a complete change the tables do not say yet.
    Rest,
}

/// What of a complete change is left to do.
fn rest(have: &Have, wanted: &Change) -> Change {
    let base = Change { services: Vec::new(), workloads: Vec::new(), ..wanted.clone() };
    let mut rest = Rest::new(have, base);
    for (key, service) in wanted.services.iter().rev() {
        rest.service(key.clone(), service.clone().expect("a complete change removes nothing"));
    }
    let mut twin = rest.twin();
    for (uid, workload) in &wanted.workloads {
        twin.workload(uid.clone(), workload.clone().expect("a complete change removes nothing"));
    }
    rest.join(twin);
    rest.finish()
}

/// Goes through all states, watching every element.
fn journey(states: &[Change], by: By) {
    let (mut kernel, mut have) = empty();
    let mut before = state_of_nothing();
    let reuse = Arc::new(Mutex::new(Reuse::default()));
    for next in states {
        let change = match by {
            By::All => next.clone(),
            By::Differences => difference(&before, next),
            By::Rest => rest(&have, next),
        };
        let same = indices(&have, [&before, next]);
        let (a, b, watch) = (before.clone(), next.clone(), Arc::clone(&reuse));
        kernel.watch(move |kernel| {
            assert_safe(kernel, &a, &b);
            watch.lock().expect("one thread").look(kernel);
        });
        let steps = plan(&have, &change).expect("plan");
        if by == By::Rest {
            let complete = plan(&have, next).expect("plan");
            assert_eq!(steps.steps.len(), complete.steps.len(), "the rest is not what is left");
        }
        let written = kernel.written();
        let applied = apply(&mut kernel, &mut have, &steps, &mut |_, _| {}).expect("apply");
        kernel.unwatch();
        assert_eq!(applied.elements, kernel.written() - written);
        assert_says(&kernel, &have, next);
        assert_eq!(indices(&have, [&before, next]), same, "an untouched index moved");
        assert_eq!(plan(&have, &change).expect("plan").steps, [], "a second plan is not empty");
        assert_eq!(
            plan(&have, next).expect("plan").steps,
            [],
            "a complete second plan is not empty"
        );
        let left = rest(&have, next);
        assert_eq!((left.services, left.workloads), (vec![], vec![]), "nothing is left");
        before = next.clone();
    }
}

fn state_of_nothing() -> Change {
    Change {
        settings: Some(crate::want::Settings::default()),
        all_services: true,
        all_workloads: true,
        all_policies: true,
        ..Change::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn differences_lead_from_state_to_state(rolls in proptest::collection::vec(dice(), 1..6)) {
        let states: Vec<_> = rolls.iter().map(|rolls| state(rolls)).collect();
        journey(&states, By::Differences);
    }

    #[test]
    fn complete_changes_lead_from_state_to_state(rolls in proptest::collection::vec(dice(), 1..6)) {
        let states: Vec<_> = rolls.iter().map(|rolls| state(rolls)).collect();
        journey(&states, By::All);
    }

    #[test]
    fn what_is_left_leads_from_state_to_state(rolls in proptest::collection::vec(dice(), 1..6)) {
        let states: Vec<_> = rolls.iter().map(|rolls| state(rolls)).collect();
        journey(&states, By::Rest);
    }

    #[test]
    fn portions_lead_from_state_to_state(rolls in proptest::collection::vec(dice(), 1..6)) {
        let (mut kernel, mut have) = empty();
        let mut before = state_of_nothing();
        for next in rolls.iter().map(|rolls| state(rolls)) {
            let mut change = rest(&have, &next);
            let (a, b, written) = (before, next.clone(), kernel.written());
            kernel.watch(move |kernel| assert_safe(kernel, &a, &b));
            let applied = converge_by_portions(&mut kernel, &mut have, &mut change).expect("converge");
            kernel.unwatch();
            prop_assert_eq!(applied.elements, kernel.written() - written);
            assert_says(&kernel, &have, &next);
            before = next;
        }
    }

    #[test]
    fn pods_follow_their_own_workload(a in dice(), b in dice()) {
        let (a, b) = (state(&a), state(&b));
        let (mut kernel, mut have) = empty();
        bring(&mut kernel, &mut have, &a);
        let uids: Vec<_> = a.workloads.iter().take(8).map(|(uid, _)| uid.clone()).collect();
        for (cookie, uid) in (1_u64..).zip(&uids) {
            let word = ManagerWord::new(cookie, have.backend(uid), 0, ManagerWord::MANAGED);
            let (key, value) = (cookie.to_ne_bytes(), word.0.to_ne_bytes());
            kernel.update(Map::Manager, &key, &value, crate::kernel::Put::Any).expect("enrol");
            have.note_manager(cookie, Some(word));
        }
        bring(&mut kernel, &mut have, &difference(&a, &b));
        let fresh = Have::read_locked(&kernel).expect("read");
        for (cookie, uid) in (1_u64..).zip(&uids) {
            let word = fresh.managers()[usize::try_from(cookie).expect("few") - 1].1;
            prop_assert_eq!(word.backend(), have.backend(uid));
            prop_assert_eq!(word.flags(), ManagerWord::MANAGED);
        }
        have.assert_mirrors(&fresh);
    }
}

#[test]
fn a_frontend_key_says_what_it_leads_from() {
    let key = FrontendKey::service(vip(0), 80);
    assert_eq!((key.address(), key.port(), key.kind()), (vip(0), 80, FrontendKey::SERVICE));
}

/// What the tables say, written entry by entry.
fn listed(have: &Have) -> String {
    let mut out = Vec::new();
    let listing = Listing::new(have);
    listing.write(About::default(), None, Format::Json, &mut out).expect("to memory");
    String::from_utf8(out).expect("text")
}

fn text(snapshot: &Snapshot) -> String {
    let mut out = Vec::new();
    snapshot.write_json(&mut out).expect("to memory");
    String::from_utf8(out).expect("text")
}
