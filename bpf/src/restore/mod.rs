//! Restore: makes the tables say what a snapshot says, and enrols its pods.
//!
//! ```text
//!  snapshot → wanted → (preview) → adopt maps and hooks → plan, apply → enrol → verify
//! ```
//!
//! Everything is judged before the first write: the file by `snapshot::read`, the rest by a plan
//! on what is there. It refuses another node's snapshot unless told otherwise. Interrupted
//! anywhere: the same restore again converges. The caller holds the writer's lock.

mod preview;
mod wanted;

use std::path::{Path, PathBuf};

pub use preview::{Changed, Changes, Preview};
pub use wanted::{LeftOut, Wanted};

use crate::apply::{self, Applied, ApplyError, Progress};
use crate::attach::{AttachError, HooksAdopted, adopt_hooks};
use crate::boot::BootError;
use crate::check::{Finding, Severity};
use crate::clock;
use crate::kernel::{Kernel, KernelError};
use crate::layout::Limits;
use crate::memory::MemoryKernel;
use crate::netns::{self, NetnsError};
use crate::pins::{self, MapsAdopted, PinsError, Root};
use crate::plan::{Plan, PlanError, plan_judged};
use crate::pods::{self, Pod, PodsError};
use crate::snapshot::{PodEntry, PodMode};
use crate::tables::{Have, ReadError};
use crate::verify::{self, Report, VerifyError};
use crate::want::Change;

/// Where to restore.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The pins.
    pub root: &'a Root,
    /// The cgroup whose connections are governed.
    pub cgroup: &'a Path,
}

/// Why a restore was refused or failed. What was written before stays, and is safe.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot is of another node.
    #[error(
        "the snapshot is of node {of}, this is {here}: which endpoints a node uses depends on \
         where it stands; to restore it all the same, say --any-node"
    )]
    OtherNode {
        /// The node that it was taken on.
        of: String,
        /// This node.
        here: String,
    },
    /// A part that is neither in the snapshot nor in the tables.
    #[error("{part} is neither in the snapshot nor in the tables; see: kmeshctl dump")]
    NoSuchPart {
        /// "service NAME", "workload UID" or "policy NAME".
        part: String,
    },
    /// Policies are asked for, and the snapshot says nothing of them.
    #[error(
        "the snapshot says nothing of policies (no `policies` in it): those in force are kept; \
         leave policies out of --only, or take a snapshot anew: kmeshctl dump all -o json"
    )]
    NoPolicies,
    /// This machine does not say which boot it is.
    #[error("look at this machine")]
    Boot(#[source] BootError),
    /// Which network namespaces are alive is not known.
    #[error("find out which pods of the snapshot are alive")]
    Alive(#[source] NetnsError),
    /// The kernel did not say what is pinned.
    #[error("look at what is pinned in {}", root.display())]
    Kernel {
        /// The root.
        root: PathBuf,
        /// What it said.
        #[source]
        source: KernelError,
    },
    /// The maps could not be adopted.
    #[error("adopt the maps")]
    Pins(#[source] PinsError),
    /// The hooks could not be adopted.
    #[error("adopt the hooks")]
    Hooks(#[source] AttachError),
    /// The tables could not be read.
    #[error("read the tables")]
    Tables(#[source] ReadError),
    /// The snapshot does not fit what is there; nothing was written.
    #[error("plan the restore; nothing was written")]
    Plan(#[source] PlanError),
    /// A write failed.
    #[error("restore the tables; what is there is safe: mend the cause, then run this again")]
    Apply(#[source] ApplyError),
    /// A pod could not be enrolled or listed.
    #[error("restore the pods; run this again")]
    Pods(#[source] PodsError),
    /// It could not be verified.
    #[error("verify what was restored")]
    Verify(#[source] VerifyError),
}

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// What the tables cost.
    pub applied: Applied,
    /// What was done to the maps before.
    pub maps: MapsAdopted,
    /// What was done to the hooks before.
    pub hooks: HooksAdopted,
    /// Services and waypoints that the snapshot named.
    pub services: usize,
    /// Workloads that it named.
    pub workloads: usize,
    /// Policies that it named; `None`: it says nothing of them, those in force are kept.
    pub policies: Option<usize>,
    /// Pods that it named and that are alive.
    pub pods: usize,
    /// What is not as it should be, of the objects, the tables and what was wanted.
    pub report: Report,
}

/// What there is to restore upon.
enum Ground {
    /// Nothing is pinned.
    Empty,
    /// All maps are there.
    Tables(Box<Have>),
    /// Something is missing: adopting mends it, or says why not.
    Broken(PinsError),
}

/// What would be written where; writes nothing.
pub fn preview(
    k: &mut dyn Kernel,
    place: Place<'_>,
    wanted: Wanted,
) -> Result<Preview, RestoreError> {
    let (have, there) = match present(k, place.root)? {
        None => (empty(&Limits::default())?, Vec::new()),
        Some(have) => (have, pods::list(k, place.root).map_err(RestoreError::Pods)?),
    };
    let (pods, left_out) = (wanted.pods().to_vec(), wanted.left_out().to_vec());
    let says_policies = wanted.says_policies();
    let change = wanted.into_change(&have)?;
    let plan = plan_judged(&have, &change).map_err(RestoreError::Plan)?;
    let preview = Preview::new(&have, &change, &plan.steps, &there, pods, left_out);
    Ok(Preview { keeps_policies: !says_policies, ..preview })
}

/// Restores. `progress` is told of elements written and to write.
pub fn run(
    k: &mut dyn Kernel,
    place: Place<'_>,
    wanted: Wanted,
    progress: Progress<'_>,
) -> Result<Restored, RestoreError> {
    let ground = ground(k, place.root)?;
    let (pods, says_policies) = (wanted.pods().to_vec(), wanted.says_policies());
    let (first, change) = match ground {
        Ground::Tables(have) => {
            let change = wanted.into_change(&have)?;
            let steps = plan_judged(&have, &change).map_err(RestoreError::Plan)?;
            (Some((have, steps)), change)
        }
        Ground::Empty | Ground::Broken(_) => {
            let nothing = empty(&Limits::default())?;
            let change = wanted.into_change(&nothing)?;
            if matches!(ground, Ground::Empty) {
                plan_judged(&nothing, &change).map_err(RestoreError::Plan)?;
            }
            (None, change)
        }
    };
    let mut restored = Restored {
        services: change.services.len(),
        workloads: change.workloads.len(),
        policies: says_policies.then_some(change.policies.len()),
        pods: pods.len(),
        ..Restored::default()
    };
    let have = tables(k, place, first, &change, &mut restored, progress)?;
    enrol(k, place.root, &have, &pods)?;
    drop(have);
    restored.report = verified(k, place, &change)?;
    Ok(restored)
}

/// What the tables say now; `None` where nothing is installed.
pub fn present(k: &mut dyn Kernel, root: &Root) -> Result<Option<Have>, RestoreError> {
    match ground(k, root)? {
        Ground::Empty => Ok(None),
        Ground::Tables(have) => Ok(Some(*have)),
        Ground::Broken(why) => Err(RestoreError::Pins(why)),
    }
}

fn ground(k: &mut dyn Kernel, root: &Root) -> Result<Ground, RestoreError> {
    let kernel = |source| RestoreError::Kernel { root: root.path().to_owned(), source };
    if k.list(&root.maps()).map_err(kernel)?.is_none_or(|pins| pins.is_empty()) {
        return Ok(Ground::Empty);
    }
    match pins::open_existing(k, root) {
        Ok(()) => {
            let have = Have::read_locked(k).map_err(RestoreError::Tables)?;
            Ok(Ground::Tables(Box::new(have)))
        }
        Err(why @ PinsError::Missing { .. }) => Ok(Ground::Broken(why)),
        Err(why) => Err(RestoreError::Pins(why)),
    }
}

/// Tables that hold nothing.
fn empty(limits: &Limits) -> Result<Have, RestoreError> {
    Have::read(&MemoryKernel::with_tables(limits)).map_err(RestoreError::Tables)
}

/// Adopts maps and hooks of this build, and applies: the plan that was made, if adopting changed
/// nothing that it stands on.
fn tables(
    k: &mut dyn Kernel,
    place: Place<'_>,
    first: Option<(Box<Have>, Plan)>,
    change: &Change,
    restored: &mut Restored,
    progress: Progress<'_>,
) -> Result<Have, RestoreError> {
    let limits = pins::kept_limits(k, place.root);
    let maps = pins::adopt_maps(k, place.root, &limits).map_err(RestoreError::Pins)?;
    let peername = match &change.settings {
        Some(settings) => settings.peername,
        None => Have::read_settings(k).map_err(RestoreError::Tables)?.peername,
    };
    let hooks =
        adopt_hooks(k, place.root, place.cgroup, &limits, peername).map_err(RestoreError::Hooks)?;
    // Their programs, too, are on the maps of now before these are written. One that stays behind
    // is told of in the end.
    let _ = pods::adopt(k, place.root, &netns::find).map_err(RestoreError::Pods)?;
    let same = [&maps.repinned, &maps.created, &maps.resized].iter().all(|maps| maps.is_empty())
        && [&hooks.replaced, &hooks.attached, &hooks.repinned, &hooks.removed]
            .iter()
            .all(|hooks| hooks.is_empty());
    (restored.maps, restored.hooks) = (maps, hooks);
    let planned = first.filter(|_| same);
    let (mut have, plan) = match planned {
        Some((have, plan)) => (*have, Some(plan)),
        None => (Have::read_locked(k).map_err(RestoreError::Tables)?, None),
    };
    have.sign(std::process::id(), clock::process_start());
    let applied = apply::converge_judged(k, &mut have, change, plan, progress);
    restored.applied = applied.map_err(RestoreError::Apply)?;
    Ok(have)
}

fn enrol(
    k: &mut dyn Kernel,
    root: &Root,
    have: &Have,
    entries: &[PodEntry],
) -> Result<(), RestoreError> {
    for entry in entries {
        let uid = entry.uid.as_deref().unwrap_or_default().to_owned();
        let standing = have.standing(&uid, None);
        let pod = Pod {
            cookie: entry.cookie,
            uid,
            netns: entry.netns.clone().unwrap_or_default().into(),
            bypass: entry.mode == PodMode::Bypass,
        };
        let done = pods::enrol(k, root, &pod, standing).map_err(RestoreError::Pods)?;
        if let Err(why) = done.hook {
            tracing::debug!("{why}; its namespace is looked for elsewhere");
        }
    }
    hook_pods(k, root)
}

/// Brings the hook of every pod to this build; one that stays without is an error.
fn hook_pods(k: &mut dyn Kernel, root: &Root) -> Result<(), RestoreError> {
    let adopted = pods::adopt(k, root, &netns::find).map_err(RestoreError::Pods)?;
    match adopted.failed.into_iter().next() {
        Some((_, why)) => Err(RestoreError::Pods(why)),
        None => Ok(()),
    }
}

/// Looks at everything, and whether the tables now say what is wanted: then nothing is left to
/// plan.
fn verified(k: &mut dyn Kernel, place: Place<'_>, change: &Change) -> Result<Report, RestoreError> {
    let mut report =
        verify::verify(k, place.root, place.cgroup, None).map_err(RestoreError::Verify)?;
    let have = Have::read_locked(k).map_err(RestoreError::Tables)?;
    let Plan { steps, refused, .. } = plan_judged(&have, change).map_err(RestoreError::Plan)?;
    for refused in refused {
        report.findings.push(Finding {
            severity: Severity::Error,
            layer: "difference",
            object: place.root.path().display().to_string(),
            problem: refused.to_string(),
            fix: "raise the limit that it names, then restore again".to_owned(),
        });
    }
    if !steps.is_empty() {
        report.findings.push(Finding {
            severity: Severity::Error,
            layer: "difference",
            object: place.root.path().display().to_string(),
            problem: format!("{} elements are not as restored", steps.len()),
            fix: "see who else writes (kmeshctl status), then restore again".to_owned(),
        });
    }
    Ok(report)
}

#[cfg(test)]
mod tests;
