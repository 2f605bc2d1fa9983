//! What the sources say that cannot be done as they say it: counted, and named where there is a
//! choice or a refusal.

use std::fmt;
use std::net::IpAddr;

use super::Desired;
use crate::model::Name;

/// So many are named; the rest is a number.
const NAMED: usize = 5;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// VIPs in other networks: nothing leads there from here.
    pub vips_elsewhere: usize,
    /// Workloads that have a hostname and no address: it is not resolved.
    pub unresolved: usize,
    /// VIPs that several services claim, sorted, and the first of these by name: it has the ports
    /// that several have.
    pub contested: Vec<(IpAddr, Name)>,
    /// Waypoints that are named and that nothing leads to.
    pub waypoints: Vec<Name>,
}

impl Desired {
    /// Looks at everything.
    #[must_use]
    pub fn oddities(&self) -> Oddities {
        let vips = self.services.values().flat_map(|service| &service.vips);
        let mut contested: Vec<_> = self.vips.contested().collect();
        contested.sort();
        Oddities {
            vips_elsewhere: vips.filter(|(network, _)| !self.is_local(network)).count(),
            unresolved: self.workloads.values().filter(|w| w.ips.is_unresolved()).count(),
            contested,
            waypoints: self.unknown_waypoints(),
        }
    }
}

impl fmt::Display for Oddities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the mesh has {} VIPs in other networks (left out), {} workloads whose hostname is not \
             resolved (no endpoints)",
            self.vips_elsewhere, self.unresolved
        )?;
        let vip = |(ip, name): &(IpAddr, Name)| format!("{ip} (shared ports are {name}'s)");
        list(f, "VIPs that several services claim", self.contested.iter().map(vip))?;
        let waypoints = self.waypoints.iter().map(|name| format!("{name} (refused)"));
        list(f, "waypoints that are not known", waypoints)
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
