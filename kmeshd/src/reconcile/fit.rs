//! What is taken of a change that the tables have no room for.
//!
//! ```text
//!  change → base: removals, what is there already, policies, pods of this node
//!         → the rest: services that are new or gain new workloads, each with these; then new
//!           workloads alone: as many as there is room for, in the order of their names
//! ```
//! So a mesh that has grown too large freezes nothing: what is in force is kept up to date. It
//! refuses a change whose base alone does not fit. A service whose workloads all are left out is
//! published as never synced: its connections pass unchanged. A waypoint's are refused.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use kmesh_bpf::apply::{ApplyError, converge};
use kmesh_bpf::kernel::Kernel;
use kmesh_bpf::layout::Map;
use kmesh_bpf::plan::PlanError;
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::{Change, Kind, Service, ServiceKey, Workload};

use tracing::error;

use super::Writer;
use crate::model::Name;

/// The rest is not divided more finely than into so many parts.
const PARTS: usize = 128;

/// So many times as long as it took, a squeezed mesh is left alone before it is compared again; and
/// the longest that is: a removed endpoint waits so long.
const REST: (u32, Duration) = (10, Duration::from_secs(30));

type Services = Vec<(ServiceKey, Option<Service>)>;
type Workloads = Vec<(Name, Option<Workload>)>;

/// What found no room.
struct Left {
    /// Services, by port and family, whose endpoints are not all there, or that are not.
    services: usize,
    /// Workloads.
    workloads: usize,
    /// Which map cannot hold everything.
    why: PlanError,
    /// Which one stood in the way at last, if that is another.
    then: Option<PlanError>,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { services, workloads, why, then } = self;
        let then = then.as_ref().map(|then| format!("; {then}")).unwrap_or_default();
        write!(
            f,
            "{why}{then}. Left out: {services} services, {workloads} workloads; the rest is "
        )?;
        f.write_str("in force")
    }
}

impl<K: Kernel> Writer<K> {
    /// Does what can be done of a change that does not fit, for `why`.
    pub(super) fn squeeze(&mut self, mut change: Change, why: PlanError, began: Instant) {
        let mut rest = Rest::split(&self.have, &mut change, &self.pods.uids());
        let left = match self.fill(change, &mut rest, why) {
            Ok(left) => left.map(|left| left.to_string()),
            Err(why) => return self.failed(&why),
        };
        self.pods.follow(true);
        // Which of it is in the tables is not known one by one.
        self.desired.mark_all();
        let now = Instant::now();
        if left.is_some() {
            self.squeezed = Some(now + (began.elapsed() * REST.0).min(REST.1));
        } else {
            // It only stood in its own way.
            self.due = Some(now);
        }
        if let (Some(token), Some(left)) = (&self.tokens.sync, &left) {
            token.because(left);
        }
        let mut facts = self.status.facts();
        facts.apply_errors += u64::from(left.is_some());
        if let Some(left) = left.as_ref().filter(|left| facts.failing.as_ref() != Some(left)) {
            error!("{left}. Change the mesh, or the limit");
        }
        facts.failing = left;
    }

    /// Applies `base`, then as much of the rest as there is room for; says what is left of it.
    fn fill(
        &mut self,
        base: Change,
        rest: &mut Rest,
        why: PlanError,
    ) -> Result<Option<Left>, ApplyError> {
        self.put(&base)?;
        drop(base);
        let smallest = rest.units.len().div_ceil(PARTS);
        let mut size = rest.units.len();
        let mut then = why.clone();
        while size > 0 && !rest.units.is_empty() {
            let (part, units) = rest.take(size);
            match self.put(&part) {
                Ok(()) => {}
                Err(ApplyError::Plan(full @ PlanError::Full { .. })) => {
                    then = full;
                    rest.put_back(part, units);
                    size = if size > smallest { (size / 2).max(smallest) } else { 0 };
                }
                Err(error) => return Err(error),
            }
        }
        let (services, workloads) = (rest.services.len(), rest.workloads.len());
        let then = (map_of(&then) != map_of(&why)).then_some(then);
        Ok((!rest.units.is_empty()).then_some(Left { services, workloads, why, then }))
    }

    fn put(&mut self, part: &Change) -> Result<(), ApplyError> {
        let applied = converge(&mut self.k, &mut self.have, part, &mut |_, _| {})?;
        self.took_hold(self.pods.are_in(part), &applied);
        Ok(())
    }
}

/// Workloads that are new, and not yet part of a unit. There may be half a million: none is moved
/// but into its unit.
struct New {
    list: Vec<Option<(Name, Option<Workload>)>>,
    at: HashMap<Name, usize>,
}

impl New {
    fn of(workloads: Workloads) -> Self {
        let at = workloads.iter().enumerate().map(|(at, (uid, _))| (uid.clone(), at)).collect();
        Self { list: workloads.into_iter().map(Some).collect(), at }
    }

    fn take(&mut self, uid: &Name) -> Option<(Name, Option<Workload>)> {
        self.list[self.at.remove(uid)?].take()
    }

    /// Those that no unit has.
    fn left(self) -> Workloads {
        self.list.into_iter().flatten().collect()
    }
}

/// What is new, in units that are taken or left out whole; the next one is the last.
#[derive(Debug, Default)]
struct Rest {
    services: Services,
    workloads: Workloads,
    /// How many services and workloads each unit has.
    units: Vec<(usize, usize)>,
}

impl Rest {
    /// Takes out of `change` what is not its base.
    fn split(have: &Have, change: &mut Change, first: &HashSet<Name>) -> Self {
        let old = |uid: &Name| have.backend(uid).is_some() || first.contains(uid);
        let (base, new): (Workloads, Workloads) = std::mem::take(&mut change.workloads)
            .into_iter()
            .partition(|(uid, workload)| workload.is_none() || old(uid));
        change.workloads = base;
        let mut new = New::of(new);
        let mut services: Services = Vec::new();
        for (key, record) in std::mem::take(&mut change.services) {
            let known = key.kind == Kind::Waypoint || have.service(&key).is_some();
            match record {
                Some(record) if gains(&record, &new) => {
                    if known {
                        let part = without(&record, key.kind, &new);
                        change.services.push((key.clone(), Some(part)));
                    }
                    services.push((key, Some(record)));
                }
                Some(record) if !known => services.push((key, Some(record))),
                record => change.services.push((key, record)),
            }
        }
        // Waypoints first: what goes there is refused until they are whole.
        services.sort_unstable_by(|(a, _), (b, _)| (b.kind, a).cmp(&(a.kind, b)));
        let mut rest = Self::default();
        for (key, record) in services {
            rest.unit(key, record, &mut new);
        }
        let mut alone = new.left();
        alone.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        rest.units.extend(std::iter::repeat_n((0, 1), alone.len()));
        rest.workloads.append(&mut alone);
        // The next one is the last.
        rest.units.reverse();
        rest.services.reverse();
        rest.workloads.reverse();
        rest
    }

    /// Adds a service with those of its workloads that no service before it has; the ports of one
    /// service stay together.
    fn unit(&mut self, key: ServiceKey, record: Option<Service>, new: &mut New) {
        let endpoints = record.iter().flat_map(|record| &record.endpoints);
        let workloads = endpoints.filter_map(|endpoint| new.take(&endpoint.workload));
        let before = self.workloads.len();
        self.workloads.extend(workloads);
        let count = (1, self.workloads.len() - before);
        let same = self.services.last().is_some_and(|(last, _)| last.name == key.name);
        match self.units.last_mut() {
            Some(unit) if same => *unit = (unit.0 + count.0, unit.1 + count.1),
            _ => self.units.push(count),
        }
        self.services.push((key, record));
    }

    /// The next units, at most `count` of them.
    fn take(&mut self, count: usize) -> (Change, Vec<(usize, usize)>) {
        let units = self.units.split_off(self.units.len().saturating_sub(count));
        let sum = |(a, b): (usize, usize), unit: &(usize, usize)| (a + unit.0, b + unit.1);
        let (services, workloads) = units.iter().fold((0, 0), sum);
        let part = Change {
            services: self.services.split_off(self.services.len() - services),
            workloads: self.workloads.split_off(self.workloads.len() - workloads),
            ..Change::default()
        };
        (part, units)
    }

    /// What was taken last did not fit.
    fn put_back(&mut self, mut part: Change, mut units: Vec<(usize, usize)>) {
        self.services.append(&mut part.services);
        self.workloads.append(&mut part.workloads);
        self.units.append(&mut units);
    }
}

/// Which map is full.
fn map_of(error: &PlanError) -> Option<Map> {
    match error {
        PlanError::Full { map, .. } => Some(*map),
        _ => None,
    }
}

/// Whether some of a service's endpoints are new workloads.
fn gains(record: &Service, new: &New) -> bool {
    record.endpoints.iter().any(|endpoint| new.at.contains_key(&endpoint.workload))
}

/// A service with those of its endpoints that are no new workloads.
fn without(record: &Service, kind: Kind, new: &New) -> Service {
    let mut part = record.clone();
    part.endpoints.retain(|endpoint| !new.at.contains_key(&endpoint.workload));
    // That it has no endpoints is not what the sources say.
    part.synced &= kind == Kind::Waypoint || !part.endpoints.is_empty();
    part
}
