//! What two entries of one name disagree about, in words: "FIELD is A, wanted B".

use std::collections::BTreeSet;
use std::fmt::Debug;

use crate::authz::Policy;
use crate::snapshot::{ServiceEntry, WorkloadEntry};
use crate::want::Settings;

/// What two settings disagree about.
pub(crate) fn settings(have: &Settings, want: &Settings) -> Vec<String> {
    let mut fields = Fields::default();
    fields.field("metadata", &have.metadata, &want.metadata);
    fields.field("peername", &have.peername, &want.peername);
    fields.field("exempt ports", &have.exempt_ports, &want.exempt_ports);
    fields.0
}

/// Gathers them.
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

/// What two services of one name disagree about, both sorted.
pub(crate) fn service(have: &ServiceEntry, want: &ServiceEntry) -> Vec<String> {
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
    fields.0
}

/// What two workloads of one uid disagree about, both sorted.
pub(crate) fn workload(have: &WorkloadEntry, want: &WorkloadEntry) -> Vec<String> {
    let mut fields = Fields::default();
    fields.field("v4", &have.v4, &want.v4);
    fields.field("v6", &have.v6, &want.v6);
    fields.list("addresses", &have.addresses, &want.addresses);
    fields.field("waypoint", &have.waypoint, &want.waypoint);
    fields.field("identity", &have.identity, &want.identity);
    fields.field("isWaypoint", &have.is_waypoint, &want.is_waypoint);
    fields.list("policies", &have.policies, &want.policies);
    fields.0
}

/// What two policies of one name disagree about; of their rules only how many there are.
pub(crate) fn policy(have: &Policy, want: &Policy) -> Vec<String> {
    let mut fields = Fields::default();
    fields.field("scope", &have.scope, &want.scope);
    fields.field("action", &have.action, &want.action);
    fields.field("dryRun", &have.dry_run, &want.dry_run);
    if have.groups != want.groups {
        let (is, wanted) = (have.groups.len(), want.groups.len());
        fields.0.push(format!("rules differ ({is} groups, wanted {wanted})"));
    }
    fields.0
}
