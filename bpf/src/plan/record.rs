//! What the records of workloads and services say, given where the names, identities and waypoints
//! that they refer to lie. Who asks decides what happens where one is not in the tables: a plan
//! writes it, a comparison knows then that the record differs.

use std::borrow::Cow;

use crate::layout::{BackendRecord, BackendWord, ServiceRecord, ServiceWord, WaypointWord};
use crate::tables::{family_number, kind_number, mode_flags, names_text};
use crate::want::{Family, Service, ServiceKey, WaypointRef, Workload};

/// Knows where lies what records refer to. `'a`: the life of what is wanted.
pub(crate) trait Refer<'a> {
    /// Why something is not to be had.
    type Error;

    /// The first chunk and the length of a name.
    fn name(&mut self, name: &'a str) -> Result<(u32, u16), Self::Error>;

    /// The first chunk and the length of a longer text.
    fn text(&mut self, text: Cow<'a, str>) -> Result<(u32, u32), Self::Error>;

    /// The number of an identity whose name starts at `name`; 0 for a text that is none.
    fn number(&mut self, name: u32, identity: &'a str) -> Result<u32, Self::Error>;

    /// The word of a waypoint for clients of this family. `object` names it.
    fn waypoint(
        &self,
        object: impl Fn() -> String,
        waypoint: &WaypointRef,
        family: Family,
    ) -> Result<WaypointWord, Self::Error>;
}

/// The record of a workload whose uid lies at `name`.
pub(crate) fn backend_record<'a, R: Refer<'a>>(
    refer: &mut R,
    uid: &str,
    (name, name_len): (u32, u16),
    workload: &'a Workload,
) -> Result<BackendRecord, R::Error> {
    let mut words = [WaypointWord::NONE; 2];
    if let Some(waypoint) = &workload.waypoint {
        for (word, family) in words.iter_mut().zip([Family::V4, Family::V6]) {
            if workload.addresses.iter().any(|address| Family::of(*address) == family) {
                *word = refer.waypoint(|| format!("workload {uid}"), waypoint, family)?;
            }
        }
    }
    let (identity, identity_len, who) = match workload.identity.as_deref() {
        Some(identity) => {
            let (name, len) = refer.name(identity)?;
            (name, len, refer.number(name, identity)?)
        }
        None => Default::default(),
    };
    let (policies, policies_len) = match workload.policies.as_slice() {
        [] => Default::default(),
        named => refer.text(Cow::Owned(names_text(named)))?,
    };
    Ok(BackendRecord {
        word: BackendWord::new(workload.v4, backend_flags(workload)),
        v6: workload.v6.map(|v6| v6.octets()).unwrap_or_default(),
        waypoint_v4: words[0],
        waypoint_v6: words[1],
        name,
        identity,
        name_len,
        identity_len,
        who,
        policies,
        policies_len,
    })
}

fn backend_flags(workload: &Workload) -> u32 {
    let mut flags = BackendWord::VALID;
    if workload.v6.is_some() {
        flags |= BackendWord::V6;
    }
    if workload.is_waypoint {
        flags |= BackendWord::WAYPOINT;
    }
    if workload.addresses.is_empty() {
        flags |= BackendWord::NO_ADDRESS;
    }
    flags
}

/// The record of a service whose name lies at `name`, but for its slots.
pub(crate) fn service_record<'a, R: Refer<'a>>(
    refer: &R,
    key: &ServiceKey,
    (name, name_len): (u32, u16),
    service: &Service,
) -> Result<ServiceRecord, R::Error> {
    let mut flags = ServiceWord::VALID | mode_flags(service.mode);
    if service.synced {
        flags |= ServiceWord::SYNCED;
    }
    let waypoint = match &service.waypoint {
        Some(waypoint) => {
            flags |= ServiceWord::WAYPOINT;
            refer.waypoint(|| key.to_string(), waypoint, key.family)?
        }
        None => WaypointWord::NONE,
    };
    Ok(ServiceRecord {
        word: ServiceWord::new(0, 0, flags),
        waypoint,
        name,
        name_len,
        port: key.port,
        capacity: 0,
        family: family_number(key.family),
        kind: kind_number(key.kind),
        pad: 0,
    })
}
