//! Whether the pod at the other end lets the connection in: the steps of `prog/authz.h` over the
//! raw words, and why, by the policies of the pod's set.
//!
//! Two answers are asked for: that of the set's tables, which is what the program says, and that
//! of the policies that the set names. It refuses to choose between them: where they differ it is
//! an error.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::look::{Read, element, settings};
use super::outcome::{Admission, Outcome};
use super::said::{BySaid, DryRunSaid, InboundSaid, OutcomeSaid, Socket, Trail};
use super::{ExplainError, Verdict};
use crate::authz::{Connection, Decision, Hit, Image, Known, LiveSet, Policy, Reason, judge};
use crate::kernel::Tables;
use crate::layout::{
    BackendRecord, ManagerWord, Map, POLICY_NONE, POLICY_WAIT, SettingsWords, cookie_tag,
};

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodHere {
    pub(super) cookie: u64,
    pub(super) uid: Option<String>,
    /// Its program stands at its hook.
    pub(super) hooked: bool,
}

/// Who connects, as the other end sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caller {
    /// Of the namespace that dials.
    pub(super) cookie: Option<u64>,
    /// The address that was given as the source.
    pub(super) address: Option<IpAddr>,
}

/// What is needed of a set to judge by it.
struct Loaded {
    image: Image,
    policies: Vec<Policy>,
    unreadable: Vec<String>,
}

/// Judges connections of one caller.
pub(super) struct Inbound<'a> {
    k: &'a dyn Tables,
    pods: &'a [PodHere],
    /// By backend index.
    words: HashMap<u32, (u64, ManagerWord)>,
    caller: &'a Caller,
    socket: Socket,
    own: Option<u32>,
    sets: HashMap<u16, Option<Loaded>>,
}

impl<'a> Inbound<'a> {
    pub(super) fn new(
        k: &'a dyn Tables,
        pods: &'a [PodHere],
        caller: &'a Caller,
        socket: Socket,
    ) -> Read<Self> {
        let mut words = HashMap::new();
        let mut own = None;
        for pod in pods {
            let mut word = ManagerWord::default();
            let key = pod.cookie.to_ne_bytes();
            let there = k.lookup(Map::Manager, &key, bytemuck::bytes_of_mut(&mut word))?;
            if !there || word.tag() != cookie_tag(pod.cookie) {
                continue;
            }
            if let Some(backend) = word.backend() {
                words.insert(backend, (pod.cookie, word));
                if caller.cookie == Some(pod.cookie) {
                    own = Some(backend);
                }
            }
        }
        Ok(Self { k, pods, words, caller, socket, own, sets: HashMap::new() })
    }

    /// Judges every end of a trail that reaches a pod of this node; where it is kept out, that is
    /// what the connection comes to.
    pub(super) fn admit(
        &mut self,
        trail: &mut Trail,
        to: SocketAddr,
    ) -> Result<Vec<InboundSaid>, ExplainError> {
        let mut all: Vec<InboundSaid> = Vec::new();
        let retried = trail.outcomes.first().map_or(0, |said| said.retried);
        if trail.endpoints.is_empty() {
            let passes =
                |said: &OutcomeSaid| said.outcome.goes_on() && said.verdict == Verdict::Passes;
            if let [only] = trail.outcomes.as_slice()
                && passes(only)
                && let Some(said) = self.judge(to)?
            {
                trail.step("inbound", said.words());
                if let Some(outcome) = said.admission.refusal() {
                    trail.outcomes = vec![OutcomeSaid::new(outcome, 1.0, retried)];
                }
                all.push(said);
            }
            return Ok(all);
        }
        for endpoint in &mut trail.endpoints {
            let steered = endpoint.outcome.verdict() == Verdict::Steered;
            let Some(target) = endpoint.target.filter(|_| steered) else { continue };
            let Some(said) = self.judge(target)? else { continue };
            if let Some(outcome) = said.admission.refusal() {
                endpoint.outcome = outcome;
            }
            all.push(said);
        }
        if all.iter().any(|said| said.admission.refusal().is_some()) {
            sum_up(trail, retried);
        }
        Ok(all)
    }

    /// Judges a connection to `target`; `None`: nobody here has that address.
    fn judge(&mut self, target: SocketAddr) -> Result<Option<InboundSaid>, ExplainError> {
        let kernel = ExplainError::Kernel;
        let Some(known) = Known::at(self.k, target.ip()).map_err(kernel)? else {
            return Ok(None);
        };
        let Some((cookie, word)) = self.words.get(&known.index).copied() else {
            return Ok(None);
        };
        let pod = self.pods.iter().find(|pod| pod.cookie == cookie);
        let uid = pod.and_then(|pod| pod.uid.clone()).unwrap_or(known.uid);
        let mut said = InboundSaid {
            pod: uid,
            cookie,
            target,
            source: self.source(target.ip()).map_err(kernel)?,
            workload: None,
            identity: None,
            set: word.policy_set(),
            policies: Vec::new(),
            admission: Admission::NoPolicy,
            counter: None,
            why: String::new(),
            by: None,
            dry_run: None,
        };
        self.decide(&mut said, pod.is_some_and(|pod| pod.hooked), word, known.index)?;
        said.counter = said.admission.counter();
        if said.why.is_empty() {
            said.admission.why().clone_into(&mut said.why);
        }
        Ok(Some(said))
    }

    /// The address that the other end sees.
    fn source(&self, target: IpAddr) -> Read<Option<IpAddr>> {
        let bound = self.socket.bound.filter(|bound| !bound.is_unspecified());
        if let Some(address) = bound.or(self.caller.address) {
            return Ok(Some(address.to_canonical()));
        }
        let Some(own) = self.own else { return Ok(None) };
        let record = element::<BackendRecord>(self.k, Map::Backend, own)?.unwrap_or_default();
        Ok(if target.to_canonical().is_ipv4() {
            record.word.v4().map(IpAddr::V4)
        } else {
            record.v6().map(IpAddr::V6)
        })
    }

    /// `attempt_once` and `exempt`.
    fn decide(
        &mut self,
        said: &mut InboundSaid,
        hooked: bool,
        word: ManagerWord,
        index: u32,
    ) -> Result<(), ExplainError> {
        let kernel = ExplainError::Kernel;
        if !hooked {
            said.admission = Admission::NoHook;
            return Ok(());
        }
        if word.bypass() {
            said.admission = Admission::Bypass;
            return Ok(());
        }
        if said.set == POLICY_NONE {
            return Ok(());
        }
        if self.own == Some(index) || said.source == Some(said.target.ip().to_canonical()) {
            said.admission = Admission::Local;
            return Ok(());
        }
        let host = self.is_host().map_err(kernel)?;
        let source = match said.source {
            Some(source) => source,
            None if host => {
                said.admission = Admission::Host;
                return Ok(());
            }
            None => {
                said.admission = Admission::SourceUnknown;
                return Ok(());
            }
        };
        let from = Known::at(self.k, source).map_err(kernel)?;
        if from.as_ref().is_some_and(|from| from.index == index) {
            said.admission = Admission::Local;
            return Ok(());
        }
        let identity = from.as_ref().and_then(|from| from.identity.clone());
        let who = from.as_ref().map(|from| from.who).filter(|who| *who != 0);
        said.workload = from.map(|from| from.uid);
        said.identity = identity.as_ref().map(ToString::to_string);
        let (destination, port) = (said.target.ip(), said.target.port());
        let connection = Connection { source, identity: identity.as_ref(), destination, port };
        self.by_set(said, &connection, who)?;
        if host && said.admission.refusal().is_some() {
            said.admission = Admission::Host;
        }
        Ok(())
    }

    /// Whether the host's own namespace connects, and what it dials is noted.
    fn is_host(&self) -> Read<bool> {
        let settings = settings(self.k)?;
        let noted = settings.flags() & SettingsWords::POLICIES != 0;
        let host = settings.0[SettingsWords::HOST];
        Ok(noted && host != 0 && self.caller.cookie == Some(host))
    }

    /// By the tables of the pod's set, and by its policies.
    fn by_set(
        &mut self,
        said: &mut InboundSaid,
        connection: &Connection<'_>,
        who: Option<u32>,
    ) -> Result<(), ExplainError> {
        if said.set == POLICY_WAIT {
            said.admission = Admission::Wait;
            return Ok(());
        }
        let Some(loaded) = self.load(said.set).map_err(ExplainError::Kernel)? else {
            said.admission = Admission::Stale;
            return Ok(());
        };
        said.policies = loaded.policies.iter().map(|policy| policy.name.to_string()).collect();
        let (source, destination) = (connection.source, connection.destination);
        let decision = loaded.image.decide(source, who, destination, connection.port);
        let Decision::Judged { allows, dry_run_allows } = decision else {
            said.admission = Admission::Unclassified;
            return Ok(());
        };
        said.admission = if allows { Admission::Allowed } else { Admission::Denied };
        if !loaded.unreadable.is_empty() {
            said.why =
                format!("by the set's tables; not readable: {}", loaded.unreadable.join("; "));
            return Ok(());
        }
        let verdict = judge(&loaded.policies, connection);
        if (verdict.allows(), verdict.dry_run.allows()) != (allows, dry_run_allows) {
            let (set, target) = (said.set, said.target);
            let policies = said.policies.join(", ");
            return Err(ExplainError::Disagree {
                set,
                source_address: source,
                target,
                tables: allows,
                policies,
            });
        }
        (said.by, said.why) = decided(&verdict.reason);
        if verdict.dry_run.allows() != verdict.allows() {
            let (by, why) = decided(&verdict.dry_run);
            said.dry_run = Some(DryRunSaid { lets_in: verdict.dry_run.allows(), by, why });
        }
        Ok(())
    }

    fn load(&mut self, number: u16) -> Read<Option<&Loaded>> {
        if !self.sets.contains_key(&number) {
            let loaded = match LiveSet::at(self.k, number)? {
                None => None,
                Some(set) => {
                    let live = set.policies(self.k)?;
                    let image = set.image(self.k)?;
                    let (policies, unreadable) = (live.policies, live.unreadable);
                    Some(Loaded { image, policies, unreadable })
                }
            };
            self.sets.insert(number, loaded);
        }
        Ok(self.sets.get(&number).and_then(Option::as_ref))
    }
}

/// Adds up the outcomes anew: of slots that are stale they say already.
fn sum_up(trail: &mut Trail, retried: u32) {
    let stale: Vec<_> =
        trail.outcomes.drain(..).filter(|said| said.outcome == Outcome::RefusedStale).collect();
    let mut outcomes: Vec<OutcomeSaid> = Vec::new();
    for slot in trail.endpoints.iter().filter(|slot| slot.outcome != Outcome::RefusedStale) {
        match outcomes.iter_mut().find(|said| said.outcome == slot.outcome) {
            Some(said) => said.chance += slot.chance,
            None => outcomes.push(OutcomeSaid::new(slot.outcome, slot.chance, retried)),
        }
    }
    outcomes.extend(stale);
    trail.outcomes = outcomes;
}

/// What decided, as fields and in words; groups, rules and matches are counted from 1.
fn decided(reason: &Reason<'_>) -> (Option<BySaid>, String) {
    let of = |hit: &Hit<'_>| {
        let matches = hit.matches.iter().map(|at| at.map(|at| at + 1)).collect::<Vec<_>>();
        let (policy, group) = (hit.policy.name.to_string(), hit.group + 1);
        let each = (1..).zip(&matches).map(|(rule, at)| match at {
            Some(at) => format!("rule {rule} by match {at}"),
            None => format!("rule {rule} without matches"),
        });
        let rules: Vec<String> = each.collect();
        let rules = if rules.is_empty() { "no rules".to_owned() } else { rules.join(", ") };
        let words = format!("policy {policy}, group {group} ({rules})");
        (BySaid { policy, group, matches }, words)
    };
    match reason {
        Reason::Denied(hit) => {
            let (by, words) = of(hit);
            (Some(by), format!("denied by {words}"))
        }
        Reason::Allowed(hit) => {
            let (by, words) = of(hit);
            (Some(by), format!("allowed by {words}"))
        }
        Reason::NoneApplies => {
            (None, "no DENY policy matches, and no ALLOW policy applies to the pod".to_owned())
        }
        Reason::NoneAllows => {
            (None, "ALLOW policies apply to the pod, and none of them matches".to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
