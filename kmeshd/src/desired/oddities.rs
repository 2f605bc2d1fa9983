//! What the sources say that cannot be done as they say it: counted, and named where there is a
//! choice or a refusal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::{Desired, Target};
use crate::model::Name;

/// So many are named; the rest is a number.
const NAMED: usize = 5;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// VIPs in other networks: nothing leads there from here.
    pub vips_elsewhere: usize,
    /// Those networks: where nothing is here, this node may be said to be in the wrong one.
    pub networks: BTreeSet<Name>,
    /// This node's network, where there are any.
    pub network: Name,
    /// Services with VIPs that are not one host's (ranges, groups), and how many: left out.
    pub vips_left_out: BTreeMap<Name, u16>,
    /// Workloads that have a hostname and no address: it is not resolved.
    pub unresolved: usize,
    /// VIPs that several services claim, sorted, and the first of these: it has the ports
    /// that several have.
    pub contested: Vec<(IpAddr, Name)>,
    /// Waypoints that are named and not known.
    pub waypoints: Vec<Awaited>,
}

/// A waypoint that is not known, and the objects that name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Awaited {
    /// Its name.
    pub waypoint: Name,
    /// Objects that name it and stay as they were.
    pub staying: usize,
    /// The others: their connections go to its last endpoints, or are refused where it has none.
    pub others: usize,
    /// Its last endpoints.
    pub endpoints: usize,
    /// The first objects: "service NAME", "workload UID".
    pub objects: BTreeSet<String>,
}

impl Awaited {
    fn add(&mut self, stays: bool, kind: &str, name: &Name) {
        *if stays { &mut self.staying } else { &mut self.others } += 1;
        let last = self.objects.last().filter(|_| self.objects.len() >= NAMED);
        let text = format!("{kind} {name}");
        if last.is_none_or(|last| text < *last) {
            self.objects.insert(text);
        }
        if self.objects.len() > NAMED {
            self.objects.pop_last();
        }
    }
}

impl Desired {
    /// Looks at everything.
    #[must_use]
    pub fn oddities(&self) -> Oddities {
        let vips = self.services.values().flat_map(|service| &service.vips);
        let elsewhere = vips.filter(|(network, _)| !self.is_local(network));
        let (mut vips_elsewhere, mut networks) = (0, BTreeSet::new());
        for (network, _) in elsewhere {
            vips_elsewhere += 1;
            if !networks.contains(network) {
                networks.insert(network.clone());
            }
        }
        let contested = self.vips.contested();
        let owner = |ip| Some((ip, self.vip_owner(ip)?.clone()));
        let mut contested: Vec<_> = contested.filter_map(owner).collect();
        contested.sort();
        Oddities {
            vips_elsewhere,
            networks,
            network: if vips_elsewhere == 0 { Name::default() } else { self.here.network.clone() },
            vips_left_out: self.vips_left_out(),
            unresolved: self.workloads.values().filter(|w| w.ips.is_unresolved()).count(),
            contested,
            waypoints: self.awaited_waypoints(),
        }
    }

    fn vips_left_out(&self) -> BTreeMap<Name, u16> {
        let some = self.services.iter().filter(|(_, service)| service.left_out > 0);
        some.map(|(name, service)| (name.clone(), service.left_out)).collect()
    }

    /// Waypoints that are named and not known: what is in force meanwhile?
    fn awaited_waypoints(&self) -> Vec<Awaited> {
        let elsewhere = self.waypoints.keys().filter(|it| matches!(it, Target::Elsewhere(..)));
        let named = |target: &Target| {
            let (waypoint, endpoints) = (target.name(), self.kept.endpoints(target));
            (target.clone(), Awaited { waypoint, endpoints, ..Awaited::default() })
        };
        let mut awaited: BTreeMap<Target, Awaited> =
            self.kept.unknown().chain(elsewhere).map(named).collect();
        if awaited.is_empty() {
            return Vec::new();
        }
        for (name, service) in &self.services {
            let named = self.service_targets(name, service).filter(|(_, it)| *it != [0, 0]);
            if let Some(one) = named.and_then(|(target, _)| awaited.get_mut(&target)) {
                one.add(self.kept.of_service(name).is_some(), "service", name);
            }
        }
        for (uid, workload) in &self.workloads {
            let named = self.workload_targets(workload).filter(|(_, it)| *it != [0, 0]);
            if let Some(one) = named.and_then(|(target, _)| awaited.get_mut(&target)) {
                one.add(self.kept.of_workload(uid).is_some(), "workload", uid);
            }
        }
        // Those that are only stayed with are nobody's wish.
        awaited.into_values().filter(|one| !one.objects.is_empty()).collect()
    }
}

impl fmt::Display for Oddities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vips_elsewhere {
            0 => write!(f, "the mesh has no VIPs in other networks")?,
            count => {
                let networks: Vec<&str> = self.networks.iter().map(|name| &**name).collect();
                let (networks, here) = (networks.join(", "), &self.network);
                write!(f, "the mesh has {count} VIPs, left out, in other networks ({networks}; ")?;
                write!(f, "this node's is \"{here}\", by --network)")?;
            }
        }
        let unresolved = self.unresolved;
        write!(f, ", {unresolved} workloads whose hostname is not resolved (no endpoints)")?;
        let service = |(name, count): (&Name, &u16)| format!("{name} ({count}, left out)");
        let left_out = self.vips_left_out.iter().map(service);
        list(f, "services with VIPs that are not one host's", left_out)?;
        let vip = |(ip, name): &(IpAddr, Name)| format!("{ip} (shared ports are {name}'s)");
        list(f, "VIPs that several services claim", self.contested.iter().map(vip))?;
        list(f, "waypoints that are not known", self.waypoints.iter().map(ToString::to_string))
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.waypoint)?;
        if self.staying > 0 {
            write!(f, "{} stay as they were, ", self.staying)?;
        }
        match self.endpoints {
            _ if self.others == 0 => {}
            0 => write!(f, "{} are refused, ", self.others)?,
            last => write!(f, "{} go to its last {last} endpoints, ", self.others)?,
        }
        let objects: Vec<&str> = self.objects.iter().map(String::as_str).collect();
        let more = if self.staying + self.others > objects.len() { ", …" } else { "" };
        write!(f, "named by {}{more})", objects.join(", "))
    }
}

fn list(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    items: impl ExactSizeIterator<Item = String>,
) -> fmt::Result {
    let count = items.len();
    let named: Vec<String> = items.take(NAMED).collect();
    match count {
        0 => write!(f, ", no {what}"),
        _ if count > NAMED => write!(f, ", {count} {what}: {}, …", named.join(", ")),
        _ => write!(f, ", {count} {what}: {}", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_named_by_its_service() {
        let vips_left_out = BTreeMap::from([("n/s".into(), 2)]);
        let said = Oddities { vips_left_out, ..Oddities::default() }.to_string();
        let wanted = "1 services with VIPs that are not one host's: n/s (2, left out)";
        assert!(said.contains(wanted), "{said}");
    }
}
