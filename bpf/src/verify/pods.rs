//! The pods: entry, directory and network namespace belong together.

use crate::check::{Finding, Severity};
use crate::kernel::Kernel;
use crate::netns;
use crate::pins::Root;
use crate::pods::{self, Record};

use super::VerifyError;

/// Looks at every pod that is enrolled, or half so.
pub(super) fn look(k: &dyn Kernel, root: &Root) -> Result<Vec<Finding>, VerifyError> {
    let records = pods::list(k, root).map_err(VerifyError::Pods)?;
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let alive = netns::alive_cookies().map_err(VerifyError::Alive)?;
    let mut findings = Vec::new();
    for record in &records {
        let dir = k
            .list(&root.pod(record.cookie))
            .map_err(|source| VerifyError::Kernel { root: root.path().to_owned(), source })?;
        let problem = if record.word.is_none() {
            "it has a directory, but no entry in map_of_manager: it is not governed"
        } else if !alive.contains(&record.cookie) {
            "its network namespace is gone"
        } else if dir.is_none() {
            "it has an entry in map_of_manager, but no directory"
        } else {
            continue;
        };
        findings.push(finding(record, problem));
    }
    Ok(findings)
}

fn finding(record: &Record, problem: &str) -> Finding {
    let cookie = record.cookie;
    Finding {
        severity: if record.word.is_none() { Severity::Error } else { Severity::Warning },
        layer: "pods",
        object: record
            .uid
            .as_ref()
            .map_or_else(|| format!("pod with cookie {cookie}"), |uid| format!("pod {uid}")),
        problem: problem.to_owned(),
        fix: "start kmeshd: it enrols and sweeps pods".to_owned(),
    }
}
