//! The tables in memory: an exact mirror of the maps, found by name, with what is free.
//!
//! [`Have::read`] fills it, [`Have::follow`] keeps it exact while steps are applied. It
//! speaks of indices only to `plan`; every view is by name. It judges nothing: what does not
//! fit together is kept as it is, for `check` to name and a complete plan to repair.

use crate::kernel::{KernelError, Tables};
use crate::layout::{Limits, ManagerWord, MetaRecord};
use crate::step::Step;
use crate::want::{Service, ServiceKey, Settings, Workload};

/// How far a reading can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Nothing was written meanwhile.
    Settled,
    /// The generation is odd and stands still: a writer is at work, or died at work.
    LeftOpen,
    /// It changed under every try.
    Moving,
}

/// Why the tables could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The kernel refused.
    #[error("read the tables")]
    Kernel(#[source] KernelError),
    /// `kmesh_meta` was written by another layout, or by no Kmesh.
    #[error(
        "map kmesh_meta says layout {layout}, this build reads {}; use the build that wrote it, \
         or remove everything with: kmeshctl purge",
        crate::layout::LAYOUT_VERSION
    )]
    Layout {
        /// What it says.
        layout: u32,
    },
}

/// What the maps hold.
#[derive(Debug)]
pub struct Have {
    meta: MetaRecord,
}

impl Have {
    /// Reads the tables as an onlooker: up to three times, until nothing was written
    /// meanwhile; [`Self::consistency`] says how it went. Never-written maps are empty tables.
    pub fn read(_k: &dyn Tables) -> Result<Self, ReadError> {
        todo!()
    }

    /// Reads the tables as the holder of the writer lock: once; an odd generation is a dead
    /// writer's.
    pub fn read_locked(_k: &dyn Tables) -> Result<Self, ReadError> {
        todo!()
    }

    /// Does to the mirror what a successful write of `step` did to the maps.
    pub fn follow(&mut self, _step: &Step) {
        todo!()
    }

    /// How far this reading can be trusted.
    #[must_use]
    pub fn consistency(&self) -> Consistency {
        todo!()
    }

    /// `kmesh_meta` as it was read or last written.
    #[must_use]
    pub fn meta(&self) -> &MetaRecord {
        &self.meta
    }

    /// Replaces the hooks' records in the mirror of `kmesh_meta`, after they were written there.
    pub fn note_meta(&mut self, meta: MetaRecord) {
        self.meta = meta;
    }

    /// Says who writes: from now on each transaction signs `kmesh_meta` so.
    pub fn sign(&mut self, _pid: u32, _start: u64) {
        todo!()
    }

    /// `max_entries` of the maps, as the kernel says them.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        todo!()
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        todo!()
    }

    /// The index of the workload with this uid, for a pod's manager word.
    #[must_use]
    pub fn backend(&self, _uid: &str) -> Option<u32> {
        todo!()
    }

    /// The uid of the workload at a backend index.
    #[must_use]
    pub fn uid(&self, _backend: u32) -> Option<&str> {
        todo!()
    }

    /// What the tables say of a workload.
    #[must_use]
    pub fn workload(&self, _uid: &str) -> Option<Workload> {
        todo!()
    }

    /// What the tables say of a service or waypoint.
    #[must_use]
    pub fn service(&self, _key: &ServiceKey) -> Option<Service> {
        todo!()
    }

    /// Pods by netns cookie, sorted.
    #[must_use]
    pub fn managers(&self) -> Vec<(u64, ManagerWord)> {
        todo!()
    }

    /// Tells the mirror what was written to `map_of_manager` outside of a plan.
    pub fn note_manager(&mut self, _cookie: u64, _word: Option<ManagerWord>) {
        todo!()
    }
}
