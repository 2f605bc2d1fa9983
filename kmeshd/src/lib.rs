//! The Kmesh daemon.
//!
//! ```text
//!  sources (mesh file) → model → desired → compile ─ Change ─→ reconcile → kmesh-bpf
//!  config → app (composition root) → admin, metrics, readiness, shutdown
//! ```
//! Imports run from right to left of each arrow's tail only; `app` alone knows them all.
//! `compile` and `desired` do no I/O; `reconcile` is the only writer.
#![forbid(unsafe_code)]

pub mod compile;
pub mod desired;
mod locality;
pub mod model;
pub mod sources;
