//! The Kmesh daemon.
//!
//! ```text
//!  sources (mesh file, control plane → decode) → model → desired → compile ─ Change ─→ reconcile → kmesh-bpf
//!  config → app (composition root) → admin, control, metrics, readiness, shutdown
//! ```
//! Only `app` knows all of them; nobody imports it. `compile` and `desired` do no I/O;
//! `reconcile` is the only writer.
#![forbid(unsafe_code)]

pub mod admin;
pub mod app;
pub mod compile;
pub mod config;
pub mod control;
pub mod decode;
pub mod denials;
pub mod desired;
mod http;
mod locality;
mod metrics;
pub mod model;
pub mod readiness;
pub mod reconcile;
pub mod resolve;
pub mod shutdown;
pub mod snapshot;
pub mod sources;
pub mod status;

/// An error with all that caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut said = vec![error.to_string()];
    let mut source = error.source();
    while let Some(why) = source {
        let words = why.to_string();
        // Some libraries say their source's words for their own.
        if said.last() != Some(&words) {
            said.push(words);
        }
        source = why.source();
    }
    said.join(": ")
}
