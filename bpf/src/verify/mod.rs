//! Verify: is everything as it should be, from the pins down to the last reference?
//!
//! ```text
//!  pins ↔ links ↔ programs ↔ layout ↔ references ↔ counts ↔ pods ↔ file
//! ```
//!
//! One fault is one finding: a layer that stands on a broken one is not judged. Every finding
//! names what mends it. Nothing is written, no lock is taken.

mod hooks;
mod host;
mod maps;
mod pods;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::Serialize;

use crate::attach::AttachError;
use crate::check::{self, Finding, Severity};
use crate::kernel::{Kernel, KernelError};
use crate::lock::{self, LockError};
use crate::netns::NetnsError;
use crate::pins::Root;
use crate::pods::PodsError;
use crate::snapshot::Snapshot;
use crate::tables::{Consistency, Have, ReadError};

/// What verify found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// By layer; none when all is well.
    pub findings: Vec<Finding>,
    /// A writer changed the tables under every look: they were not judged.
    #[serde(skip)]
    pub moving: bool,
}

impl Report {
    /// Whether nothing is wrong; there may be warnings.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Error)
    }
}

/// Why it could not look.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The kernel did not answer.
    #[error("look at what is pinned in {}", root.display())]
    Kernel {
        /// The root.
        root: std::path::PathBuf,
        /// What it said.
        #[source]
        source: KernelError,
    },
    /// The hooks could not be looked at.
    #[error("look at the hooks")]
    Hooks(#[source] AttachError),
    /// The tables could not be read.
    #[error("look at the tables")]
    Tables(#[source] ReadError),
    /// The pods could not be listed.
    #[error("look at the pods")]
    Pods(#[source] PodsError),
    /// Whether a writer is alive is not known.
    #[error("look at the writer's lock")]
    Lock(#[source] LockError),
    /// Whose BPF file system it is is not known.
    #[error("look at the BPF file system")]
    FileSystem(#[source] LockError),
    /// Which network namespaces are alive is not known.
    #[error("look at the pods' network namespaces")]
    Alive(#[source] NetnsError),
}

/// The directories on disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    /// What outlives a reboot.
    pub state_dir: &'a Path,
    /// What does not.
    pub run_dir: &'a Path,
}

/// As [`verify`], and looks at the machine around it: the BPF file system, the files on disk. Hands
/// on the tables, where they could be judged.
pub fn verify_node(
    k: &mut dyn Kernel,
    root: &Root,
    cgroup: &Path,
    disk: Disk<'_>,
    against: Option<&Snapshot>,
) -> Result<(Report, Option<Have>), VerifyError> {
    let mut findings: Vec<_> =
        host::file_system(root).map_err(VerifyError::FileSystem)?.into_iter().collect();
    let (report, have) = look(k, root, cgroup, against)?;
    findings.extend(report.findings);
    findings.extend(host::files(disk.state_dir, disk.run_dir));
    Ok((Report { findings, moving: report.moving }, have))
}

/// Looks at everything under `root` and at `cgroup`, and at `against`, if given.
pub fn verify(
    k: &mut dyn Kernel,
    root: &Root,
    cgroup: &Path,
    against: Option<&Snapshot>,
) -> Result<Report, VerifyError> {
    look(k, root, cgroup, against).map(|(report, _)| report)
}

fn look(
    k: &mut dyn Kernel,
    root: &Root,
    cgroup: &Path,
    against: Option<&Snapshot>,
) -> Result<(Report, Option<Have>), VerifyError> {
    let kernel = |source| VerifyError::Kernel { root: root.path().to_owned(), source };
    if k.list(root.path()).map_err(kernel)?.is_none_or(|entries| entries.is_empty()) {
        return Ok((Report { findings: vec![nothing(root)], moving: false }, None));
    }
    let maps = maps::look(k, root).map_err(kernel)?;
    let mut findings = maps.findings;
    let mut have = if findings.is_empty() { read(k, &mut findings)? } else { None };
    let moving = match &have {
        Some(have) => is_moving(root, have)?,
        None => false,
    };
    if moving {
        findings.push(self::moving());
        have = None;
    }
    let peername = have.as_ref().map(|have| have.settings().peername);
    findings.extend(hooks::look(k, root, cgroup, &maps.sound, peername)?);
    if let Some(have) = &have {
        findings.extend(check::check(have));
        findings.extend(pods::look(k, root)?);
        if let Some(against) = against {
            findings.extend(check::compare(have, against));
        }
    }
    Ok((Report { findings, moving }, have))
}

/// Reads the tables; what keeps it from that is a finding where an operator can mend it.
fn read(k: &dyn Kernel, findings: &mut Vec<Finding>) -> Result<Option<Have>, VerifyError> {
    match Have::read(k) {
        Ok(have) => Ok(Some(have)),
        Err(error @ ReadError::Layout { .. }) => {
            findings.push(Finding {
                severity: Severity::Error,
                layer: "layout",
                object: "kmesh_meta".to_owned(),
                problem: error.to_string(),
                fix: "use the build that wrote it, or kmeshctl purge".to_owned(),
            });
            Ok(None)
        }
        Err(error @ ReadError::Kernel(_)) => Err(VerifyError::Tables(error)),
    }
}

/// Whether a writer is at work. An odd generation that nobody holds the lock for is a dead one's.
fn is_moving(root: &Root, have: &Have) -> Result<bool, VerifyError> {
    Ok(match have.consistency() {
        Consistency::Settled => false,
        Consistency::Moving => true,
        Consistency::LeftOpen => lock::holder(root).map_err(VerifyError::Lock)?.is_some(),
    })
}

fn nothing(root: &Root) -> Finding {
    Finding {
        severity: Severity::Error,
        layer: "pins",
        object: root.path().display().to_string(),
        problem: "nothing is installed here".to_owned(),
        fix: "start kmeshd, or kmeshctl restore FILE".to_owned(),
    }
}

fn moving() -> Finding {
    Finding {
        severity: Severity::Error,
        layer: "generation",
        object: "kmesh_meta".to_owned(),
        problem: "a writer was at work at every look: the tables were not judged".to_owned(),
        fix: "run kmeshctl verify again".to_owned(),
    }
}
