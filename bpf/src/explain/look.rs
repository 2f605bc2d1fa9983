//! Elements by look-up, and records in the words of the explanation.

use bytemuck::Pod;

use super::said::ServiceSaid;
use crate::kernel::{KernelError, Tables};
use crate::layout::{BackendRecord, Map, ServiceRecord, ServiceWord, SettingsWords};
use crate::tables;

/// What a look-up answers.
pub(super) type Read<T> = Result<T, KernelError>;

/// An element of an array; `None` beyond its end.
pub(super) fn element<T: Pod>(k: &dyn Tables, map: Map, index: u32) -> Read<Option<T>> {
    if index >= k.max_entries(map)? {
        return Ok(None);
    }
    let mut value = T::zeroed();
    let there = k.lookup(map, &index.to_ne_bytes(), bytemuck::bytes_of_mut(&mut value))?;
    Ok(there.then_some(value))
}

/// What the programs are told at run time.
pub(super) fn settings(k: &dyn Tables) -> Read<SettingsWords> {
    let mut words = SettingsWords::default();
    for (index, word) in (0_u32..).zip(&mut words.0) {
        *word = element(k, Map::Settings, index)?.unwrap_or_default();
    }
    Ok(words)
}

/// A backend record's uid.
pub(super) fn uid(k: &dyn Tables, record: &BackendRecord) -> Read<String> {
    tables::name_at(k, record.name, record.name_len)
}

/// A service record by name.
pub(super) fn said(k: &dyn Tables, record: &ServiceRecord) -> Read<ServiceSaid> {
    Ok(ServiceSaid {
        name: tables::name_at(k, record.name, record.name_len)?,
        port: record.port,
        family: tables::family_of(record.family),
        kind: tables::kind_of(record.kind),
        mode: tables::mode_of(record.word),
        synced: record.word.has(ServiceWord::SYNCED),
        endpoints: record.word.count(),
    })
}

/// A service record in one line.
pub(super) fn words(said: &ServiceSaid) -> String {
    let ServiceSaid { name, port, family, mode, synced, endpoints, .. } = said;
    let synced = if *synced { "synced" } else { "never fully synced" };
    let mode = format!("{mode:?}").to_lowercase();
    let many = match endpoints {
        0 => "no endpoint".to_owned(),
        1 => "1 endpoint".to_owned(),
        many => format!("{many} endpoints"),
    };
    format!("{name} port {port} ({family}), mode {mode}, {synced}, {many}")
}
