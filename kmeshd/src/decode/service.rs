//! A service: checked, with its VIPs of every network and its locality mode.

use std::net::IpAddr;

use super::proto::workload as proto;
use super::proto::workload::load_balancing::{HealthPolicy, Mode as WireMode, Scope as WireScope};
use super::say::Say;
use super::{Address, DecodeError, Decoder};
use crate::model::{Mode, Name, Scope, Service};

impl Decoder {
    pub(super) fn service(&mut self, from: proto::Service) -> Result<Address, DecodeError> {
        let mut say = Say::default();
        say.label("name", &from.name);
        let name = say.service_name("service", &from.namespace, &from.hostname);
        let vips = self.vips(&from.addresses, &mut say);
        let ports = say.ports(&from.ports);
        let waypoint = say.waypoint(from.waypoint);
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
        };
        let name = self.texts.text(&name.unwrap_or_default());
        Ok(Address::Service(name, service))
    }

    /// Each VIP once. Ranges of addresses cannot be VIPs here: they are left out.
    fn vips(
        &mut self,
        addresses: &[proto::NetworkAddress],
        say: &mut Say,
    ) -> Box<[(Name, IpAddr)]> {
        let mut vips = Vec::with_capacity(addresses.len());
        for vip in addresses {
            say.label("network of a VIP", &vip.network);
            let whole = vip.length.is_none_or(|length| length as usize == vip.address.len() * 8);
            if !whole {
                tracing::debug!(length = vip.length, "a range of VIPs is left out");
                continue;
            }
            if let Some(ip) = say.address("VIP", &vip.address) {
                vips.push((self.texts.text(&vip.network), ip));
            }
        }
        vips.sort_unstable();
        vips.dedup();
        vips.into()
    }
}

/// The locality mode, and its scopes.
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
    if HealthPolicy::try_from(from.health_policy).is_err() {
        say.problem(format!("health policy {} is not known", from.health_policy));
    }
    let mut scopes = Vec::with_capacity(from.routing_preference.len());
    for scope in &from.routing_preference {
        scopes.push(match WireScope::try_from(*scope) {
            Ok(WireScope::Region) => Scope::Region,
            Ok(WireScope::Zone) => Scope::Zone,
            Ok(WireScope::Subzone) => Scope::Subzone,
            Ok(WireScope::Node) => Scope::Node,
            Ok(WireScope::Cluster) => Scope::Cluster,
            Ok(WireScope::Network) => Scope::Network,
            Ok(WireScope::UnspecifiedScope) | Err(_) => {
                say.problem(format!("scope {scope} of the routing preference is not known"));
                continue;
            }
        });
    }
    (mode, scopes.into())
}
