//! Writes a set that nobody reads yet: words and bits first, then the record that leads to them.
//! What leads to the record, a pod's word, is the caller's to write, and the grace before any of
//! these places is written again.

use super::Image;
use crate::kernel::{KernelError, Put, Tables};
use crate::layout::Map;

impl Image {
    /// Writes the image as set `set`, its words and chunks from these places on. Nothing is
    /// written if it does not fit.
    pub fn write(
        &self,
        k: &mut dyn Tables,
        set: u16,
        words: u32,
        chunks: u32,
    ) -> Result<(), KernelError> {
        let words_end = end(k, Map::AuthWord, words, self.words.len())?;
        let chunks_end = end(k, Map::AuthBits, chunks, self.bits.len())?;
        end(k, Map::AuthSet, set.into(), 1)?;
        let keys: Vec<u32> = (words..words_end).collect();
        k.update_batch(
            Map::AuthWord,
            bytemuck::cast_slice(&keys),
            bytemuck::cast_slice(&self.words),
        )?;
        let keys: Vec<u32> = (chunks..chunks_end).collect();
        k.update_batch(
            Map::AuthBits,
            bytemuck::cast_slice(&keys),
            bytemuck::cast_slice(&self.bits),
        )?;
        let record = self.record(words..words_end, chunks..chunks_end);
        let set = u32::from(set).to_ne_bytes();
        k.update(Map::AuthSet, &set, bytemuck::bytes_of(&record), Put::Any).map(drop)
    }
}

/// The place behind the last of so many, if the map has it.
fn end(k: &dyn Tables, map: Map, from: u32, count: usize) -> Result<u32, KernelError> {
    let limit = k.max_entries(map)?;
    let end = u32::try_from(count).ok().and_then(|count| from.checked_add(count));
    end.filter(|end| *end <= limit).ok_or(KernelError::Full { map, limit })
}
