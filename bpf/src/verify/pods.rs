//! The pods: entry, directory, network namespace and hook belong together. The first fault of a pod
//! is its only finding, but for foreign programs beside its hook.
//!
//! Pods are enrolled outside the generation. So what looks wrong is looked at again a moment later:
//! an enrolment under way is no fault.

use std::collections::HashMap;
use std::time::Duration;

use crate::check::{Finding, Severity};
use crate::kernel::{Kernel, KernelError};
use crate::layout::{ConnectionKey, Map};
use crate::netns;
use crate::pins::Root;
use crate::pods::{self, Ground, HookCondition, PodHook, Record, strangers_of};

use super::VerifyError;

/// How long an enrolment may take.
const UNDER_WAY: Duration = Duration::from_millis(300);

const START: &str = "start kmeshd: it enrols and sweeps pods";

/// Looks at every pod that is enrolled, or half so.
pub(super) fn look(k: &dyn Kernel, root: &Root) -> Result<Vec<Finding>, VerifyError> {
    let mut findings = look_once(k, root)?;
    if !findings.is_empty() {
        std::thread::sleep(UNDER_WAY);
        let again = look_once(k, root)?;
        findings.retain(|finding| again.contains(finding));
    }
    Ok(findings)
}

fn look_once(k: &dyn Kernel, root: &Root) -> Result<Vec<Finding>, VerifyError> {
    let records = pods::list(k, root).map_err(VerifyError::Pods)?;
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let alive = netns::alive_inodes().map_err(VerifyError::Alive)?;
    judge(k, root, &records, &alive)
        .map_err(|source| VerifyError::Kernel { root: root.path().to_owned(), source })
}

/// `alive`: the inode of each living namespace, by its cookie.
pub(super) fn judge(
    k: &dyn Kernel,
    root: &Root,
    records: &[Record],
    alive: &HashMap<u64, u64>,
) -> Result<Vec<Finding>, KernelError> {
    let ground = Ground::of(k, root)?;
    let mut findings = Vec::new();
    for record in records {
        let problem = if record.word.is_none() {
            "it has a directory, but no entry in map_of_manager: it is not governed"
        } else if !alive.contains_key(&record.cookie) {
            "its network namespace is gone"
        } else if k.list(&root.pod(record.cookie))?.is_none() {
            "it has an entry in map_of_manager, but no directory: its connections are not authorized"
        } else {
            let hook = PodHook::of(k, root, &ground, record.cookie)?;
            let inode = alive.get(&record.cookie).copied().unwrap_or_default();
            findings.extend(of_hook(root, record, &hook, (inode, ground.build)));
            let xdp = pods::xdp::links(k, root, record.cookie)?;
            if !xdp.is_empty() && !is_ending(k, record.cookie)? {
                let problem =
                    "an XDP program stands at its interfaces, and no connection is to end";
                let fix = "start kmeshd: it takes the program away".to_owned();
                findings.push(finding(Severity::Warning, record, problem.to_owned(), fix));
            }
            let strangers = strangers_of(k, root, record)?;
            findings.extend(strangers.iter().map(|stranger| beside(record, stranger)));
            continue;
        };
        let gone = record.word.is_some() && !alive.contains_key(&record.cookie);
        let severity = if gone { Severity::Warning } else { Severity::Error };
        findings.push(finding(severity, record, problem.to_owned(), START.to_owned()));
    }
    Ok(findings)
}

/// Whether live connections of the pod are to end.
fn is_ending(k: &dyn Kernel, cookie: u64) -> Result<bool, KernelError> {
    let mut ending = false;
    k.scan(Map::Auth, 0, &mut |keys, _| {
        let keys = keys.chunks_exact(size_of::<ConnectionKey>());
        let key = |bytes| bytemuck::pod_read_unaligned::<ConnectionKey>(bytes);
        ending |= keys.map(key).any(|key| key.cookie == cookie);
    })?;
    Ok(ending)
}

/// What is wrong with the pod's hook, if anything is.
fn of_hook(
    root: &Root,
    record: &Record,
    hook: &PodHook,
    (inode, build): (u64, u64),
) -> Option<Finding> {
    let pin = root.pod_link(record.cookie);
    let pin = pin.display();
    let unmade = |text: &str| format!("{pin} {text}: its connections are NOT authorized");
    let start = "start kmeshd: it attaches what is missing".to_owned();
    let remove = format!("rm {pin}, then start kmeshd");
    let (severity, problem, fix) = match &hook.condition {
        HookCondition::Absent => (Severity::Error, unmade("is missing"), start),
        HookCondition::Detached => {
            (Severity::Error, unmade("leads nowhere: somebody detached it"), start)
        }
        HookCondition::Strange(name) => {
            let held = format!("holds another's program, \"{name}\"");
            (Severity::Error, unmade(&held), start)
        }
        HookCondition::Foreign(what) => {
            let there = format!("is not Kmesh's, but {what}");
            (Severity::Error, unmade(&there), remove)
        }
        HookCondition::Stale => {
            let theirs = hook.build.map_or("unknown".to_owned(), |build| format!("{build:016x}"));
            let problem = if theirs == format!("{build:016x}") {
                format!("the program in {pin} uses maps that are not the pinned ones")
            } else {
                format!("the program in {pin} is of another build ({theirs}) than {build:016x}")
            };
            let fix = "start this build's kmeshd: it replaces the program at once".to_owned();
            (Severity::Warning, problem, fix)
        }
        HookCondition::Current => {
            let at = hook.link.as_ref().map(|link| link.cgroup_id).filter(|at| *at != inode)?;
            let elsewhere = format!("is attached to another network namespace (inode {at})");
            (Severity::Error, unmade(&elsewhere), remove)
        }
    };
    Some(finding(severity, record, problem, fix))
}

/// A program of somebody else at the same hook.
fn beside(record: &Record, stranger: &pods::Stranger) -> Finding {
    let pods::Stranger { program, name, .. } = stranger;
    let problem = format!(
        "a foreign program \"{name}\" (id {program}) stands beside its authorization: one that \
         chooses a socket itself (bpf_sk_assign) overrides a denial"
    );
    let fix =
        format!("bpftool link list; detach the one of program {program}, if it is not wanted");
    finding(Severity::Warning, record, problem, fix)
}

fn finding(severity: Severity, record: &Record, problem: String, fix: String) -> Finding {
    let cookie = record.cookie;
    let object = match &record.uid {
        Some(uid) => format!("pod {uid}"),
        None => format!("pod with cookie {cookie}"),
    };
    Finding { severity, layer: "pods", object, problem, fix }
}
