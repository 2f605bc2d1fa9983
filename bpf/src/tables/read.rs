//! Reads the maps, in batches bounded by the ends in `kmesh_meta`: first a bare copy, as fast as
//! can be, so that few writes fall into it; then, of the copy that is kept, the mirror.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};

use super::views::settings_of;
use super::{
    Backends, Consistency, Frontends, Have, Identities, Names, Policies, ReadError, Services, Sets,
    Slots,
};
use crate::kernel::{KernelError, Tables};
use crate::layout::{
    AuthSetRecord, BackendRecord, BackendWord, EndpointWord, FrontendKey, FrontendWord,
    LAYOUT_VERSION, Limits, MAGIC, ManagerWord, Map, MetaRecord, NameChunk, PolicyRecord, SETTINGS,
    ServiceRecord, SettingsWords,
};
use crate::want::Settings;

/// How often an onlooker reads when the tables change meanwhile.
const TRIES: u32 = 3;
/// What it waits before the next try.
const PAUSE: Duration = Duration::from_millis(20);

impl Have {
    /// Reads the tables as an onlooker: up to three times, until nothing was written
    /// meanwhile; [`Self::consistency`] says how it went. Never-written maps are empty tables.
    pub fn read(k: &dyn Tables) -> Result<Self, ReadError> {
        Self::read_held(k, &mut || false)
    }

    /// As [`Self::read`]; when a writer was at work at every try, `hold` may make it rest (true:
    /// it does), and then there is one more try.
    pub fn read_held(k: &dyn Tables, hold: &mut dyn FnMut() -> bool) -> Result<Self, ReadError> {
        let mut copy = Copy::take(k)?;
        for _ in 1..TRIES {
            if copy.consistency == Consistency::Settled {
                break;
            }
            std::thread::sleep(PAUSE);
            copy = Copy::take(k)?;
        }
        if copy.consistency != Consistency::Settled && hold() {
            copy = Copy::take(k)?;
        }
        Ok(Self::of(copy))
    }

    /// Reads the tables as the holder of the writer lock: once; an odd generation is a dead
    /// writer's, closed by the next transaction.
    pub fn read_locked(k: &dyn Tables) -> Result<Self, ReadError> {
        Copy::take(k).map(Self::of)
    }

    /// Reads what the programs are told, and no more.
    pub fn read_settings(k: &dyn Tables) -> Result<Settings, ReadError> {
        Ok(settings_of(&read_settings(k).map_err(ReadError::Kernel)?))
    }

    /// The mirror of a copy.
    fn of(copy: Copy) -> Self {
        let (backends_end, services_end) = (copy.end(Map::Backend), copy.end(Map::Service));
        let mut names = Names::new(copy.names);
        let backends = Backends::new(copy.backends, &mut names);
        let mut slots = Slots::new(copy.endpoints, backends_end);
        let mut services = Services::new(copy.services, &mut names);
        tie(&mut services, &mut slots, &backends);
        let mut frontends = Frontends::default();
        frontends.grow(services_end, backends_end);
        frontends.reserve(copy.frontends.len());
        for (key, word) in copy.frontends {
            frontends.insert(key, word);
        }
        let policies = Policies::new(copy.policies, &mut names);
        let room = (copy.limits.policy_words, copy.limits.policy_chunks);
        let sets = Sets::new(&copy.sets, copy.auth_words, room, &mut names);
        let valid = |record: &BackendRecord| record.word.has(BackendWord::VALID);
        let identities = Identities::new(backends.all(), valid);
        let mut have = Self {
            meta: copy.meta,
            limits: copy.limits,
            names,
            backends,
            services,
            slots,
            frontends,
            managers: copy.managers,
            settings: copy.settings,
            policies,
            sets,
            identities,
            unstored: BTreeMap::new(),
            refused: Vec::new(),
            consistency: copy.consistency,
            stale: false,
            signature: (copy.meta.writer_pid, copy.meta.writer_start),
        };
        have.find_free();
        have
    }

    /// Reads `map_of_manager` again: others insert there too.
    pub fn refresh_managers(&mut self, k: &dyn Tables) -> Result<(), KernelError> {
        self.managers = read_managers(k)?;
        Ok(())
    }

    /// What no record uses may still be in some program's hand: it waits for a grace period.
    /// What is not in use but referred to is left alone until a complete plan mends that.
    fn find_free(&mut self) {
        let (services, backends) = self.lost();
        self.names.find_free();
        self.slots.find_free();
        self.backends.find_free(backends);
        self.services.find_free(services);
    }

    /// After a transaction: what is no longer referred to waits for a grace period like the
    /// rest. Only a dead writer or a foreign hand leaves such.
    pub(crate) fn release_reserved(&mut self) {
        if self.services.reserved.is_empty() && self.backends.reserved.is_empty() {
            return;
        }
        let (services, backends) = self.lost();
        let (backends_end, services_end) = (self.backends.end(), self.services.end());
        let Self { backends: one, services: other, .. } = self;
        for (reserved, quarantine, lost, end) in [
            (&mut one.reserved, &mut one.quarantine, backends, backends_end),
            (&mut other.reserved, &mut other.quarantine, services, services_end),
        ] {
            for index in reserved.difference(&lost).filter(|index| **index < end) {
                quarantine.insert(*index, 1);
            }
            *reserved = lost;
        }
    }

    /// Services and backends that are referred to though not in use.
    fn lost(&self) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let (mut services, mut backends) = (BTreeSet::new(), BTreeSet::new());
        let no_service = |index: &u32| self.services.get(*index).is_none();
        let no_backend = |index: &u32| self.backends.get(*index).is_none();
        for (_, record) in self.services.iter() {
            services.extend(record.waypoint.service().filter(no_service));
            let words = self.slots.of(record).iter();
            backends.extend(words.map(|word| word.backend()).filter(no_backend));
        }
        for (_, record) in self.backends.iter() {
            services.extend(record.waypoint_v4.service().filter(no_service));
            services.extend(record.waypoint_v6.service().filter(no_service));
        }
        for (key, word) in self.frontends.iter() {
            if key.kind() == FrontendKey::SERVICE {
                services.extend(Some(word.index()).filter(no_service));
            } else {
                backends.extend(Some(word.index()).filter(no_backend));
            }
        }
        let governed = self.managers.values().filter_map(|word| word.backend());
        backends.extend(governed.filter(no_backend));
        (services, backends)
    }
}

/// The bare content of the maps, and whether anything was written while it was copied.
struct Copy {
    meta: MetaRecord,
    limits: Limits,
    names: Vec<NameChunk>,
    backends: Vec<BackendRecord>,
    endpoints: Vec<EndpointWord>,
    services: Vec<ServiceRecord>,
    frontends: Vec<(FrontendKey, FrontendWord)>,
    managers: BTreeMap<u64, ManagerWord>,
    settings: SettingsWords,
    policies: Vec<PolicyRecord>,
    sets: Vec<AuthSetRecord>,
    auth_words: Vec<u64>,
    consistency: Consistency,
}

impl Copy {
    /// Copies once.
    fn take(k: &dyn Tables) -> Result<Self, ReadError> {
        let meta = read_meta(k)?;
        let mut copy = Self::read(k, meta).map_err(ReadError::Kernel)?;
        copy.consistency = match (meta.generation, read_meta(k)?.generation) {
            (before, after) if before != after => Consistency::Moving,
            (odd, _) if odd & 1 == 1 => Consistency::LeftOpen,
            _ => Consistency::Settled,
        };
        Ok(copy)
    }

    fn read(k: &dyn Tables, meta: MetaRecord) -> Result<Self, KernelError> {
        let limits = read_limits(k)?;
        let end = |map| end(&meta, &limits, map);
        // each service and workload has one address as a rule
        let addresses = end(Map::Service) as usize + end(Map::Backend) as usize;
        let mut frontends = Vec::with_capacity(addresses);
        read_hash(k, Map::Frontend, |key, word| frontends.push((key, word)))?;
        let sets: Vec<AuthSetRecord> = read_array(k, Map::AuthSet, limits.policy_sets)?;
        let words_end = sets_end(&sets).min(limits.policy_words);
        Ok(Self {
            names: read_array(k, Map::Names, end(Map::Names))?,
            backends: read_array(k, Map::Backend, end(Map::Backend))?,
            endpoints: read_array(k, Map::Endpoint, end(Map::Endpoint))?,
            services: read_array(k, Map::Service, end(Map::Service))?,
            frontends,
            managers: read_managers(k)?,
            settings: read_settings(k)?,
            policies: read_array(k, Map::Policy, limits.policies)?,
            auth_words: read_array(k, Map::AuthWord, words_end)?,
            sets,
            consistency: Consistency::Moving,
            limits,
            meta,
        })
    }

    fn end(&self, map: Map) -> u32 {
        end(&self.meta, &self.limits, map)
    }
}

/// The first index of an array that was never used.
fn end(meta: &MetaRecord, limits: &Limits, map: Map) -> u32 {
    let end = match map {
        Map::Names => meta.names_end,
        Map::Backend => meta.backends_end,
        Map::Endpoint => meta.endpoints_end,
        Map::Service => meta.services_end,
        _ => 0,
    };
    end.min(limits.of(map))
}

/// The place behind the last word of the sets in use.
fn sets_end(sets: &[AuthSetRecord]) -> u32 {
    let used = sets.iter().filter(|record| record.flags & AuthSetRecord::VALID != 0);
    used.map(|record| record.words.saturating_add(record.words_room)).max().unwrap_or_default()
}

/// Which slots belong to which service, and how many workloads name each waypoint.
fn tie(services: &mut Services, slots: &mut Slots, backends: &Backends) {
    for (index, record) in services.iter() {
        slots.claim(index, record);
    }
    for (_, record) in backends.iter() {
        services.name(record.waypoint_v4);
        services.name(record.waypoint_v6);
    }
}

/// `kmesh_meta`; all zero when nothing was ever written.
fn read_meta(k: &dyn Tables) -> Result<MetaRecord, ReadError> {
    let mut meta = MetaRecord::zeroed();
    k.lookup(Map::Meta, &0_u32.to_ne_bytes(), bytemuck::bytes_of_mut(&mut meta))
        .map_err(ReadError::Kernel)?;
    if (meta.magic, meta.layout) == (0, 0) {
        (meta.magic, meta.layout) = (MAGIC, LAYOUT_VERSION);
    }
    if (meta.magic, meta.layout) != (MAGIC, LAYOUT_VERSION) {
        return Err(ReadError::Layout { layout: meta.layout });
    }
    Ok(meta)
}

fn read_limits(k: &dyn Tables) -> Result<Limits, KernelError> {
    Ok(Limits {
        frontends: k.max_entries(Map::Frontend)?,
        services: k.max_entries(Map::Service)?,
        endpoints: k.max_entries(Map::Endpoint)?,
        workloads: k.max_entries(Map::Backend)?,
        names: k.max_entries(Map::Names)?,
        pods: k.max_entries(Map::Manager)?,
        sockets: k.max_entries(Map::Socket)?,
        policies: k.max_entries(Map::Policy)?,
        policy_sets: k.max_entries(Map::AuthSet)?,
        policy_words: k.max_entries(Map::AuthWord)?,
        policy_chunks: k.max_entries(Map::AuthBits)?,
        connections: k.max_entries(Map::Tuple)?,
    })
}

fn read_managers(k: &dyn Tables) -> Result<BTreeMap<u64, ManagerWord>, KernelError> {
    let mut managers = BTreeMap::new();
    read_hash(k, Map::Manager, |cookie: u64, word: ManagerWord| {
        managers.insert(cookie, word);
    })?;
    Ok(managers)
}

fn read_settings(k: &dyn Tables) -> Result<SettingsWords, KernelError> {
    let words = read_array::<u64>(k, Map::Settings, u32::try_from(SETTINGS).unwrap_or_default())?;
    let mut settings = SettingsWords::default();
    settings.0.copy_from_slice(&words);
    Ok(settings)
}

/// The elements of an array below `end`.
fn read_array<T: Pod>(k: &dyn Tables, map: Map, end: u32) -> Result<Vec<T>, KernelError> {
    // Room to grow without moving: what is not touched takes no memory.
    let mut elements = Vec::with_capacity(end as usize + (end / 8).max(1024) as usize);
    elements.resize(end as usize, T::zeroed());
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut elements);
    let mut at = 0;
    k.scan(map, end, &mut |_, values| {
        let room = bytes.len() - at;
        let len = values.len().min(room);
        bytes[at..at + len].copy_from_slice(&values[..len]);
        at += len;
    })?;
    Ok(elements)
}

/// Visits the elements of a hash.
fn read_hash<K: Pod, V: Pod>(
    k: &dyn Tables,
    map: Map,
    mut each: impl FnMut(K, V),
) -> Result<(), KernelError> {
    k.scan(map, 0, &mut |keys, values| {
        let keys = keys.chunks_exact(size_of::<K>());
        for (key, value) in keys.zip(values.chunks_exact(size_of::<V>())) {
            each(bytemuck::pod_read_unaligned(key), bytemuck::pod_read_unaligned(value));
        }
    })
}
