//! The limits that are in force: those of the maps that are pinned.

use super::Root;
use crate::kernel::{Kernel, Pinned};
use crate::layout::{Limits, Map};

/// The limits of the maps that are there: a map that is not has the default.
#[must_use]
pub fn kept_limits(k: &dyn Kernel, root: &Root) -> Limits {
    let mut limits = Limits::default();
    let keep = |map: Map, limit: &mut u32| {
        if let Ok(Some(Pinned::Map(info))) = k.pinned(&root.map(map)) {
            *limit = info.max_entries;
        }
    };
    keep(Map::Frontend, &mut limits.frontends);
    keep(Map::Service, &mut limits.services);
    keep(Map::Endpoint, &mut limits.endpoints);
    keep(Map::Backend, &mut limits.workloads);
    keep(Map::Names, &mut limits.names);
    keep(Map::Manager, &mut limits.pods);
    keep(Map::Socket, &mut limits.sockets);
    keep(Map::Policy, &mut limits.policies);
    keep(Map::AuthSet, &mut limits.policy_sets);
    keep(Map::AuthWord, &mut limits.policy_words);
    keep(Map::AuthBits, &mut limits.policy_chunks);
    keep(Map::Tuple, &mut limits.connections);
    limits
}
