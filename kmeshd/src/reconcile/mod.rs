//! The one writer: a thread that owns the kernel's door, the lock, and the mirror of the tables.
//!
//! ```text
//!  start: lock → adopt maps → adopt hooks → read tables (→ last snapshot, if they are empty)
//!  then:  order → desired → compile → converge → pods → snapshot on disk
//! ```
//! Nothing is removed before the source has given its first complete answer; a source that cannot
//! answer leaves everything as it is. A failed write is tried again with backoff, from what the
//! kernel holds then. No change, no write: not to any map, not to any file.

mod keep;
mod pods;
mod start;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use kmesh_bpf::apply::{ApplyError, converge};
use kmesh_bpf::attach;
use kmesh_bpf::check::{self, Finding, Severity};
use kmesh_bpf::kernel::Kernel;
use kmesh_bpf::layout::{COUNTERS, Hook, Map};
use kmesh_bpf::lock::WriterLock;
use kmesh_bpf::snapshot::{About, Snapshot};
use kmesh_bpf::tables::Have;
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use crate::compile;
use crate::config::Place;
use crate::desired::Desired;
use crate::model::Model;
use crate::readiness::Token;
use crate::sources::mesh_file::MeshFileError;
use crate::status::Status;
use keep::Keeper;
use pods::Pods;
pub use start::{Start, StartError};

/// The longest the thread sleeps: pods' namespaces are looked at this often.
const TICK: Duration = Duration::from_secs(2);
/// How often the hooks are looked at.
const INSPECT: Duration = Duration::from_secs(10);
/// The longest that writes are held back for a reader.
const HOLD: Duration = Duration::from_secs(2);
/// The first and the longest wait before a failed write is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// What the writer is told.
#[derive(Debug)]
pub enum Order {
    /// This is all that the mesh file says now.
    Model(Box<Model>),
    /// The mesh file says nothing that can be used.
    Refused(MeshFileError),
    /// Bring [`crate::status::Facts`] up to date, then answer.
    Observe(oneshot::Sender<()>),
    /// Write nothing for so long; answered when it is so.
    Hold(Duration, oneshot::Sender<()>),
    /// Say what the tables shall say; `None` before the source's first complete answer.
    Snapshot(oneshot::Sender<Option<Snapshot>>),
    /// End, and leave everything as it is.
    Stop,
}

/// What holds readiness back until the writer has done it.
#[derive(Debug)]
pub struct Tokens {
    /// The first file was taken.
    pub file: Option<Token>,
    /// The tables say what it says, and were verified.
    pub sync: Option<Token>,
}

/// The writer. See the module.
pub struct Writer<K> {
    k: K,
    place: Place,
    /// The source, as people name it.
    source: String,
    _lock: Option<WriterLock>,
    desired: Desired,
    have: Have,
    pods: Pods,
    keeper: Keeper,
    status: Arc<Status>,
    tokens: Tokens,
    /// The source has given a complete answer.
    complete: bool,
    /// Something is to be written, from this instant on.
    due: Option<Instant>,
    backoff: Duration,
    held: Option<Instant>,
    inspect_at: Instant,
    /// Synced for the first time, and not yet verified.
    unverified: bool,
}

impl<K: Kernel> Writer<K> {
    /// Obeys until [`Order::Stop`] or until nobody can give orders.
    pub fn run(mut self, orders: &Receiver<Order>) {
        loop {
            self.status.beat();
            match orders.recv_timeout(self.wait()) {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.work();
        }
        self.keeper.finish(&self.k, &self.place.root, &self.have);
        info!("stopped; everything stays as it is in the kernel");
    }

    fn wait(&self) -> Duration {
        let now = Instant::now();
        let soonest = [self.due, self.keeper.due()].into_iter().flatten().min();
        let wait = soonest.map_or(TICK, |at| at.saturating_duration_since(now).min(TICK));
        self.held.map_or(wait, |held| wait.max(held.saturating_duration_since(now)))
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Model(model) => self.take(*model),
            Order::Refused(error) => self.refuse(&error),
            Order::Observe(done) => {
                self.observe();
                // Whoever asked may have gone away.
                let _ = done.send(());
            }
            Order::Hold(time, done) => {
                self.held = Some(Instant::now() + time.min(HOLD));
                self.status.facts().held = self.held;
                let _ = done.send(());
            }
            Order::Snapshot(done) => {
                let _ = done.send(self.complete.then(|| self.wanted()));
            }
            Order::Stop => {}
        }
    }

    /// What the tables shall say.
    fn wanted(&self) -> Snapshot {
        let about = About {
            node: Some(self.desired.here.node.to_string()),
            boot_id: self.keeper.boot_id(),
            ..About::default()
        };
        Snapshot::of_change(&compile::everything(&self.desired), about)
    }

    fn take(&mut self, mut model: Model) {
        if !model.policies.is_empty() {
            warn!(
                policies = model.policies.len(),
                "authorization policies are read and checked, but NOT ENFORCED by this version: \
                 every connection is let in"
            );
        }
        self.pods.want(std::mem::take(&mut model.pods));
        let policies = model.policies.len();
        self.desired.replace(model);
        self.complete = true;
        self.due = Some(Instant::now());
        self.tokens.file = None;
        let mut facts = self.status.facts();
        facts.files_taken += 1;
        facts.taken_at = Some(Instant::now());
        facts.refused = None;
        facts.policies = policies;
        facts.model = self.desired.counts();
    }

    fn refuse(&mut self, refused: &MeshFileError) {
        let said = crate::chain(refused);
        error!("{said}; what is in force stays. Mend the file: it is read again when it changes");
        if let Some(token) = &self.tokens.file {
            token.because(&said);
        }
        let mut facts = self.status.facts();
        facts.files_refused += 1;
        facts.refused = Some(said);
        drop(facts);
        self.put_back_if_cut();
    }

    /// Does what is due.
    fn work(&mut self) {
        let now = Instant::now();
        if self.held.is_some_and(|held| now < held) {
            return;
        }
        self.held = None;
        if now >= self.inspect_at {
            self.inspect_at = now + INSPECT;
            self.inspect();
        }
        if self.due.is_some_and(|due| now >= due) && self.complete {
            self.sync();
        }
        if self.complete {
            self.pods.look(&mut self.k, &self.place.root, &mut self.have, &self.status);
        }
        if std::mem::take(&mut self.unverified) {
            self.verify();
        }
        self.keeper.work(&self.k, &self.place.root, &self.have, &self.status);
    }

    /// Brings the tables to what the sources say.
    fn sync(&mut self) {
        let began = Instant::now();
        let dirty = self.desired.take_dirty();
        let change = compile::changed(&self.desired, &dirty);
        drop(dirty);
        match converge(&mut self.k, &mut self.have, &change, &mut |_, _| {}) {
            Ok(applied) => {
                drop(change);
                let (services, workloads) = self.desired.counts();
                info!(
                    services,
                    workloads,
                    elements = applied.elements,
                    retries = applied.retries,
                    ms = began.elapsed().as_millis(),
                    "the tables say what the mesh file says"
                );
                self.due = None;
                self.backoff = BACKOFF.0;
                let mut facts = self.status.facts();
                facts.applies += 1;
                facts.cost.elements += applied.elements;
                facts.cost.calls += applied.calls;
                facts.cost.graces += applied.graces;
                facts.cost.retries += applied.retries;
                facts.last_sync = Some(Instant::now());
                if applied.elements > 0 {
                    facts.last_write = Some((Instant::now(), applied.elements));
                }
                facts.failing = None;
                facts.generation = self.have.meta().generation;
                drop(facts);
                self.keeper.note_sync(&self.source);
                self.pods.enrol_all();
                self.keeper.note(self.have.meta().generation);
                self.unverified = self.tokens.sync.is_some();
            }
            Err(why) => self.failed(&why),
        }
    }

    fn failed(&mut self, why: &ApplyError) {
        // Which part was written is not known: next time everything is compared.
        self.desired.mark_all();
        let said = crate::chain(why);
        let mut facts = self.status.facts();
        facts.apply_errors += 1;
        facts.failing = Some(said.clone());
        drop(facts);
        if let Some(token) = &self.tokens.sync {
            token.because(&said);
        }
        if matches!(why, ApplyError::Plan(_)) {
            error!("{said}; what is in force stays. Change the mesh file, or the limit");
            self.due = None;
            return;
        }
        let wait = self.backoff;
        self.backoff = (wait * 2).min(BACKOFF.1);
        self.due = Some(Instant::now() + wait);
        error!(again_in_ms = wait.as_millis(), "{said}; what is in force stays");
        match Have::read_locked(&self.k) {
            Ok(mut have) => {
                have.sign(std::process::id(), kmesh_bpf::clock::process_start());
                self.have = have;
            }
            Err(error) => error!("{}", crate::chain(&error)),
        }
    }

    /// After the first sync: is everything as it should be, from the hooks to the references?
    fn verify(&mut self) {
        let mut wrong: Vec<String> =
            check::check(&self.have).iter().filter_map(complaint).collect();
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

    /// Hooks that are not as they should be.
    fn hooks_amiss(&self) -> Vec<String> {
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
    fn inspect(&mut self) {
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
    fn observe(&mut self) {
        let sum = |index| -> u64 {
            let cpus = self.k.lookup_per_cpu(Map::Stats, index);
            cpus.map(|cpus| cpus.iter().sum()).unwrap_or_default()
        };
        let counters = COUNTERS.iter().map(|counter| sum(counter.index)).collect();
        if let Err(error) = self.have.refresh_managers(&self.k) {
            debug!("{}", crate::chain(&error));
        }
        let bypassed = self.have.managers().iter().filter(|(_, word)| word.bypass()).count();
        let mut facts = self.status.facts();
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
