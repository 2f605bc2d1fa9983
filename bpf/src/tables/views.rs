//! The tables by name: what snapshots, checks and the other verbs see.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};

use super::{Consistency, Have, Place};
use crate::layout::{
    BackendRecord, BackendWord, EndpointWord, FrontendKey, KIND_SERVICE, KIND_WAYPOINT, Limits,
    ManagerWord, Map, MetaRecord, ServiceRecord, ServiceWord, SettingsWords, WaypointWord,
};
use crate::want::{
    Endpoint, Family, Kind, MetadataFormat, Mode, Name, Service, ServiceKey, Settings, WaypointRef,
    Workload,
};

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The map.
    pub map: Map,
    /// Elements in use, slack included.
    pub used: u64,
    /// Its `max_entries`.
    pub limit: u32,
}

/// The settings that these words say.
pub(super) fn settings_of(words: &SettingsWords) -> Settings {
    let flags = words.flags();
    let mut exempt_ports = words.exempt();
    exempt_ports.sort_unstable();
    Settings {
        metadata: if flags & SettingsWords::PROXY_V2 == 0 {
            MetadataFormat::Tlv
        } else {
            MetadataFormat::ProxyV2
        },
        peername: flags & SettingsWords::PEERNAME != 0,
        exempt_ports,
    }
}

/// Shared names, so that a view of everything holds each string once; or, for a view that is
/// written entry by entry, none.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    names: HashMap<(u32, u16), Name>,
    forget: bool,
}

impl Shared {
    /// Names that are not kept: memory stays what one entry takes.
    pub(crate) fn forgetting() -> Self {
        Self { forget: true, ..Self::default() }
    }

    /// The name at `start`, or a stand-in for one that cannot be read.
    fn name(&mut self, have: &Have, start: u32, len: u16) -> Name {
        let read = || match have.names.text(start, len) {
            Some(text) => text.into(),
            None => format!("(unreadable name at chunk {start})").into(),
        };
        if self.forget {
            return read();
        }
        Name::clone(self.names.entry((start, len)).or_insert_with(read))
    }
}

/// The number of a family in a record.
pub(crate) fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

/// The family that a record's number says.
pub(crate) fn family_of(number: u8) -> Family {
    if number == 6 { Family::V6 } else { Family::V4 }
}

/// The kind that a record's number says.
pub(crate) fn kind_of(number: u8) -> Kind {
    if number == KIND_WAYPOINT { Kind::Waypoint } else { Kind::Service }
}

/// The number of a kind in a record.
pub(crate) fn kind_number(kind: Kind) -> u8 {
    match kind {
        Kind::Service => KIND_SERVICE,
        Kind::Waypoint => KIND_WAYPOINT,
    }
}

/// The flags of a mode.
pub(crate) fn mode_flags(mode: Mode) -> u16 {
    match mode {
        Mode::Standard => 0,
        Mode::Strict => ServiceWord::STRICT,
        Mode::Failover => ServiceWord::FAILOVER,
        Mode::Passthrough => ServiceWord::PASSTHROUGH,
    }
}

/// The mode that a service word's flags say.
pub(crate) fn mode_of(word: ServiceWord) -> Mode {
    [Mode::Passthrough, Mode::Strict, Mode::Failover]
        .into_iter()
        .find(|mode| word.has(mode_flags(*mode)))
        .unwrap_or_default()
}

/// The words of the settings.
pub(crate) fn settings_words(settings: &Settings) -> SettingsWords {
    let proxy = match settings.metadata {
        MetadataFormat::Tlv => 0,
        MetadataFormat::ProxyV2 => SettingsWords::PROXY_V2,
    };
    let peername = if settings.peername { SettingsWords::PEERNAME } else { 0 };
    SettingsWords::new(proxy | peername, &settings.exempt_ports)
}

impl Have {
    /// How far this reading can be trusted.
    #[must_use]
    pub fn consistency(&self) -> Consistency {
        self.consistency
    }

    /// `kmesh_meta` as it was read or last written.
    #[must_use]
    pub fn meta(&self) -> &MetaRecord {
        &self.meta
    }

    /// `max_entries` of the maps, as the kernel says them.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How full the maps are.
    #[must_use]
    pub fn usage(&self) -> Vec<Usage> {
        let quiet =
            |runs: &super::Runs, waiting: &super::Runs| runs.elements() + waiting.elements();
        let backends = quiet(&self.backends.free, &self.backends.quarantine);
        let services = quiet(&self.services.free, &self.services.quarantine);
        let [sets, words, chunks] = self.sets.used();
        [
            (Map::Frontend, self.frontends.len() as u64),
            (Map::Service, u64::from(self.services.end()) - services),
            (Map::Endpoint, self.slots.used()),
            (Map::Backend, u64::from(self.backends.end()) - backends),
            (Map::Names, self.names.used()),
            (Map::Manager, self.managers.len() as u64),
            (Map::Policy, self.policies.used()),
            (Map::AuthSet, sets),
            (Map::AuthWord, words),
            (Map::AuthBits, chunks),
        ]
        .map(|(map, used)| Usage { map, used, limit: self.limits.of(map) })
        .to_vec()
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        settings_of(&self.settings)
    }

    /// The index of the workload with this uid, for a pod's manager word.
    #[must_use]
    pub fn backend(&self, uid: &str) -> Option<u32> {
        self.backends.by_name(self.names.find(uid)?)
    }

    /// The uid of the workload at a backend index.
    #[must_use]
    pub fn uid(&self, backend: u32) -> Option<&str> {
        let record = self.backends.get(backend)?;
        self.names.text(record.name, record.name_len)
    }

    /// The index of a service record.
    pub(crate) fn service_index(&self, key: &ServiceKey) -> Option<u32> {
        self.services.at(Place {
            name: self.names.find(&key.name)?,
            port: key.port,
            family: family_number(key.family),
            kind: kind_number(key.kind),
        })
    }

    /// What the tables say of a workload.
    #[must_use]
    pub fn workload(&self, uid: &str) -> Option<Workload> {
        let index = self.backend(uid)?;
        Some(self.workload_at(index, self.backends.get(index)?, &mut Shared::default()))
    }

    /// What the tables say of a service or waypoint.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<Service> {
        let index = self.service_index(key)?;
        Some(self.service_at(index, self.services.get(index)?, &mut Shared::default()))
    }

    /// The waypoint that a service's records name, whatever their ports; `None` if it has none.
    #[must_use]
    pub fn waypoint_of(&self, service: &str) -> Option<Option<Name>> {
        let name = self.names.find(service)?;
        let of = |record: &&ServiceRecord| record.name == name && record.kind == KIND_SERVICE;
        let records = self.services.iter().map(|(_, record)| record).filter(of);
        let first = records.min_by_key(|record| (record.port, record.family))?;
        Some(self.waypoint(first.waypoint, &mut Shared::default()).map(|waypoint| waypoint.name))
    }

    /// How many services there are by name, waypoints aside, and how many workloads: those whose
    /// names count.
    #[must_use]
    pub fn counts(
        &self,
        service: &dyn Fn(&str) -> bool,
        workload: &dyn Fn(&str) -> bool,
    ) -> (usize, usize) {
        let services = self.services.iter().filter(|(_, record)| record.kind == KIND_SERVICE);
        let names: HashSet<(u32, u16)> =
            services.map(|(_, record)| (record.name, record.name_len)).collect();
        let text = |start, len: u16| self.names.text(start, len).unwrap_or_default();
        let services = names.into_iter().filter(|(start, len)| service(text(*start, *len)));
        let workloads = self.backends.iter().map(|(_, record)| record);
        let workloads = workloads.filter(|record| workload(text(record.name, record.name_len)));
        (services.count(), workloads.count())
    }

    /// Every service and waypoint, in no order.
    pub fn services(&self) -> impl Iterator<Item = (ServiceKey, Service)> + '_ {
        let mut shared = Shared::default();
        self.services.iter().map(move |(index, record)| {
            let key = self.key_of(record, &mut shared);
            (key, self.service_at(index, record, &mut shared))
        })
    }

    /// Every workload by uid, in no order.
    pub fn workloads(&self) -> impl Iterator<Item = (Name, Workload)> + '_ {
        let mut shared = Shared::default();
        self.backends.iter().map(move |(index, record)| {
            let uid = shared.name(self, record.name, record.name_len);
            (uid, self.workload_at(index, record, &mut shared))
        })
    }

    /// Records of services in the order of their names, ports, families and kinds.
    pub(crate) fn services_in_order(&self) -> Vec<u32> {
        let mut order: Vec<_> = self.services.iter().map(|(index, _)| index).collect();
        let rank = |index: &u32| {
            let record = self.services.get(*index).copied().unwrap_or_default();
            let name = self.names.bytes(record.name, record.name_len);
            (name, record.port, record.family, record.kind, *index)
        };
        order.sort_unstable_by(|one, next| rank(one).cmp(&rank(next)));
        order
    }

    /// Records of workloads in the order of their uids.
    pub(crate) fn workloads_in_order(&self) -> Vec<u32> {
        let mut order: Vec<_> = self.backends.iter().map(|(index, _)| index).collect();
        let rank = |index: &u32| {
            let record = self.backends.get(*index).copied().unwrap_or_default();
            (self.names.bytes(record.name, record.name_len), *index)
        };
        order.sort_unstable_by(|one, next| rank(one).cmp(&rank(next)));
        order
    }

    /// What record `index` says of a service.
    pub(crate) fn nth_service(
        &self,
        index: u32,
        shared: &mut Shared,
    ) -> Option<(ServiceKey, Service)> {
        let record = self.services.get(index)?;
        Some((self.key_of(record, shared), self.service_at(index, record, shared)))
    }

    /// What record `index` says of a workload.
    pub(crate) fn nth_workload(&self, index: u32, shared: &mut Shared) -> Option<(Name, Workload)> {
        let record = self.backends.get(index)?;
        let uid = shared.name(self, record.name, record.name_len);
        Some((uid, self.workload_at(index, record, shared)))
    }

    /// Pods by netns cookie, sorted.
    #[must_use]
    pub fn managers(&self) -> Vec<(u64, ManagerWord)> {
        self.managers.iter().map(|(cookie, word)| (*cookie, *word)).collect()
    }

    /// A service as messages name it.
    pub(crate) fn service_name(&self, record: &ServiceRecord) -> String {
        self.key_of(record, &mut Shared::default()).to_string()
    }

    /// The uid in a record.
    pub(crate) fn record_uid(&self, record: &BackendRecord) -> Name {
        Shared::default().name(self, record.name, record.name_len)
    }

    /// The key that a record is found by.
    pub(crate) fn key_of(&self, record: &ServiceRecord, shared: &mut Shared) -> ServiceKey {
        ServiceKey {
            name: shared.name(self, record.name, record.name_len),
            port: record.port,
            family: family_of(record.family),
            kind: kind_of(record.kind),
        }
    }

    fn service_at(&self, index: u32, record: &ServiceRecord, shared: &mut Shared) -> Service {
        let mut vips: Vec<_> =
            self.frontends.of(FrontendKey::SERVICE, index).map(|key| key.address()).collect();
        vips.sort_unstable();
        let words = self.slots.of(record).iter();
        let mut endpoints: Vec<_> = words.filter_map(|word| self.endpoint(*word, shared)).collect();
        endpoints.sort_unstable();
        Service {
            vips,
            mode: mode_of(record.word),
            synced: record.word.has(ServiceWord::SYNCED),
            waypoint: self.waypoint(record.waypoint, shared),
            endpoints,
        }
    }

    fn endpoint(&self, word: EndpointWord, shared: &mut Shared) -> Option<Endpoint> {
        let record = self.backends.get(word.backend()).filter(|_| word.valid())?;
        Some(Endpoint {
            workload: shared.name(self, record.name, record.name_len),
            port: word.port(),
            family: if word.v6() { Family::V6 } else { Family::V4 },
        })
    }

    fn workload_at(&self, index: u32, record: &BackendRecord, shared: &mut Shared) -> Workload {
        let mut addresses: Vec<IpAddr> =
            self.frontends.of(FrontendKey::WORKLOAD, index).map(|key| key.address()).collect();
        addresses.sort_unstable();
        let waypoint = self.waypoint(record.waypoint_v4, shared);
        let identity = (record.identity_len > 0)
            .then(|| shared.name(self, record.identity, record.identity_len));
        Workload {
            v4: record.word.v4(),
            v6: record.v6(),
            addresses,
            waypoint: waypoint.or_else(|| self.waypoint(record.waypoint_v6, shared)),
            identity,
            is_waypoint: record.word.has(BackendWord::WAYPOINT),
            policies: self.named_policies(record),
        }
    }

    fn waypoint(&self, word: WaypointWord, shared: &mut Shared) -> Option<WaypointRef> {
        let record = self.services.get(word.service()?)?;
        Some(WaypointRef {
            name: shared.name(self, record.name, record.name_len),
            port: record.port,
        })
    }
}
