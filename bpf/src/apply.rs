//! The one interpreter of steps: turns them into batched calls inside a transaction.
//!
//! It decides nothing about what shall be in the tables (that is [`crate::plan`]), and never
//! undoes: on failure the tables are read and planned again.

use crate::kernel::{KernelError, Tables};
use crate::plan::PlanError;
use crate::step::Step;
use crate::tables::{Have, ReadError};
use crate::want::Change;

/// What an application cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Elements written or removed, the two writes of `kmesh_meta` included.
    pub elements: u64,
    /// Mutating calls into the kernel.
    pub calls: u64,
    /// Grace periods waited for.
    pub graces: u64,
    /// Times that a failure made it read and plan again.
    pub retries: u32,
}

/// Called with (elements done, elements in all) after each call into the kernel.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

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

/// Applies `steps`, planned on `have`, as one transaction. No steps: no write.
pub fn apply(
    _k: &mut dyn Tables,
    _have: &mut Have,
    _steps: &[Step],
    _progress: Progress<'_>,
) -> Result<Applied, ApplyError> {
    todo!()
}

/// Plans and applies `change`; on failure reads and plans again, with backoff, a bounded
/// number of times. A full map and a change that cannot be planned are final.
pub fn converge(
    _k: &mut dyn Tables,
    _have: &mut Have,
    _change: &Change,
    _progress: Progress<'_>,
) -> Result<Applied, ApplyError> {
    todo!()
}
