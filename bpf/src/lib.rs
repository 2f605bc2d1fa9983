//! Kmesh's eBPF programs, and the only code that touches the kernel's BPF objects.
//!
//! ```text
//!  layout ← pins, kernel ← tables ← plan ← apply, verify, purge ← kmeshd, kmeshctl
//! ```

pub mod apply;
pub mod attach;
pub mod authz;
pub mod boot;
pub mod cgroup;
pub mod check;
pub mod clock;
pub mod control;
pub mod denials;
pub mod explain;
pub mod files;
pub mod holders;
pub mod identity;
pub mod kernel;
pub mod last_sync;
pub mod layout;
pub mod live;
pub mod lock;
pub mod memory;
pub mod mounts;
pub mod netns;
pub mod ours;
pub mod pending;
pub mod pins;
pub mod places;
pub mod plan;
pub mod pods;
pub mod privilege;
pub mod programs;
pub mod purge;
pub mod restore;
pub mod rollback;
pub mod snapshot;
pub mod step;
pub mod tables;
pub mod verify;
pub mod want;

#[cfg(test)]
mod property;
