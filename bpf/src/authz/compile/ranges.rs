//! Address ranges and ports, cut into pieces in which every value satisfies the same literals:
//! sorted by start, each with its row. Finding a value's row is a binary search, and needs no
//! trie of the kernel's.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use ipnet::IpNet;

use super::expr::Literal;
use super::rows::{Rows, Tables};
use crate::authz::image::Run;

/// A literal's values, both ends included. Two of a dimension are disjoint, or one holds the other.
pub(super) type Range = (u128, u128, Literal);

/// The ranges of the family's nets.
pub(super) fn ranges_of<'a>(
    nets: impl Iterator<Item = (&'a IpNet, Literal)>,
    v6: bool,
) -> Vec<Range> {
    let range = |(net, literal): (&IpNet, Literal)| match net {
        IpNet::V4(net) if !v6 => {
            let (from, to) = (net.network().to_bits(), net.broadcast().to_bits());
            Some((from.into(), to.into(), literal))
        }
        IpNet::V6(net) if v6 => Some((net.network().to_bits(), net.broadcast().to_bits(), literal)),
        _ => None,
    };
    nets.filter_map(range).collect()
}

/// Where each piece starts, and its row; the first one starts at zero.
pub(super) fn pieces(
    mut ranges: Vec<Range>,
    rows: &Rows,
    last: u128,
    to: &mut Tables,
) -> Vec<(u128, u32)> {
    ranges.sort_unstable_by_key(|(from, to, _)| (*from, Reverse(*to)));
    let mut starts = BTreeSet::from([0]);
    for (from, to, _) in &ranges {
        starts.insert(*from);
        starts.extend(to.checked_add(1).filter(|next| *next <= last));
    }
    let mut pieces: Vec<(u128, u32)> = Vec::with_capacity(starts.len());
    let mut ahead = ranges.into_iter().peekable();
    let mut open: Vec<(u128, Literal)> = Vec::new();
    for start in starts {
        open.retain(|(to, _)| *to >= start);
        while let Some((_, to, literal)) = ahead.next_if(|(from, ..)| *from == start) {
            open.push((to, literal));
        }
        let mut satisfied: Vec<Literal> = open.iter().map(|(_, literal)| *literal).collect();
        satisfied.sort_unstable();
        let row = rows.row(&satisfied, to);
        if pieces.last().is_none_or(|(_, before)| *before != row) {
            pieces.push((start, row));
        }
    }
    pieces
}

/// Writes pieces of 32-bit values, one word each.
pub(super) fn write(pieces: &[(u128, u32)], to: &mut Tables) -> Run {
    let run = Run { at: to.end(), count: super::rows::number(pieces.len()) };
    #[expect(clippy::cast_possible_truncation, reason = "values of 32 bits")]
    let word = |(start, row): &(u128, u32)| (*start as u64) << 32 | u64::from(*row);
    to.words.extend(pieces.iter().map(word));
    run
}

/// Writes pieces of 128-bit values, three words each.
pub(super) fn write_wide(pieces: &[(u128, u32)], to: &mut Tables) -> Run {
    let run = Run { at: to.end(), count: super::rows::number(pieces.len()) };
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let words =
        |(start, row): &(u128, u32)| [(*start >> 64) as u64, *start as u64, u64::from(*row)];
    to.words.extend(pieces.iter().flat_map(words));
    run
}
