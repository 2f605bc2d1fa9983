//! Kmesh's eBPF programs, and the only code that touches the kernel's BPF objects.
//!
//! ```text
//!  layout ← pins, kernel ← tables ← plan ← apply, verify, purge ← kmeshd, kmeshctl
//! ```

pub mod kernel;
pub mod layout;
pub mod step;
pub mod want;
