//! Walks the raw tables as the programs do, and says where a connection may land.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bytemuck::{Pod, Zeroable};

use crate::kernel::Tables;
use crate::layout::{
    BackendRecord, BackendWord, EndpointWord, FrontendKey, FrontendWord, KIND_SERVICE,
    KIND_WAYPOINT, Map, ServiceRecord, ServiceWord, WaypointWord,
};
use crate::want::{Change, Endpoint, Family, Kind, Mode, ServiceKey, WaypointRef, Workload};

/// Where a connection may land.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// Nothing known: it passes.
    Miss,
    /// PASSTHROUGH: it passes.
    Pass,
    /// No endpoint, never synced: it passes.
    Unsynced,
    /// No endpoint: refused.
    Refused,
    /// At one of these.
    Direct(BTreeSet<(IpAddr, u16)>),
    /// At one of these, of a waypoint; none: refused.
    Via(BTreeSet<(IpAddr, u16)>),
    /// At the workload itself.
    Own(String),
}

pub(super) fn array<T: Pod>(k: &dyn Tables, map: Map, index: u32) -> T {
    let mut value = T::zeroed();
    let key = index.to_ne_bytes();
    assert!(k.lookup(map, &key, bytemuck::bytes_of_mut(&mut value)).expect("in reach"));
    value
}

fn frontend(k: &dyn Tables, key: &FrontendKey) -> Option<FrontendWord> {
    let mut word = FrontendWord::zeroed();
    let found = k.lookup(Map::Frontend, bytemuck::bytes_of(key), bytemuck::bytes_of_mut(&mut word));
    let found = found.expect("a look-up");
    if found {
        assert_eq!(word.tag(), key.tag(), "{key:?}");
    }
    found.then_some(word)
}

fn targets(k: &dyn Tables, record: &ServiceRecord) -> BTreeSet<(IpAddr, u16)> {
    let base = record.word.base();
    assert!(record.word.count() <= record.capacity);
    (base..base + record.word.count())
        .map(|slot| {
            let word: EndpointWord = array(k, Map::Endpoint, slot);
            assert!(word.valid(), "slot {slot} was never written");
            let backend: BackendRecord = array(k, Map::Backend, word.backend());
            assert!(backend.word.has(BackendWord::VALID), "slot {slot} leads to a dead backend");
            let ip = if word.v6() {
                IpAddr::V6(backend.v6().expect("an IPv6 address"))
            } else {
                IpAddr::V4(backend.word.v4().expect("an IPv4 address"))
            };
            (ip, word.port())
        })
        .collect()
}

fn via(k: &dyn Tables, word: WaypointWord) -> Landing {
    let index = word.service().expect("a waypoint word");
    let record: ServiceRecord = array(k, Map::Service, index);
    assert!(record.word.has(ServiceWord::VALID), "a waypoint that is not in use");
    assert_eq!(record.kind, KIND_WAYPOINT);
    Landing::Via(targets(k, &record))
}

/// Where a connection to this VIP lands.
pub(super) fn dial_vip(k: &dyn Tables, vip: IpAddr, port: u16) -> Landing {
    let Some(word) = frontend(k, &FrontendKey::service(vip, port)) else {
        return Landing::Miss;
    };
    let record: ServiceRecord = array(k, Map::Service, word.index());
    assert!(record.word.has(ServiceWord::VALID), "{vip} leads to a service not in use");
    assert_eq!(record.kind, KIND_SERVICE);
    if record.word.has(ServiceWord::PASSTHROUGH) {
        return Landing::Pass;
    }
    if record.word.has(ServiceWord::WAYPOINT) {
        return via(k, record.waypoint);
    }
    match targets(k, &record) {
        empty if empty.is_empty() && record.word.has(ServiceWord::SYNCED) => Landing::Refused,
        empty if empty.is_empty() => Landing::Unsynced,
        targets => Landing::Direct(targets),
    }
}

/// Where a connection to this workload's address lands.
pub(super) fn dial_address(k: &dyn Tables, address: IpAddr) -> Landing {
    let Some(word) = frontend(k, &FrontendKey::workload(address)) else {
        return Landing::Miss;
    };
    let record: BackendRecord = array(k, Map::Backend, word.index());
    assert!(record.word.has(BackendWord::VALID), "{address} leads to a dead backend");
    let waypoint = if address.is_ipv4() { record.waypoint_v4 } else { record.waypoint_v6 };
    if waypoint.service().is_some() {
        return via(k, waypoint);
    }
    let mut name = Vec::new();
    for chunk in 0..crate::tables::chunks_of(record.name_len.into()) {
        let bytes: crate::layout::NameChunk = array(k, Map::Names, record.name + chunk);
        name.extend(bytes.0);
    }
    name.truncate(record.name_len.into());
    Landing::Own(String::from_utf8(name).expect("a name"))
}

fn target(state: &Change, endpoint: &Endpoint) -> (IpAddr, u16) {
    let found = state.workloads.iter().find(|(uid, _)| *uid == endpoint.workload);
    let workload = found.and_then(|(_, workload)| workload.as_ref()).expect("a workload");
    let ip = match endpoint.family {
        Family::V4 => IpAddr::V4(workload.v4.expect("an address")),
        Family::V6 => IpAddr::V6(workload.v6.expect("an address")),
    };
    (ip, endpoint.port)
}

/// The targets of a waypoint in a state; nothing where it has none of that name.
pub(super) fn waypoint_targets(
    state: &Change,
    waypoint: &WaypointRef,
    family: Family,
) -> BTreeSet<(IpAddr, u16)> {
    let WaypointRef { name, port } = waypoint.clone();
    let key = ServiceKey { name, port, family, kind: Kind::Waypoint };
    let found = state.services.iter().find(|(other, _)| *other == key);
    let endpoints = found.and_then(|(_, service)| service.as_ref()).map(|s| &s.endpoints);
    endpoints.into_iter().flatten().map(|endpoint| target(state, endpoint)).collect()
}

/// Where a connection to this VIP shall land, and by which waypoint.
pub(super) fn wanted_vip(state: &Change, vip: IpAddr, port: u16) -> (Landing, Option<WaypointRef>) {
    let mut services =
        state.services.iter().filter_map(|(key, service)| Some((key, service.as_ref()?)));
    let Some((_, service)) =
        services.find(|(key, service)| key.port == port && service.vips.contains(&vip))
    else {
        return (Landing::Miss, None);
    };
    if service.mode == Mode::Passthrough {
        return (Landing::Pass, None);
    }
    if let Some(waypoint) = &service.waypoint {
        let targets = waypoint_targets(state, waypoint, Family::of(vip));
        return (Landing::Via(targets), Some(waypoint.clone()));
    }
    let targets: BTreeSet<_> = service.endpoints.iter().map(|at| target(state, at)).collect();
    let landing = match (targets.is_empty(), service.synced) {
        (true, true) => Landing::Refused,
        (true, false) => Landing::Unsynced,
        (false, _) => Landing::Direct(targets),
    };
    (landing, None)
}

/// Where a connection to this address shall land, and by which waypoint.
pub(super) fn wanted_address(state: &Change, address: IpAddr) -> (Landing, Option<WaypointRef>) {
    let owns = |workload: &Workload| workload.addresses.contains(&address);
    let owner = state.workloads.iter().find(|(_, workload)| workload.as_ref().is_some_and(owns));
    let Some((uid, Some(workload))) = owner else {
        return (Landing::Miss, None);
    };
    match &workload.waypoint {
        Some(waypoint) => {
            let targets = waypoint_targets(state, waypoint, Family::of(address));
            (Landing::Via(targets), Some(waypoint.clone()))
        }
        None => (Landing::Own(uid.to_string()), None),
    }
}
