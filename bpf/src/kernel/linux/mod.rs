//! The real kernel: `bpf(2)`, the BPF file system, `membarrier(2)`.
//!
//! The only place of `unsafe` in Kmesh. It holds one file descriptor per map that was opened
//! with [`Objects::open_map`]; a table call on a map that was not opened is refused.
//!
//! [`Objects::open_map`]: super::Objects::open_map

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use crate::layout::Map;

mod diag;
mod elements;
mod interfaces;
mod links;
mod load;
mod mapping;
pub(crate) mod netns;
mod objects;
mod raw;
mod run;
mod said;
mod sys;
mod tables;

pub use run::{Dial, Ran};

/// The running kernel.
#[derive(Debug, Default)]
pub struct Linux {
    maps: HashMap<Map, Opened>,
}

/// A map that was checked and opened.
#[derive(Debug)]
struct Opened {
    fd: OwnedFd,
    key_size: usize,
    value_size: usize,
    max_entries: u32,
}

impl Linux {
    /// A door to the running kernel, with no map opened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}
