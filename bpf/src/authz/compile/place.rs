//! Which term gets which bit: by action, dry-run ones behind the others; terms that decide alone
//! before those of conjunctions, whose rules and groups lie one behind the other.

use super::rows::Placed;
use super::term::{Group, Term, Vocabulary, merge};
use crate::authz::image::{Header, ZONES};
use crate::authz::policy::{Action, Policy};

/// Bits of a pair of chunks: zones begin at a multiple.
const PAIR_BITS: usize = 1024;

/// What the policies of one action come to.
#[derive(Debug, Default)]
pub(super) struct Zone {
    direct: Vec<Term>,
    conjunctions: Vec<Vec<Vec<Term>>>,
}

/// The last bits of rules and of groups.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) rules: Vec<usize>,
    pub(super) groups: Vec<usize>,
}

/// By action: DENY, ALLOW, dry-run DENY, dry-run ALLOW.
pub(super) fn reduce(policies: &[&Policy], vocabulary: &mut Vocabulary) -> [Zone; ZONES / 2] {
    let mut zones: [Zone; ZONES / 2] = Default::default();
    for policy in policies {
        let action = usize::from(policy.action == Action::Allow);
        let zone = &mut zones[action + 2 * usize::from(policy.dry_run)];
        for group in &policy.groups {
            match vocabulary.group(group) {
                Group::Never => {}
                Group::Terms(terms) => zone.direct.extend(terms),
                Group::Rules(rules) => zone.conjunctions.push(rules),
            }
        }
    }
    for zone in &mut zones {
        zone.direct = merge(std::mem::take(&mut zone.direct));
        // what asks of the same dimensions together: more chunks are zero for a value then
        zone.direct
            .sort_by_key(|term| term.each_ref().map(|expr| *expr == super::expr::Expr::TRUE));
    }
    zones
}

/// Gives out the bits. An error says how many pairs of chunks it takes, which are too many.
pub(super) fn place(zones: [Zone; ZONES / 2]) -> Result<(Placed, Header, Marks), u64> {
    let (mut placed, mut marks, mut header) = (Vec::new(), Marks::default(), Header::default());
    let mut bit = 0usize;
    let mut ends = [0; ZONES];
    for (at, zone) in zones.into_iter().enumerate() {
        for term in zone.direct {
            placed.push((bit, term));
            bit += 1;
        }
        bit = bit.next_multiple_of(PAIR_BITS);
        ends[2 * at] = bit / PAIR_BITS;
        for group in zone.conjunctions {
            for rule in group {
                for term in rule {
                    placed.push((bit, term));
                    bit += 1;
                }
                marks.rules.push(bit - 1);
            }
            marks.groups.push(bit - 1);
        }
        bit = bit.next_multiple_of(PAIR_BITS);
        ends[2 * at + 1] = bit / PAIR_BITS;
    }
    let pairs = bit / PAIR_BITS;
    for (end, pairs) in header.ends.iter_mut().zip(ends) {
        *end = u16::try_from(pairs).map_err(|_| bit as u64 / PAIR_BITS as u64)?;
    }
    Ok((Placed { terms: placed, chunks: 2 * pairs }, header, marks))
}
