//! What the daemon knows of itself: written by the threads that do the work, read by admin.
//! Nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::denials::DenialFacts;
use crate::desired::Oddities;
use kmesh_bpf::apply::Applied;
use kmesh_bpf::layout::{COUNTERS, RevokedReason};
use kmesh_bpf::tables::Usage;
use rustix::time::{ClockId, clock_gettime};
use tracing::error;

/// How long the writer may be silent before the daemon is taken for hung.
const SILENCE: Duration = Duration::from_secs(30);

/// A phase of the start that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// "adopted": hooks checked and tables read; "decoded": the mesh file read; "ready".
    pub name: &'static str,
    /// From the process' first instruction to its end.
    pub wall: Duration,
    /// CPU time that it took: the process' before its thread began, and the thread's since.
    pub cpu: Duration,
}

/// CPU time of the whole process, or of this thread.
fn cpu(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

/// Measures the start.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    /// The first instruction, nearly.
    pub at: Instant,
    /// CPU time until the threads began.
    pub cpu: Duration,
}

impl Began {
    /// Now, before the first thread is started.
    #[must_use]
    pub fn threads_at(at: Instant) -> Self {
        Self { at, cpu: cpu(ClockId::ProcessCPUTime) }
    }

    /// The phase that ends now, in the thread that did it from its beginning.
    #[must_use]
    pub fn phase(&self, name: &'static str) -> Phase {
        Phase { name, wall: self.at.elapsed(), cpu: self.cpu + cpu(ClockId::ThreadCPUTime) }
    }
}

/// How the control plane does, as a source.
#[derive(Clone, Debug, Default)]
pub struct XdsFacts {
    /// The one that was connected to last.
    pub address: Option<String>,
    /// Since when it is connected.
    pub connected_at: Option<Instant>,
    /// When it last responded.
    pub last_response: Option<Instant>,
    /// The version of all that it knows, as its last response calls it.
    pub version: String,
    /// It has given a complete answer.
    pub complete: bool,
    /// Connections that came about.
    pub connects: u64,
    /// Responses.
    pub responses: u64,
    /// Responses of which something was refused.
    pub nacks: u64,
    /// Resources that were refused since the start.
    pub refusals: u64,
    /// Those that are refused now, why, and since when; the first thousand.
    pub refused: Vec<(String, String, Instant)>,
    /// What of its answer is held back, and why.
    pub held_back: Option<String>,
    /// Why there is no connection.
    pub trouble: Option<String>,
    /// Workloads that it names.
    pub workloads: usize,
    /// Services that it names.
    pub services: usize,
    /// Policies that it names.
    pub policies: usize,
}

/// What became of live connections.
#[derive(Clone, Debug, Default)]
pub struct LiveFacts {
    /// Connections that were judged again.
    pub judged: u64,
    /// Those that were ended, by reason.
    pub ended: BTreeMap<RevokedReason, u64>,
    /// Pods whose connections could not be listed, judged or ended.
    pub errors: u64,
}

/// Facts for admin and metrics.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When the writer was last seen at work.
    pub beat: Instant,
    /// How the start went.
    pub phases: Vec<Phase>,
    /// When the tables last came to say what the sources say.
    pub last_sync: Option<Instant>,
    /// Of `kmesh_meta`.
    pub generation: u64,
    /// Changes that took hold (those that changed nothing, too).
    pub applies: u64,
    /// Changes that did not.
    pub apply_errors: u64,
    /// What they cost in all.
    pub cost: Applied,
    /// Mesh files read and taken.
    pub files_taken: u64,
    /// Mesh files refused.
    pub files_refused: u64,
    /// When the last one was taken.
    pub taken_at: Option<Instant>,
    /// Why the last one was refused, while it is the last one.
    pub refused: Option<String>,
    /// What the sources say that cannot be done as they say it.
    pub oddities: Oddities,
    /// The control plane.
    pub xds: XdsFacts,
    /// When the writer last wrote, and how many elements.
    pub last_write: Option<(Instant, u64)>,
    /// Why the last change did not take hold, while it is the last one.
    pub failing: Option<String>,
    /// Until when writes are held back for a reader.
    pub held: Option<Instant>,
    /// Snapshots that could not be written.
    pub snapshot_errors: u64,
    /// Services and workloads that the sources name.
    pub model: (usize, usize),
    /// Authorization policies that the sources name.
    pub policies: usize,
    /// Those that could not be brought in force as they are written, and why.
    pub policies_refused: Vec<String>,
    /// Pods that are enrolled.
    pub pods: usize,
    /// Pods of `map_of_manager` that pass.
    pub pods_bypassed: usize,
    /// Pods of `map_of_manager` that are governed.
    pub pods_managed: usize,
    /// Pods that are managed and whose connections are not authorized.
    pub pods_unhooked: usize,
    /// Pods whose namespace is not there, or whose hook is not, and why.
    pub pods_waiting: Vec<String>,
    /// Connections that were denied, as far as they were told.
    pub denials: DenialFacts,
    /// Live connections.
    pub live: LiveFacts,
    /// How full the maps are.
    pub usage: Vec<Usage>,
    /// `kmesh_stats`, summed over CPUs, by index.
    pub counters: Vec<u64>,
}

impl Facts {
    /// What the programs counted, by a counter's name.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        let at = COUNTERS.iter().position(|counter| counter.name == name);
        at.and_then(|at| self.counters.get(at)).copied().unwrap_or_default()
    }
}

/// Shared [`Facts`].
#[derive(Debug)]
pub struct Status(Mutex<Facts>);

impl Default for Status {
    fn default() -> Self {
        Self(Mutex::new(Facts {
            beat: Instant::now(),
            phases: Vec::new(),
            last_sync: None,
            generation: 0,
            applies: 0,
            apply_errors: 0,
            cost: Applied::default(),
            files_taken: 0,
            files_refused: 0,
            taken_at: None,
            refused: None,
            oddities: Oddities::default(),
            xds: XdsFacts::default(),
            last_write: None,
            failing: None,
            held: None,
            snapshot_errors: 0,
            model: (0, 0),
            policies: 0,
            policies_refused: Vec::new(),
            pods: 0,
            pods_bypassed: 0,
            pods_managed: 0,
            pods_unhooked: 0,
            pods_waiting: Vec::new(),
            denials: DenialFacts::default(),
            live: LiveFacts::default(),
            usage: Vec::new(),
            counters: Vec::new(),
        }))
    }
}

impl Status {
    /// The facts, to change them.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        // Numbers are whole after any panic, and a panic ends the process anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which policies are not in force as they are written, each time that changes.
    pub fn note_refused(&self, applied: &Applied) {
        let refused: Vec<String> = applied.refused.iter().map(ToString::to_string).collect();
        let mut facts = self.facts();
        for why in refused.iter().filter(|why| !facts.policies_refused.contains(why)) {
            error!("{why}");
        }
        facts.policies_refused = refused;
    }

    /// The writer is at work.
    pub fn beat(&self) {
        self.facts().beat = Instant::now();
    }

    /// Whether the writer was seen at work lately.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.facts().beat.elapsed() < SILENCE
    }
}
