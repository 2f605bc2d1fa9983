//! The one interpreter of steps: turns them into batched calls inside a transaction.
//!
//! A transaction makes the generation odd and says how far the tables now reach, writes the
//! steps in their order, runs of one kind in one call, and makes the generation even. The
//! mirror follows each call that succeeded. It decides nothing about what shall be in the
//! tables (that is [`crate::plan`]), and never undoes: after a failure the tables are read and
//! planned again.

mod bytes;
mod portions;

use std::net::IpAddr;
use std::time::Duration;

use crate::check;
use crate::clock;
use crate::kernel::{KernelError, Outcome, Put, Tables};
use crate::layout::{AuthSetRecord, HookRecord, Map, MetaRecord};
use crate::plan::{Plan, PlanError, Refused, plan_judged};
use crate::step::Step;
use crate::tables::{Consistency, Have, ReadError};
use crate::want::Change;

use bytes::{alike, bytes_of, map, reaching};
pub use portions::converge_by_portions;

/// What an application cost, and whom it concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Elements written or removed, the writes of `kmesh_meta` included.
    pub elements: u64,
    /// Mutating calls into the kernel.
    pub calls: u64,
    /// Grace periods waited for.
    pub graces: u64,
    /// Times that a failure made it read and plan again.
    pub retries: u32,
    /// Policies that could not be brought in force: what was stays.
    pub refused: Vec<Refused>,
    /// Pods by netns cookie whose policy set is another now: connections made before are judged
    /// again.
    pub flipped: Vec<u64>,
    /// Addresses whose identity came, went or changed: likewise, of their connections.
    pub sources: Vec<IpAddr>,
}

/// Called with (elements done, elements in all) after each call into the kernel.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Elements of one call, so that progress is seen and the kernel can breathe.
const BATCH: usize = 4096;
/// How often a change is tried.
const TRIES: u32 = 6;
/// The wait before the second try; each later one is four times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// Why a change did not take hold.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel refused a call; what was written before it stays, and is safe.
    #[error("write the tables")]
    Kernel(#[source] KernelError),
    /// The change cannot be planned; nothing was written.
    #[error("plan the change")]
    Plan(#[source] PlanError),
    /// After a failure the tables could not be read again.
    #[error("read the tables again after a failed write")]
    Read(#[source] ReadError),
}

impl ApplyError {
    /// Whether the same change may succeed later without anyone doing anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Kernel(KernelError::Full { .. }) => false,
            Self::Kernel(_) | Self::Read(_) => true,
            Self::Plan(error) => *error == PlanError::Stale,
        }
    }
}

/// Applies `plan`, made on `have`, as one transaction. No steps: no write, but a generation
/// that a dead writer left odd is closed.
pub fn apply(
    k: &mut dyn Tables,
    have: &mut Have,
    plan: &Plan,
    progress: Progress<'_>,
) -> Result<Applied, ApplyError> {
    let mut applied = Applied::default();
    transact(k, have, plan, progress, &mut applied)?;
    Ok(applied)
}

/// As [`apply`]; `applied` says what was done also where it fails on the way.
fn transact(
    k: &mut dyn Tables,
    have: &mut Have,
    plan: &Plan,
    progress: Progress<'_>,
    applied: &mut Applied,
) -> Result<(), ApplyError> {
    let steps = &plan.steps;
    applied.refused.clone_from(&plan.refused);
    let open = have.meta.generation & 1 == 1;
    if steps.is_empty() && !open {
        have.remember(plan);
        return Ok(());
    }
    applied.sources.extend(&plan.sources);
    let graces = steps.iter().filter(|step| **step == Step::Grace).count() as u64;
    let total = steps.len() as u64 - graces + if steps.is_empty() { 1 } else { 2 };
    let mut writer = Writer { k, have, progress, total, applied };
    match writer.transaction(steps) {
        Ok(()) => {
            have.remember(plan);
            Ok(())
        }
        Err(source) => {
            have.stale = true;
            Err(ApplyError::Kernel(source))
        }
    }
}

/// Plans and applies `change`; on failure reads and plans again, with backoff, a bounded
/// number of times. A full map and a change that cannot be planned are final: what was in
/// force stays.
pub fn converge(
    k: &mut dyn Tables,
    have: &mut Have,
    change: &Change,
    progress: Progress<'_>,
) -> Result<Applied, ApplyError> {
    let invalid = |source| ApplyError::Plan(PlanError::Invalid(source));
    check::validate(change).map_err(invalid)?;
    converge_judged(k, have, change, None, progress)
}

/// As [`converge`], for a change that was judged before: one that a snapshot stands for. `first`:
/// the steps that it needs, if they were planned on `have` already.
pub(crate) fn converge_judged(
    k: &mut dyn Tables,
    have: &mut Have,
    change: &Change,
    mut first: Option<Plan>,
    progress: Progress<'_>,
) -> Result<Applied, ApplyError> {
    let mut sum = Applied::default();
    let mut pause = FIRST_PAUSE;
    loop {
        let mut done = Applied::default();
        let attempted = attempt(k, have, change, first.take(), progress, &mut done);
        sum.concern(&mut done);
        let error = match attempted {
            // what was cleared may be room for what was refused
            Ok(true) if !done.refused.is_empty() => {
                sum.count(&done);
                continue;
            }
            Ok(_) => {
                sum.count(&done);
                sum.refused = done.refused;
                return Ok(sum);
            }
            Err(error) => error,
        };
        sum.retries += 1;
        if !error.may_pass() || sum.retries >= TRIES {
            close(k, have);
            return Err(error);
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "write failed; trying again");
        std::thread::sleep(pause);
        pause *= 4;
    }
}

/// One try; whether it freed places of policy sets.
fn attempt(
    k: &mut dyn Tables,
    have: &mut Have,
    change: &Change,
    planned: Option<Plan>,
    progress: Progress<'_>,
    done: &mut Applied,
) -> Result<bool, ApplyError> {
    have.reread(k).map_err(ApplyError::Read)?;
    let plan = match planned {
        Some(plan) => plan,
        None => plan_judged(have, change).map_err(ApplyError::Plan)?,
    };
    transact(k, have, &plan, progress, done)?;
    let clears = |step: &Step| matches!(step, Step::AuthSet { record, .. } if record.flags & AuthSetRecord::VALID == 0);
    Ok(plan.steps.iter().any(clears))
}

impl Applied {
    /// Adds what a try cost.
    fn count(&mut self, done: &Self) {
        self.elements += done.elements;
        self.calls += done.calls;
        self.graces += done.graces;
    }

    /// Adds another change's; what was refused of the last one is what is.
    fn add(&mut self, mut other: Self) {
        self.count(&other);
        self.retries += other.retries;
        self.concern(&mut other);
        self.refused = other.refused;
    }

    /// Adds whom a try concerned, also one that failed.
    fn concern(&mut self, done: &mut Self) {
        self.flipped.append(&mut done.flipped);
        self.flipped.sort_unstable();
        self.flipped.dedup();
        self.sources.append(&mut done.sources);
        self.sources.sort_unstable();
        self.sources.dedup();
    }
}

/// After the last failure: whatever prefix was written is safe, so readers need not wait.
fn close(k: &mut dyn Tables, have: &mut Have) {
    let closed = have.reread(k).map_err(ApplyError::Read).and_then(|()| {
        let (unstored, refused) = (have.unstored.clone(), have.refused.clone());
        let nothing = Plan { refused, unstored, ..Plan::default() };
        if have.stale { Ok(Applied::default()) } else { apply(k, have, &nothing, &mut |_, _| {}) }
    });
    if let Err(error) = closed {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "the generation stays odd until the next write");
    }
}

impl Have {
    /// Keeps what is not in the tables of a plan that was applied.
    fn remember(&mut self, plan: &Plan) {
        self.unstored.clone_from(&plan.unstored);
        self.refused.clone_from(&plan.refused);
    }

    /// Reads everything again if a write failed part-way.
    pub fn reread(&mut self, k: &dyn Tables) -> Result<(), ReadError> {
        if self.stale {
            let (unstored, refused) = (self.unstored.clone(), self.refused.clone());
            *self = Self { signature: self.signature, unstored, refused, ..Self::read_locked(k)? };
        }
        Ok(())
    }
}

struct Writer<'a> {
    k: &'a mut dyn Tables,
    have: &'a mut Have,
    progress: Progress<'a>,
    total: u64,
    applied: &'a mut Applied,
}

impl Writer<'_> {
    fn transaction(&mut self, steps: &[Step]) -> Result<(), KernelError> {
        if !steps.is_empty() {
            let mut meta = reaching(self.have.meta, steps);
            meta.hooks = self.hooks()?;
            meta.generation |= 1;
            (meta.writer_pid, meta.writer_start) = self.have.signature;
            meta.written = clock::wall_clock().as_secs();
            self.write_meta(meta)?;
        }
        for run in steps.chunk_by(alike) {
            for part in run.chunks(BATCH) {
                self.write(part)?;
            }
        }
        let mut meta = self.have.meta;
        meta.generation = (meta.generation | 1).wrapping_add(1);
        self.write_meta(meta)?;
        self.have.consistency = Consistency::Settled;
        self.have.release_reserved();
        Ok(())
    }

    /// The hooks' records as they are: whoever attaches writes them between transactions.
    fn hooks(&self) -> Result<[HookRecord; 8], KernelError> {
        let mut meta = MetaRecord::default();
        self.k.lookup(Map::Meta, &0_u32.to_ne_bytes(), bytemuck::bytes_of_mut(&mut meta))?;
        Ok(meta.hooks)
    }

    fn write_meta(&mut self, meta: MetaRecord) -> Result<(), KernelError> {
        self.k.update(Map::Meta, &0_u32.to_ne_bytes(), bytemuck::bytes_of(&meta), Put::Any)?;
        self.have.follow_meta(meta);
        self.done(1, 1);
        Ok(())
    }

    /// Writes steps of one kind, then follows them.
    fn write(&mut self, steps: &[Step]) -> Result<(), KernelError> {
        match steps.first() {
            None => return Ok(()),
            Some(Step::Grace) => {
                self.k.grace()?;
                self.have.follow(&Step::Grace);
                self.applied.graces += 1;
                return Ok(());
            }
            Some(Step::Manager { .. }) => return self.write_managers(steps),
            Some(Step::RemoveFrontend { .. }) => {
                let (keys, _) = bytes_of(steps);
                self.k.delete_batch(Map::Frontend, &keys)?;
            }
            Some(first) => {
                let (keys, values) = bytes_of(steps);
                self.k.update_batch(map(first), &keys, &values)?;
            }
        }
        for step in steps {
            self.have.follow(step);
        }
        self.done(steps.len() as u64, 1);
        Ok(())
    }

    /// Pods come and go outside of the generation: one that went is not made again.
    fn write_managers(&mut self, steps: &[Step]) -> Result<(), KernelError> {
        for step in steps {
            let Step::Manager { cookie, word } = step else {
                continue;
            };
            let (key, value) = (cookie.to_ne_bytes(), bytemuck::bytes_of(word));
            match self.k.update(Map::Manager, &key, value, Put::Exist)? {
                Outcome::Done => {
                    let old = self.have.managers.get(cookie).copied().unwrap_or_default();
                    if old.policy_set() != word.policy_set() {
                        self.applied.flipped.push(*cookie);
                    }
                    self.have.follow(step);
                }
                Outcome::Unmet => self.have.note_manager(*cookie, None),
            }
            self.done(1, 1);
        }
        Ok(())
    }

    fn done(&mut self, elements: u64, calls: u64) {
        self.applied.elements += elements;
        self.applied.calls += calls;
        (self.progress)(self.applied.elements, self.total);
    }
}
