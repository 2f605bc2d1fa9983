//! Places on disk: which files Kmesh keeps, so that the daemon writes and purge removes the same.
//!
//! It refuses to claim a file of another name, whatever directory it lies in.

use std::path::{Path, PathBuf};

use crate::clock::process_start_of;

/// Where the files that outlive a reboot lie, unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/kmesh";
/// Where the files that need not outlive it lie, unless told otherwise.
pub const DEFAULT_RUN_DIR: &str = "/run/kmesh";

/// The last snapshot, written by the daemon after each change.
pub const SNAPSHOT: &str = "snapshot.json";
/// A restore that waits to be confirmed (`restore --rollback-after`); it is there only as long as
/// the restore waits.
pub const ROLLBACK: &str = "rollback.json";
/// The same, on its way back.
pub const ROLLBACK_GOING: &str = "rollback.json.going";
/// The same, confirmed: about to be removed.
pub const ROLLBACK_CONFIRMED: &str = "rollback.json.confirmed";
/// The state before that restore.
pub const ROLLBACK_STATE: &str = "rollback.json.state";
/// What the guardian of that restore has to say.
pub const ROLLBACK_LOG: &str = "rollback.log";
/// The namespaces' last known modes.
pub const MODES: &str = "modes.json";
/// Who the daemon is.
pub const DAEMON: &str = "kmeshd.json";
/// Which state of the tables the last snapshot holds.
pub const LAST_SNAPSHOT: &str = "last-snapshot.json";
/// When the tables last came to say all that the sources say ([`crate::last_sync`]).
pub const LAST_SYNC: &str = "last-sync.json";
/// The daemon's control socket ([`crate::control`]).
pub const CONTROL: &str = "kmeshd.sock";
/// The longest path that a Unix socket can have (`sun_path` less its final zero).
pub const SOCKET_PATH_MAX: usize = 107;

/// Files of the state directory.
pub const STATE_FILES: &[&str] = &[SNAPSHOT, ROLLBACK, MODES];
/// Files of the run directory.
pub const RUN_FILES: &[&str] = &[DAEMON, LAST_SNAPSHOT, LAST_SYNC, CONTROL, ROLLBACK_LOG];

/// Whether a file is one of `names`, or the unfinished or set-aside copy of one
/// (`.NAME…`, `NAME.…`).
#[must_use]
pub fn is_own_file(path: &Path, names: &[&str]) -> bool {
    let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let file = file.strip_prefix('.').unwrap_or(file);
    names.iter().any(|name| {
        file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The process that writes a file aside under this name (`.NAME.PID`), if the name is such a one.
#[must_use]
pub fn unfinished_by(path: &Path, names: &[&str]) -> Option<u32> {
    let file = path.file_name()?.to_str()?.strip_prefix('.')?;
    let rest = |name: &&str| file.strip_prefix(*name)?.strip_prefix('.')?.parse().ok();
    names.iter().find_map(rest)
}

/// Files in `dir` that processes which are gone were writing aside, sorted.
#[must_use]
pub fn left_unfinished(dir: &Path, names: &[&str]) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let dead = |path: &PathBuf| {
        unfinished_by(path, names).is_some_and(|pid| process_start_of(pid).is_none())
    };
    let mut left: Vec<_> = entries.map(|entry| entry.path()).filter(dead).collect();
    left.sort_unstable();
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_files_and_their_unfinished_copies_are_known() {
        for file in ["snapshot.json", ".snapshot.json.1234", "snapshot.json.tmp", "modes.json"] {
            assert!(is_own_file(&Path::new("/state").join(file), STATE_FILES), "{file}");
        }
        let aside = |file: &str| unfinished_by(&Path::new("/state").join(file), STATE_FILES);
        assert_eq!(aside(".snapshot.json.1234"), Some(1234));
        assert_eq!((aside("snapshot.json"), aside(".snapshot.json.x")), (None, None));
        for file in ["snapshot.jsonl", "notes.txt", "snapshot", "kmeshd.json"] {
            assert!(!is_own_file(&Path::new("/state").join(file), STATE_FILES), "{file}");
        }
    }
}
