//! Steps: what `plan` answers and `apply` does. They are data; [`crate::apply`] is the one
//! interpreter that turns them into calls, [`crate::tables`] the one that follows them in memory.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::authz::Compiled;
use crate::layout::{
    AuthChunk, AuthSetRecord, BackendRecord, EndpointWord, FrontendKey, FrontendWord, ManagerWord,
    NameChunk, PolicyRecord, ServiceRecord,
};

/// What a policy set was compiled to: kept, so that it can take more identities. It only grows,
/// and may be ahead of the maps.
#[derive(Clone)]
pub struct Made {
    pub(crate) compiled: Arc<Mutex<Compiled>>,
    /// Words that the maps have of it.
    pub(crate) words: u32,
    /// Chunks that the maps have of it.
    pub(crate) chunks: u32,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { words, chunks, .. } = self;
        f.debug_struct("Made").field("words", words).field("chunks", chunks).finish_non_exhaustive()
    }
}

impl PartialEq for Made {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.compiled, &other.compiled)
    }
}

/// One element written or removed, or a wait.
#[derive(Clone, Debug, PartialEq)]
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
    /// Write a version of a policy, or clear it.
    Policy {
        /// Index in `kmesh_policy`.
        index: u32,
        /// The record; all zero when it is cleared.
        record: PolicyRecord,
    },
    /// Write a word of a policy set: unreachable, or that of an identity.
    AuthWord {
        /// Index in `kmesh_auth_word`.
        index: u32,
        /// The word.
        word: u64,
    },
    /// Write a chunk of a policy set: unreachable.
    AuthChunk {
        /// Index in `kmesh_auth_bits`.
        index: u32,
        /// The chunk.
        chunk: AuthChunk,
    },
    /// Write the record of a policy set that no pod's word names, or clear it.
    AuthSet {
        /// Its number.
        set: u16,
        /// The record; all zero when it is cleared.
        record: Box<AuthSetRecord>,
        /// What it was compiled to.
        made: Option<Made>,
    },
    /// Write one word of the settings.
    Setting {
        /// Index in `kmesh_settings`.
        index: u32,
        /// The word.
        word: u64,
    },
}
