//! Steps as the kernel takes them: which map, which keys and values.

use crate::layout::{Map, MetaRecord};
use crate::step::Step;

/// Which map a step writes.
pub(super) fn map(step: &Step) -> Map {
    match step {
        Step::Grace => Map::Meta,
        Step::Name { .. } => Map::Names,
        Step::Backend { .. } => Map::Backend,
        Step::Slot { .. } => Map::Endpoint,
        Step::Service { .. } => Map::Service,
        Step::Frontend { .. } | Step::RemoveFrontend { .. } => Map::Frontend,
        Step::Manager { .. } => Map::Manager,
        Step::Policy { .. } => Map::Policy,
        Step::AuthWord { .. } => Map::AuthWord,
        Step::AuthChunk { .. } => Map::AuthBits,
        Step::AuthSet { .. } => Map::AuthSet,
        Step::Setting { .. } => Map::Settings,
    }
}

/// Whether two steps can share a call.
pub(super) fn alike(one: &Step, next: &Step) -> bool {
    std::mem::discriminant(one) == std::mem::discriminant(next)
}

/// Keys and values of steps, one after another.
pub(super) fn bytes_of(steps: &[Step]) -> (Vec<u8>, Vec<u8>) {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for step in steps {
        let mut put = |key: &[u8], value: &[u8]| {
            keys.extend_from_slice(key);
            values.extend_from_slice(value);
        };
        match step {
            Step::Grace => {}
            Step::Name { chunk, bytes } => put(&chunk.to_ne_bytes(), &bytes.0),
            Step::Backend { index, record } => {
                put(&index.to_ne_bytes(), bytemuck::bytes_of(record));
            }
            Step::Slot { index, word } => put(&index.to_ne_bytes(), bytemuck::bytes_of(word)),
            Step::Service { index, record } => {
                put(&index.to_ne_bytes(), bytemuck::bytes_of(record));
            }
            Step::Frontend { key, word } => {
                put(bytemuck::bytes_of(key), bytemuck::bytes_of(word));
            }
            Step::RemoveFrontend { key } => put(bytemuck::bytes_of(key), &[]),
            Step::Manager { cookie, word } => {
                put(&cookie.to_ne_bytes(), bytemuck::bytes_of(word));
            }
            Step::Policy { index, record } => {
                put(&index.to_ne_bytes(), bytemuck::bytes_of(record));
            }
            Step::AuthChunk { index, chunk } => {
                put(&index.to_ne_bytes(), bytemuck::bytes_of(chunk));
            }
            Step::AuthSet { set, record, .. } => {
                put(&u32::from(*set).to_ne_bytes(), bytemuck::bytes_of(&**record));
            }
            Step::Setting { index, word } | Step::AuthWord { index, word } => {
                put(&index.to_ne_bytes(), &word.to_ne_bytes());
            }
        }
    }
    (keys, values)
}

/// The meta record with ends that cover every index in `steps`.
pub(super) fn reaching(mut meta: MetaRecord, steps: &[Step]) -> MetaRecord {
    for step in steps {
        let (end, index) = match step {
            Step::Name { chunk, .. } => (&mut meta.names_end, *chunk),
            Step::Backend { index, .. } => (&mut meta.backends_end, *index),
            Step::Slot { index, .. } => (&mut meta.endpoints_end, *index),
            Step::Service { index, record } => {
                let slots = record.word.base() + record.capacity;
                meta.endpoints_end = meta.endpoints_end.max(slots);
                (&mut meta.services_end, *index)
            }
            _ => continue,
        };
        *end = (*end).max(index + 1);
    }
    meta
}
