//! From what the tables have and what shall change to the steps between: pure.
//!
//! It does no input or output, changes neither argument, and costs in proportion to the
//! change (a complete change touches everything). It refuses what contradicts itself and
//! what does not fit, before anything is written. A policy that does not fit is refused by
//! itself: the rest goes on, see [`Refused`].
//!
//! The order makes every prefix safe: whoever dials a VIP lands in its old or its new set, and
//! whoever dials a pod is judged by its old or its new policies, as the source's old or new
//! identity.
//!
//! 1. grace, if an index or an identity's number freed earlier is used again
//! 2. names, versions of policies
//! 3. new policy sets: words and chunks, then the record; in the sets that stay: rows and chunks
//!    behind the others, then the words of new identities
//! 4. the setting that tells of policies, if it comes, and a grace
//! 5. pods' words with another set; a grace, if there are new identities too
//! 6. new backends, unreachable slots
//! 7. VIPs and addresses that go
//! 8. waypoint records, then backends in place, then services: reachable slots, then the flip
//! 9. settings, pods' own backends, VIPs and addresses that come or move
//! 10. services cleared, backends marked dead
//! 11. grace, if sets go; their records cleared, versions of policies that no set stands for;
//!     the setting that tells of policies, if it goes
//!
//! What holds after every step of this:
//!
//! * A pod's word names no set, or one whose record, words and chunks are all there.
//! * Every identity's number that a record of a workload carries is known to every set that a
//!   pod's word names. Where a set cannot learn it, it lets that identity in nowhere.
//! * A set's places and number are free only once its record is cleared, which a grace comes
//!   before: no program reads what is written anew. An identity's number is given again only
//!   after a grace, and then written in every set.
//!
//! A record that gives a VIP or address up to another object, and changes too, is made anew
//! elsewhere: in place, the VIP would lead to the changed record until it moves.

mod draft;
mod finish;
mod frontends;
mod numbers;
mod policies;
mod pool;
pub(crate) mod record;
mod refused;
mod rest;
mod scopes;
mod services;
mod sets;
mod slots;
mod workloads;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::authz::Policy;
use crate::check::{self, Invalid};
use crate::layout::Map;
use crate::step::Step;
use crate::tables::Have;
use crate::want::{Change, Name};

use draft::Draft;
pub use refused::{Refused, Why};
pub use rest::Rest;

/// Why there is no plan. Nothing has been written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A map cannot hold what is wanted.
    #[error(
        "map {} is too small: {needed} elements are needed, its limit is {limit}{}", map.name(),
        map.limit_option().map(|o| format!("; raise it with {o}")).unwrap_or_default()
    )]
    Full {
        /// The map.
        map: Map,
        /// Elements needed in all.
        needed: u64,
        /// Its `max_entries`.
        limit: u32,
    },
    /// The change contradicts itself.
    #[error("the change contradicts itself")]
    Invalid(#[source] Invalid),
    /// A service names a workload that neither the tables nor the change know.
    #[error("{service}: endpoint {workload} is no known workload; add it, or take it out")]
    UnknownWorkload {
        /// The service.
        service: String,
        /// The workload's uid.
        workload: String,
    },
    /// An endpoint is to be dialled at an address that its workload has not.
    #[error("{service}: endpoint {workload} has no {family} address")]
    NoAddress {
        /// The service.
        service: String,
        /// The workload's uid.
        workload: String,
        /// "IPv4" or "IPv6".
        family: &'static str,
    },
    /// A service or workload names a waypoint without a record.
    #[error("{object}: waypoint {waypoint} is not known; add it, or do not name it")]
    UnknownWaypoint {
        /// The service or workload.
        object: String,
        /// The waypoint.
        waypoint: String,
    },
    /// A waypoint is to be removed that something else still names.
    #[error("waypoint {waypoint} cannot be removed: {object} still names it")]
    WaypointInUse {
        /// The waypoint.
        waypoint: String,
        /// The service or workload.
        object: String,
    },
    /// A VIP or address belongs to something that does not give it up.
    #[error("{wanted_by}: address {address} belongs to {held_by}; remove it there first")]
    AddressTaken {
        /// The address, with the port for a VIP.
        address: String,
        /// Who has it.
        held_by: String,
        /// Who wants it.
        wanted_by: String,
    },
    /// The mirror is no longer what the kernel holds, since a write failed.
    #[error("the tables must be read again: the last write failed part-way")]
    Stale,
}

/// What brings the tables to what a change says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The steps, in the order that is safe to be cut anywhere. None: nothing to write.
    pub steps: Vec<Step>,
    /// Policies that it does not bring in force.
    pub refused: Vec<Refused>,
    /// Addresses whose identity comes, goes or changes, while some policy set is in force.
    pub sources: Vec<IpAddr>,
    /// Policies that the tables have no room for, once it is applied.
    pub(crate) unstored: BTreeMap<Name, Arc<Policy>>,
}

/// The steps from `have` to what `change` says.
pub fn plan(have: &Have, change: &Change) -> Result<Plan, PlanError> {
    check::validate(change).map_err(PlanError::Invalid)?;
    plan_judged(have, change)
}

/// As [`plan`], for a change that `check::validate` found good before: it is judged once.
pub(crate) fn plan_judged(have: &Have, change: &Change) -> Result<Plan, PlanError> {
    if have.stale {
        return Err(PlanError::Stale);
    }
    room_for_workloads(have, change)?;
    let mut draft = Draft::new(have, change);
    draft.place_waypoints();
    draft.plan_workloads()?;
    draft.plan_services()?;
    draft.plan_frontends()?;
    draft.plan_policies();
    draft.plan_sets();
    draft.carry_refused();
    draft.plan_managers();
    draft.plan_settings();
    draft.check_waypoints_gone()?;
    draft.finish()
}

/// Refuses more workloads than there can be before any step is made: half a million of them would
/// be planned only to be refused.
fn room_for_workloads(have: &Have, change: &Change) -> Result<(), PlanError> {
    let limit = have.limits().of(Map::Backend);
    let ever = have.backends.all().len() + change.workloads.len();
    if ever as u64 <= u64::from(limit) {
        return Ok(());
    }
    let there = |uid: &str| have.backend(uid).is_some();
    let mut needed = if change.all_workloads { 0 } else { have.backends.iter().count() as u64 };
    for (uid, workload) in &change.workloads {
        match workload {
            Some(_) if change.all_workloads || !there(uid) => needed += 1,
            None if !change.all_workloads && there(uid) => needed -= 1,
            _ => {}
        }
    }
    if needed <= u64::from(limit) {
        return Ok(());
    }
    Err(PlanError::Full { map: Map::Backend, needed, limit })
}
