//! The one writer: a thread that owns the kernel's door, the lock, and the mirror of the tables.
//!
//! ```text
//!  start: lock → adopt maps → adopt hooks → read tables (→ last snapshot, if they are empty)
//!  then:  order → desired → compile → converge → pods → snapshot on disk
//! ```
//! Nothing is removed before the source has given its first complete answer; a source that cannot
//! answer leaves everything as it is. A failed write is tried again with backoff, from what the
//! kernel holds then. No change, no write: not to any map, not to any file.

mod fit;
mod hooks;
mod inspect;
mod keep;
mod layers;
mod live;
mod names;
mod pods;
mod start;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use kmesh_bpf::apply::{Applied, ApplyError, converge_by_portions};
use kmesh_bpf::kernel::Kernel;
use kmesh_bpf::lock::WriterLock;
use kmesh_bpf::plan::PlanError;
use kmesh_bpf::snapshot::Snapshot;
use kmesh_bpf::tables::Have;
use tokio::sync::{oneshot, watch};
use tracing::{error, info};

use crate::compile;
use crate::config::Place;
use crate::desired::{Desired, Oddities};
use crate::model::{Model, Name, Update};
use crate::readiness::{Readiness, Token};
use crate::resolve::Wanted;
use crate::sources::mesh_file::MeshFileError;
use crate::status::Status;
use keep::Keeper;
use layers::Layers;
use live::Live;
use pods::Pods;
pub use start::{Served, Start, StartError};

/// The longest the thread sleeps: pods' namespaces are looked at this often.
const TICK: Duration = Duration::from_secs(2);
/// How often the hooks are looked at.
const INSPECT: Duration = Duration::from_secs(10);
/// The longest that writes are held back for a reader.
const HOLD: Duration = Duration::from_secs(2);
/// The longest burst of orders that is taken together.
const BURST: usize = 1000;
/// The first and the longest wait before a failed write is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// What the writer is told.
#[derive(Debug)]
pub enum Order {
    /// This is all that the mesh file says now.
    Model(Box<Model>),
    /// The mesh file says nothing that can be used.
    Refused(MeshFileError),
    /// This changed of what the control plane says, and more of the same response follows, with
    /// an [`Order::Update`] in the end: before that, nothing is written.
    Portion(Box<Update>),
    /// This changed of what the control plane says.
    Update {
        /// What changed.
        update: Box<Update>,
        /// It has given a complete answer of every type.
        complete: bool,
    },
    /// A hostname has these addresses now.
    Resolved(Name, Vec<IpAddr>),
    /// The control plane cannot be asked.
    Away,
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
    /// For what goes wrong later.
    pub readiness: Readiness,
}

/// Which sources have not yet given a complete answer: until each has, nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The mesh file.
    pub file: bool,
    /// The control plane.
    pub xds: bool,
}

/// The writer. See the module.
pub struct Writer<K> {
    k: K,
    place: Place,
    /// The sources, as people name them.
    sources: Vec<String>,
    _lock: Option<WriterLock>,
    desired: Desired,
    layers: Layers,
    /// The hostnames that are to be resolved.
    names: watch::Sender<Wanted>,
    /// Is to be told what a control plane may have served.
    served: Option<oneshot::Sender<Served>>,
    have: Have,
    pods: Pods,
    live: Live,
    keeper: Keeper,
    status: Arc<Status>,
    tokens: Tokens,
    /// Sources that have not yet given a complete answer.
    awaited: Awaited,
    /// A response of the control plane was taken in part.
    partial: bool,
    /// Something is to be written, from this instant on.
    due: Option<Instant>,
    /// Some of what is wanted found no room: everything is compared again with the next change,
    /// but not before this instant.
    squeezed: Option<Instant>,
    backoff: Duration,
    held: Option<Instant>,
    inspect_at: Instant,
    /// When a sync was last told of.
    told: Option<Instant>,
    /// What was last said of the mesh's oddities.
    oddities: Oddities,
    /// Synced for the first time, and not yet verified.
    unverified: bool,
}

impl<K: Kernel> Writer<K> {
    /// Obeys until [`Order::Stop`] or until nobody can give orders.
    pub fn run(mut self, orders: &Receiver<Order>) {
        'work: loop {
            self.status.beat();
            match orders.recv_timeout(self.wait()) {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(order) => {
                    self.obey(order);
                    // What came in a burst is written at once.
                    for order in orders.try_iter().take(BURST) {
                        if matches!(order, Order::Stop) {
                            break 'work;
                        }
                        self.obey(order);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.work();
        }
        self.keeper.finish(&self.k, &self.place.root, &self.have);
        info!("stopped; everything stays as it is in the kernel");
    }

    fn wait(&self) -> Duration {
        let now = Instant::now();
        let due = self.due.filter(|_| self.may_write());
        let due = due.max(due.and(self.squeezed));
        let soonest = [due, self.keeper.due(), self.live.due()].into_iter().flatten().min();
        let wait = soonest.map_or(TICK, |at| at.saturating_duration_since(now).min(TICK));
        self.held.map_or(wait, |held| wait.max(held.saturating_duration_since(now)))
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Model(model) => self.take(*model),
            Order::Away => self.put_back_if_cut(),
            Order::Resolved(name, ips) => {
                self.desired.answer(&name, ips);
                self.due.get_or_insert_with(Instant::now);
            }
            Order::Portion(update) => {
                self.partial = true;
                self.layers.update(&mut self.desired, *update);
            }
            Order::Update { update, complete } => self.update(*update, complete),
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
                let _ = done.send(self.may_write().then(|| self.wanted()));
            }
            Order::Stop => {}
        }
    }

    fn take(&mut self, mut model: Model) {
        self.tell_served(&model);
        self.pods.want(std::mem::take(&mut model.pods));
        self.layers.file(&mut self.desired, model);
        self.ask_for_names();
        self.awaited.file = false;
        self.due = Some(Instant::now());
        self.tokens.file = None;
        let mut facts = self.status.facts();
        facts.files_taken += 1;
        facts.taken_at = Some(Instant::now());
        facts.refused = None;
        facts.policies = self.desired.policies();
        facts.model = self.desired.counts();
    }

    fn update(&mut self, update: Update, complete: bool) {
        let rest = std::mem::take(&mut self.partial);
        let nothing = update.is_empty() && self.awaited.xds != complete && !rest;
        self.awaited.xds = !complete;
        self.layers.update(&mut self.desired, update);
        self.ask_for_names();
        if !nothing {
            // A write that failed waits for its time.
            self.due.get_or_insert_with(Instant::now);
        }
        let mut facts = self.status.facts();
        facts.policies = self.desired.policies();
        facts.model = self.desired.counts();
    }

    /// Every source has given a complete answer.
    fn is_complete(&self) -> bool {
        !self.awaited.file && !self.awaited.xds
    }

    /// What the sources say is whole.
    fn may_write(&self) -> bool {
        self.is_complete() && !self.partial
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
        self.tell_served(&Model::default());
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
        let due = self.due.max(self.due.and(self.squeezed));
        if due.is_some_and(|due| now >= due) && self.may_write() {
            self.sync();
        }
        if self.is_complete() {
            self.pods.look(&mut self.k, &self.place.root, &mut self.have, &self.status);
        }
        let (root, readiness) = (&self.place.root, &self.tokens.readiness);
        self.pods.watch_hooks(&mut self.k, root, readiness, &self.status);
        self.live.work(&mut self.k, &self.place.root, &self.have, &self.status);
        if std::mem::take(&mut self.unverified) {
            self.verify();
        }
        self.keeper.work(&self.k, &self.place.root, &self.have, &self.status);
    }

    /// Brings the tables to what the sources say.
    fn sync(&mut self) {
        let began = Instant::now();
        self.desired.settle(&self.have);
        let dirty = self.desired.take_dirty();
        let mut change = if dirty.all {
            compile::remaining(&self.desired, &self.have)
        } else {
            compile::changed(&self.desired, &dirty)
        };
        let concerned = dirty.all || self.pods.are_in(&change);
        match converge_by_portions(&mut self.k, &mut self.have, &mut change) {
            Ok(applied) => {
                self.took_hold(concerned, &applied);
                drop(change);
                self.tell(&applied, began);
                self.squeezed = None;
                let mut facts = self.status.facts();
                facts.last_sync = Some(Instant::now());
                facts.failing = None;
                drop(facts);
                self.keeper.note_sync(&self.sources);
                self.unverified = self.tokens.sync.is_some();
            }
            Err(ApplyError::Plan(why @ PlanError::Full { .. })) => {
                self.squeeze(change, why, began);
            }
            Err(why) => self.failed(&why),
        }
    }

    /// A change is in the tables; `concerned`: pods are.
    fn took_hold(&mut self, concerned: bool, applied: &Applied) {
        self.pods.follow(concerned);
        self.live.follow(applied);
        self.status.note_refused(applied);
        self.due = None;
        self.backoff = BACKOFF.0;
        let generation = self.have.meta().generation;
        let mut facts = self.status.facts();
        facts.applies += 1;
        facts.cost.elements += applied.elements;
        facts.cost.calls += applied.calls;
        facts.cost.graces += applied.graces;
        facts.cost.retries += applied.retries;
        if applied.elements > 0 {
            facts.last_write = Some((Instant::now(), applied.elements));
        }
        facts.generation = generation;
        drop(facts);
        self.keeper.note(generation);
    }

    /// Says what a sync was, once a second at most: changes may come by the thousand.
    fn tell(&mut self, applied: &Applied, began: Instant) {
        const PAUSE: Duration = Duration::from_secs(1);
        if self.told.is_some_and(|told| told.elapsed() < PAUSE) {
            return;
        }
        self.told = Some(Instant::now());
        let (services, workloads) = self.desired.counts();
        info!(
            services,
            workloads,
            elements = applied.elements,
            retries = applied.retries,
            ms = began.elapsed().as_millis(),
            "the tables say what the sources say"
        );
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
            error!("{said}; what is in force stays. Change the mesh, or the limit");
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
}
