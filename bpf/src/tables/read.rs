//! Reads the maps, in batches bounded by the ends in `kmesh_meta`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};

use super::views::settings_of;
use super::{Backends, Consistency, Frontends, Have, Names, ReadError, Services, Slots};
use crate::kernel::{KernelError, Tables};
use crate::layout::{
    FrontendKey, LAYOUT_VERSION, Limits, MAGIC, ManagerWord, Map, MetaRecord, SETTINGS,
    SettingsWords,
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
        let mut have = Self::read_once(k)?;
        for _ in 1..TRIES {
            if have.consistency == Consistency::Settled {
                break;
            }
            std::thread::sleep(PAUSE);
            have = Self::read_once(k)?;
        }
        Ok(have)
    }

    /// Reads the tables as the holder of the writer lock: once; an odd generation is a dead
    /// writer's, closed by the next transaction.
    pub fn read_locked(k: &dyn Tables) -> Result<Self, ReadError> {
        Self::read_once(k)
    }

    /// Reads what the programs are told, and no more.
    pub fn read_settings(k: &dyn Tables) -> Result<Settings, ReadError> {
        Ok(settings_of(&read_settings(k).map_err(ReadError::Kernel)?))
    }

    fn read_once(k: &dyn Tables) -> Result<Self, ReadError> {
        let meta = read_meta(k)?;
        let mut have = Self::read_maps(k, meta).map_err(ReadError::Kernel)?;
        let after = read_meta(k)?;
        have.consistency = match meta.generation {
            before if before != after.generation => Consistency::Moving,
            odd if odd & 1 == 1 => Consistency::LeftOpen,
            _ => Consistency::Settled,
        };
        have.find_free();
        Ok(have)
    }

    fn read_maps(k: &dyn Tables, meta: MetaRecord) -> Result<Self, KernelError> {
        let limits = read_limits(k)?;
        let end = |end: u32, map| end.min(limits.of(map));
        let backends_end = end(meta.backends_end, Map::Backend);
        let services_end = end(meta.services_end, Map::Service);
        let mut names = Names::new(read_array(k, Map::Names, end(meta.names_end, Map::Names))?);
        let records = read_array(k, Map::Backend, backends_end)?;
        let backends = Backends::new(records, &mut names);
        let words = read_array(k, Map::Endpoint, end(meta.endpoints_end, Map::Endpoint))?;
        let mut slots = Slots::new(words, backends_end);
        let records = read_array(k, Map::Service, services_end)?;
        let mut services = Services::new(records, &mut names);
        tie(&mut services, &mut slots, &backends);
        let mut frontends = Frontends::default();
        frontends.grow(services_end, backends_end);
        // each service and workload has one address as a rule
        frontends.reserve(services_end as usize + backends_end as usize);
        read_hash(k, Map::Frontend, |key, word| frontends.insert(key, word))?;
        let mut have = Self {
            meta,
            limits,
            names,
            backends,
            services,
            slots,
            frontends,
            managers: BTreeMap::new(),
            settings: read_settings(k)?,
            consistency: Consistency::Moving,
            stale: false,
            signature: (meta.writer_pid, meta.writer_start),
        };
        have.refresh_managers(k)?;
        Ok(have)
    }

    /// Reads `map_of_manager` again: others insert there too.
    pub fn refresh_managers(&mut self, k: &dyn Tables) -> Result<(), KernelError> {
        self.managers.clear();
        let managers = &mut self.managers;
        read_hash(k, Map::Manager, |cookie: u64, word: ManagerWord| {
            managers.insert(cookie, word);
        })
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
    })
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
