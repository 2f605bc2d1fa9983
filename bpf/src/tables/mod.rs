//! The tables in memory: an exact mirror of the maps, found by name, with what is free.
//!
//! [`Have::read`] fills it, [`Have::follow`] keeps it exact while steps are applied. It
//! speaks of indices only to `plan`; every view is by name. It judges nothing: what does not
//! fit together is kept as it is, for `check` to name and a complete plan to repair.
//!
//! | file | what it mirrors |
//! |---|---|
//! | `names` | `kmesh_names`: interned strings |
//! | `backends`, `services` | records, found by name |
//! | `slots` | `kmesh_endpoint`: ranges of services, chains of backends |
//! | `frontends` | `kmesh_frontend`, chained by target |
//! | `policies`, `sets` | `kmesh_policy`; `kmesh_auth_set` and the words of identities |
//! | `identities` | the numbers that workloads' records carry |
//! | `read`, `follow`, `views`, `applicable` | from the maps; with the steps; by name |

mod applicable;
mod backends;
mod follow;
mod frontends;
mod identities;
mod index;
mod names;
mod policies;
mod read;
mod runs;
mod services;
mod sets;
mod slots;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::authz::Policy;
use crate::kernel::KernelError;
use crate::layout::{Limits, ManagerWord, MetaRecord, SettingsWords};
use crate::plan::Refused;
use crate::want::Name;

pub use applicable::{PolicySet, Standing};
pub(crate) use applicable::{names_text, namespace_of, namespace_of_uid};
pub(crate) use backends::Backends;
pub(crate) use frontends::Frontends;
pub(crate) use identities::Identities;
pub(crate) use index::NameIndex;
pub(crate) use names::{Names, chunks_of, is_name, name_at, split, text_at};
pub(crate) use policies::Policies;
pub(crate) use runs::Runs;
pub(crate) use services::{Place, Services};
pub(crate) use sets::{Held, Sets, list_text};
pub(crate) use slots::Slots;
pub use views::Usage;
pub(crate) use views::{
    Shared, family_number, family_of, kind_number, kind_of, mode_flags, mode_of, settings_words,
};

/// No index.
pub(crate) const NONE: u32 = u32::MAX;

/// How far a reading can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Nothing was written meanwhile.
    Settled,
    /// The generation is odd and stands still: a writer is at work, or died at work.
    LeftOpen,
    /// It changed under every try.
    Moving,
}

/// Why the tables could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The kernel refused.
    #[error("read the tables")]
    Kernel(#[source] KernelError),
    /// `kmesh_meta` was written by another layout, or by no Kmesh.
    #[error(
        "map kmesh_meta says layout {layout}, this build reads {}; use the build that wrote it, \
         or remove everything with: kmeshctl purge",
        crate::layout::LAYOUT_VERSION
    )]
    Layout {
        /// What it says.
        layout: u32,
    },
}

/// What the maps hold.
#[derive(Debug)]
pub struct Have {
    pub(crate) meta: MetaRecord,
    pub(crate) limits: Limits,
    pub(crate) names: Names,
    pub(crate) backends: Backends,
    pub(crate) services: Services,
    pub(crate) slots: Slots,
    pub(crate) frontends: Frontends,
    pub(crate) managers: BTreeMap<u64, ManagerWord>,
    pub(crate) settings: SettingsWords,
    pub(crate) policies: Policies,
    pub(crate) sets: Sets,
    pub(crate) identities: Identities,
    /// Policies that the tables had no room for: what they would apply to is not let in.
    pub(crate) unstored: BTreeMap<Name, Arc<Policy>>,
    /// What the last change that looked at it could not bring in force.
    pub(crate) refused: Vec<Refused>,
    pub(crate) consistency: Consistency,
    /// A write failed part-way: the mirror may differ from the maps.
    pub(crate) stale: bool,
    /// Process id and start time of who writes.
    pub(crate) signature: (u32, u64),
}

#[cfg(test)]
mod mirror;
