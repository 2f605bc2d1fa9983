//! Pods: who is managed. One record per network namespace: its word in `map_of_manager` and its
//! directory `pods/<cookie>/`, with `uid` and `netns` as symbolic links.
//!
//! Owned per pod, outside the model's generation, under a short lock on `pods/`: whoever sees the
//! pod first writes it. It refuses to remove a record whose namespace may still be alive, other
//! than by the pod's uid.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::kernel::{Kernel, KernelError};
use crate::layout::ManagerWord;
use crate::netns::NetnsError;
use crate::pins::Root;

/// A pod to enrol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The cookie of its network namespace.
    pub cookie: u64,
    /// The uid of its workload.
    pub uid: String,
    /// A path of its network namespace.
    pub netns: PathBuf,
    /// Its connections pass as if Kmesh were not there.
    pub bypass: bool,
}

/// What became of an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// The word that is now in the map.
    pub word: ManagerWord,
    /// Whether the map was written: what is there already is not written again.
    pub written: bool,
}

/// A pod that is enrolled, or half so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The cookie of its network namespace.
    pub cookie: u64,
    /// Its word; `None`: a directory without an entry.
    pub word: Option<ManagerWord>,
    /// Its workload's uid, where its directory says it.
    pub uid: Option<String>,
    /// The path of its network namespace, where its directory says it.
    pub netns: Option<PathBuf>,
}

impl Record {
    /// Whether its connections pass as if Kmesh were not there.
    #[must_use]
    pub fn bypass(&self) -> bool {
        self.word
            .is_some_and(|word| word.flags() & ManagerWord::BYPASS != 0)
    }
}

/// Why a pod could not be enrolled, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum PodsError {
    /// The kernel refused.
    #[error("{op}")]
    Kernel {
        /// What was attempted, on which pod.
        op: String,
        /// What it said.
        #[source]
        source: KernelError,
    },
    /// Which namespaces are alive is not known, so none is swept.
    #[error("sweep pods whose namespace is gone")]
    Alive(#[source] NetnsError),
}

/// Makes a pod managed, or brings its bypass flag, uid and backend up to date. `backend`: the
/// index of its own workload, if the model knows it; `None` keeps the one that is there.
pub fn enrol(
    _k: &mut dyn Kernel,
    _root: &Root,
    _pod: &Pod,
    _backend: Option<u32>,
) -> Result<Enrolled, PodsError> {
    todo!()
}

/// Removes the records of the pod with this uid; their cookies.
pub fn unenrol(_k: &mut dyn Kernel, _root: &Root, _uid: &str) -> Result<Vec<u64>, PodsError> {
    todo!()
}

/// Every record, sorted by cookie. Takes no lock.
pub fn list(_k: &dyn Kernel, _root: &Root) -> Result<Vec<Record>, PodsError> {
    todo!()
}

/// Removes the records whose namespace `alive` does not name. `alive` is asked after the records
/// were listed, under the lock, so that a pod enrolled meanwhile is never taken for dead.
pub fn sweep(
    _k: &mut dyn Kernel,
    _root: &Root,
    _alive: &dyn Fn() -> Result<HashSet<u64>, NetnsError>,
) -> Result<Vec<Record>, PodsError> {
    todo!()
}
