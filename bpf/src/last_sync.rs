//! When the tables last came to say all that the sources say: a note of the daemon in the run
//! directory, for those who ask after its end.
//!
//! The note may be lost, and one of another boot says nothing: then the age is not known.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::boot;
use crate::clock::since_boot;
use crate::places::LAST_SYNC;

/// The note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastSync {
    /// The boot that `at_seconds` belongs to.
    pub boot_id: String,
    /// `CLOCK_BOOTTIME` at the end of the sync, in seconds.
    pub at_seconds: u64,
    /// The sources that had given a complete answer: kind and name.
    pub sources: Vec<String>,
}

impl LastSync {
    /// The note that says "now".
    #[must_use]
    pub fn now(boot_id: String, sources: Vec<String>) -> Self {
        Self { boot_id, at_seconds: since_boot().as_secs(), sources }
    }

    /// The note in this run directory, if there is one of this boot.
    #[must_use]
    pub fn read(run_dir: &Path) -> Option<Self> {
        let text = std::fs::read(run_dir.join(LAST_SYNC)).ok()?;
        let note: Self = serde_json::from_slice(&text).ok()?;
        (boot::boot_id().ok()? == note.boot_id).then_some(note)
    }

    /// How long ago that was.
    #[must_use]
    pub fn age(&self) -> Duration {
        Duration::from_secs(since_boot().as_secs().saturating_sub(self.at_seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_another_boot_or_a_damaged_one_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |text: &[u8]| {
            std::fs::write(dir.path().join(LAST_SYNC), text).expect("a note");
        };
        assert_eq!(LastSync::read(dir.path()), None);
        let boot_id = boot::boot_id().expect("a boot id");
        let note = LastSync::now(boot_id, vec!["mesh file /m".to_owned()]);
        write(&serde_json::to_vec(&note).expect("JSON"));
        let read = LastSync::read(dir.path()).expect("the note");
        assert!(read == note && read.age() < Duration::from_mins(1));
        let other = LastSync { boot_id: "another".to_owned(), ..note };
        write(&serde_json::to_vec(&other).expect("JSON"));
        assert_eq!(LastSync::read(dir.path()), None);
        write(b"{\"bootId\":");
        assert_eq!(LastSync::read(dir.path()), None);
    }
}
