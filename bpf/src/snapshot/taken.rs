//! What a snapshot says beside the tables: where and of when it is, and which pods there are.

use super::{About, PodEntry, PodMode};
use crate::kernel::Kernel;
use crate::layout::{ManagerWord, POLICY_WAIT};
use crate::pins::Root;
use crate::pods::{self, PodsError};
use crate::tables::{Consistency, Have};
use crate::want::Name;
use crate::{boot, clock};
use std::time::Duration;

impl About {
    /// Where and of when these tables are. The time is that of the last write, so that two
    /// snapshots of one state are the same bytes.
    #[must_use]
    pub fn of(have: &Have, node: Option<String>) -> Self {
        let meta = have.meta();
        let written = (meta.written > 0).then(|| Duration::from_secs(meta.written));
        Self {
            node,
            kernel: Some(boot::kernel_release()),
            boot_id: boot::boot_id().ok(),
            time: written.map(clock::rfc3339),
            generation: Some(meta.generation),
            consistent: Some(have.consistency() != Consistency::Moving),
            unfinished: (meta.generation & 1 == 1).then_some(true),
        }
    }
}

/// The pods that are enrolled, sorted by cookie, with the policies that `have` says of each.
pub fn pod_entries(k: &dyn Kernel, root: &Root, have: &Have) -> Result<Vec<PodEntry>, PodsError> {
    let records = pods::list(k, root)?.into_iter().filter(|record| record.word.is_some());
    let set = |record: &pods::Record| record.word.map(ManagerWord::policy_set);
    let entry = |record: pods::Record| PodEntry {
        policies: set(&record).map_or_else(Vec::new, |set| names(have, set)),
        waits: set(&record) == Some(POLICY_WAIT),
        mode: if record.bypass() { PodMode::Bypass } else { PodMode::Managed },
        cookie: record.cookie,
        uid: record.uid.map(Into::into),
        netns: record.netns.map(|path| path.display().to_string()),
    };
    Ok(records.map(entry).collect())
}

/// The policies of a set.
fn names(have: &Have, set: u16) -> Vec<Name> {
    have.set_policies(set).iter().map(|policy| policy.name.clone()).collect()
}
