//! Finds what is Kmesh's on disk. It refuses files of other names: they stay, and are told.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::places;

use super::{Plan, PurgeError, Step, is_mount};

/// Adds the files of ours in a directory of ours, and the directory if nothing else is in it.
pub(super) fn files(dir: &Path, names: &[&str], plan: &mut Plan) -> Result<(), PurgeError> {
    let failed = |source| PurgeError::Files { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = BTreeSet::new();
    for entry in entries {
        paths.insert(entry.map_err(failed)?.path());
    }
    let (own, other): (Vec<_>, Vec<_>) =
        paths.into_iter().partition(|path| places::is_own_file(path, names));
    plan.steps.extend(own.into_iter().map(Step::RemoveFile));
    if other.is_empty() && !is_mount(dir) {
        plan.steps.push(Step::RemoveDir(dir.to_owned()));
    }
    plan.foreign.extend(other.iter().map(|path| path.display().to_string()));
    Ok(())
}
