//! The compiler: the policies of a set → the tables that the program reads.
//!
//! ```text
//!  policies ─ term ─→ terms, conjunctions ─ place ─→ bits ─ rows, ranges ─→ Image
//! ```
//!
//! Its work and the tables grow with what policies say, not with the product of it. It is exact:
//! what does not fit is an error, and nothing is left out.

mod expr;
mod place;
mod ranges;
mod rows;
mod term;

use std::borrow::Borrow;

use super::image::{CLASSIFIED, Chunk, Header, Image, Run};
use super::policy::{Account, Action, Identity, Policy, StringMatch};
use expr::Literal;
use rows::{Placed, Rows, Tables};
use term::{DESTINATION, PORT, SOURCE, Vocabulary, WHO, Who};

/// Words, or chunks, of a set: as far as the program's searches reach (`KMESH_AUTH_STEPS`).
const MOST_PLACES: u64 = 1 << 24;

/// The tables cannot hold what the policies say. What was in force stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the policy set of {policies} needs {needed} {what}: at most {limit}; \
     split the workloads' policies, or merge rules that differ in one condition only"
)]
pub struct TooLarge {
    /// The policies of the set, by name.
    pub policies: String,
    /// What there is too much of.
    pub what: &'static str,
    /// How much.
    pub needed: u64,
    /// The most that fits.
    pub limit: u64,
}

/// A compiled set. It can take more identities.
#[derive(Debug)]
pub struct Compiled {
    header: Header,
    tables: Tables,
    vocabulary: Vocabulary,
    /// Literals of who that no look-up finds: beginnings, ends, presence.
    patterns: Vec<(Who, Literal)>,
    who: Rows,
    names: String,
}

/// Compiles the policies of a set for the identities there are, by number. Numbers start at 1;
/// those up to a sixteenth above the highest have room to be added later.
pub fn compile<'a, P: Borrow<Policy>>(
    policies: &[P],
    identities: impl IntoIterator<Item = (u32, &'a Identity)>,
) -> Result<Compiled, TooLarge> {
    let policies: Vec<&Policy> = policies.iter().map(Borrow::borrow).collect();
    let names = names_of(&policies);
    let mut vocabulary = Vocabulary::new();
    let zones = place::reduce(&policies, &mut vocabulary);
    let (placed, mut header, marks) = place::place(zones).map_err(|needed| TooLarge {
        policies: names.clone(),
        what: "pairs of 512 bits",
        needed,
        limit: u16::MAX.into(),
    })?;
    let has = |dry_run| policies.iter().any(|p| p.action == Action::Allow && p.dry_run == dry_run);
    (header.allows, header.dry_run_allows) = (has(false), has(true));
    let mut tables = Tables::new();
    header.rule_ends = tables.row_of(&marks.rules, placed.chunks);
    header.group_ends = tables.row_of(&marks.groups, placed.chunks);
    write_ranges(&placed, &vocabulary, &mut header, &mut tables);
    let who = Rows::new(&placed, WHO, vocabulary.who.len(), &mut tables);
    header.nobody = who.row(&[], &mut tables);
    let patterns = patterns_of(&vocabulary);
    let mut compiled = Compiled { header, tables, vocabulary, patterns, who, names };
    compiled.write_identities(identities);
    compiled.check()?;
    Ok(compiled)
}

fn names_of(policies: &[&Policy]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = policies.iter().take(SHOWN).map(|policy| &*policy.name).collect();
    match policies.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

fn write_ranges(placed: &Placed, words: &Vocabulary, header: &mut Header, to: &mut Tables) {
    use ranges::{pieces, ranges_of, write, write_wide};
    let (v4, v6) = (u128::from(u32::MAX), u128::MAX);
    let rows = Rows::new(placed, SOURCE, words.source.len(), to);
    let found = pieces(ranges_of(words.source.iter(), false), &rows, v4, to);
    header.source4 = write(&found, to);
    let found = pieces(ranges_of(words.source.iter(), true), &rows, v6, to);
    header.source6 = write_wide(&found, to);
    let rows = Rows::new(placed, DESTINATION, words.destination.len(), to);
    let found = pieces(ranges_of(words.destination.iter(), false), &rows, v4, to);
    header.destination4 = write(&found, to);
    let found = pieces(ranges_of(words.destination.iter(), true), &rows, v6, to);
    header.destination6 = write_wide(&found, to);
    let rows = Rows::new(placed, PORT, words.port.len(), to);
    let ports =
        words.port.iter().map(|(port, number)| (u128::from(*port), u128::from(*port), number));
    let found = pieces(ports.collect(), &rows, u128::from(u16::MAX), to);
    header.port = write(&found, to);
}

/// The literals of who that must be tried one by one.
fn patterns_of(vocabulary: &Vocabulary) -> Vec<(Who, Literal)> {
    let copy = |(literal, number): (&Who, Literal)| match literal {
        Who::Namespace(test) if !matches!(test, StringMatch::Exact(_)) => {
            Some((Who::Namespace(test.clone()), number))
        }
        Who::Principal(test) if !matches!(test, StringMatch::Exact(_)) => {
            Some((Who::Principal(test.clone()), number))
        }
        _ => None,
    };
    vocabulary.who.iter().filter_map(copy).collect()
}

impl Compiled {
    /// The tables as they are now.
    #[must_use]
    pub fn image(&self) -> Image {
        Image {
            header: self.header,
            words: self.tables.words.clone(),
            bits: self.tables.bits.clone(),
        }
    }

    /// All words and chunks as they are now. What is there stays; more comes behind it.
    pub(crate) fn tables(&self) -> (&[u64], &[Chunk]) {
        (&self.tables.words, &self.tables.bits)
    }

    /// The place of an identity's word and what it says, if its number has room.
    pub(crate) fn word(&self, number: u32) -> Option<(u32, u64)> {
        let Run { at, count } = self.header.identities;
        let place = (number < count).then_some(at + number)?;
        Some((place, *self.tables.words.get(place as usize)?))
    }

    /// Adds an identity, in place: rows are appended, then one word says which one is its row.
    /// False if its number has no room: the set must be compiled anew.
    pub fn add(&mut self, number: u32, identity: &Identity) -> Result<bool, TooLarge> {
        let Run { at, count } = self.header.identities;
        if number >= count {
            return Ok(false);
        }
        let word = self.word_of(identity);
        self.tables.words[(at + number) as usize] = word;
        self.check().map(|()| true)
    }

    fn word_of(&mut self, identity: &Identity) -> u64 {
        let satisfied = self.satisfied(identity);
        CLASSIFIED | u64::from(self.who.row(&satisfied, &mut self.tables))
    }

    fn write_identities<'a>(&mut self, identities: impl IntoIterator<Item = (u32, &'a Identity)>) {
        let words: Vec<(u32, u64)> = identities
            .into_iter()
            .map(|(number, identity)| (number, self.word_of(identity)))
            .collect();
        let highest = words.iter().map(|(number, _)| *number).max().unwrap_or(0);
        let at = self.tables.end();
        let count = highest.saturating_add(highest / 16 + 64);
        self.tables.words.resize((at + count) as usize, 0);
        for (number, word) in words {
            self.tables.words[(at + number) as usize] = word;
        }
        self.header.identities = Run { at, count };
    }

    /// The literals that an identity satisfies, sorted.
    fn satisfied(&self, identity: &Identity) -> Vec<Literal> {
        let principal = identity.to_string();
        let exact = [
            Who::Namespace(StringMatch::Exact(identity.namespace.clone())),
            Who::Principal(StringMatch::Exact(principal.clone())),
            Who::Account(Account {
                namespace: identity.namespace.clone(),
                service_account: identity.service_account.clone(),
            }),
        ];
        let found = exact.iter().filter_map(|literal| self.vocabulary.who.find(literal));
        let tried = self.patterns.iter().filter(|(literal, _)| match literal {
            Who::Namespace(test) => test.matches(&identity.namespace),
            Who::Principal(test) => test.matches(&principal),
            Who::Account(_) => false,
        });
        let mut all: Vec<Literal> = found.chain(tried.map(|(_, number)| *number)).collect();
        all.sort_unstable();
        all
    }

    /// Refuses what has more places than the program finds its way in.
    fn check(&self) -> Result<(), TooLarge> {
        for (what, needed) in
            [("words", self.tables.words.len()), ("chunks of bits", self.tables.bits.len())]
        {
            let (needed, limit) = (needed as u64, MOST_PLACES);
            if needed > limit {
                return Err(TooLarge { policies: self.names.clone(), what, needed, limit });
            }
        }
        Ok(())
    }
}
