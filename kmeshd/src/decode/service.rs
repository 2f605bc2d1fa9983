//! A service: checked, with its VIPs of every network and its locality mode.

use std::net::IpAddr;

use super::proto::workload as proto;
use super::proto::workload::load_balancing::{HealthPolicy, Mode as WireMode, Scope as WireScope};
use super::say::{Say, is_one_host, shown};
use super::{Address, DecodeError, Decoder};
use crate::model::{Mode, Name, Scope, Service, Standing};

impl Decoder {
    pub(super) fn service(&mut self, from: proto::Service) -> Result<Address, DecodeError> {
        let mut say = Say::default();
        say.label("name", &from.name);
        let name = say.service_name("service", &from.namespace, &from.hostname);
        let (vips, left_out) = self.vips(&from, &mut say);
        let ports = say.ports(&from.ports);
        let waypoint = say.waypoint(from.waypoint);
        let standing = match (from.visibility == proto::Visibility::Public as i32, from.canonical) {
            (false, _) => Standing::Private,
            (true, _) if from.ip_families != 0 => Standing::Kubernetes,
            (true, true) => Standing::Canonical,
            (true, false) => Standing::Public,
        };
        let balancing = from.load_balancing.unwrap_or_default();
        let (mode, preferences) = balance(&balancing, &mut say);
        say.finish(())?;
        let service = Service {
            vips,
            ports,
            waypoint,
            mode,
            preferences,
            allow_unhealthy: balancing.health_policy == HealthPolicy::AllowAll as i32,
            left_out,
            standing,
        };
        let name = self.texts.text(&name.unwrap_or_default());
        Ok(Address::Service(name, service))
    }

    /// Each VIP once. What is not one host's address (a range, a group: a ServiceEntry may name
    /// them) cannot be a VIP here: it is left out, and counted.
    fn vips(&mut self, from: &proto::Service, say: &mut Say) -> (Box<[(Name, IpAddr)]>, u16) {
        let mut vips = Vec::with_capacity(from.addresses.len());
        let mut count = 0_u16;
        for vip in &from.addresses {
            say.label("network of a VIP", &vip.network);
            let Some(ip) = say.ip("VIP", &vip.address) else {
                continue;
            };
            let whole = vip.length.is_none_or(|length| length as usize == vip.address.len() * 8);
            if whole && is_one_host(ip) {
                vips.push((self.texts.text(&vip.network), ip));
            } else {
                left_out(from, ip, vip.length);
                count = count.saturating_add(1);
            }
        }
        vips.sort_unstable();
        vips.dedup();
        (vips.into(), count)
    }
}

/// A VIP that is not one host's: what goes there passes, around the service's waypoint, too.
fn left_out(from: &proto::Service, ip: IpAddr, length: Option<u32>) {
    let service = shown(&from.hostname);
    if from.waypoint.is_some() {
        tracing::warn!(service, %ip, length, "a range is no VIP here: connections there meet no waypoint");
    } else {
        tracing::debug!(service, %ip, length, "a VIP that is not one host's is left out");
    }
}

/// The locality mode, and its scopes. A mode that is not known is refused: no other one is safe in
/// its place. A preference counts up to the first scope that is not known, since it only prefers;
/// what is strict must be known whole.
fn balance(from: &proto::LoadBalancing, say: &mut Say) -> (Mode, Box<[Scope]>) {
    let mode = match WireMode::try_from(from.mode) {
        Ok(WireMode::UnspecifiedMode) => Mode::Standard,
        Ok(WireMode::Strict) => Mode::Strict,
        Ok(WireMode::Failover) => Mode::Failover,
        Ok(WireMode::Passthrough) => Mode::Passthrough,
        Err(_) => {
            say.problem(format!("load balancing mode {} is not known", from.mode));
            Mode::Standard
        }
    };
    let known = from.routing_preference.iter().map_while(|scope| scope_of(*scope));
    let scopes: Box<[Scope]> = known.collect();
    if mode == Mode::Strict
        && let Some(scope) = from.routing_preference.get(scopes.len())
    {
        say.problem(format!("scope {scope} of the routing preference is not known"));
    }
    (mode, scopes)
}

fn scope_of(scope: i32) -> Option<Scope> {
    match WireScope::try_from(scope).ok()? {
        WireScope::Region => Some(Scope::Region),
        WireScope::Zone => Some(Scope::Zone),
        WireScope::Subzone => Some(Scope::Subzone),
        WireScope::Node => Some(Scope::Node),
        WireScope::Cluster => Some(Scope::Cluster),
        WireScope::Network => Some(Scope::Network),
        WireScope::UnspecifiedScope => None,
    }
}
