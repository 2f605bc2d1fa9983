//! Tells of denied connections: the ring that the pods' programs fill, read ten times a second,
//! becomes lines of the log, with names. A thread of its own: the writer never waits for it.
//!
//! It is lossy by design, and says so. A storm is told by its first connections and by how many
//! more there were; the kernel's counters count every one. While no daemon runs the ring fills,
//! and what finds no room is counted: what is in it is told at the next start, with its age.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kmesh_bpf::control::DenialSaid;
use kmesh_bpf::denials::{Denial, Namer, Ring, lost_counter};
use kmesh_bpf::kernel::Tables as _;
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::layout::{DenialRecord, Map};
use kmesh_bpf::pins::{self, Root};
use tracing::{info, warn};

use crate::status::Status;

/// How often the ring is looked at: it holds some 900 denials.
const LOOK: Duration = Duration::from_millis(100);
/// Denials of one pod that are logged in a second.
const EACH: u32 = 5;
/// Denials that are logged in a second.
const ALL: u32 = 50;
/// Denials that status remembers.
const REMEMBERED: usize = 10;

/// What was told.
#[derive(Clone, Debug, Default)]
pub struct DenialFacts {
    /// Logged one by one.
    pub logged: u64,
    /// Counted in a line, because they came too fast.
    pub suppressed: u64,
    /// The last ones that were logged, with when they were.
    pub recent: Vec<(Instant, DenialSaid)>,
}

/// Who may still be logged in this second.
#[derive(Debug, Default)]
struct Allowance {
    pods: HashMap<u64, u32>,
    all: u32,
    suppressed: u64,
}

impl Allowance {
    /// Whether a denial of this pod is logged.
    fn take(&mut self, cookie: u64) -> bool {
        let of_pod = self.pods.entry(cookie).or_default();
        let granted = self.all < ALL && *of_pod < EACH;
        if granted {
            self.all += 1;
            *of_pod += 1;
        } else {
            self.suppressed += 1;
        }
        granted
    }

    /// A new second: how many were not logged in the last one.
    fn renew(&mut self) -> u64 {
        std::mem::take(self).suppressed
    }
}

struct Teller {
    k: Linux,
    root: Root,
    ring: Ring,
    namer: Namer,
    allowance: Allowance,
    status: Arc<Status>,
    lost: u64,
}

/// Starts the thread. Without it nothing is told, and everything is decided as ever: a failure is
/// a warning.
pub fn spawn(root: &Root, status: &Arc<Status>) {
    let (root, status) = (root.clone(), Arc::clone(status));
    let open = || -> Result<Teller, Box<dyn std::error::Error>> {
        let mut k = Linux::new();
        pins::open_existing(&mut k, &root)?;
        let ring = Ring::open(&root)?;
        let (namer, allowance) = (Namer::default(), Allowance::default());
        let mut teller = Teller { k, root, ring, namer, allowance, status, lost: 0 };
        teller.lost = teller.lost_so_far();
        Ok(teller)
    };
    let started = open().and_then(|teller| {
        let thread = thread::Builder::new().name("denials".to_owned());
        Ok(thread.spawn(move || teller.run()).map(drop)?)
    });
    if let Err(error) = started {
        warn!("{}; denied connections are counted, and not told", crate::chain(&*error));
    }
}

impl Teller {
    /// Tells until the process ends: what is in the ring then is told by the next one.
    fn run(mut self) {
        let mut second = Instant::now();
        loop {
            while let Some(record) = self.ring.take() {
                if self.allowance.take(record.cookie) {
                    self.tell(&record);
                }
            }
            if second.elapsed() >= Duration::from_secs(1) {
                second = Instant::now();
                self.sum_up();
            }
            thread::sleep(LOOK);
        }
    }

    fn tell(&mut self, record: &DenialRecord) {
        let denial = match self.namer.name(&self.k, &self.root, record) {
            Ok(denial) => denial,
            Err(error) => {
                warn!(cookie = record.cookie, "a connection was denied; {}", crate::chain(&error));
                return;
            }
        };
        let unknown = "unknown";
        info!(
            pod = denial.pod.as_deref().unwrap_or(unknown),
            cookie = denial.cookie,
            source = %denial.source,
            workload = denial.workload.as_deref().unwrap_or(unknown),
            identity = denial.identity.as_deref().unwrap_or("none"),
            destination = %denial.destination,
            reason = denial.reason,
            by = denial.by.as_deref().unwrap_or("-"),
            set = denial.set,
            ago_ms = denial.ago.as_millis(),
            "{}: {}",
            if denial.reason == "dry_run" { "would be denied" } else { "denied" },
            denial.meaning
        );
        let mut facts = self.status.facts();
        facts.denials.logged += 1;
        let recent = &mut facts.denials.recent;
        if recent.len() == REMEMBERED {
            recent.remove(0);
        }
        recent.push((
            Instant::now().checked_sub(denial.ago).unwrap_or_else(Instant::now),
            said(denial),
        ));
    }

    /// What was not told one by one in the last second.
    fn sum_up(&mut self) {
        let suppressed = self.allowance.renew();
        if suppressed > 0 {
            warn!(suppressed, "more connections were denied, too fast to be told one by one");
            self.status.facts().denials.suppressed += suppressed;
        }
        let lost = self.lost_so_far();
        let more = lost.saturating_sub(std::mem::replace(&mut self.lost, lost));
        if more > 0 {
            warn!(lost = more, "denials found no room in the ring: they are counted, not told");
        }
    }

    fn lost_so_far(&self) -> u64 {
        let cpus = self.k.lookup_per_cpu(Map::Stats, lost_counter());
        cpus.map_or(self.lost, |cpus| cpus.iter().sum())
    }
}

/// As `GET /status` says it.
fn said(denial: Denial) -> DenialSaid {
    DenialSaid {
        seconds_ago: 0,
        pod: denial.pod,
        cookie: denial.cookie,
        source: denial.source.to_string(),
        workload: denial.workload,
        identity: denial.identity,
        destination: denial.destination.to_string(),
        reason: denial.reason.to_owned(),
        by: denial.by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pod_takes_not_all_lines_and_the_rest_is_counted() {
        let mut allowance = Allowance::default();
        let of_one = (0..100).filter(|_| allowance.take(1)).count();
        assert_eq!(of_one, EACH as usize);
        assert!(allowance.take(2), "another pod is still told of");
        assert_eq!(allowance.renew(), 95);
        let of_many = (0..1000).filter(|cookie| allowance.take(*cookie)).count();
        assert_eq!(of_many, ALL as usize);
        assert_eq!(allowance.renew(), 950);
        assert_eq!(allowance.renew(), 0);
    }
}
