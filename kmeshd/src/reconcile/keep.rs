//! What a reboot needs: the last snapshot, in the state directory.
//!
//! Written a moment after a change, by a thread of its own (the disk may be slow), as a whole:
//! aside, flushed, renamed. Which state it holds is noted in the run directory, so that a start
//! that changes nothing writes nothing.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use kmesh_bpf::boot;
use kmesh_bpf::files::{FileError, replace};
use kmesh_bpf::kernel::Kernel;
use kmesh_bpf::last_sync::LastSync;
use kmesh_bpf::pins::Root;
use kmesh_bpf::places::{
    LAST_SNAPSHOT, LAST_SYNC, RUN_FILES, SNAPSHOT, STATE_FILES, left_unfinished,
};
use kmesh_bpf::snapshot::{About, Snapshot, SnapshotError, pod_entries};
use kmesh_bpf::tables::Have;
use serde::{Deserialize, Serialize};
use tracing::{debug, error};

use crate::config::Place;
use crate::status::Status;

/// How long after a change the snapshot is written: changes come in bursts.
const SETTLE: Duration = Duration::from_secs(1);
/// How often the last sync is noted at most.
const NOTE: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Which state the snapshot holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LastSnapshot {
    boot_id: String,
    generation: u64,
    bytes: u64,
}

/// The snapshot of the state directory.
#[derive(Debug)]
pub(super) enum Last {
    /// It is there and of this node.
    Snapshot(Box<Snapshot>),
    /// There is none.
    None,
    /// It is there and of no use.
    Unusable(String),
}

/// Keeps the last snapshot. See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    state_dir: PathBuf,
    run_dir: PathBuf,
    node: String,
    boot_id: Option<String>,
    /// The generation that the file holds.
    kept: Option<u64>,
    due: Option<Instant>,
    /// When the last sync was noted.
    noted: Option<Instant>,
    writing: Option<(u64, Receiver<bool>)>,
}

impl Keeper {
    /// A keeper of tables at `generation`.
    pub(super) fn new(place: &Place, node: &str, generation: u64) -> Self {
        let boot_id = boot::boot_id().ok();
        let mut keeper = Self {
            state_dir: place.state_dir.clone(),
            run_dir: place.run_dir.clone(),
            node: node.to_owned(),
            boot_id,
            kept: None,
            due: None,
            noted: None,
            writing: None,
        };
        keeper.tidy();
        keeper.kept = keeper.kept_generation();
        debug!(generation, kept = ?keeper.kept, "last snapshot");
        keeper
    }

    /// Removes what earlier processes left unfinished.
    fn tidy(&self) {
        for (dir, names) in [(&self.state_dir, STATE_FILES), (&self.run_dir, RUN_FILES)] {
            for path in left_unfinished(dir, names) {
                // Gone already, or verify names it.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// The id of this boot.
    pub(super) fn boot_id(&self) -> Option<String> {
        self.boot_id.clone()
    }

    fn file(&self) -> PathBuf {
        self.state_dir.join(SNAPSHOT)
    }

    /// What the run directory says of the file, if that is still the file.
    fn kept_generation(&self) -> Option<u64> {
        let text = fs::read(self.run_dir.join(LAST_SNAPSHOT)).ok()?;
        let last: LastSnapshot = serde_json::from_slice(&text).ok()?;
        let bytes = fs::metadata(self.file()).ok()?.len();
        let same = Some(&last.boot_id) == self.boot_id.as_ref() && last.bytes == bytes;
        same.then_some(last.generation)
    }

    /// The snapshot on disk, if it is of this node.
    pub(super) fn last(&self) -> Last {
        let path = self.file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Last::None,
            Err(error) => return Last::Unusable(format!("read {}: {error}", path.display())),
        };
        let parsed: Result<Snapshot, SnapshotError> =
            Snapshot::parse(&text, &path.display().to_string());
        match parsed {
            Ok(snapshot) if snapshot.about.node.as_ref() == Some(&self.node) => {
                Last::Snapshot(Box::new(snapshot))
            }
            Ok(snapshot) => {
                let node = snapshot.about.node.unwrap_or_default();
                let here = &self.node;
                Last::Unusable(format!("{} is of node {node}, this is {here}", path.display()))
            }
            Err(why) => Last::Unusable(crate::chain(&why)),
        }
    }

    /// The tables are at this generation now.
    pub(super) fn note(&mut self, generation: u64) {
        let same = match &self.writing {
            Some((writing, _)) => *writing == generation,
            None => self.kept == Some(generation),
        };
        if !same {
            self.due = Some(Instant::now() + SETTLE);
        }
    }

    /// The tables say all that the sources say, now: a note for those who ask when the daemon is
    /// gone. It may be lost, so a failure is no more than a word.
    pub(super) fn note_sync(&mut self, sources: &[String]) {
        if self.noted.is_some_and(|noted| noted.elapsed() < NOTE) {
            return;
        }
        self.noted = Some(Instant::now());
        let note = LastSync::now(self.boot_id.clone().unwrap_or_default(), sources.to_vec());
        let text = serde_json::to_vec(&note).unwrap_or_default();
        let noted = replace(&self.run_dir, LAST_SYNC, &mut |file| file.write_all(&text));
        if let Err(why) = noted {
            debug!("note the last sync: {}", crate::chain(&why));
        }
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a snapshot is on its way to the disk.
    #[cfg(test)]
    pub(super) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Begins to write if it is time, and takes note of what was written.
    pub(super) fn work(&mut self, k: &dyn Kernel, root: &Root, have: &Have, status: &Status) {
        if let Some((generation, done)) = &self.writing {
            match done.try_recv() {
                Err(mpsc::TryRecvError::Empty) => return,
                Ok(true) => self.kept = Some(*generation),
                Ok(false) | Err(mpsc::TryRecvError::Disconnected) => {
                    status.facts().snapshot_errors += 1;
                    self.due = Some(Instant::now() + AGAIN);
                }
            }
            self.writing = None;
        }
        if self.due.is_some_and(|due| Instant::now() >= due) {
            self.due = None;
            self.begin(k, root, have);
        }
    }

    /// Before the end: what is due is written now, what is being written is waited for.
    pub(super) fn finish(&mut self, k: &dyn Kernel, root: &Root, have: &Have) {
        if let Some((_, done)) = self.writing.take() {
            let _ = done.recv_timeout(SETTLE);
        }
        if self.due.take().is_some() {
            self.begin(k, root, have);
            if let Some((_, done)) = self.writing.take() {
                let _ = done.recv_timeout(SETTLE);
            }
        }
    }

    fn begin(&mut self, k: &dyn Kernel, root: &Root, have: &Have) {
        let generation = have.meta().generation;
        let about = About::of(have, Some(self.node.clone()));
        let snapshot = Snapshot::of(have, about, pod_entries(k, root, have).ok());
        let (state_dir, run_dir) = (self.state_dir.clone(), self.run_dir.clone());
        let boot_id = self.boot_id.clone().unwrap_or_default();
        let (tell, done) = mpsc::channel();
        self.writing = Some((generation, done));
        std::thread::spawn(move || {
            let wrote = write(&snapshot, &state_dir).and_then(|bytes| {
                let last = LastSnapshot { boot_id, generation, bytes };
                let text = serde_json::to_vec(&last).unwrap_or_default();
                replace(&run_dir, LAST_SNAPSHOT, &mut |file| file.write_all(&text)).map(|_| ())
            });
            if let Err(why) = &wrote {
                error!("keep the last snapshot: {}; trying again in 30 s", crate::chain(why));
            }
            // The writer may have ended meanwhile.
            let _ = tell.send(wrote.is_ok());
        });
    }
}

fn write(snapshot: &Snapshot, dir: &Path) -> Result<u64, FileError> {
    replace(dir, SNAPSHOT, &mut |file| snapshot.write_json(file))
}
