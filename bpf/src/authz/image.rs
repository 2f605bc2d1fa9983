//! The tables of one policy set, as they lie in the kernel but at place zero, and what they say.
//!
//! `words` goes to `kmesh_auth_word`, `bits` to `kmesh_auth_bits`, the header becomes the set's
//! record; all places in them are relative to the set's own, so that an image fits anywhere.
//! [`Image::decide`] reads it exactly as `prog/authz_set.h` does.

use std::net::IpAddr;
use std::ops::Range;

use crate::layout::{AuthRun, AuthSetRecord};

/// One element of `kmesh_auth_bits`: 512 bits of a row.
pub type Chunk = [u64; 8];

/// Whose bits lie where, in this order; each direct ones first, then conjunctions of rules.
pub const ZONES: usize = 8;

/// A run of words: ranges, or identities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Its first word.
    pub at: u32,
    /// Its elements: words, but three words each for IPv6.
    pub count: u32,
}

/// What a set's record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Policies of action ALLOW apply: what none matches is denied.
    pub allows: bool,
    /// Dry-run ones do.
    pub dry_run_allows: bool,
    /// Where each zone ends, in pairs of chunks: DENY, ALLOW, dry-run DENY, dry-run ALLOW, each
    /// the direct bits first.
    pub ends: [u16; ZONES],
    /// Source ranges, IPv4.
    pub source4: Run,
    /// Source ranges, IPv6.
    pub source6: Run,
    /// Destination ranges, IPv4.
    pub destination4: Run,
    /// Destination ranges, IPv6.
    pub destination6: Run,
    /// Destination ports.
    pub port: Run,
    /// Rows by identity number.
    pub identities: Run,
    /// The row of a source without identity.
    pub nobody: u32,
    /// The row that marks the last bit of each rule of the conjunctions.
    pub rule_ends: u32,
    /// The row that marks the last bit of each group of the conjunctions.
    pub group_ends: u32,
}

/// What the tables say of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The source's identity is not in the tables: it is kept out.
    Unclassified,
    /// Judged.
    Judged {
        /// By the policies in force.
        allows: bool,
        /// If the dry-run ones were in force, too.
        dry_run_allows: bool,
    },
}

/// The tables of one set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The record.
    pub header: Header,
    /// Ranges, rows, identities.
    pub words: Vec<u64>,
    /// What rows lead to; the first chunk is zero.
    pub bits: Vec<Chunk>,
}

/// In a word of [`Header::identities`]: the identity is classified.
pub const CLASSIFIED: u64 = 1 << 32;

impl Image {
    /// The set's record when its words and chunks lie from these places on, with room for so many.
    #[must_use]
    pub fn record(&self, words: Range<u32>, chunks: Range<u32>) -> AuthSetRecord {
        let header = &self.header;
        let flag = |set: bool, flag| if set { flag } else { 0 };
        let run = |run: Run| AuthRun { at: run.at, count: run.count };
        AuthSetRecord {
            flags: AuthSetRecord::VALID
                | flag(header.allows, AuthSetRecord::ALLOWS)
                | flag(header.dry_run_allows, AuthSetRecord::DRY_ALLOWS),
            words: words.start,
            chunks: chunks.start,
            ends: header.ends,
            source4: run(header.source4),
            source6: run(header.source6),
            destination4: run(header.destination4),
            destination6: run(header.destination6),
            port: run(header.port),
            identities: run(header.identities),
            nobody: header.nobody,
            rule_ends: header.rule_ends,
            group_ends: header.group_ends,
            words_room: words.end - words.start,
            chunks_room: chunks.end - chunks.start,
            policies: 0,
            policies_len: 0,
            pad: 0,
        }
    }

    /// What the tables say of a connection from `source`, whose identity's number is `who`.
    #[must_use]
    pub fn decide(
        &self,
        source: IpAddr,
        who: Option<u32>,
        destination: IpAddr,
        port: u16,
    ) -> Decision {
        let header = &self.header;
        let who = match who {
            None => header.nobody,
            Some(number) => match self.classified(number) {
                Some(row) => row,
                None => return Decision::Unclassified,
            },
        };
        let rows = [
            who,
            self.address_row(source, header.source4, header.source6),
            self.address_row(destination, header.destination4, header.destination6),
            self.range_row(header.port, port.into()),
        ];
        let [deny, allow, dry_deny, dry_allow] = [0, 1, 2, 3].map(|zone| self.hit(zone, &rows));
        Decision::Judged {
            allows: !deny && (!header.allows || allow),
            dry_run_allows: !deny
                && !dry_deny
                && (!(header.allows || header.dry_run_allows) || allow || dry_allow),
        }
    }

    /// The row of an identity that the tables know.
    #[must_use]
    pub fn classified(&self, number: u32) -> Option<u32> {
        if number >= self.header.identities.count {
            return None;
        }
        let word = self.word(self.header.identities.at.wrapping_add(number));
        (word & CLASSIFIED != 0).then_some((word & 0xffff_ffff) as u32)
    }

    fn address_row(&self, address: IpAddr, v4: Run, v6: Run) -> u32 {
        match address.to_canonical() {
            IpAddr::V4(address) => self.range_row(v4, address.to_bits()),
            IpAddr::V6(address) => self.wide_row(v6, address.to_bits()),
        }
    }

    /// The row of the last range that begins at or before `key`.
    fn range_row(&self, run: Run, key: u32) -> u32 {
        let last = last(run.count, |at| self.word(run.at.wrapping_add(at)) >> 32 <= key.into());
        (self.word(run.at.wrapping_add(last)) & 0xffff_ffff) as u32
    }

    /// The same with three words a range: the start's two halves, and the row.
    fn wide_row(&self, run: Run, key: u128) -> u32 {
        let start = |at: u32| {
            let at = run.at.wrapping_add(at.wrapping_mul(3));
            u128::from(self.word(at)) << 64 | u128::from(self.word(at.wrapping_add(1)))
        };
        let last = last(run.count, |at| start(at) <= key);
        (self.word(run.at.wrapping_add(last.wrapping_mul(3).wrapping_add(2))) & 0xffff_ffff) as u32
    }

    /// Whether a term or a conjunction of this action holds.
    fn hit(&self, action: usize, rows: &[u32; 4]) -> bool {
        let end = |zone: usize| u32::from(self.header.ends[zone]);
        let start = if action == 0 { 0 } else { end(2 * action - 1) };
        let (direct, all) = (end(2 * action), end(2 * action + 1));
        (2 * start..2 * direct).any(|at| self.all_of(rows, at).iter().any(|word| *word != 0))
            || self.conjunction(rows, 2 * direct, 2 * all)
    }

    /// Which bits hold in every dimension.
    fn all_of(&self, rows: &[u32; 4], at: u32) -> Chunk {
        let [a, b, c, d] = rows.map(|row| self.chunk(row, at));
        std::array::from_fn(|word| a[word] & b[word] & c[word] & d[word])
    }

    fn chunk(&self, row: u32, at: u32) -> Chunk {
        let pair = self.word(row.wrapping_add(at / 2));
        let at = (pair >> (32 * (at % 2)) & 0xffff_ffff) as usize;
        self.bits.get(at).copied().unwrap_or_default()
    }

    /// A word; 0 beyond the end, where only a foreign hand leads.
    fn word(&self, at: u32) -> u64 {
        self.words.get(at as usize).copied().unwrap_or_default()
    }

    /// Whether all rules of a group have a bit that holds. The sum of a run of ones and the bits
    /// below its end carries into the end if any of them is set; so do all rules of a word at
    /// once, and then all groups, with the carry taken from word to word.
    fn conjunction(&self, rows: &[u32; 4], from: u32, to: u32) -> bool {
        let (mut in_rule, mut in_group) = (false, false);
        let mut hit = 0;
        for at in from..to {
            let bits = self.all_of(rows, at);
            let rule_ends = self.chunk(self.header.rule_ends, at);
            let group_ends = self.chunk(self.header.group_ends, at);
            for word in 0..8 {
                let (rules, groups) = (rule_ends[word], group_ends[word]);
                let held = gather(bits[word], rules, &mut in_rule);
                let failed = gather(rules & !held, groups, &mut in_group);
                hit |= groups & !failed;
            }
        }
        hit != 0
    }
}

/// At each bit of `ends`: whether any bit since the end before it is set. `carry` says whether one
/// was set since the last end of the words before.
fn gather(bits: u64, ends: u64, carry: &mut bool) -> u64 {
    let (sum, over) = (bits & !ends).overflowing_add(!ends);
    let (sum, more) = sum.overflowing_add(u64::from(*carry));
    *carry = over || more;
    (sum | bits) & ends
}

/// The last of `count` for which `holds`, given that it holds for the first and for none behind
/// one for which it does not.
fn last(count: u32, holds: impl Fn(u32) -> bool) -> u32 {
    let (mut at, mut count) = (0, count);
    while count > 1 {
        let half = count / 2;
        if holds(at + half) {
            at += half;
        }
        count -= half;
    }
    at
}
