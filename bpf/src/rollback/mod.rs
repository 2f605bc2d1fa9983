//! A restore that goes back by itself unless it is confirmed in time.
//!
//! ```text
//!  begin:  rollback.json.state  what the tables and pods say now, a snapshot
//!          rollback.json        who restores what, who guards, until when: from here on it is pending
//!  settle: the restore is done: the time is counted anew from its end
//!  then:   confirm (the record is taken away) or claim (it becomes rollback.json.going)
//!          and go back: restore the snapshot, take the new pods back, remove the files
//! ```
//!
//! Confirming and claiming are one rename each: only one of them can succeed. A record of another
//! boot means nothing: what it guarded went with the kernel's memory. Of a guardian that died the
//! record tells: whoever looks says so, and confirming or going back by hand ends it. It refuses
//! to have two pending at once.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use crate::boot::{self, BootError};
use crate::files::{self, FileError};
use crate::kernel::Kernel;
use crate::pending::{self, Enrolled, Pending, Process, Stage, Unreadable};
use crate::pins::{self, PinsError, Root};
use crate::places::{
    ROLLBACK, ROLLBACK_CONFIRMED, ROLLBACK_GOING, ROLLBACK_STATE, left_unfinished,
};
use crate::pods::{self, PodsError};
use crate::restore::{self, Place, RestoreError, Restored, Wanted};
use crate::snapshot::{About, Snapshot, SnapshotError, pod_entries};
use crate::tables::Have;

/// Why a rollback could not be prepared, ended or done.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// Another restore waits.
    #[error("{pending}")]
    Pending {
        /// Which, and what to do.
        pending: Box<Pending>,
    },
    /// Nothing is installed: there is no state to go back to.
    #[error(
        "nothing is installed, so there is no state to go back to: restore without \
         --rollback-after; kmeshctl purge takes everything away again"
    )]
    NothingBefore,
    /// Somebody else confirmed it or began to go back in the same moment.
    #[error("the restore was confirmed or taken back a moment ago; see: kmeshctl status")]
    TooLate,
    /// The record or the state cannot be read.
    #[error(transparent)]
    Unreadable(Unreadable),
    /// A file could not be written.
    #[error("prepare the way back")]
    File(#[source] FileError),
    /// A file could not be renamed or removed.
    #[error("{op} {}", path.display())]
    Rename {
        /// What was attempted.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// This machine does not say which boot it is.
    #[error("look at this machine")]
    Boot(#[source] BootError),
    /// The pods could not be listed or taken back.
    #[error("look after the pods")]
    Pods(#[source] PodsError),
    /// The saved state is of no use.
    #[error("read the state to go back to")]
    State(#[source] SnapshotError),
    /// The state could not be read or restored.
    #[error("go back to the state before")]
    Restore(#[source] RestoreError),
}

/// Refuses beside a pending restore; one of another boot is forgotten, and told.
pub fn none_pending(state_dir: &Path) -> Result<Option<Pending>, RollbackError> {
    let Some(pending) = pending::load(state_dir).map_err(RollbackError::Unreadable)? else {
        return Ok(None);
    };
    if pending.boot_id == boot::boot_id().map_err(RollbackError::Boot)? {
        return Err(RollbackError::Pending { pending: Box::new(pending) });
    }
    forget(state_dir)?;
    Ok(Some(pending))
}

/// Before the first write: saves the state, then the record. `have`: the tables as they are.
pub fn begin(
    k: &dyn Kernel,
    root: &Root,
    state_dir: &Path,
    have: &Have,
    wanted: &Wanted,
    (file, after): (String, Duration),
) -> Result<Pending, RollbackError> {
    let boot_id = boot::boot_id().map_err(RollbackError::Boot)?;
    let pods = pod_entries(k, root, have).map_err(RollbackError::Pods)?;
    let is_new = |cookie| pods.iter().all(|pod| pod.cookie != cookie);
    let new = wanted.pods().iter().filter(|pod| is_new(pod.cookie));
    let enrols = new
        .map(|pod| Enrolled {
            cookie: pod.cookie,
            uid: pod.uid.as_deref().unwrap_or_default().to_owned(),
        })
        .collect();
    let about = About { boot_id: Some(boot_id.clone()), ..About::default() };
    let snapshot = Snapshot::of(have, about, Some(pods));
    files::replace(state_dir, ROLLBACK_STATE, &mut |out| snapshot.write_json(out))
        .map_err(RollbackError::File)?;
    let pending = Pending::new(boot_id, file, after, enrols);
    write(state_dir, ROLLBACK, &pending)?;
    Ok(pending)
}

/// Writes the record anew, where it still is.
pub fn update(state_dir: &Path, pending: &Pending) -> Result<(), RollbackError> {
    write(state_dir, ROLLBACK, pending)
}

/// What is in force stays: the record goes, then the rest.
pub fn confirm(state_dir: &Path) -> Result<(), RollbackError> {
    take(state_dir, ROLLBACK_CONFIRMED)?;
    forget(state_dir)
}

/// From here on only the claimer may go back; it is `pending`'s guardian now.
pub fn claim(state_dir: &Path, pending: &mut Pending) -> Result<(), RollbackError> {
    if pending.stage != Stage::Going {
        take(state_dir, ROLLBACK_GOING)?;
    }
    pending.stage = Stage::Going;
    pending.guardian = Some(Process::this());
    write(state_dir, ROLLBACK_GOING, pending)
}

/// Restores the state before, takes new pods back, and forgets. The caller holds the writer's
/// lock, and has claimed.
pub fn go_back(
    k: &mut dyn Kernel,
    place: Place<'_>,
    state_dir: &Path,
    pending: &Pending,
) -> Result<Restored, RollbackError> {
    let path = state_dir.join(ROLLBACK_STATE);
    let from = fs::File::open(&path)
        .map_err(|source| RollbackError::Unreadable(Unreadable { path: path.clone(), source }))?;
    let origin = path.display().to_string();
    let snapshot = Snapshot::read(from, &origin).map_err(RollbackError::State)?;
    let wanted = Wanted::new(snapshot, Vec::new(), None).map_err(RollbackError::Restore)?;
    let new: Vec<_> = pending.enrols.iter().map(|pod| (pod.cookie, pod.uid.as_str())).collect();
    let restore = |k: &mut dyn Kernel, wanted| {
        restore::run(k, place, wanted, &mut |_, _| {}).map_err(RollbackError::Restore)
    };
    if !new.is_empty() {
        match pins::open_existing(k, place.root) {
            Ok(()) => {}
            // The restore mends it.
            Err(PinsError::Missing { .. }) => drop(restore(k, wanted.clone())?),
            Err(why) => return Err(RollbackError::Restore(RestoreError::Pins(why))),
        }
        pods::take_back(k, place.root, &new).map_err(RollbackError::Pods)?;
    }
    let restored = restore(k, wanted)?;
    forget(state_dir)?;
    Ok(restored)
}

/// Removes the record, whatever stage it is in, then what it names; and what a process that was
/// killed was writing of them.
pub fn forget(state_dir: &Path) -> Result<(), RollbackError> {
    for name in [ROLLBACK, ROLLBACK_GOING, ROLLBACK_STATE, ROLLBACK_CONFIRMED] {
        let path = state_dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(RollbackError::Rename { op: "remove", path, source }),
            Ok(()) => files::flush_dir(state_dir).map_err(RollbackError::File)?,
        }
    }
    for path in left_unfinished(state_dir, &[ROLLBACK, ROLLBACK_STATE]) {
        // Gone already, or verify names it.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

fn take(state_dir: &Path, name: &str) -> Result<(), RollbackError> {
    let path = state_dir.join(ROLLBACK);
    match fs::rename(&path, state_dir.join(name)) {
        Ok(()) => files::flush_dir(state_dir).map_err(RollbackError::File),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(RollbackError::TooLate),
        Err(source) => Err(RollbackError::Rename { op: "rename", path, source }),
    }
}

fn write(state_dir: &Path, name: &str, pending: &Pending) -> Result<(), RollbackError> {
    let written =
        files::replace(state_dir, name, &mut |out| pending.write(out)).map_err(RollbackError::File);
    written.map(|_| ())
}

#[cfg(test)]
mod tests;
