//! Where the tables differ from a snapshot.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt::Debug;

use super::{Finding, Severity};
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
        let mut fields = Fields::default();
        fields.field("metadata", &there.settings.metadata, &wanted.settings.metadata);
        fields.field("peername", &there.settings.peername, &wanted.settings.peername);
        let (have, want) = (&there.settings.exempt_ports, &wanted.settings.exempt_ports);
        fields.field("exempt ports", have, want);
        findings.push(differs("settings".to_owned(), &fields));
    }
    let key = |entry: &ServiceEntry| (entry.name.clone(), entry.port, entry.family, entry.kind);
    let text = |entry: &ServiceEntry| entry.key().to_string();
    join(&there.services, &wanted.services, key, text, service, &mut findings);
    let uid = |entry: &WorkloadEntry| entry.uid.clone();
    let text = |entry: &WorkloadEntry| format!("workload {}", entry.uid);
    join(&there.workloads, &wanted.workloads, uid, text, workload, &mut findings);
    findings.sort_unstable();
    findings
}

/// Walks two sorted lists.
fn join<T: PartialEq, K: Ord>(
    there: &[T],
    wanted: &[T],
    key: impl Fn(&T) -> K,
    text: impl Fn(&T) -> String,
    fields: impl Fn(&T, &T) -> Fields,
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

/// What two entries of one name disagree about.
#[derive(Default)]
struct Fields(Vec<String>);

impl Fields {
    fn field<T: PartialEq + Debug>(&mut self, name: &str, have: &T, want: &T) {
        if have != want {
            self.0.push(format!("{name} is {have:?}, wanted {want:?}"));
        }
    }

    fn list<T: Ord + Debug>(&mut self, name: &str, have: &[T], want: &[T]) {
        let (here, there): (BTreeSet<&T>, BTreeSet<&T>) =
            (have.iter().collect(), want.iter().collect());
        let missing = there.difference(&here).take(3);
        let extra = here.difference(&there).take(3);
        let mut text: Vec<_> = missing.map(|one| format!("lacks {one:?}")).collect();
        text.extend(extra.map(|one| format!("has {one:?} too many")));
        if !text.is_empty() {
            let (here, there) = (have.len(), want.len());
            self.0.push(format!("{name} ({here}, wanted {there}): {}", text.join(", ")));
        }
    }
}

fn service(have: &ServiceEntry, want: &ServiceEntry) -> Fields {
    let mut fields = Fields::default();
    fields.list("vips", &have.vips, &want.vips);
    fields.field("mode", &have.mode, &want.mode);
    fields.field("synced", &have.synced, &want.synced);
    fields.field("waypoint", &have.waypoint, &want.waypoint);
    let text = |entry: &ServiceEntry| -> Vec<String> {
        let endpoints = entry.endpoints.iter();
        endpoints.map(|at| format!("{} port {} ({})", at.workload, at.port, at.family)).collect()
    };
    fields.list("endpoints", &text(have), &text(want));
    fields
}

fn workload(have: &WorkloadEntry, want: &WorkloadEntry) -> Fields {
    let mut fields = Fields::default();
    fields.field("v4", &have.v4, &want.v4);
    fields.field("v6", &have.v6, &want.v6);
    fields.list("addresses", &have.addresses, &want.addresses);
    fields.field("waypoint", &have.waypoint, &want.waypoint);
    fields.field("identity", &have.identity, &want.identity);
    fields.field("isWaypoint", &have.is_waypoint, &want.is_waypoint);
    fields
}

fn differs(object: String, fields: &Fields) -> Finding {
    finding(object, &fields.0.join("; "))
}

fn finding(object: String, problem: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        layer: "difference",
        object,
        problem: problem.to_owned(),
        fix: "start kmeshd, or: kmeshctl restore SNAPSHOT".to_owned(),
    }
}
