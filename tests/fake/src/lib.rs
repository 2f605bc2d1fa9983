//! A control plane for tests: it speaks the real protocol on a port of its own, in plain text or by
//! TLS with a token, and fails as it is told.
//!
//! ```text
//!  control socket ─→ world (resources, faults, what was heard) ⇄ serve ⇄ kmeshd
//! ```
//! It refuses nothing: what a test tells it to send is sent.

pub mod control;
mod line;
pub mod objects;
pub mod pki;
pub mod proto;
mod serve;
mod tear;
pub mod world;

pub use serve::{Fake, Security, start};
