//! Where the tables differ from a snapshot.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Finding, Severity, fields};
use crate::authz::Policy;
use crate::snapshot::{Listing, ServiceEntry, Snapshot, WorkloadEntry, service_order};
use crate::tables::Have;

/// Where the tables differ from what is wanted, by name: sorted, empty when they agree.
/// Pods are not compared: they are no part of what is wanted.
#[must_use]
pub fn compare(have: &Have, wanted: &Snapshot) -> Vec<Finding> {
    let there = Listing::new(have);
    let mut findings = Vec::new();
    if there.settings() != wanted.settings {
        let fields = fields::settings(&there.settings(), &wanted.settings);
        findings.push(differs("settings".to_owned(), &fields));
    }
    // A hand-made snapshot may be unsorted, and say what the tables do not hold.
    let key = |entry: &ServiceEntry| (entry.name.clone(), entry.port, entry.family, entry.kind);
    let text = |entry: &ServiceEntry| entry.key().to_string();
    let mut services: Vec<_> = wanted.services.iter().collect();
    services.sort_by(|one, next| service_order(one).cmp(&service_order(next)));
    let services = services.into_iter().map(|entry| {
        let mut entry = entry.clone();
        entry.sort();
        entry
    });
    join(there.services(), services, key, text, fields::service, &mut findings);
    let uid = |entry: &WorkloadEntry| entry.uid.clone();
    let text = |entry: &WorkloadEntry| format!("workload {}", entry.uid);
    let mut workloads: Vec<_> = wanted.workloads.iter().collect();
    workloads.sort_by(|one, next| one.uid.cmp(&next.uid));
    let workloads = workloads.into_iter().map(|entry| {
        let mut entry = entry.clone();
        entry.sort();
        // It matters only to those who dial the workload's addresses.
        entry.waypoint = entry.waypoint.filter(|_| !entry.addresses.is_empty());
        if wanted.policies.is_none() {
            // Nothing is said of policies.
            let there = have.workload(&entry.uid);
            entry.policies = there.map(|workload| workload.policies).unwrap_or_default();
        }
        entry
    });
    join(there.workloads(), workloads, uid, text, fields::workload, &mut findings);
    if let Some(wanted) = &wanted.policies {
        let mut wanted: Vec<_> = wanted.iter().collect();
        wanted.sort_by(|one, next| one.name.cmp(&next.name));
        let (name, text) = (
            |one: &&Arc<Policy>| one.name.clone(),
            |one: &&Arc<Policy>| format!("policy {}", one.name),
        );
        let fields = |one: &&Arc<Policy>, other: &&Arc<Policy>| fields::policy(one, other);
        join(there.policies(), wanted.into_iter(), name, text, fields, &mut findings);
    }
    findings.sort_unstable();
    findings
}

/// Walks two sorted lists, holding one entry of each.
fn join<T: PartialEq, K: Ord>(
    there: impl Iterator<Item = T>,
    wanted: impl Iterator<Item = T>,
    key: impl Fn(&T) -> K,
    text: impl Fn(&T) -> String,
    fields: impl Fn(&T, &T) -> Vec<String>,
    findings: &mut Vec<Finding>,
) {
    let (mut have, mut want) = (there.peekable(), wanted.peekable());
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
                findings.push(differs(text(&one), &fields(&one, &other)));
            }
            (Some(one), None) => findings.push(finding(text(&one), "is there, but not wanted")),
            (None, Some(other)) => findings.push(finding(text(&other), "is wanted, but not there")),
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
