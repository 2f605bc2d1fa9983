//! What changed since it was last compiled.

use std::collections::BTreeSet;

use hashbrown::HashSet;
use kmesh_bpf::want::ServiceKey;

use super::{Desired, Target};
use crate::model::Name;

/// What must be compiled again. Keys that were published are kept, so that those that are no
/// longer can be removed.
#[derive(Debug, Default, PartialEq)]
pub struct Dirty {
    /// Everything: the rest says nothing then.
    pub all: bool,
    /// Services.
    pub services: BTreeSet<Name>,
    /// Keys that services had.
    pub service_keys: HashSet<ServiceKey>,
    /// Waypoints.
    pub waypoints: BTreeSet<Target>,
    /// Workloads.
    pub workloads: BTreeSet<Name>,
    /// Authorization policies.
    pub policies: BTreeSet<Name>,
}

impl Desired {
    /// Everything must be compiled again: what the tables hold is not known.
    pub fn mark_all(&mut self) {
        self.dirty = Dirty { all: true, ..Dirty::default() };
    }

    /// What changed since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
    }

    pub(super) fn mark_workload(&mut self, uid: &Name) {
        if !self.dirty.all {
            self.dirty.workloads.insert(uid.clone());
        }
    }

    pub(super) fn mark_service(&mut self, name: &Name) {
        if !self.dirty.all {
            self.dirty.services.insert(name.clone());
        }
    }

    pub(super) fn mark_waypoint(&mut self, target: Target) {
        if !self.dirty.all {
            self.dirty.waypoints.insert(target);
        }
    }

    pub(super) fn touch_members(&mut self, service: &Name) {
        if let Some(members) = self.members.get(service)
            && !self.dirty.all
        {
            self.dirty.workloads.extend(members.iter().cloned());
        }
    }
}
