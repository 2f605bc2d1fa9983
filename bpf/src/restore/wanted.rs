//! What of a snapshot shall be restored here: the parts asked for, of this node, and of its pods
//! those that live.

use std::collections::HashSet;

use serde::Serialize;

use super::RestoreError;
use crate::boot;
use crate::netns;
use crate::snapshot::{Only, PodEntry, Snapshot};
use crate::tables::Have;
use crate::want::Change;

/// What shall be restored.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Without pods.
    snapshot: Snapshot,
    /// None: all.
    only: Vec<Only>,
    pods: Vec<PodEntry>,
    left_out: Vec<LeftOut>,
}

/// A pod of the snapshot that cannot be enrolled here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its uid, where the snapshot says it.
    pub uid: Option<String>,
    /// Its netns cookie.
    pub cookie: u64,
    /// Why.
    pub why: &'static str,
}

impl Wanted {
    /// The parts of `snapshot` that `only` names, or all; `node`: this node's name, unless any
    /// node's snapshot will do.
    pub fn new(
        mut snapshot: Snapshot,
        only: Vec<Only>,
        node: Option<&str>,
    ) -> Result<Self, RestoreError> {
        if let (Some(of), Some(here)) = (&snapshot.about.node, node)
            && of != here
        {
            return Err(RestoreError::OtherNode { of: of.clone(), here: here.to_owned() });
        }
        let has_pods = only.is_empty() || only.contains(&Only::Pods);
        let pods = snapshot.pods.take().filter(|_| has_pods).unwrap_or_default();
        let (pods, left_out) = living(snapshot.about.boot_id.as_deref(), pods)?;
        Ok(Self { snapshot, only, pods, left_out })
    }

    /// Pods that will be enrolled.
    #[must_use]
    pub fn pods(&self) -> &[PodEntry] {
        &self.pods
    }

    /// Whether it says which policies there shall be.
    #[must_use]
    pub fn says_policies(&self) -> bool {
        self.snapshot.policies.is_some()
    }

    /// Pods that will not.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The change that makes the tables say this, the policy sets of the pods that will be enrolled
    /// included.
    pub(super) fn into_change(self, have: &Have) -> Result<Change, RestoreError> {
        let pods = self.pods.iter().filter_map(|pod| pod.uid.clone()).collect();
        Ok(Change { pods, ..self.into_content(have)? })
    }

    fn into_content(self, have: &Have) -> Result<Change, RestoreError> {
        let asks = |part: &Only| matches!(part, Only::Policies | Only::Policy(_));
        if self.snapshot.policies.is_none() && self.only.iter().any(asks) {
            return Err(RestoreError::NoPolicies);
        }
        let snapshot = self.snapshot.keeping_policies(have);
        if self.only.is_empty() {
            return Ok(snapshot.into_change());
        }
        let change = snapshot.into_partial(&self.only, have);
        for part in &self.only {
            let (there, part) = match part {
                Only::Service(name) => {
                    let mut keys = change.services.iter().map(|(key, _)| &*key.name);
                    (keys.any(|there| there == name), format!("service {name}"))
                }
                Only::Workload(uid) => {
                    let mut uids = change.workloads.iter().map(|(uid, _)| &**uid);
                    (uids.any(|there| there == uid), format!("workload {uid}"))
                }
                Only::Policy(name) => {
                    let mut names = change.policies.iter().map(|(name, _)| &**name);
                    (names.any(|there| there == name), format!("policy {name}"))
                }
                Only::Settings | Only::Services | Only::Workloads | Only::Policies | Only::Pods => {
                    continue;
                }
            };
            if !there {
                return Err(RestoreError::NoSuchPart { part });
            }
        }
        Ok(change)
    }
}

/// The pods that can be enrolled: cookies mean something only under the boot that gave them, and
/// while their namespace lives.
fn living(
    boot_id: Option<&str>,
    pods: Vec<PodEntry>,
) -> Result<(Vec<PodEntry>, Vec<LeftOut>), RestoreError> {
    let left_out = |why| {
        move |pod: PodEntry| LeftOut {
            uid: pod.uid.as_deref().map(str::to_owned),
            cookie: pod.cookie,
            why,
        }
    };
    if pods.is_empty() {
        return Ok((pods, Vec::new()));
    }
    let here = boot::boot_id().map_err(RestoreError::Boot)?;
    if boot_id != Some(&here) {
        let left_out = left_out("it was saved under another boot");
        return Ok((Vec::new(), pods.into_iter().map(left_out).collect()));
    }
    let alive: HashSet<u64> = netns::alive_cookies().map_err(RestoreError::Alive)?;
    let (living, dead): (Vec<_>, Vec<_>) =
        pods.into_iter().partition(|pod| alive.contains(&pod.cookie));
    let dead = dead.into_iter().map(left_out("its network namespace is gone"));
    Ok((living, dead.collect()))
}
