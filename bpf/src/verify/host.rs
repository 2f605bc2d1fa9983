//! The machine around the tables: a BPF file system that outlives this container, a rollback that
//! waits, files that a dead process left unfinished.

use std::path::Path;

use crate::check::{Finding, Severity};
use crate::lock::{self, LockError};
use crate::pins::Root;
use crate::places::{ROLLBACK, RUN_FILES, STATE_FILES, left_unfinished};
use crate::{boot, pending};

/// A BPF file system that ends with its container is no place for governance.
pub(super) fn file_system(root: &Root) -> Result<Option<Finding>, LockError> {
    let own = !lock::is_hosts(root)?;
    Ok(own.then(|| Finding {
        severity: Severity::Error,
        layer: "pins",
        object: root.path().display().to_string(),
        problem: "this BPF file system is not the host's: what is pinned here ends with this \
                  container"
            .to_owned(),
        fix: "mount the host's (hostPath /sys/fs/bpf), or name a place of your own: --bpf-root"
            .to_owned(),
    }))
}

/// What waits or was left in the directories on disk.
pub(super) fn files(state_dir: &Path, run_dir: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rollback = state_dir.join(ROLLBACK);
    let fix = "kmeshctl restore --confirm, or --rollback";
    match pending::load(state_dir) {
        // What another boot left means nothing any more.
        Ok(pending) => findings.extend(
            pending
                .filter(|pending| boot::boot_id().is_ok_and(|boot| boot == pending.boot_id))
                .map(|pending| warning(&rollback, &pending.to_string(), fix)),
        ),
        Err(error) => findings.push(warning(&error.path, &error.source.to_string(), fix)),
    }
    for (dir, names) in [(state_dir, STATE_FILES), (run_dir, RUN_FILES)] {
        for path in left_unfinished(dir, names) {
            let fix = format!("rm {}", path.display());
            findings.push(warning(&path, "a process that is gone left it unfinished", &fix));
        }
    }
    findings
}

fn warning(path: &Path, problem: &str, fix: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        layer: "files",
        object: path.display().to_string(),
        problem: problem.to_owned(),
        fix: fix.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_process_left_is_told() {
        let (state, run) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let own = format!(".snapshot.json.{}", std::process::id());
        for file in ["snapshot.json", &own, ".snapshot.json.4000000000", ".other.4000000000"] {
            std::fs::write(state.path().join(file), "").expect("a file");
        }
        let findings = files(state.path(), run.path());
        let [finding] = findings.as_slice() else { panic!("{findings:#?}") };
        assert!(finding.object.ends_with("/.snapshot.json.4000000000"), "{finding:?}");
        assert_eq!(files(&state.path().join("none"), run.path()), []);
    }
}
