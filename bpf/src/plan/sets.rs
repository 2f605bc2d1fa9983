//! Policy sets: which list of policies each pod asks for, the sets compiled for new lists, the
//! identities that sets in force learn, the pods' words that flip, and the sets that nobody names
//! any more.
//!
//! A pod whose own workload the model does not know keeps its word: what applies to it is for its
//! enrolment to say.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use hashbrown::{HashMap, HashSet};

use super::draft::Draft;
use super::refused::{Refused, Why};
use super::scopes::{Applying, Scopes};
use crate::authz::{Compiled, Identity, Policy, compile};
use crate::layout::{
    AuthChunk, AuthSetRecord, ManagerWord, Map, POLICY_NONE, POLICY_WAIT, SettingsWords,
};
use crate::step::{Made, Step};
use crate::tables::{chunks_of, list_text, namespace_of, namespace_of_uid};
use crate::want::Name;

/// What becomes of the sets.
#[derive(Debug, Default)]
pub(super) struct Sets {
    /// The set of each list that was asked for; `None`: refused.
    resolved: BTreeMap<Vec<u32>, Option<u16>>,
    /// New versions of sets in force, compiled for identities that they had no room for.
    renewed: BTreeMap<u16, u16>,
    /// Lists of new sets.
    fresh: Vec<Vec<u32>>,
    /// Pods' words with another set.
    pub(super) flipped: BTreeMap<u64, ManagerWord>,
    /// Whether the setting that tells of policies comes or goes.
    pub(super) flag: Option<bool>,
    /// Every identity, once it is asked for.
    identities: Option<Arc<Vec<(u32, Identity)>>>,
}

/// What a pod asks for.
enum Ask {
    /// What it has.
    Keep,
    /// Nobody can say yet: nobody is let in.
    Wait,
    /// These policies, or what of them is refused.
    List(Applying),
}

impl Draft<'_> {
    /// Brings sets, identities and the pods' words to what the policies and workloads will be.
    pub(super) fn plan_sets(&mut self) {
        let have = self.have;
        let quiet = have.sets.is_empty()
            && have.policies.used() == 0
            && self.policy.fresh.is_empty()
            && self.policy.unstored.is_empty();
        let governed = have.managers.values().any(|word| word.policy_set() != POLICY_NONE);
        if quiet && !governed && have.settings.flags() & SettingsWords::POLICIES == 0 {
            return;
        }
        let (pods, coming) = self.asks();
        let pods = pods.into_iter().map(|(cookie, word, ask)| {
            let set = word.policy_set();
            (cookie, word, self.answer(ask, set))
        });
        let pods: Vec<(u64, ManagerWord, u16)> = pods.collect();
        let coming: Vec<u16> =
            coming.into_iter().map(|ask| self.answer(ask, POLICY_WAIT)).collect();
        let stay = |set: &u16| have.sets.get(*set).is_some();
        let asked = pods.iter().map(|(_, _, set)| *set).chain(coming.iter().copied());
        let asked: BTreeSet<u16> = asked.collect();
        self.teach(&asked.iter().copied().filter(stay).collect::<Vec<_>>());
        let renewed = &self.set.renewed;
        let last = |set: u16| renewed.get(&set).copied().unwrap_or(set);
        let flips = pods.iter().filter_map(|(cookie, word, set)| {
            let set = last(*set);
            (set != word.policy_set()).then(|| (*cookie, word.with_policy_set(set)))
        });
        self.set.flipped = flips.collect();
        let used: BTreeSet<u16> = asked.into_iter().map(last).collect();
        self.groups.flips = (self.set.flipped.iter())
            .map(|(cookie, word)| Step::Manager { cookie: *cookie, word: *word })
            .collect();
        self.plan_flag(used.iter().any(|set| *set != POLICY_NONE));
        self.clear_sets(&used);
    }

    /// Whether every pod is asked; else what was refused before still is.
    fn asks_all(&self) -> bool {
        let change = self.change;
        self.policy.changed
            || !change.policies.is_empty()
            || change.all_workloads
            || change.all_policies
    }

    /// What was refused by an earlier change, and was not looked at by this one.
    pub(super) fn carry_refused(&mut self) {
        if !self.asks_all() {
            for refused in &self.have.refused {
                if !self.refused.contains(refused) {
                    self.refused.push(refused.clone());
                }
            }
        }
    }

    /// What each pod, and each that is about to come, asks for.
    fn asks(&self) -> (Vec<(u64, ManagerWord, Ask)>, Vec<Ask>) {
        let (have, change) = (self.have, self.change);
        let all = self.asks_all();
        let placed = self.workload_at.iter().enumerate().map(|(at, index)| (*index, at));
        let placed: HashMap<u32, usize> =
            if have.managers.is_empty() { HashMap::new() } else { placed.collect() };
        let mut scopes = None;
        let pods = have.managers.iter().map(|(cookie, word)| {
            let concerned = word.backend().filter(|at| all || self.touched_backends.contains(at));
            let to = concerned.and_then(|at| self.moved.get(&at).copied().unwrap_or(Some(at)));
            let ask = to.map_or(Ask::Keep, |to| {
                let scopes = scopes.get_or_insert_with(|| self.scopes());
                match placed.get(&to) {
                    Some(at) => self.ask_of_change(scopes, *at),
                    None => self.ask_of_record(scopes, to),
                }
            });
            (*cookie, *word, ask)
        });
        let pods = pods.collect();
        let coming = change.pods.iter().map(|uid| {
            let scopes = scopes.get_or_insert_with(|| self.scopes());
            self.ask_of_uid(scopes, uid)
        });
        (pods, coming.collect())
    }

    fn ask_of_change(&self, scopes: &Scopes<'_>, at: usize) -> Ask {
        let Some(workload) = &self.change.workloads[at].1 else { return Ask::Keep };
        let namespace = namespace_of(workload.identity.as_deref().unwrap_or_default());
        Ask::List(scopes.of(namespace, &workload.policies))
    }

    fn ask_of_record(&self, scopes: &Scopes<'_>, index: u32) -> Ask {
        let Some(record) = self.have.backends.get(index) else { return Ask::Keep };
        let namespace = namespace_of(self.have.identity_text(record).unwrap_or_default());
        Ask::List(scopes.of(namespace, &self.have.named_policies(record)))
    }

    fn ask_of_uid(&self, scopes: &Scopes<'_>, uid: &str) -> Ask {
        if let Some(at) = self.uids.get(uid) {
            if self.change.workloads[*at].1.is_some() {
                return self.ask_of_change(scopes, *at);
            }
        } else if !self.change.all_workloads
            && let Some(index) = self.have.backend(uid)
        {
            return self.ask_of_record(scopes, index);
        }
        scopes.of_unknown(namespace_of_uid(uid)).map_or(Ask::Wait, Ask::List)
    }

    /// The set for what was asked; where that is refused, the one that was there.
    fn answer(&mut self, ask: Ask, there: u16) -> u16 {
        let wanted = match ask {
            Ask::Keep => return there,
            Ask::Wait => None,
            Ask::List(Ok(list)) => match self.have.sets.get(there) {
                Some(held) if held.list.as_ref() == Some(&list) => return there,
                _ => self.resolve(list),
            },
            Ask::List(Err(policies)) => {
                let refused = Refused { policies, why: Why::Unstored };
                if !self.refused.contains(&refused) {
                    self.refused.push(refused);
                }
                None
            }
        };
        let kept = Some(there).filter(|set| self.have.sets.get(*set).is_some());
        wanted.or(kept).unwrap_or(POLICY_WAIT)
    }

    fn resolve(&mut self, list: Vec<u32>) -> Option<u16> {
        if list.is_empty() {
            return Some(POLICY_NONE);
        }
        if let Some(known) = self.set.resolved.get(&list) {
            return *known;
        }
        let set = self.have.sets.find(&list).or_else(|| self.make(&list));
        self.set.resolved.insert(list, set);
        set
    }

    /// A new set for these policies, if it fits.
    fn make(&mut self, list: &[u32]) -> Option<u16> {
        let policies: Vec<_> = list.iter().filter_map(|at| self.policy_at(*at)).collect();
        let names = || policies.iter().map(|policy| policy.name.clone()).collect();
        if policies.len() < list.len() {
            return self.refuse(names(), Why::Unreadable);
        }
        let identities = self.identities();
        let numbered = identities.iter().map(|(number, identity)| (*number, identity));
        let policies: Vec<&Policy> = policies.iter().map(|policy| &***policy).collect();
        match compile(&policies, numbered) {
            Ok(compiled) => match self.lay_out_set(list, compiled) {
                Ok(set) => Some(set),
                Err(why) => self.refuse(names(), why),
            },
            Err(why) => self.refuse(names(), Why::TooLarge(why)),
        }
    }

    fn refuse(&mut self, policies: Vec<Name>, why: Why) -> Option<u16> {
        self.refused.push(Refused { policies, why });
        None
    }

    /// Every identity with its number, new ones too. Those that go are met until they are gone.
    fn identities(&mut self) -> Arc<Vec<(u32, Identity)>> {
        let (have, numbers) = (self.have, &self.numbers);
        let all = self.set.identities.get_or_insert_with(|| {
            let there = have.identities.iter();
            let there = there.filter_map(|(who, at, len)| Some((who, have.names.text(at, len)?)));
            let all = there.chain(numbers.given().iter().copied());
            let all = all.filter_map(|(who, text)| Some((who, Identity::parse(text)?)));
            Arc::new(all.collect())
        });
        Arc::clone(all)
    }

    /// A number that no pod's word names, not even by mistake.
    fn take_set(&mut self) -> Result<u16, Why> {
        let have = self.have;
        let named = |set: u16| have.managers.values().any(|word| word.policy_set() == set);
        while self.sets.has_room(1) {
            let set = u16::try_from(self.sets.take(1)).unwrap_or(POLICY_WAIT);
            if !named(set) {
                return Ok(set);
            }
        }
        let (map, needed) = (Map::AuthSet, 1);
        Err(Why::Full { map, needed, limit: have.limits().of(map) })
    }

    /// Places and steps for a set.
    fn lay_out_set(&mut self, list: &[u32], compiled: Compiled) -> Result<u16, Why> {
        let image = compiled.image();
        let (words, chunks) = (length(image.words.len()), length(image.bits.len()));
        let text = list_text(list);
        let text_room = self.interned(&text).map_or_else(|| chunks_of(text.len()), |_| 0);
        for (map, pool, needed) in [
            (Map::AuthWord, &self.auth_words, words),
            (Map::AuthBits, &self.auth_chunks, chunks),
            (Map::Names, &self.names, text_room),
        ] {
            if needed > 0 && !pool.has_room(needed) {
                let limit = self.have.limits().of(map);
                return Err(Why::Full { map, needed: needed.into(), limit });
            }
        }
        let set = self.take_set()?;
        let (first_word, words_room) = self.auth_words.take_up_to(words + words / 8 + 16, words);
        let (first_chunk, chunks_room) =
            self.auth_chunks.take_up_to(chunks + chunks / 8 + 4, chunks);
        let (policies, policies_len) = self.intern_text(Cow::Owned(text));
        let record = AuthSetRecord {
            policies,
            policies_len,
            ..image
                .record(first_word..first_word + words_room, first_chunk..first_chunk + chunks_room)
        };
        let written = (first_word..).zip(image.words);
        let written = written.map(|(index, word)| Step::AuthWord { index, word });
        self.groups.set_words.extend(written);
        let written = (first_chunk..).zip(image.bits.into_iter().map(AuthChunk));
        let written = written.map(|(index, chunk)| Step::AuthChunk { index, chunk });
        self.groups.set_chunks.extend(written);
        let compiled = Arc::new(Mutex::new(compiled));
        let made = Some(Made { compiled, words, chunks });
        self.groups.sets.push(Step::AuthSet { set, record: Box::new(record), made });
        self.set.fresh.push(list.to_vec());
        Ok(set)
    }

    /// Sets that stay learn the identities that they do not know.
    fn teach(&mut self, stay: &[u16]) {
        let given: HashSet<u32> = self.numbers.given().iter().map(|(number, _)| *number).collect();
        if stay.is_empty() || (given.is_empty() && !self.change.all_workloads) {
            return;
        }
        let identities = self.identities();
        for set in stay {
            let Some(held) = self.have.sets.get(*set) else { continue };
            let unknown = |who: &u32| {
                given.contains(who)
                    || (self.change.all_workloads && !self.have.sets.classifies(&held.record, *who))
            };
            let lacking: Vec<&(u32, Identity)> =
                identities.iter().filter(|(who, _)| unknown(who)).collect();
            if lacking.is_empty() || self.extend(*set, &lacking) {
                continue;
            }
            match held.list.as_deref().and_then(|list| self.make(list)) {
                Some(renewed) => {
                    self.set.renewed.insert(*set, renewed);
                }
                None => self.forget(*set, &given),
            }
        }
    }

    /// Adds identities to a set in force: rows and chunks behind the others, then their words.
    /// False if it must be compiled anew.
    fn extend(&mut self, set: u16, lacking: &[&(u32, Identity)]) -> bool {
        let have = self.have;
        let Some(held) = have.sets.get(set) else { return false };
        let Some(made) = &held.made else { return false };
        let Ok(mut compiled) = made.compiled.lock() else { return false };
        for (number, identity) in lacking {
            if !compiled.add(*number, identity).unwrap_or(false) {
                return false;
            }
        }
        let (words, chunks) = compiled.tables();
        let record = &held.record;
        if length(words.len()) > record.words_room || length(chunks.len()) > record.chunks_room {
            return false;
        }
        let rows = (record.words + made.words..).zip(&words[made.words as usize..]);
        let rows = rows.map(|(index, word)| Step::AuthWord { index, word: *word });
        self.groups.rows.extend(rows);
        let bits = (record.chunks + made.chunks..).zip(&chunks[made.chunks as usize..]);
        let bits = bits.map(|(index, chunk)| Step::AuthChunk { index, chunk: AuthChunk(*chunk) });
        self.groups.row_chunks.extend(bits);
        for (number, _) in lacking {
            if let Some((place, word)) = compiled.word(*number) {
                self.groups.identities.push(Step::AuthWord { index: record.words + place, word });
            }
        }
        true
    }

    /// A set that cannot learn new identities must not take their numbers for somebody else's:
    /// it lets none of them in.
    fn forget(&mut self, set: u16, given: &HashSet<u32>) {
        let Some(held) = self.have.sets.get(set) else { return };
        let record = &held.record;
        for who in given {
            if self.have.sets.word(record, *who).is_some_and(|word| word != 0) {
                let index = record.words + record.identities.at + who;
                self.groups.identities.push(Step::AuthWord { index, word: 0 });
            }
        }
    }

    /// The setting that makes what the host dials noted.
    fn plan_flag(&mut self, wanted: bool) {
        let there = self.have.settings.flags() & SettingsWords::POLICIES != 0;
        self.set.flag = Some(wanted).filter(|wanted| *wanted != there);
    }

    /// Sets that no pod's word names, and versions of policies that no set stands for.
    fn clear_sets(&mut self, used: &BTreeSet<u16>) {
        let have = self.have;
        let mut stays: HashSet<u32> = self.set.fresh.iter().flatten().copied().collect();
        for (set, held) in have.sets.iter() {
            if used.contains(&set) {
                stays.extend(held.list.iter().flatten());
            } else {
                let record = Box::default();
                self.groups.cleared_sets.push(Step::AuthSet { set, record, made: None });
            }
        }
        if self.policy.changed || self.change.all_policies || !self.groups.cleared_sets.is_empty() {
            self.clear_policies(&stays);
        }
    }
}

fn length(places: usize) -> u32 {
    u32::try_from(places).unwrap_or(u32::MAX)
}
