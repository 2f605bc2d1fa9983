//! When live connections are judged again: those of a pod when its word is another than the one they
//! were judged by (start, enrolment, a new policy set, the end of a bypass); those from an address
//! when its identity changed. And how long a pod has an XDP program, where that ends them.
//!
//! It refuses to let a pod that cannot be judged stop the daemon or the other pods: it is told
//! with what helps, and tried again.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use kmesh_bpf::apply::Applied;
use kmesh_bpf::kernel::Kernel;
use kmesh_bpf::layout::{ManagerWord, POLICY_NONE, POLICY_WAIT};
use kmesh_bpf::live::{self, Judged, LiveError, Revoke, Round};
use kmesh_bpf::pins::Root;
use kmesh_bpf::pods;
use kmesh_bpf::tables::Have;
use tracing::{debug, error, info, warn};

use crate::status::Status;

/// The first and the longest wait before a pod is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Changes of identities are taken together: so long at least, and so long at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// A round rests so many times as long as it took.
const REST: u32 = 5;
/// Pods whose connections are to end are looked at so often.
const TEND: Duration = Duration::from_millis(200);
/// So many connections of a round are told one by one.
const TOLD: usize = 5;

/// A pod that could not be judged.
#[derive(Debug)]
struct Retry {
    at: Instant,
    wait: Duration,
    said: String,
}

/// What was judged, and what is to be.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// By which word each pod's connections were judged.
    judged: HashMap<u64, ManagerWord>,
    /// Addresses whose identity changed.
    sources: HashSet<IpAddr>,
    /// When connections from these are judged.
    sources_at: Option<Instant>,
    /// No earlier than this.
    rest_until: Option<Instant>,
    retries: HashMap<u64, Retry>,
    /// Notes that nobody looks after were swept.
    swept: bool,
    /// How connections are ended.
    revoke: Revoke,
    /// Pods that may have connections to end, and an XDP program.
    ending: HashSet<u64>,
    /// When these are looked at.
    tend_at: Option<Instant>,
    /// What was left by a daemon before is looked after.
    tended: bool,
    /// What was last said of a pod that could not be looked after.
    untended: HashMap<u64, String>,
}

impl Live {
    /// Nothing was judged yet; this is how connections are ended.
    pub(super) fn new(revoke: Revoke) -> Self {
        Self { revoke, ..Self::default() }
    }

    /// The tables were changed.
    pub(super) fn follow(&mut self, applied: &Applied) {
        for cookie in &applied.flipped {
            self.judged.remove(cookie);
            self.retries.remove(cookie);
        }
        self.sources.extend(&applied.sources);
        if !self.sources.is_empty() && self.sources_at.is_none() {
            let soon = Instant::now() + PAUSE.0;
            self.sources_at = Some(self.rest_until.map_or(soon, |rest| rest.max(soon)));
        }
    }

    /// When something is to be done.
    pub(super) fn due(&self) -> Option<Instant> {
        let retry = self.retries.values().map(|retry| retry.at).min();
        [self.sources_at, retry, self.tend_at].into_iter().flatten().min()
    }

    /// Judges what is due.
    pub(super) fn work(&mut self, k: &mut dyn Kernel, root: &Root, have: &Have, status: &Status) {
        let words = have.managers();
        self.forget_gone(k, &words);
        self.judge_due(k, root, have, &words, status);
        self.tend(k, root, &words);
    }

    fn judge_due(
        &mut self,
        k: &mut dyn Kernel,
        root: &Root,
        have: &Have,
        words: &[(u64, ManagerWord)],
        status: &Status,
    ) {
        let now = Instant::now();
        let changed: Vec<_> =
            words.iter().filter(|(cookie, word)| self.is_due(*cookie, *word, now)).collect();
        let by_source = self.sources_at.is_some_and(|at| now >= at);
        if changed.is_empty() && !by_source {
            return;
        }
        let governed = |word: &ManagerWord| !matches!(set_of(*word), POLICY_NONE | POLICY_WAIT);
        let any = words.iter().any(|(_, word)| governed(word));
        let from = if by_source { std::mem::take(&mut self.sources) } else { HashSet::new() };
        self.sources_at = self.sources_at.filter(|_| !by_source);
        let mut round = match begin(k, have, any) {
            Ok(round) => round.ending(self.revoke, root),
            Err(why) => return self.postpone(words, &why, status),
        };
        for (cookie, word) in words {
            let whole = changed.iter().any(|(one, _)| one == cookie);
            if whole || (by_source && governed(word)) {
                let from = (!whole).then_some(&from);
                let answer = judge(&mut round, k, root, *cookie, from);
                self.note(*cookie, *word, answer, status);
                self.ending.insert(*cookie);
                self.tend_at = Some(now);
            }
        }
        let took = now.elapsed();
        debug!(
            pods = changed.len(),
            addresses = from.len(),
            ms = took.as_millis(),
            "judged live connections"
        );
        self.rest_until = Some(Instant::now() + (took * REST).clamp(PAUSE.0, PAUSE.1));
        self.sweep(k, words);
    }

    fn is_due(&self, cookie: u64, word: ManagerWord, now: Instant) -> bool {
        let same = |before: &ManagerWord| {
            set_of(*before) == set_of(word) && before.flags() == word.flags()
        };
        !self.judged.get(&cookie).is_some_and(same)
            && self.retries.get(&cookie).is_none_or(|retry| now >= retry.at)
    }

    /// What is no pod any more is lifted.
    fn forget_gone(&mut self, k: &mut dyn Kernel, words: &[(u64, ManagerWord)]) {
        let there: HashSet<u64> = words.iter().map(|(cookie, _)| *cookie).collect();
        self.retries.retain(|cookie, _| there.contains(cookie));
        let gone: Vec<u64> =
            self.judged.keys().filter(|cookie| !there.contains(cookie)).copied().collect();
        for cookie in gone {
            match live::lift(k, cookie) {
                Ok(()) => drop(self.judged.remove(&cookie)),
                Err(why) => error!("{}; trying again", crate::chain(&why)),
            }
        }
    }

    /// Nothing could be judged: all later.
    fn postpone(&mut self, words: &[(u64, ManagerWord)], why: &LiveError, status: &Status) {
        let said = crate::chain(why);
        for (cookie, word) in words {
            if self.is_due(*cookie, *word, Instant::now()) || !self.judged.contains_key(cookie) {
                self.failed(*cookie, &said);
            }
        }
        // Whose identity changed is forgotten: all are judged.
        self.judged.clear();
        status.facts().live.errors += 1;
    }

    fn note(
        &mut self,
        cookie: u64,
        word: ManagerWord,
        answer: Result<(String, Judged), LiveError>,
        status: &Status,
    ) {
        match answer {
            Ok((pod, judged)) => {
                self.retries.remove(&cookie);
                self.judged.insert(cookie, word);
                tell(&pod, &judged);
                let mut facts = status.facts();
                facts.live.judged += judged.judged as u64;
                for ended in &judged.ended {
                    *facts.live.ended.entry(ended.reason).or_default() += 1;
                }
            }
            Err(why) => {
                self.failed(cookie, &crate::chain(&why));
                status.facts().live.errors += 1;
            }
        }
    }

    /// Looks after the XDP programs: each goes when nothing of its pod is left to end.
    fn tend(&mut self, k: &mut dyn Kernel, root: &Root, words: &[(u64, ManagerWord)]) {
        if !std::mem::replace(&mut self.tended, true) {
            self.ending.extend(words.iter().map(|(cookie, _)| *cookie));
            self.tend_at = Some(Instant::now());
        }
        if self.tend_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.ending.retain(|cookie| words.iter().any(|(there, _)| there == cookie));
        for cookie in self.ending.clone() {
            let op = || format!("look after netns cookie {cookie}");
            let left = pods::one(&*k, root, cookie)
                .map_err(|source| LiveError::Pod { op: op(), source: Box::new(source) })
                .and_then(|pod| live::tend(k, root, self.revoke, &pod));
            match left {
                Ok(true) => drop(self.untended.remove(&cookie)),
                Ok(false) => {
                    self.ending.remove(&cookie);
                    self.untended.remove(&cookie);
                }
                Err(why) => {
                    let said = crate::chain(&why);
                    if self.untended.get(&cookie) != Some(&said) {
                        error!("{said}; trying again");
                        self.untended.insert(cookie, said);
                    }
                }
            }
        }
        self.tend_at = (!self.ending.is_empty()).then(|| Instant::now() + TEND);
    }

    /// Tells it once; the wait doubles.
    fn failed(&mut self, cookie: u64, said: &str) {
        self.judged.remove(&cookie);
        let before = self.retries.remove(&cookie);
        let wait = before.as_ref().map_or(BACKOFF.0, |retry| (retry.wait * 2).min(BACKOFF.1));
        if before.is_none_or(|retry| retry.said != said) {
            error!("{said}; trying again");
        }
        let retry = Retry { at: Instant::now() + wait, wait, said: said.to_owned() };
        self.retries.insert(cookie, retry);
    }

    /// Once: notes of namespaces that are no pod's.
    fn sweep(&mut self, k: &mut dyn Kernel, words: &[(u64, ManagerWord)]) {
        if self.swept {
            return;
        }
        match live::sweep(k, &words.iter().map(|(cookie, _)| *cookie).collect()) {
            Ok(swept) => {
                self.swept = true;
                if swept > 0 {
                    info!(swept, "removed notes of connections of namespaces that are no pods");
                }
            }
            Err(why) => error!("{}; trying again", crate::chain(&why)),
        }
    }
}

/// The policy set by which a word governs.
fn set_of(word: ManagerWord) -> u16 {
    if word.bypass() { POLICY_NONE } else { word.policy_set() }
}

/// What was decided before the change is a socket after this.
fn begin<'a>(k: &mut dyn Kernel, have: &'a Have, governed: bool) -> Result<Round<'a>, LiveError> {
    let failed = |source| LiveError::Kernel { op: "judge live connections".to_owned(), source };
    if governed {
        k.grace().map_err(failed)?;
    }
    Round::begin(&*k, have)
}

fn judge(
    round: &mut Round<'_>,
    k: &mut dyn Kernel,
    root: &Root,
    cookie: u64,
    from: Option<&HashSet<IpAddr>>,
) -> Result<(String, Judged), LiveError> {
    let op = || format!("judge the live connections of netns cookie {cookie}");
    let pod = pods::one(&*k, root, cookie)
        .map_err(|source| LiveError::Pod { op: op(), source: Box::new(source) })?;
    let judged = round.pod(k, &pod, from)?;
    Ok((pod.uid.unwrap_or_else(|| cookie.to_string()), judged))
}

fn tell(pod: &str, judged: &Judged) {
    for ended in judged.ended.iter().take(TOLD) {
        info!(
            pod,
            source = %ended.connection.from(),
            destination = %ended.connection.to(),
            reason = ended.reason.name(),
            by = ended.policy.as_deref().unwrap_or("-"),
            "ended a live connection that policies deny"
        );
    }
    if judged.ended.len() > TOLD {
        let more = judged.ended.len() - TOLD;
        warn!(pod, more, "more live connections were ended");
    }
}
