//! Istio's control plane as a source: workloads, services and policies by delta xDS.
//!
//! ```text
//!  options ─→ connect ─→ session ⇄ control plane
//!                          │ response
//!                          └→ answer (held) ─→ Update → writer
//! ```
//! One thread of its own connects, decodes and answers; it never touches the tables. It refuses
//! nothing for good: whatever fails is said, with what helps, and tried again.

mod answer;
mod connect;
mod cut;
mod held;
mod options;
mod proto;
mod run;
mod session;
mod token;
mod trouble;

pub use options::{Limits, Options, Security};
pub use run::{Ends, run};
pub use trouble::Trouble;

/// What replays captures.
#[cfg(test)]
pub(crate) mod replay {
    use prost::Message as _;

    pub(crate) use super::answer::Memory;
    pub(crate) use super::proto::{DeltaDiscoveryResponse, Payload, Resource};

    /// The name of a resource.
    pub(crate) fn name_of(bytes: &[u8]) -> String {
        Resource::decode(bytes).map(|resource| resource.name).unwrap_or_default()
    }
}
