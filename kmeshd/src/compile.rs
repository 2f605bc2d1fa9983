//! From what the sources say to what the tables shall say. Pure: the same [`Desired`] gives the
//! same [`Change`], and the changes of a sequence of events add up to the whole
//! (`tests` prove it).
//!
//! Health, locality, network and named ports are resolved here, so that the tables hold only
//! endpoints that this node should use now.

use std::net::IpAddr;
use std::thread;

use kmesh_bpf::plan::Rest;
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::{self, Change, Endpoint, Family, Kind, Mode, ServiceKey, WaypointRef};

use crate::desired::{Desired, Dirty, Target, slot};
use crate::locality;
use crate::model::{Name, Service, Workload};

/// Above so many workloads a second thread is worth its start; few in tests, whose meshes are small.
const LARGE: usize = if cfg!(test) { 3 } else { 10_000 };

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Everything that the tables shall say.
#[must_use]
pub fn everything(desired: &Desired) -> Change {
    let mut change = complete(desired);
    change.workloads.reserve(desired.workloads.len());
    services(desired, &mut change, &mut |_| {});
    workloads(desired, |_| true, &mut change, &mut |_| {});
    change
}

/// What of [`everything`] the tables do not say yet. Of a large mesh, most workloads are compared on
/// a thread of their own, beside the services, which take as long as a third of them.
#[must_use]
pub fn remaining(desired: &Desired, have: &Have) -> Change {
    let Change { settings, policies, all_policies, .. } = complete(desired);
    let base = Change { settings, policies, all_policies, ..Change::default() };
    let mut rest = Rest::new(have, base);
    let mut twin = rest.twin();
    let beside = |at: usize| !at.is_multiple_of(3);
    let large = desired.workloads.len() > LARGE;
    let done = thread::scope(|scope| {
        let most = || offer(&mut twin, |to, each| workloads(desired, beside, to, each));
        let other = large.then(|| thread::Builder::new().spawn_scoped(scope, most));
        offer(&mut rest, |to, each| services(desired, to, each));
        offer(&mut rest, |to, each| workloads(desired, |at| !beside(at), to, each));
        matches!(other, Some(Ok(_)))
    });
    if done {
        rest.join(twin);
    } else {
        offer(&mut rest, |to, each| workloads(desired, beside, to, each));
    }
    rest.finish()
}

/// Offers what `walk` adds to a change, a little at a time.
fn offer(rest: &mut Rest, walk: impl Fn(&mut Change, &mut dyn FnMut(&mut Change))) {
    let mut some = Change { all_services: true, all_workloads: true, ..Change::default() };
    walk(&mut some, &mut |some| {
        for (key, service) in some.services.drain(..) {
            let Some(service) = service else { continue };
            rest.service(key, service);
        }
        for (uid, workload) in some.workloads.drain(..) {
            let Some(workload) = workload else { continue };
            rest.workload(uid, workload);
        }
    });
}

/// A complete change without services and workloads.
fn complete(desired: &Desired) -> Change {
    let policies = desired.policies.iter();
    Change {
        settings: Some(desired.here.settings.clone()),
        policies: policies.map(|(name, policy)| (name.clone(), Some(policy.clone()))).collect(),
        all_services: true,
        all_workloads: true,
        all_policies: true,
        ..Change::default()
    }
}

/// Adds every service and waypoint to `change`, with the backends that are no workloads, and says
/// `each` time that some were added.
fn services(desired: &Desired, change: &mut Change, each: &mut dyn FnMut(&mut Change)) {
    for name in desired.services.keys() {
        service(desired, name, change);
        each(change);
    }
    for target in desired.waypoints.keys() {
        waypoint(desired, target, change);
        if let Some(entry) = outsider(desired, target) {
            change.workloads.push(entry);
        }
        each(change);
    }
    let ghosts = desired.ghosts().iter();
    change.workloads.extend(ghosts.map(|(uid, ghost)| (uid.clone(), Some(ghost.clone()))));
    each(change);
}

/// Adds every workload of a share of all to `change`, and says `each` time that one was added.
fn workloads(
    desired: &Desired,
    share: impl Fn(usize) -> bool,
    change: &mut Change,
    each: &mut dyn FnMut(&mut Change),
) {
    let all = desired.workloads.iter().enumerate().filter(|(at, _)| share(*at));
    for (_, (uid, workload)) in all {
        if let Some(workload) = record(desired, uid, workload) {
            change.workloads.push((uid.clone(), Some(workload)));
            each(change);
        }
    }
}

/// What changed, as [`Desired::take_dirty`] says it.
#[must_use]
pub fn changed(desired: &Desired, dirty: &Dirty) -> Change {
    if dirty.all {
        return everything(desired);
    }
    let mut change = Change::default();
    for name in &dirty.services {
        service(desired, name, &mut change);
    }
    for target in &dirty.waypoints {
        waypoint(desired, target, &mut change);
        if matches!(target, Target::Address(_)) {
            let entry = outsider(desired, target).unwrap_or_else(|| (target.name(), None));
            change.workloads.push(entry);
        }
    }
    for uid in &dirty.workloads {
        change.workloads.push((uid.clone(), workload(desired, uid)));
    }
    for name in &dirty.policies {
        change.policies.push((name.clone(), desired.policies.get(name).cloned()));
    }
    let said: hashbrown::HashSet<&ServiceKey> =
        change.services.iter().map(|(key, _)| key).collect();
    let gone: Vec<_> = dirty.service_keys.iter().filter(|key| !said.contains(key)).collect();
    let gone: Vec<_> = gone.into_iter().map(|key| (key.clone(), None)).collect();
    drop(said);
    change.services.extend(gone);
    change
}

/// The records of a service: one for each port and family of its VIPs.
fn service(desired: &Desired, name: &Name, change: &mut Change) {
    let Some(service) = desired.services.get(name) else {
        return;
    };
    let vips = desired.local_vips(service);
    let published = |ip: &IpAddr, key: &ServiceKey| {
        Family::of(*ip) == key.family && desired.is_published(name, *ip, key.port)
    };
    let waypoint = desired.service_waypoint(name, service).map(|t| reference(desired, &t));
    for key in desired.service_keys(name, service) {
        let vips: Vec<IpAddr> = vips.iter().copied().filter(|ip| published(ip, &key)).collect();
        if vips.is_empty() {
            // Other services have them all.
            if !change.all_services {
                change.services.push((key, None));
            }
            continue;
        }
        let endpoints = match service.mode {
            Mode::Passthrough => Vec::new(),
            _ => endpoints(desired, name, service, key.port, None, key.family),
        };
        let record = want::Service {
            synced: !endpoints.is_empty() || !is_unresolved(desired, name),
            vips,
            mode: service.mode,
            waypoint: waypoint.clone(),
            endpoints,
        };
        change.services.push((key, Some(record)));
    }
}

/// Whether a service has workloads whose names were not resolved: then it is not known to have no
/// endpoints.
fn is_unresolved(desired: &Desired, name: &Name) -> bool {
    let members = desired.members.get(name).into_iter().flatten();
    members.filter_map(|uid| desired.workloads.get(uid)).any(|w| w.ips.is_unresolved())
}

/// The records of a waypoint: one for each family that somebody sends there.
fn waypoint(desired: &Desired, target: &Target, change: &mut Change) {
    let users = desired.waypoints.get(target).copied().unwrap_or_default();
    let port = desired.here.waypoint_port;
    for family in FAMILIES {
        let key = ServiceKey { name: target.name(), port, family, kind: Kind::Waypoint };
        let record = (users[slot(family)] > 0).then(|| want::Service {
            synced: true,
            endpoints: waypoint_endpoints(desired, target, family),
            ..want::Service::default()
        });
        if record.is_some() || !change.all_services {
            change.services.push((key, record));
        }
    }
}

fn waypoint_endpoints(desired: &Desired, target: &Target, family: Family) -> Vec<Endpoint> {
    let port = desired.here.waypoint_port;
    if let Some(last) = desired.kept_endpoints(target, family) {
        return last.to_vec();
    }
    if let Some(name) = desired.target_service(target) {
        // Its workloads may be announced before the service is: they are enough.
        let unknown = Service::default();
        let service = desired.services.get(name).unwrap_or(&unknown);
        return endpoints(desired, name, service, port, Some(port), family);
    }
    let Target::Address(ip) = target else {
        return Vec::new();
    };
    let workload = desired.at.first(*ip).cloned().unwrap_or_else(|| target.name());
    // The address is what the source names: it is dialled, whatever else the workload has.
    vec![Endpoint { workload, port, family: Family::of(*ip) }]
}

/// The backend of a waypoint whose address is no workload's and no service's.
fn outsider(desired: &Desired, target: &Target) -> Option<(Name, Option<want::Workload>)> {
    let Target::Address(ip) = target else {
        return None;
    };
    let known = !desired.waypoints.contains_key(target)
        || desired.vips.first(*ip).is_some()
        || desired.at.first(*ip).is_some();
    (!known).then(|| {
        let (v4, v6) = match ip {
            IpAddr::V4(ip) => (Some(*ip), None),
            IpAddr::V6(ip) => (None, Some(*ip)),
        };
        let workload = want::Workload { v4, v6, is_waypoint: true, ..want::Workload::default() };
        (target.name(), Some(workload))
    })
}

fn reference(desired: &Desired, target: &Target) -> WaypointRef {
    WaypointRef { name: target.name(), port: desired.here.waypoint_port }
}

/// The endpoints of a service port that this node uses for destinations of `family`. `default` is
/// the target port of workloads and services that say nothing of that port.
fn endpoints(
    desired: &Desired,
    name: &Name,
    service: &Service,
    port: u16,
    default: Option<u16>,
    family: Family,
) -> Vec<Endpoint> {
    let mut found: Vec<(&Workload, Endpoint)> = Vec::new();
    for uid in desired.members.get(name).into_iter().flatten() {
        let Some(workload) = desired.workloads.get(uid) else {
            continue;
        };
        let usable = desired.is_local(&workload.place.network)
            && (workload.healthy || service.allow_unhealthy);
        let reached = if usable { reached_by(workload, family) } else { None };
        if let Some(dialled) = reached
            && let Some(port) = target_port(name, service, workload, port).or(default)
        {
            found.push((workload, Endpoint { workload: uid.clone(), port, family: dialled }));
        }
    }
    // An IPv4 client cannot reach an IPv6 address: such endpoints stand in only where there is
    // no other, so that its refusal is counted for what it is.
    if family == Family::V4 && found.iter().any(|(_, endpoint)| endpoint.family == Family::V4) {
        found.retain(|(_, endpoint)| endpoint.family == Family::V4);
    }
    locality::choose(desired, service, found)
}

/// The family by which a workload is dialled for a destination of `family`: the same, else the
/// other (an IPv6 socket reaches IPv4 as `::ffff:a.b.c.d`).
fn reached_by(workload: &Workload, family: Family) -> Option<Family> {
    let v4 = workload.ips.v4().map(|_| Family::V4);
    let v6 = workload.ips.v6().map(|_| Family::V6);
    match family {
        Family::V4 => v4.or(v6),
        Family::V6 => v6.or(v4),
    }
}

/// The workload's own word for a service port, else the service's; 0 says nothing.
fn target_port(name: &Name, service: &Service, workload: &Workload, port: u16) -> Option<u16> {
    let find = |pairs: &[(u16, u16)]| {
        let at = pairs.binary_search_by_key(&port, |(service, _)| *service).ok()?;
        Some(pairs[at].1).filter(|target| *target != 0)
    };
    let services = &workload.traits.services;
    let own = services.binary_search_by(|member| member.service.cmp(name)).ok();
    own.and_then(|at| find(&services[at].ports)).or_else(|| find(&service.ports))
}

/// The record of a workload; none for one that nothing here can reach.
fn workload(desired: &Desired, uid: &Name) -> Option<want::Workload> {
    match desired.workloads.get(uid) {
        Some(workload) => record(desired, uid, workload),
        None => desired.ghosts().get(uid).cloned(),
    }
}

/// The record of a workload that a source names.
fn record(desired: &Desired, uid: &Name, workload: &Workload) -> Option<want::Workload> {
    let ips = workload.ips.all();
    if ips.is_empty() || !desired.is_local(&workload.place.network) {
        return None;
    }
    let led = desired.leads_to(uid, workload);
    let addresses = if led { desired.own_addresses(workload).to_vec() } else { Vec::new() };
    let waypoint = desired.workload_waypoint(uid, workload).filter(|_| !addresses.is_empty());
    let waypoint = waypoint.map(|target| reference(desired, &target));
    Some(want::Workload {
        v4: workload.ips.v4(),
        v6: workload.ips.v6(),
        addresses,
        waypoint,
        identity: Some(workload.traits.identity.clone()),
        is_waypoint: is_waypoint(desired, uid, workload),
        policies: workload.traits.policies.to_vec(),
    })
}

fn is_waypoint(desired: &Desired, uid: &Name, workload: &Workload) -> bool {
    let used = |target: &Target| desired.waypoints.contains_key(target);
    let at_address = || workload.ips.all().iter().any(|ip| used(&Target::Address(*ip)));
    let by_service = |name: &Name| {
        let by_vip =
            |service| desired.local_vips(service).iter().any(|ip| used(&Target::Address(*ip)));
        used(&Target::Service(name.clone())) || desired.services.get(name).is_some_and(by_vip)
    };
    !desired.waypoints.is_empty()
        && (at_address()
            || workload.traits.services.iter().any(|m| by_service(&m.service))
            || desired.is_kept_endpoint(uid))
}

#[cfg(test)]
mod tests;
