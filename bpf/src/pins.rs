//! Pins: where Kmesh's objects lie on the BPF file system, and how those that are there are
//! adopted.
//!
//! Every pinned map is compared with [`Map::shape`] by what the kernel says of it, and the
//! layout by `kmesh_meta`, before one byte of it is written. What is foreign or of another layout
//! is refused, never overwritten; what is missing is made.

use std::path::{Path, PathBuf};

use crate::kernel::{Kernel, KernelError};
use crate::layout::{Hook, Limits, Map};

/// Where Kmesh keeps its pins unless told otherwise.
pub const DEFAULT_ROOT: &str = "/sys/fs/bpf/kmesh";

/// The root of Kmesh's directory on a BPF file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self::new(DEFAULT_ROOT)
    }
}

impl Root {
    /// The root at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The root directory itself: what the writer locks.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.0.join("maps")
    }

    /// The pin of a map.
    #[must_use]
    pub fn map(&self, map: Map) -> PathBuf {
        self.maps().join(map.name())
    }

    /// The directory of programs.
    #[must_use]
    pub fn progs(&self) -> PathBuf {
        self.0.join("progs")
    }

    /// The pin of a hook's program.
    #[must_use]
    pub fn prog(&self, hook: Hook) -> PathBuf {
        self.progs().join(hook.name())
    }

    /// Where a hook's new program waits until it has taken the old one's place.
    #[must_use]
    pub fn prog_new(&self, hook: Hook) -> PathBuf {
        self.progs().join(format!("{}_new", hook.name()))
    }

    /// The directory of links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.0.join("links")
    }

    /// The pin of a hook's link.
    #[must_use]
    pub fn link(&self, hook: Hook) -> PathBuf {
        self.links().join(hook.name())
    }

    /// Where a hook's new link waits until it takes the place of one whose cgroup is gone.
    #[must_use]
    pub fn link_new(&self, hook: Hook) -> PathBuf {
        self.links().join(format!("{}_new", hook.name()))
    }

    /// The directory of pods.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.0.join("pods")
    }

    /// The directory of the pod with this netns cookie.
    #[must_use]
    pub fn pod(&self, cookie: u64) -> PathBuf {
        self.pods().join(cookie.to_string())
    }
}

/// Why the pins could not be adopted or opened.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// A pin holds something that is not this map.
    #[error(
        "{} is not Kmesh's {}: it {problem}; it was left alone. See `kmeshctl verify`; \
         `kmeshctl purge` removes it", path.display(), map.name()
    )]
    Foreign {
        /// The pin.
        path: PathBuf,
        /// What should be there.
        map: Map,
        /// What is there instead.
        problem: String,
    },
    /// The maps are of another layout than this build's.
    #[error(
        "{} is of layout {found}, this build reads and writes layout {}; use the build that made \
         it, or save its state with that build's `kmeshctl dump`, then `kmeshctl purge`",
        path.display(), crate::layout::LAYOUT_VERSION
    )]
    Layout {
        /// The pin of `kmesh_meta`.
        path: PathBuf,
        /// Its layout version.
        found: u32,
    },
    /// A map has no pin.
    #[error(
        "no {} at {}: Kmesh has not run here, or its pin was deleted; `kmeshd` makes it again",
        map.name(), path.display()
    )]
    Missing {
        /// The map.
        map: Map,
        /// Where its pin should be.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("adopt the maps in {}", root.display())]
    Kernel {
        /// The directory.
        root: PathBuf,
        /// What it said.
        #[source]
        source: KernelError,
    },
}

/// A map that keeps a limit other than the one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLimit {
    /// The map.
    pub map: Map,
    /// Its limit.
    pub has: u32,
    /// The limit asked for.
    pub wanted: u32,
}

/// What [`adopt_maps`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapsAdopted {
    /// Maps that were there and fit.
    pub reused: Vec<Map>,
    /// Maps whose pin was lost and that were found again through a program that uses them.
    pub repinned: Vec<Map>,
    /// Maps that were made.
    pub created: Vec<Map>,
    /// Maps that were made larger, with what they held.
    pub resized: Vec<Map>,
    /// Maps whose limit is not the one asked for: tell the operator.
    pub kept: Vec<KeptLimit>,
}

/// Checks every map's pin and opens it, creating and writing nothing: for verbs that only read.
pub fn open_existing(_k: &mut dyn Kernel, _root: &Root) -> Result<(), PinsError> {
    todo!()
}

/// Opens what is there and fits, pins again what lost its pin, makes what is missing. Nothing is
/// written through a pin that was not checked. The caller holds the writer lock.
pub fn adopt_maps(
    _k: &mut dyn Kernel,
    _root: &Root,
    _limits: &Limits,
) -> Result<MapsAdopted, PinsError> {
    todo!()
}
