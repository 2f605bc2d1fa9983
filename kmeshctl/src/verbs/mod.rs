//! One file per verb. Each turns its arguments into calls of `kmesh_bpf` and words; none has a
//! rule of its own.

pub mod completions;
pub mod dump;
pub mod explain;
pub mod guard;
pub mod man;
pub mod purge;
pub mod restore;
mod rollback;
pub mod status;
pub mod verify;

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use kmesh_bpf::snapshot::Snapshot;

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All is good.
    Good,
    /// Something differs, is wrong or is left.
    Differs,
}

impl End {
    /// Good, if this holds.
    #[must_use]
    pub fn good_if(good: bool) -> Self {
        if good { Self::Good } else { Self::Differs }
    }

    /// Good, if both are.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::good_if(self == Self::Good && other == Self::Good)
    }
}

/// Reads a snapshot; `-` is standard input.
fn read_snapshot(file: &Path) -> anyhow::Result<Snapshot> {
    if file == Path::new("-") {
        return Ok(Snapshot::read(std::io::stdin().lock(), "standard input")?);
    }
    let from = File::open(file).with_context(|| format!("open {}", file.display()))?;
    Ok(Snapshot::read(from, &file.display().to_string())?)
}
