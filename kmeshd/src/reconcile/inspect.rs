//! Whether all is as it should be: after the first sync, and from time to time; and what admin is
//! told of it.

use std::time::Instant;

use kmesh_bpf::attach;
use kmesh_bpf::check::{self, Finding, Severity};
use kmesh_bpf::kernel::Kernel;
use kmesh_bpf::layout::{COUNTERS, Hook, Map};
use kmesh_bpf::snapshot::{About, Snapshot};
use tracing::{debug, error, info, warn};

use super::{BACKOFF, Writer, start};
use crate::compile;

impl<K: Kernel> Writer<K> {
    /// After the first sync: is everything as it should be, from the hooks to the references?
    ///
    /// Where policies do not fit, their pods are not what they ask for. That is said elsewhere, and
    /// no reason to hold back: nothing that the daemon does again mends it.
    pub(super) fn verify(&mut self) {
        let refused = !self.status.facts().policies_refused.is_empty();
        let found = check::check(&self.have);
        let found = found.iter().filter(|finding| !refused || finding.layer != check::POLICIES);
        let mut wrong: Vec<String> = found.filter_map(complaint).collect();
        wrong.extend(self.hooks_amiss());
        if wrong.is_empty() {
            info!("verified: ready");
            self.tokens.sync = None;
            return;
        }
        let said = wrong.join("; ");
        error!("verify: {said}");
        if let Some(token) = &self.tokens.sync {
            token.because(format!("verify: {said}"));
        }
        self.desired.mark_all();
        self.due = Some(Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF.1);
        self.inspect_at = Instant::now();
    }

    /// What the tables shall say.
    pub(super) fn wanted(&mut self) -> Snapshot {
        self.desired.settle(&self.have);
        let about = About {
            node: Some(self.desired.here.node.to_string()),
            boot_id: self.keeper.boot_id(),
            ..About::default()
        };
        Snapshot::of_change(&compile::everything(&self.desired), about)
    }

    /// Hooks that are not as they should be.
    pub(super) fn hooks_amiss(&self) -> Vec<String> {
        let states = match attach::inspect(&self.k, &self.place.root, &self.place.cgroup) {
            Ok(states) => states,
            Err(error) => return vec![crate::chain(&error)],
        };
        let peername = self.peername();
        let wanted = |hook| peername || !matches!(hook, Hook::GetPeerName4 | Hook::GetPeerName6);
        let amiss = states.iter().filter(|state| {
            if wanted(state.hook) { !state.is_current() } else { state.standing.is_some() }
        });
        amiss.map(|state| format!("hook {} is not in force", state.hook.name())).collect()
    }

    fn peername(&self) -> bool {
        self.desired.here.settings.peername
    }

    /// Looks whether somebody took a hook or a pin away, and mends it.
    pub(super) fn inspect(&mut self) {
        let oddities = self.desired.oddities();
        if oddities != self.oddities && self.is_complete() {
            warn!("{oddities}");
            self.oddities = oddities;
        }
        let amiss = self.hooks_amiss();
        if amiss.is_empty() {
            return;
        }
        warn!("{}; adopting again", amiss.join("; "));
        let peername = self.peername();
        match start::adopt(&mut self.k, &self.place, peername) {
            Ok(have) => {
                self.have = have;
                self.desired.mark_all();
                self.due = Some(Instant::now());
            }
            Err(error) => error!("{}", crate::chain(&error)),
        }
    }

    /// Brings the facts that the kernel keeps up to date.
    pub(super) fn observe(&mut self) {
        let sum = |index| -> u64 {
            let cpus = self.k.lookup_per_cpu(Map::Stats, index);
            cpus.map(|cpus| cpus.iter().sum()).unwrap_or_default()
        };
        let counters = COUNTERS.iter().map(|counter| sum(counter.index)).collect();
        if let Err(error) = self.have.refresh_managers(&self.k) {
            debug!("{}", crate::chain(&error));
        }
        let bypassed = self.have.managers().iter().filter(|(_, word)| word.bypass()).count();
        let oddities = self.desired.oddities();
        let mut facts = self.status.facts();
        facts.oddities = oddities;
        facts.pods_bypassed = bypassed;
        facts.pods_managed = self.have.managers().len() - bypassed;
        facts.counters = counters;
        facts.usage = self.have.usage();
        facts.generation = self.have.meta().generation;
    }
}

fn complaint(finding: &Finding) -> Option<String> {
    let wrong = finding.severity == Severity::Error;
    wrong.then(|| format!("{}: {}: {}", finding.layer, finding.object, finding.problem))
}
