//! From groups of rules of matches to terms, without multiplying them out.
//!
//! A term asks one thing of each dimension: it becomes one bit. A match is a term. Rules of one
//! match, and rules that ask of a single dimension, join the term of their group; so does most of
//! what Istio makes of a policy become one term a group. What then has one rule left is a term for
//! each of its matches. Only a group with two rules or more that each have several matches of
//! several dimensions stays a conjunction of rules.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ipnet::IpNet;

use super::expr::{Expr, Literal, Literals};
use crate::authz::policy::{Account, Condition, Match, StringMatch, canonical};

/// What is asked of who, source, destination and port.
pub(super) type Term = [Expr; 4];
/// Places in a [`Term`].
pub(super) const WHO: usize = 0;
pub(super) const SOURCE: usize = 1;
pub(super) const DESTINATION: usize = 2;
pub(super) const PORT: usize = 3;

/// A test of who the source is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    Namespace(StringMatch),
    Principal(StringMatch),
    Account(Account),
}

/// The literals of all dimensions.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub(super) who: Literals<Who>,
    pub(super) source: Literals<IpNet>,
    pub(super) destination: Literals<IpNet>,
    pub(super) port: Literals<u16>,
}

/// What a group comes to.
#[derive(Debug)]
pub(super) enum Group {
    /// It never matches.
    Never,
    /// Any of these terms.
    Terms(Vec<Term>),
    /// All of these rules, each any of its terms.
    Rules(Vec<Vec<Term>>),
}

fn condition<T>(of: &Condition<T>, mut number: impl FnMut(&T) -> Literal) -> Expr {
    let any = of.any.iter().map(&mut number).collect();
    let none = of.none.iter().map(&mut number).collect();
    Expr::condition(any, none)
}

impl Vocabulary {
    pub(super) fn new() -> Self {
        Self {
            who: Literals::new(),
            source: Literals::new(),
            destination: Literals::new(),
            port: Literals::new(),
        }
    }

    fn term(&mut self, one: &Match) -> Term {
        let who = &mut self.who;
        let parts = vec![
            condition(&one.namespaces, |test| who.number(Who::Namespace(test.clone()))),
            condition(&one.principals, |test| who.number(Who::Principal(test.clone()))),
            condition(&one.accounts, |account| who.number(Who::Account(account.clone()))),
        ];
        [
            Expr::all(parts),
            condition(&one.source_ips, |net| self.source.number(canonical(net))),
            condition(&one.destination_ips, |net| self.destination.number(canonical(net))),
            condition(&one.destination_ports, |port| self.port.number(*port)),
        ]
    }

    /// What a group of a policy comes to.
    pub(super) fn group(&mut self, rules: &[Vec<Match>]) -> Group {
        let mut common = [Expr::TRUE; 4];
        let mut rest: Vec<Vec<Term>> = Vec::new();
        // a rule without matches is true
        for rule in rules.iter().filter(|rule| !rule.is_empty()) {
            let matches = rule.iter().filter(|one| !one.is_empty());
            let mut terms = merge(matches.map(|one| self.term(one)).collect());
            match (terms.pop(), only_dimension(&terms)) {
                (None, _) => return Group::Never,
                (Some(term), _) if terms.is_empty() => common = both(&common, &term),
                (Some(term), Some(at))
                    if only_dimension(std::slice::from_ref(&term)) == Some(at) =>
                {
                    terms.push(term);
                    let any =
                        Expr::or(terms.into_iter().map(|mut term| take(&mut term[at])).collect());
                    common[at] = Expr::all(vec![take(&mut common[at]), any]);
                }
                (Some(term), _) => {
                    terms.push(term);
                    rest.push(terms);
                }
            }
        }
        let Some(first) = rest.iter_mut().min_by_key(|rule| rule.len()) else {
            return Group::Terms(vec![common]);
        };
        for term in first.iter_mut() {
            *term = both(&common, term);
        }
        if rest.len() == 1 { Group::Terms(rest.swap_remove(0)) } else { Group::Rules(rest) }
    }
}

fn take(from: &mut Expr) -> Expr {
    std::mem::replace(from, Expr::TRUE)
}

fn both(a: &Term, b: &Term) -> Term {
    std::array::from_fn(|at| Expr::all(vec![a[at].clone(), b[at].clone()]))
}

/// The dimension that is the only one which these terms ask of.
fn only_dimension(terms: &[Term]) -> Option<usize> {
    (0..4).find(|at| {
        let others = |term: &Term| (0..4).all(|other| other == *at || term[other] == Expr::TRUE);
        terms.iter().all(others)
    })
}

/// Terms of which any may hold, fewer where some differ in the literals of one dimension only.
pub(super) fn merge(mut terms: Vec<Term>) -> Vec<Term> {
    for at in [WHO, PORT, SOURCE, DESTINATION] {
        terms = merge_at(terms, at);
    }
    terms
}

fn merge_at(terms: Vec<Term>, at: usize) -> Vec<Term> {
    let mut places: HashMap<Term, usize> = HashMap::with_capacity(terms.len());
    let mut merged: Vec<(Term, Vec<Literal>)> = Vec::with_capacity(terms.len());
    for mut term in terms {
        let Expr::Any(literals) = &mut term[at] else {
            merged.push((term, Vec::new()));
            continue;
        };
        let literals = std::mem::take(literals);
        match places.entry(term) {
            Entry::Occupied(place) => merged[*place.get()].1.extend(literals),
            Entry::Vacant(place) => {
                merged.push((place.key().clone(), literals));
                place.insert(merged.len() - 1);
            }
        }
    }
    let finish = |(mut term, literals): (Term, Vec<Literal>)| {
        if !literals.is_empty() {
            term[at] = Expr::condition(literals, Vec::new());
        }
        term
    };
    merged.into_iter().map(finish).collect()
}
