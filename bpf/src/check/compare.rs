//! Where the tables differ from a snapshot.

use std::cmp::Ordering;

use super::{Finding, Severity, fields};
use crate::snapshot::{About, ServiceEntry, Snapshot, WorkloadEntry};
use crate::tables::Have;

/// Where the tables differ from what is wanted, by name: sorted, empty when they agree.
/// Pods are not compared: they are no part of what is wanted.
#[must_use]
pub fn compare(have: &Have, wanted: &Snapshot) -> Vec<Finding> {
    let there = Snapshot::of(have, About::default(), None);
    // A hand-made snapshot may be unsorted, and say what the tables do not hold.
    let wanted = Snapshot::of_change(&wanted.clone().into_change(), About::default());
    let mut findings = Vec::new();
    if there.settings != wanted.settings {
        let fields = fields::settings(&there.settings, &wanted.settings);
        findings.push(differs("settings".to_owned(), &fields));
    }
    let key = |entry: &ServiceEntry| (entry.name.clone(), entry.port, entry.family, entry.kind);
    let text = |entry: &ServiceEntry| entry.key().to_string();
    join(&there.services, &wanted.services, key, text, fields::service, &mut findings);
    let uid = |entry: &WorkloadEntry| entry.uid.clone();
    let text = |entry: &WorkloadEntry| format!("workload {}", entry.uid);
    join(&there.workloads, &wanted.workloads, uid, text, fields::workload, &mut findings);
    findings.sort_unstable();
    findings
}

/// Walks two sorted lists.
fn join<T: PartialEq, K: Ord>(
    there: &[T],
    wanted: &[T],
    key: impl Fn(&T) -> K,
    text: impl Fn(&T) -> String,
    fields: impl Fn(&T, &T) -> Vec<String>,
    findings: &mut Vec<Finding>,
) {
    let (mut have, mut want) = (there.iter().peekable(), wanted.iter().peekable());
    loop {
        let order = match (have.peek(), want.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => key(one).cmp(&key(other)),
        };
        let one = if order == Ordering::Greater { None } else { have.next() };
        let other = if order == Ordering::Less { None } else { want.next() };
        match (one, other) {
            (Some(one), Some(other)) if one != other => {
                findings.push(differs(text(one), &fields(one, other)));
            }
            (Some(one), None) => findings.push(finding(text(one), "is there, but not wanted")),
            (None, Some(other)) => findings.push(finding(text(other), "is wanted, but not there")),
            _ => {}
        }
    }
}

fn differs(object: String, fields: &[String]) -> Finding {
    finding(object, &fields.join("; "))
}

fn finding(object: String, problem: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        layer: "difference",
        object,
        problem: problem.to_owned(),
        fix: "start kmeshd (or start it again), or: kmeshctl restore SNAPSHOT".to_owned(),
    }
}
