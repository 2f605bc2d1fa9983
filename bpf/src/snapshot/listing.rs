//! The tables as the entries of a snapshot, in its order, one at a time.
//!
//! It holds two sorted lists of indices (4 bytes a service, 4 a workload) beside the tables: no
//! entry is kept, so that a million of them take no more memory than one.

use std::sync::Arc;

use super::entry::{service_entry, workload_entry};
use super::{ServiceEntry, WorkloadEntry};
use crate::authz::Policy;
use crate::tables::{Have, Shared};
use crate::want::Settings;

/// What the tables say, in the order of a snapshot.
#[derive(Debug)]
pub struct Listing<'a> {
    have: &'a Have,
    services: Vec<u32>,
    workloads: Vec<u32>,
}

impl<'a> Listing<'a> {
    /// Sorts what there is.
    #[must_use]
    pub fn new(have: &'a Have) -> Self {
        let (services, workloads) = (have.services_in_order(), have.workloads_in_order());
        Self { have, services, workloads }
    }

    /// What the programs are told.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.have.settings()
    }

    /// Services and waypoints, sorted by name, port, family and kind.
    pub fn services(&self) -> impl Iterator<Item = ServiceEntry> + '_ {
        let mut shared = Shared::forgetting();
        self.services.iter().filter_map(move |index| {
            let (key, service) = self.have.nth_service(*index, &mut shared)?;
            Some(service_entry(key, service))
        })
    }

    /// Authorization policies, sorted by name.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> + '_ {
        self.have.policies()
    }

    /// Workloads, sorted by uid.
    pub fn workloads(&self) -> impl Iterator<Item = WorkloadEntry> + '_ {
        let mut shared = Shared::forgetting();
        self.workloads.iter().filter_map(move |index| {
            let (uid, workload) = self.have.nth_workload(*index, &mut shared)?;
            Some(workload_entry(uid, workload))
        })
    }
}
