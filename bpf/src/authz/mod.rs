//! Authorization: who may connect to a pod.
//!
//! ```text
//!  policies ─→ judge (the meaning, written down once)
//!     └─→ compile ─→ an image of tables ─→ prog/authz.h (the same answer, in the kernel)
//! ```
//!
//! Everything here is pure. `judge` is the definition; `compile` is tested against it, and so
//! is the program. The design stands in `docs/authorization.md`.

mod check;
mod compile;
mod document;
mod image;
mod judge;
mod live;
mod policy;
mod text;
mod write;

#[cfg(test)]
mod tests;

pub use check::Problem;
pub use compile::{Compiled, TooLarge, compile};
pub use document::Document;
pub use image::{CLASSIFIED, Chunk, Decision, Header, Image, Run, ZONES};
pub use judge::{Connection, Hit, Reason, Verdict, judge};
pub use live::{Known, LivePolicies, LiveSet};
pub use policy::{Account, Action, Condition, Identity, Match, Policy, Scope, StringMatch};
