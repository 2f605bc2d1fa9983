//! Bits in their places, and the rows that the values of each dimension have.
//!
//! A row says which bits a value satisfies, as a list of chunks of 512 bits. Equal chunks are
//! kept once, equal rows too: most values satisfy what the value does that nothing mentions.

use std::collections::{HashMap, HashSet};

use super::expr::{Expr, Literal};
use super::term::Term;
use crate::authz::image::Chunk;

const CHUNK_BITS: usize = 512;

/// Words and chunks in the making; both only grow.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) words: Vec<u64>,
    pub(super) bits: Vec<Chunk>,
    chunks: HashMap<Chunk, u32>,
    rows: HashMap<Vec<u32>, u32>,
}

impl Tables {
    pub(super) fn new() -> Self {
        let zero = [0; 8];
        let chunks = HashMap::from([(zero, 0)]);
        Self { words: Vec::new(), bits: vec![zero], chunks, rows: HashMap::new() }
    }

    /// The place where the next word goes.
    pub(super) fn end(&self) -> u32 {
        number(self.words.len())
    }

    fn chunk(&mut self, chunk: Chunk) -> u32 {
        let next = number(self.bits.len());
        let at = *self.chunks.entry(chunk).or_insert(next);
        if at == next {
            self.bits.push(chunk);
        }
        at
    }

    /// The place of a row of these chunks, of which there is an even number.
    fn row(&mut self, chunks: Vec<u32>) -> u32 {
        if let Some(at) = self.rows.get(&chunks) {
            return *at;
        }
        let at = self.end();
        let pair = |pair: &[u32]| u64::from(pair[0]) | u64::from(pair[1]) << 32;
        self.words.extend(chunks.chunks_exact(2).map(pair));
        self.rows.insert(chunks, at);
        at
    }

    /// The place of a row with these bits.
    pub(super) fn row_of(&mut self, bits: &[usize], chunks: usize) -> u32 {
        let mut row = vec![[0; 8]; chunks];
        for bit in bits {
            set(&mut row[bit / CHUNK_BITS], bit % CHUNK_BITS, true);
        }
        let row = row.into_iter().map(|chunk| self.chunk(chunk)).collect();
        self.row(row)
    }
}

/// A place as the tables hold it; the compiler refuses what has more (see `TooLarge`).
pub(super) fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

fn set(chunk: &mut Chunk, bit: usize, value: bool) {
    let mask = 1 << (bit % 64);
    if value {
        chunk[bit / 64] |= mask;
    } else {
        chunk[bit / 64] &= !mask;
    }
}

/// All terms, each with its bit; the chunks that they take.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) terms: Vec<(usize, Term)>,
    pub(super) chunks: usize,
}

/// The rows of one dimension.
#[derive(Debug)]
pub(super) struct Rows {
    exprs: Vec<(usize, Expr)>,
    /// By literal: which of `exprs` mention it.
    mentions: Vec<Vec<u32>>,
    /// The row of a value that satisfies no literal.
    base: Vec<Chunk>,
    base_ids: Vec<u32>,
}

impl Rows {
    /// The rows of dimension `at`, which has so many literals.
    pub(super) fn new(placed: &Placed, at: usize, literals: usize, to: &mut Tables) -> Self {
        let exprs: Vec<_> =
            placed.terms.iter().map(|(bit, term)| (*bit, term[at].clone())).collect();
        let mut mentions = vec![Vec::new(); literals];
        let mut base = vec![[0; 8]; placed.chunks];
        for (place, (bit, expr)) in exprs.iter().enumerate() {
            expr.mentions(&mut |literal| mentions[literal as usize].push(number(place)));
            set(&mut base[bit / CHUNK_BITS], bit % CHUNK_BITS, expr.holds(&[]));
        }
        let base_ids = base.iter().map(|chunk| to.chunk(*chunk)).collect();
        Self { exprs, mentions, base, base_ids }
    }

    /// The place of the row of a value that satisfies exactly these literals (sorted).
    pub(super) fn row(&self, satisfied: &[Literal], to: &mut Tables) -> u32 {
        let mentioned = satisfied.iter().flat_map(|literal| &self.mentions[*literal as usize]);
        let mut changed: HashMap<usize, Chunk> = HashMap::new();
        for place in mentioned.collect::<HashSet<_>>() {
            let (bit, expr) = &self.exprs[*place as usize];
            let chunk = changed.entry(bit / CHUNK_BITS).or_insert(self.base[bit / CHUNK_BITS]);
            set(chunk, bit % CHUNK_BITS, expr.holds(satisfied));
        }
        let mut row = self.base_ids.clone();
        let mut changed: Vec<_> = changed.into_iter().collect();
        changed.sort_unstable();
        for (at, chunk) in changed {
            row[at] = to.chunk(chunk);
        }
        to.row(row)
    }
}
