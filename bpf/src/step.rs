//! Steps: what `plan` answers and `apply` does. They are data; [`crate::apply`] is the one
//! interpreter that turns them into calls, [`crate::tables`] the one that follows them in memory.

use crate::layout::{
    BackendRecord, EndpointWord, FrontendKey, FrontendWord, ManagerWord, NameChunk, ServiceRecord,
};

/// One element written or removed, or a wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Wait until every program that may hold an index freed earlier has ended.
    Grace,
    /// Write a piece of a name into a free chunk.
    Name {
        /// Index in `kmesh_names`.
        chunk: u32,
        /// Its bytes.
        bytes: NameChunk,
    },
    /// Write a workload: a free index, or the same addresses with other words.
    Backend {
        /// Index in `kmesh_backend`.
        index: u32,
        /// The record.
        record: BackendRecord,
    },
    /// Write a slot: unreachable, or the flip of one endpoint.
    Slot {
        /// Index in `kmesh_endpoint`.
        index: u32,
        /// The word.
        word: EndpointWord,
    },
    /// Write a service record: the flip for all its VIPs.
    Service {
        /// Index in `kmesh_service`.
        index: u32,
        /// The record; all zero when the service is removed.
        record: ServiceRecord,
    },
    /// Let a VIP or address lead to an index.
    Frontend {
        /// The key.
        key: FrontendKey,
        /// The word, with the key's tag.
        word: FrontendWord,
    },
    /// Remove a VIP or address.
    RemoveFrontend {
        /// The key.
        key: FrontendKey,
    },
    /// Let a pod's record point to its own workload's new index (the record must be there).
    Manager {
        /// Netns cookie.
        cookie: u64,
        /// The word.
        word: ManagerWord,
    },
    /// Write one word of the settings.
    Setting {
        /// Index in `kmesh_settings`.
        index: u32,
        /// The word.
        word: u64,
    },
}
