//! The mirror of `kmesh_names`: interned runs of chunks, names and longer texts, counted by who
//! refers to them.
//!
//! Equal strings share one run, so a run's first chunk is also the string's number. A name
//! that no program could have written (bad bytes, overlapping another run) is refused:
//! [`Names::retain`] says so, and its holder counts as nameless.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::runs::Runs;
use crate::kernel::{KernelError, Tables};
use crate::layout::{Map, NAME_CHUNK, NAME_MAX, NameChunk};
use crate::want::is_plain;

/// What a chunk is the start of.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// Records that refer to it.
    refs: u32,
    /// Bytes of the name or text.
    len: u32,
    /// It belongs to a run that starts before it.
    inside: bool,
}

/// The chunks, and which strings they hold.
#[derive(Debug, Default)]
pub(crate) struct Names {
    chunks: Vec<NameChunk>,
    runs: Vec<Run>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    free: Runs,
}

/// Chunks that a name of `len` bytes takes.
pub(crate) fn chunks_of(len: usize) -> u32 {
    u32::try_from(len.div_ceil(NAME_CHUNK)).unwrap_or(u32::MAX)
}

/// The chunks of a name, the last one filled up with zeroes.
pub(crate) fn split(name: &str) -> impl Iterator<Item = NameChunk> + '_ {
    name.as_bytes().chunks(NAME_CHUNK).map(|piece| {
        let mut bytes = [0; NAME_CHUNK];
        bytes[..piece.len()].copy_from_slice(piece);
        NameChunk(bytes)
    })
}

/// Whether the tables can hold this name.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MAX && is_plain(text)
}

/// The name that starts at chunk `start`, by look-ups of its chunks alone; where none can be
/// there, words that say so.
pub(crate) fn name_at(k: &dyn Tables, start: u32, len: u16) -> Result<String, KernelError> {
    let text = if usize::from(len) > NAME_MAX { None } else { text_at(k, start, len.into())? };
    let name = text.filter(|text| is_name(text));
    Ok(name.unwrap_or_else(|| format!("(unreadable name at chunk {start})")))
}

/// The text of so many bytes that starts at chunk `start`, by look-ups of its chunks alone; `None`
/// where none can be there.
pub(crate) fn text_at(k: &dyn Tables, start: u32, len: u32) -> Result<Option<String>, KernelError> {
    let end = start.saturating_add(chunks_of(len as usize));
    if end > k.max_entries(Map::Names)? {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    for chunk in start..end {
        let mut piece = [0; NAME_CHUNK];
        k.lookup(Map::Names, &chunk.to_ne_bytes(), &mut piece)?;
        bytes.extend_from_slice(&piece);
    }
    bytes.truncate(len as usize);
    Ok(String::from_utf8(bytes).ok())
}

impl Names {
    /// The mirror of these chunks, nothing referred to yet.
    pub(crate) fn new(chunks: Vec<NameChunk>) -> Self {
        let runs = vec![Run::default(); chunks.len()];
        Self { table: HashTable::with_capacity(chunks.len()), chunks, runs, ..Self::default() }
    }

    /// Makes room for chunks below `end`.
    pub(crate) fn grow(&mut self, end: u32) {
        let end = (end as usize).max(self.chunks.len());
        self.chunks.resize(end, NameChunk([0; NAME_CHUNK]));
        self.runs.resize(end, Run::default());
    }

    /// What is free below the end.
    pub(crate) fn free(&self) -> &Runs {
        &self.free
    }

    /// Chunks in use.
    pub(crate) fn used(&self) -> u64 {
        self.chunks.len() as u64 - self.free.elements()
    }

    /// After all records are read: what none of them refers to is free.
    pub(crate) fn find_free(&mut self) {
        for (at, run) in (0_u32..).zip(&self.runs) {
            if run.refs == 0 && !run.inside {
                self.free.insert(at, 1);
            }
        }
    }

    /// The bytes of the name that starts at `start`: in the order of names where they are text.
    pub(crate) fn bytes(&self, start: u32, len: impl Into<u32>) -> Option<&[u8]> {
        let from = start as usize * NAME_CHUNK;
        let bytes: &[u8] = bytemuck::cast_slice(&self.chunks);
        bytes.get(from..from + len.into() as usize)
    }

    /// The name or text that starts at `start`.
    pub(crate) fn text(&self, start: u32, len: impl Into<u32>) -> Option<&str> {
        std::str::from_utf8(self.bytes(start, len)?).ok()
    }

    /// Where `name` lies, if anything refers to it.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name.as_bytes());
        self.table.find(hash, |start| self.at(*start) == Some(name.as_bytes())).copied()
    }

    fn at(&self, start: u32) -> Option<&[u8]> {
        self.bytes(start, self.runs.get(start as usize)?.len)
    }

    /// Counts a reference to a name; false when no such name can be there.
    pub(crate) fn retain(&mut self, start: u32, len: u16) -> bool {
        self.hold(start, len.into(), is_name)
    }

    /// Counts a reference to a text, which may be longer than any name.
    pub(crate) fn retain_text(&mut self, start: u32, len: u32) -> bool {
        self.hold(start, len, |text| !text.is_empty())
    }

    fn hold(&mut self, start: u32, len: u32, fits: impl Fn(&str) -> bool) -> bool {
        let Some(run) = self.runs.get_mut(start as usize) else {
            return false;
        };
        if run.refs > 0 {
            let same = run.len == len;
            run.refs += u32::from(same);
            return same;
        }
        let count = chunks_of(len as usize);
        let span = start as usize..start as usize + count as usize;
        let vacant = |run: &Run| run.refs == 0 && !run.inside;
        if !self.runs.get(span.clone()).is_some_and(|runs| runs.iter().all(vacant)) {
            return false;
        }
        if !self.text(start, len).is_some_and(fits) {
            return false;
        }
        self.free.remove(start, count);
        for run in &mut self.runs[span] {
            run.inside = true;
        }
        self.runs[start as usize] = Run { refs: 1, len, inside: false };
        self.enter(start);
        true
    }

    fn enter(&mut self, start: u32) {
        let Self { chunks, runs, table, hasher, .. } = self;
        let at = |start: u32| {
            let from = start as usize * NAME_CHUNK;
            let len = runs[start as usize].len as usize;
            let bytes: &[u8] = bytemuck::cast_slice(chunks);
            &bytes[from..from + len]
        };
        let hash = hasher.hash_one(at(start));
        if table.find(hash, |other| at(*other) == at(start)).is_none() {
            table.insert_unique(hash, start, |other| hasher.hash_one(at(*other)));
        }
    }

    /// Takes a reference back; the last one frees the chunks.
    pub(crate) fn release(&mut self, start: u32, len: impl Into<u32>) {
        let len = len.into();
        let Some(run) = self.runs.get_mut(start as usize) else {
            return;
        };
        if run.refs == 0 || run.len != len {
            return;
        }
        run.refs -= 1;
        if run.refs > 0 {
            return;
        }
        let hash = self.bytes(start, len).map(|bytes| self.hasher.hash_one(bytes));
        if let Some(hash) = hash
            && let Ok(entry) = self.table.find_entry(hash, |other| *other == start)
        {
            entry.remove();
        }
        let count = chunks_of(len as usize);
        for run in &mut self.runs[start as usize..start as usize + count as usize] {
            *run = Run::default();
        }
        self.free.insert(start, count);
    }

    /// Follows the write of a chunk: it is no longer free.
    pub(crate) fn write(&mut self, chunk: u32, bytes: NameChunk) {
        if let Some(there) = self.chunks.get_mut(chunk as usize) {
            *there = bytes;
            self.free.remove(chunk, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(names: &[&str]) -> Names {
        Names::new(names.iter().flat_map(|name| split(name)).collect())
    }

    #[test]
    fn a_name_is_found_while_it_is_referred_to() {
        let long = "x".repeat(100);
        let mut names = with(&["a", &long, "b"]);
        assert!(names.retain(0, 1) && names.retain(1, 100) && names.retain(1, 100));
        names.find_free();
        assert_eq!(names.free().iter().collect::<Vec<_>>(), [(3, 1)]);
        assert_eq!(names.find(&long), Some(1));
        names.release(1, 100_u32);
        assert_eq!(names.find(&long), Some(1));
        names.release(1, 100_u32);
        assert_eq!(names.find(&long), None);
        assert_eq!(names.free().iter().collect::<Vec<_>>(), [(1, 3)]);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let long = "x".repeat(100);
        let mut names = with(&["a", &long, "b\u{7}"]);
        assert!(names.retain(1, 100));
        assert!(!names.retain(1, 99), "another length of the same run");
        assert!(!names.retain(2, 3), "inside of a run");
        assert!(!names.retain(0, 70), "runs into another");
        assert!(!names.retain(3, 2), "a control character");
        assert!(!names.retain(0, 0), "empty");
        assert!(!names.retain(9, 1), "beyond the end");
        assert!(names.retain(0, 1));
    }

    #[test]
    fn a_text_may_be_longer_than_any_name() {
        let text = "x".repeat(100_000);
        let mut names = with(&[&text, "a"]);
        assert!(!names.retain(0, u16::MAX), "a name of that length");
        assert!(names.retain_text(0, 100_000));
        assert_eq!(names.find(&text), Some(0));
        assert!(names.retain(chunks_of(100_000), 1), "what lies behind it");
        names.release(0, 100_000_u32);
        assert_eq!(names.find(&text), None);
    }

    #[test]
    fn the_same_string_twice_is_found_once_and_both_stay_used() {
        let mut names = with(&["a", "a"]);
        assert!(names.retain(0, 1) && names.retain(1, 1));
        assert_eq!(names.find("a"), Some(0));
        names.release(1, 1_u32);
        assert_eq!(names.find("a"), Some(0));
        names.release(0, 1_u32);
        assert_eq!(names.find("a"), None);
        assert_eq!(names.free().elements(), 2);
    }
}
