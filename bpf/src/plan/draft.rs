//! A plan in the making: what is touched, which indices are given, the steps by group.

use std::borrow::Cow;
use std::collections::BTreeSet;

use hashbrown::{HashMap, HashSet};

use super::PlanError;
use super::numbers::Numbers;
use super::policies::Placing;
use super::pool::{Pool, Stock};
use super::record::Refer;
use super::refused::Refused;
use super::sets::Sets;
use crate::authz::Identity;
use crate::layout::{FrontendKey, KIND_WAYPOINT, Map, ServiceWord, SettingsWords, WaypointWord};
use crate::step::Step;
use crate::tables::{Have, NONE, Runs, chunks_of, settings_words, split};
use crate::want::{Change, Family, Kind, ServiceKey, WaypointRef};

/// The largest backend index + 1: a pod's word has 24 bits for it, all ones is none.
const BACKENDS_MAX: u32 = 0x00ff_ffff;
/// Waiting indices that are rather used again than added to.
const PATIENCE: u64 = 64;
/// The same for slots.
const SLOT_PATIENCE: u64 = 4096;

static NO_RUNS: Runs = Runs::EMPTY;
static NO_INDICES: BTreeSet<u32> = BTreeSet::new();

/// Steps by what they do; the order of the fields is that of the plan.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) names: Vec<Step>,
    pub(super) policies: Vec<Step>,
    pub(super) set_words: Vec<Step>,
    pub(super) set_chunks: Vec<Step>,
    pub(super) sets: Vec<Step>,
    /// What sets in force get behind their rows; then the words of identities.
    pub(super) rows: Vec<Step>,
    pub(super) row_chunks: Vec<Step>,
    pub(super) identities: Vec<Step>,
    /// Pods' words with another set.
    pub(super) flips: Vec<Step>,
    pub(super) new_backends: Vec<Step>,
    pub(super) fresh_slots: Vec<Step>,
    pub(super) removes: Vec<Step>,
    pub(super) waypoints: Flips,
    pub(super) backends: Vec<Step>,
    pub(super) services: Flips,
    pub(super) settings: Vec<Step>,
    pub(super) managers: Vec<Step>,
    pub(super) puts: Vec<Step>,
    pub(super) cleared: Vec<Step>,
    pub(super) dead: Vec<Step>,
    pub(super) cleared_sets: Vec<Step>,
    pub(super) cleared_policies: Vec<Step>,
}

/// What changes services: reachable slots, then records.
#[derive(Debug, Default)]
pub(super) struct Flips {
    pub(super) slots: Vec<Step>,
    pub(super) records: Vec<Step>,
}

impl Groups {
    /// Where steps for a record of this kind belong.
    pub(super) fn flips(&mut self, kind: u8) -> &mut Flips {
        if kind == KIND_WAYPOINT { &mut self.waypoints } else { &mut self.services }
    }
}

/// A plan in the making.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) have: &'a Have,
    pub(super) change: &'a Change,
    /// Place in `change.workloads` by uid, in `change.services` by key.
    pub(super) uids: HashMap<&'a str, usize>,
    pub(super) keys: HashMap<&'a ServiceKey, usize>,
    /// Who wants a VIP or address: a place in one of the lists, by the key's kind.
    pub(super) claims: HashMap<FrontendKey, usize>,
    /// The index of each workload and service of the change; `NONE` when removed.
    pub(super) workload_at: Vec<u32>,
    pub(super) service_at: Vec<u32>,
    /// Place in `change.workloads` of each new record.
    pub(super) placed: HashMap<u32, usize>,
    /// Where the references to a backend go that is given up.
    pub(super) moved: HashMap<u32, Option<u32>>,
    /// Records that the change speaks of.
    pub(super) touched_backends: HashSet<u32>,
    pub(super) touched_services: HashSet<u32>,
    /// How many references to each waypoint the touched records had.
    pub(super) unnamed: HashMap<u32, u32>,
    pub(super) backends: Pool<'a>,
    pub(super) services: Pool<'a>,
    pub(super) slots: Pool<'a>,
    pub(super) names: Pool<'a>,
    pub(super) policies: Pool<'a>,
    pub(super) sets: Pool<'a>,
    pub(super) auth_words: Pool<'a>,
    pub(super) auth_chunks: Pool<'a>,
    pub(super) numbers: Numbers<'a>,
    fresh_names: HashMap<Cow<'a, str>, u32>,
    pub(super) policy: Placing<'a>,
    pub(super) set: Sets,
    pub(super) refused: Vec<Refused>,
    pub(super) groups: Groups,
}

fn pools(have: &Have) -> [Pool<'_>; 4] {
    let meta = have.meta();
    let stock = |map, free, waiting, reserved, end, limit, patience| {
        Pool::new(Stock { map, free, waiting, reserved, end, limit, patience })
    };
    let (backends, services, slots) = (&have.backends, &have.services, &have.slots);
    [
        stock(
            Map::Backend,
            &backends.free,
            &backends.quarantine,
            &backends.reserved,
            meta.backends_end,
            have.limits().workloads.min(BACKENDS_MAX),
            PATIENCE,
        ),
        stock(
            Map::Service,
            &services.free,
            &services.quarantine,
            &services.reserved,
            meta.services_end,
            have.limits().services,
            PATIENCE,
        ),
        stock(
            Map::Endpoint,
            &slots.free,
            &slots.quarantine,
            &NO_INDICES,
            meta.endpoints_end,
            have.limits().endpoints.min(ServiceWord::MAX_BASE),
            SLOT_PATIENCE,
        ),
        stock(
            Map::Names,
            have.names.free(),
            &NO_RUNS,
            &NO_INDICES,
            meta.names_end,
            have.limits().names,
            PATIENCE,
        ),
    ]
}

/// What authorization is made of. Policies are read by no program, sets are cleared after a
/// grace: nothing of it waits for another.
fn auth_pools(have: &Have) -> [Pool<'_>; 4] {
    let (waiting, reserved, limits) = (&NO_RUNS, &NO_INDICES, have.limits());
    let stock = |map, free| {
        let limit = limits.of(map);
        let (end, patience) = (limit, PATIENCE);
        Pool::new(Stock { map, free, waiting, reserved, end, limit, patience })
    };
    [
        stock(Map::Policy, &have.policies.free),
        stock(Map::AuthSet, &have.sets.free),
        stock(Map::AuthWord, &have.sets.free_words),
        stock(Map::AuthBits, &have.sets.free_chunks),
    ]
}

impl<'a> Draft<'a> {
    /// An empty draft.
    pub(super) fn new(have: &'a Have, change: &'a Change) -> Self {
        let [backends, services, slots, names] = pools(have);
        let [policies, sets, auth_words, auth_chunks] = auth_pools(have);
        let uids = change.workloads.iter().enumerate().map(|(at, (uid, _))| (&**uid, at)).collect();
        let keys = change.services.iter().enumerate().map(|(at, (key, _))| (key, at)).collect();
        Self {
            have,
            change,
            uids,
            keys,
            claims: claims(change),
            workload_at: vec![NONE; change.workloads.len()],
            service_at: vec![NONE; change.services.len()],
            placed: HashMap::new(),
            moved: HashMap::new(),
            touched_backends: HashSet::new(),
            touched_services: HashSet::new(),
            unnamed: HashMap::new(),
            backends,
            services,
            slots,
            names,
            policies,
            sets,
            auth_words,
            auth_chunks,
            numbers: Numbers::new(&have.identities),
            fresh_names: HashMap::new(),
            policy: Placing::default(),
            set: Sets::default(),
            refused: Vec::new(),
            groups: Groups::default(),
        }
    }

    /// The first chunk and the length of a name, written if it is new.
    pub(super) fn intern(&mut self, name: &'a str) -> (u32, u16) {
        let (start, len) = self.intern_text(Cow::Borrowed(name));
        (start, u16::try_from(len).unwrap_or(u16::MAX))
    }

    /// The first chunk and the length of a text, written if it is new.
    pub(super) fn intern_text(&mut self, text: Cow<'a, str>) -> (u32, u32) {
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        if let Some(start) = self.interned(&text) {
            return (start, len);
        }
        let start = self.names.take(chunks_of(text.len()));
        for (chunk, bytes) in (start..).zip(split(&text)) {
            self.groups.names.push(Step::Name { chunk, bytes });
        }
        self.fresh_names.insert(text, start);
        (start, len)
    }

    /// Where a text lies, or will.
    pub(super) fn interned(&self, text: &str) -> Option<u32> {
        self.have.names.find(text).or_else(|| self.fresh_names.get(text).copied())
    }

    /// Notes that a record gives up its reference to a waypoint.
    pub(super) fn unname(&mut self, word: WaypointWord) {
        if let Some(index) = word.service() {
            *self.unnamed.entry(index).or_default() += 1;
        }
    }

    /// Pods whose own workload moves or goes.
    pub(super) fn plan_managers(&mut self) {
        for (cookie, word) in &self.have.managers {
            let Some(backend) = word.backend() else {
                continue;
            };
            let lost = self.change.all_workloads && self.have.backends.get(backend).is_none();
            let to = match self.moved.get(&backend) {
                Some(to) => *to,
                None if lost => None,
                None => continue,
            };
            let word = self.set.flipped.get(cookie).unwrap_or(word).with_backend(to);
            self.groups.managers.push(Step::Manager { cookie: *cookie, word });
        }
    }

    /// Settings that differ. The word of the host's own namespace is whoever attaches' to write,
    /// the flag of policies follows the sets.
    pub(super) fn plan_settings(&mut self) {
        let there = self.have.settings.0;
        let Some(settings) = &self.change.settings else {
            return;
        };
        let mut words = settings_words(settings).0;
        words[SettingsWords::HOST] = there[SettingsWords::HOST];
        words[SettingsWords::FLAGS] |= there[SettingsWords::FLAGS] & SettingsWords::POLICIES;
        if self.set.flag == Some(true) {
            words[SettingsWords::FLAGS] |= SettingsWords::POLICIES;
        }
        for ((index, word), there) in (0..).zip(words).zip(there) {
            if word != there {
                self.groups.settings.push(Step::Setting { index, word });
            }
        }
    }
}

impl<'a> Refer<'a> for Draft<'a> {
    type Error = PlanError;

    fn name(&mut self, name: &'a str) -> Result<(u32, u16), PlanError> {
        Ok(self.intern(name))
    }

    fn text(&mut self, text: Cow<'a, str>) -> Result<(u32, u32), PlanError> {
        Ok(self.intern_text(text))
    }

    /// What is no identity by its text has no number: policies take it for nobody.
    fn number(&mut self, name: u32, identity: &'a str) -> Result<u32, PlanError> {
        let known = Identity::parse(identity).is_some();
        Ok(if known { self.numbers.of(name, identity) } else { 0 })
    }

    fn waypoint(
        &self,
        object: impl Fn() -> String,
        waypoint: &WaypointRef,
        family: Family,
    ) -> Result<WaypointWord, PlanError> {
        let WaypointRef { name, port } = waypoint.clone();
        let key = ServiceKey { name, port, family, kind: Kind::Waypoint };
        let index = match self.keys.get(&key) {
            Some(at) => Some(self.service_at[*at]).filter(|index| *index != NONE),
            None if self.change.all_services => None,
            None => self.have.service_index(&key),
        };
        let unknown = || PlanError::UnknownWaypoint { object: object(), waypoint: key.to_string() };
        Ok(WaypointWord::new(index.ok_or_else(unknown)?))
    }
}

fn claims(change: &Change) -> HashMap<FrontendKey, usize> {
    let mut claims = HashMap::new();
    for (at, (key, service)) in change.services.iter().enumerate() {
        let vips = service.iter().flat_map(|service| &service.vips);
        claims.extend(vips.map(|vip| (FrontendKey::service(*vip, key.port), at)));
    }
    for (at, (_, workload)) in change.workloads.iter().enumerate() {
        let addresses = workload.iter().flat_map(|workload| &workload.addresses);
        claims.extend(addresses.map(|address| (FrontendKey::workload(*address), at)));
    }
    claims
}
