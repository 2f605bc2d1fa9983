//! Conditions on one dimension of a connection (who, source, destination, port), as expressions
//! over literals: single tests such as "namespace is shop", "in 10.0.0.0/8", "port 80".
//!
//! A value satisfies some literals; an expression then holds or not. Few shapes are kept, so
//! that what means the same mostly looks the same.

use std::collections::HashMap;
use std::hash::Hash;

/// A literal's number in its dimension.
pub(super) type Literal = u32;

/// What is asked of one dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Expr {
    /// One of these literals; sorted.
    Any(Vec<Literal>),
    /// None of these; sorted.
    NoneOf(Vec<Literal>),
    /// All of these; nothing asked if empty.
    All(Vec<Expr>),
    /// One of these.
    Or(Vec<Expr>),
}

impl Expr {
    /// Holds for every value.
    pub(super) const TRUE: Self = Self::All(Vec::new());

    /// A condition with its positive and its negative literals; empty lists ask nothing.
    pub(super) fn condition(mut any: Vec<Literal>, mut none: Vec<Literal>) -> Self {
        let mut parts = Vec::new();
        if !any.is_empty() {
            tidy(&mut any);
            parts.push(Self::Any(any));
        }
        if !none.is_empty() {
            tidy(&mut none);
            parts.push(Self::NoneOf(none));
        }
        Self::all(parts)
    }

    /// All of `parts`.
    pub(super) fn all(parts: Vec<Self>) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::All(more) => flat.extend(more),
                other => flat.push(other),
            }
        }
        tidy(&mut flat);
        if flat.len() == 1 { flat.swap_remove(0) } else { Self::All(flat) }
    }

    /// One of `parts`, of which there is at least one.
    pub(super) fn or(parts: Vec<Self>) -> Self {
        let (mut literals, mut flat) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Self::All(all) if all.is_empty() => return Self::TRUE,
                Self::Any(more) => literals.extend(more),
                Self::Or(more) => flat.extend(more),
                other => flat.push(other),
            }
        }
        if !literals.is_empty() {
            tidy(&mut literals);
            flat.push(Self::Any(literals));
        }
        tidy(&mut flat);
        if flat.len() == 1 { flat.swap_remove(0) } else { Self::Or(flat) }
    }

    /// Whether it holds for a value that satisfies exactly these literals (sorted).
    pub(super) fn holds(&self, satisfied: &[Literal]) -> bool {
        match self {
            Self::Any(literals) => meet(literals, satisfied),
            Self::NoneOf(literals) => !meet(literals, satisfied),
            Self::All(parts) => parts.iter().all(|part| part.holds(satisfied)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(satisfied)),
        }
    }

    /// Calls `each` with every literal that it mentions, some more than once.
    pub(super) fn mentions(&self, each: &mut dyn FnMut(Literal)) {
        match self {
            Self::Any(literals) | Self::NoneOf(literals) => {
                for literal in literals {
                    each(*literal);
                }
            }
            Self::All(parts) | Self::Or(parts) => {
                for part in parts {
                    part.mentions(each);
                }
            }
        }
    }
}

fn tidy<T: Ord>(list: &mut Vec<T>) {
    list.sort_unstable();
    list.dedup();
}

/// Whether two sorted lists share a literal; the second one is short.
fn meet(literals: &[Literal], satisfied: &[Literal]) -> bool {
    satisfied.iter().any(|literal| literals.binary_search(literal).is_ok())
}

/// The literals of a dimension, numbered.
#[derive(Debug)]
pub(super) struct Literals<L> {
    numbers: HashMap<L, Literal>,
}

impl<L: Eq + Hash> Literals<L> {
    pub(super) fn new() -> Self {
        Self { numbers: HashMap::new() }
    }

    pub(super) fn number(&mut self, literal: L) -> Literal {
        let next = Literal::try_from(self.numbers.len()).unwrap_or(Literal::MAX);
        *self.numbers.entry(literal).or_insert(next)
    }

    pub(super) fn find(&self, literal: &L) -> Option<Literal> {
        self.numbers.get(literal).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&L, Literal)> {
        self.numbers.iter().map(|(literal, number)| (literal, *number))
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}
