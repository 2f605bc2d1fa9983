//! The Kmesh daemon.
//!
//! ```text
//!  sources (mesh file) → model → desired → compile ─ Change ─→ reconcile → kmesh-bpf
//!  config → app (composition root) → admin, metrics, readiness, shutdown
//! ```
//! Only `app` knows all of them; nobody imports it. `compile` and `desired` do no I/O;
//! `reconcile` is the only writer.
#![forbid(unsafe_code)]

pub mod compile;
pub mod config;
pub mod desired;
mod locality;
pub mod model;
pub mod readiness;
pub mod shutdown;
pub mod sources;
