//! Which addresses lead where: of this node's network only, and to one object each.

use std::net::IpAddr;

use kmesh_bpf::want::{Family, Kind, ServiceKey};

use super::Desired;
use crate::model::{Name, Service, Standing, Workload};

impl Desired {
    /// The keys of a service's records.
    pub(crate) fn service_keys(&self, name: &Name, service: &Service) -> Vec<ServiceKey> {
        let key =
            |port, family| ServiceKey { name: name.clone(), port, family, kind: Kind::Service };
        let mut keys = Vec::new();
        for family in self.vip_families(service) {
            keys.extend(service.ports.iter().map(|(port, _)| key(*port, family)));
        }
        keys
    }

    /// The families that a service has VIPs of in this network.
    pub(crate) fn vip_families(&self, service: &Service) -> Vec<Family> {
        let has =
            |family: &Family| self.local_vips(service).iter().any(|ip| Family::of(*ip) == *family);
        [Family::V4, Family::V6].into_iter().filter(has).collect()
    }

    /// The VIPs of a service in this network.
    pub(crate) fn local_vips(&self, service: &Service) -> Vec<IpAddr> {
        let local = service.vips.iter().filter(|(network, _)| self.is_local(network));
        local.map(|(_, ip)| *ip).collect()
    }

    /// Whether a network is this node's.
    pub(crate) fn is_local(&self, network: &str) -> bool {
        network.is_empty() || *network == *self.here.network
    }

    /// Whether an address leads to this workload; where several claim it: to a pod (what others
    /// say of an address, anybody may have written), then to a healthy one, the first by uid.
    pub(crate) fn is_owner(&self, uid: &Name, ip: IpAddr) -> bool {
        if !self.at.is_contested(ip) {
            return true;
        }
        let rank = |uid: &Name| {
            let workload = self.workloads.get(uid)?;
            let rank = (!uid.contains("//Pod/"), !workload.healthy);
            (!workload.host_network).then_some(rank)
        };
        let ranked = self.at.all(ip).filter_map(|uid| Some((rank(uid)?, uid)));
        ranked.min().is_none_or(|(_, owner)| owner == uid)
    }

    /// The service that a VIP is, if it is one: of several the first by standing and name.
    pub(crate) fn vip_owner(&self, ip: IpAddr) -> Option<&Name> {
        self.vips.all(ip).min_by_key(|name| self.standing(name))
    }

    fn standing<'a>(&self, name: &'a Name) -> (Standing, &'a Name) {
        (self.services.get(name).map(|service| service.standing).unwrap_or_default(), name)
    }

    /// Whether a service's port is published at a VIP: where several services claim both, it is
    /// the first one's by standing and name.
    pub(crate) fn is_published(&self, name: &Name, ip: IpAddr, port: u16) -> bool {
        let has = |other: &Name| {
            let service = self.services.get(other);
            service.is_some_and(|s| s.ports.binary_search_by_key(&port, |p| p.0).is_ok())
        };
        let before = |other: &&Name| self.standing(other) < self.standing(name);
        !self.vips.is_contested(ip) || !self.vips.all(ip).filter(before).any(has)
    }

    /// The addresses that lead to a workload: none for those on the host's network.
    pub(crate) fn own_addresses<'a>(&self, workload: &'a Workload) -> &'a [IpAddr] {
        let reachable = self.is_local(&workload.place.network) && !workload.host_network;
        if reachable { workload.ips.all() } else { &[] }
    }

    /// Whether addresses lead to a workload. All of its own, or none: one that leads to another
    /// workload tells that this one is not there.
    pub(crate) fn leads_to(&self, uid: &Name, workload: &Workload) -> bool {
        let own = self.own_addresses(workload);
        !own.is_empty() && own.iter().all(|ip| self.is_owner(uid, *ip))
    }

    /// Whether a service is published at any VIP and port.
    pub(super) fn is_reached(&self, name: &Name, service: &Service) -> bool {
        let ports = || service.ports.iter().map(|(port, _)| *port);
        let vips = self.local_vips(service);
        vips.iter().any(|ip| ports().any(|port| self.is_published(name, *ip, port)))
    }
}
