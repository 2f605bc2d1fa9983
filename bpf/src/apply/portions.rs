//! Large changes in portions: a plan holds each step in memory, and a first answer of a control
//! plane may be 100,000 workloads.
//!
//! Only new workloads that nothing in the tables stands in the way of go ahead of the rest, as if
//! their source had named them earlier. It refuses what [`converge`](super::converge) refuses, and
//! as that does: where not everything fits, it writes nothing of its own.

use hashbrown::HashSet;

use super::{Applied, ApplyError, converge_judged};
use crate::check;
use crate::kernel::Tables;
use crate::layout::{FrontendKey, Map};
use crate::plan::PlanError;
use crate::tables::{Have, chunks_of};
use crate::want::{Change, Workload};

/// Workloads of one portion; few in tests, whose worlds are small.
const PORTION: usize = if cfg!(test) { 2 } else { 8192 };

/// As [`converge`](super::converge); a large change is taken apart, and what was written ahead is no
/// longer in it.
pub fn converge_by_portions(
    k: &mut dyn Tables,
    have: &mut Have,
    change: &mut Change,
) -> Result<Applied, ApplyError> {
    let invalid = |source| ApplyError::Plan(PlanError::Invalid(source));
    check::validate(change).map_err(invalid)?;
    let mut sum = Applied::default();
    if change.workloads.len() > 2 * PORTION && !change.all_workloads && fits(have, change) {
        ahead(k, have, change, &mut sum)?;
    }
    sum.add(converge_judged(k, have, change, None, &mut |_, _| {})?);
    Ok(sum)
}

/// Writes the new workloads that can go ahead.
fn ahead(
    k: &mut dyn Tables,
    have: &mut Have,
    change: &mut Change,
    sum: &mut Applied,
) -> Result<(), ApplyError> {
    let mut later = Vec::new();
    let mut portion = Change::default();
    let mut write = |have: &mut Have, portion: &mut Change| {
        sum.add(converge_judged(k, have, portion, None, &mut |_, _| {})?);
        portion.workloads.clear();
        Ok(())
    };
    for (uid, workload) in std::mem::take(&mut change.workloads) {
        if workload.as_ref().is_some_and(|workload| is_apart(have, &uid, workload)) {
            portion.workloads.push((uid, workload));
        } else {
            later.push((uid, workload));
        }
        if portion.workloads.len() == PORTION {
            write(have, &mut portion)?;
        }
    }
    change.workloads = later;
    if portion.workloads.is_empty() { Ok(()) } else { write(have, &mut portion) }
}

/// Whether a workload is new, and names and claims nothing of others.
fn is_apart(have: &Have, uid: &str, workload: &Workload) -> bool {
    let claimed = |key: FrontendKey| have.frontends.get(&key).is_some();
    workload.waypoint.is_none()
        && have.backend(uid).is_none()
        && !workload.addresses.iter().any(|address| claimed(FrontendKey::workload(*address)))
}

/// Whether there is room for all of it, by the most that it can take.
fn fits(have: &Have, change: &Change) -> bool {
    let workloads =
        change.workloads.iter().filter_map(|(uid, workload)| Some((uid, workload.as_ref()?)));
    let services =
        change.services.iter().filter_map(|(key, service)| Some((key, service.as_ref()?)));
    let (mut backends, mut frontends) = (0, 0);
    let mut texts: HashSet<&str> = HashSet::new();
    for (uid, workload) in workloads {
        backends += 1;
        frontends += workload.addresses.len() as u64;
        texts.insert(uid);
        texts.extend(workload.identity.as_deref());
    }
    for (key, service) in services {
        frontends += service.vips.len() as u64;
        texts.insert(&key.name);
    }
    let names: u64 = texts.iter().map(|text| u64::from(chunks_of(text.len()))).sum();
    have.usage().into_iter().all(|usage| {
        let more = match usage.map {
            Map::Backend => backends,
            Map::Frontend => frontends,
            Map::Names => names,
            _ => 0,
        };
        usage.used + more <= u64::from(usage.limit)
    })
}
