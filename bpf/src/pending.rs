//! The record of a restore that is not confirmed yet: what is written of it, and what it says to
//! people. Who writes it and what becomes of it: [`crate::rollback`].

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{self, process_start_of};
use crate::places::{ROLLBACK, ROLLBACK_GOING};

/// The version of the record.
const VERSION: u32 = 1;

/// A restore that is not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pending {
    /// Of this record.
    version: u32,
    /// The boot that it belongs to.
    pub boot_id: String,
    /// What was restored.
    pub file: String,
    /// How far it is.
    pub stage: Stage,
    /// Milliseconds from the end of the restore to the way back.
    after_ms: u64,
    /// Milliseconds since boot when it goes back.
    deadline_ms: u64,
    /// Who restores.
    pub restorer: Process,
    /// Who waits, and goes back.
    pub guardian: Option<Process>,
    /// Pods that the restore enrols anew.
    pub enrols: Vec<Enrolled>,
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read {}; `kmeshctl restore --confirm` keeps what is in force and forgets it", path.display())]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// What is pending under `state_dir`, if anything.
pub fn load(state_dir: &Path) -> Result<Option<Pending>, Unreadable> {
    // A claim may come between the looks.
    for name in [ROLLBACK, ROLLBACK_GOING, ROLLBACK] {
        let path = state_dir.join(name);
        let parsed = match std::fs::read(&path) {
            Ok(text) => Pending::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Unreadable { path, source }),
        };
        let mut pending = parsed.map_err(|reason| {
            let source = io::Error::new(io::ErrorKind::InvalidData, reason);
            Unreadable { path, source }
        })?;
        if name == ROLLBACK_GOING {
            pending.stage = Stage::Going;
        }
        return Ok(Some(pending));
    }
    Ok(None)
}

/// How far a pending restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Tables are being written.
    Restoring,
    /// Done; to be confirmed.
    Waiting,
    /// On its way back.
    Going,
}

/// A process, known for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, in ticks since boot.
    pub start: u64,
}

/// A pod that a restore enrols anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Enrolled {
    /// Its netns cookie.
    pub cookie: u64,
    /// Its workload's uid.
    pub uid: String,
}

impl Process {
    /// This process.
    #[must_use]
    pub fn this() -> Self {
        Self { pid: std::process::id(), start: clock::process_start() }
    }

    /// The process with this id, if there is one.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, start: process_start_of(pid)? })
    }

    /// Whether it still runs: one that is dead and not buried yet does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        let Ok(pid) = i32::try_from(self.pid) else { return false };
        let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
        stat.is_ok_and(|stat| stat.starttime == self.start && !matches!(stat.state, 'Z' | 'X'))
    }
}

impl Pending {
    pub(crate) fn new(
        boot_id: String,
        file: String,
        after: Duration,
        enrols: Vec<Enrolled>,
    ) -> Self {
        let mut pending = Self {
            version: VERSION,
            boot_id,
            file,
            stage: Stage::Restoring,
            after_ms: after.as_millis().try_into().unwrap_or(u64::MAX),
            deadline_ms: 0,
            restorer: Process::this(),
            guardian: None,
            enrols,
        };
        pending.count_anew();
        pending
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let pending: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if pending.version != VERSION {
            return Err(format!("its version is {}, this build's {VERSION}", pending.version));
        }
        Ok(pending)
    }

    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        out.write_all(b"\n")
    }

    /// The restore is done: it waits from now on.
    pub fn settle(&mut self) {
        self.stage = Stage::Waiting;
        self.count_anew();
    }

    fn count_anew(&mut self) {
        let now = u64::try_from(clock::since_boot().as_millis()).unwrap_or(u64::MAX);
        self.deadline_ms = now.saturating_add(self.after_ms);
    }

    /// What is left until it goes back by itself.
    #[must_use]
    pub fn left(&self) -> Duration {
        Duration::from_millis(self.deadline_ms).saturating_sub(clock::since_boot())
    }

    /// Whether somebody is there to go back by himself.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.guardian.is_some_and(Process::is_alive)
    }

    /// Whether the restore itself is still at work.
    #[must_use]
    pub fn is_restoring(&self) -> bool {
        self.stage == Stage::Restoring && self.restorer.is_alive()
    }
}

impl fmt::Display for Pending {
    /// What is pending, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.file;
        let seconds = self.left().as_secs();
        let guardian = self.guardian.map_or(0, |guardian| guardian.pid);
        if self.is_restoring() {
            return write!(f, "{file} is being restored by process {}; wait", self.restorer.pid);
        }
        match (self.stage, self.is_guarded()) {
            (Stage::Waiting, true) => write!(
                f,
                "the restore of {file} waits to be confirmed: kmeshctl restore --confirm keeps \
                 it, --rollback goes back now; by itself it goes back in {seconds} s (process \
                 {guardian})"
            ),
            (Stage::Restoring, true) => write!(
                f,
                "the restore of {file} was interrupted: kmeshctl restore --rollback goes back now, \
                 by itself it goes back in {seconds} s (process {guardian}); then run it again"
            ),
            (Stage::Going, true) => {
                write!(f, "process {guardian} is going back to the state before {file}; wait")
            }
            (Stage::Waiting, false) => write!(
                f,
                "the restore of {file} was not confirmed, and its guardian is gone, so that it \
                 does not go back by itself: kmeshctl restore --confirm keeps it, --rollback goes \
                 back"
            ),
            (Stage::Restoring | Stage::Going, false) => write!(
                f,
                "the restore of {file}, or the way back from it, was interrupted, and its guardian \
                 is gone: kmeshctl restore --rollback goes back, --confirm keeps what is there"
            ),
        }
    }
}
