//! The meaning of policies: what becomes of one connection, and why.
//!
//! A source that is no known workload has no identity: conditions on who it is hold for it only
//! where they are negative. Address ranges are of one family: `::/0` is no IPv4 address, but
//! `::ffff:a.b.c.d` is `a.b.c.d`.

use std::borrow::Borrow;
use std::net::IpAddr;

use super::policy::{Account, Action, Identity, Match, Policy, canonical};

/// A connection that somebody wants to make to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    /// Where it comes from.
    pub source: IpAddr,
    /// Who that is, if it is a known workload.
    pub identity: Option<&'a Identity>,
    /// The address that was dialled.
    pub destination: IpAddr,
    /// The port that was dialled, host order.
    pub port: u16,
}

/// What a policy matched by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Which of its groups.
    pub group: usize,
    /// Of each rule of the group, the match that held; none for a rule without matches.
    pub matches: Vec<Option<usize>>,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// A policy denies it.
    Denied(Hit<'a>),
    /// A policy allows it.
    Allowed(Hit<'a>),
    /// No policy of action ALLOW applies, and none denies it.
    NoneApplies,
    /// Policies of action ALLOW apply, and none matches.
    NoneAllows,
}

impl Reason<'_> {
    /// Whether the connection may be made.
    #[must_use]
    pub fn allows(&self) -> bool {
        matches!(self, Self::Allowed(_) | Self::NoneApplies)
    }
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// What the policies in force say.
    pub reason: Reason<'a>,
    /// What they would say if the dry-run ones were in force, too.
    pub dry_run: Reason<'a>,
}

impl Verdict<'_> {
    /// Whether the connection may be made.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.reason.allows()
    }
}

/// Decides by `policies`: all that apply to the pod.
#[must_use]
pub fn judge<'a, P: Borrow<Policy>>(policies: &'a [P], connection: &Connection<'_>) -> Verdict<'a> {
    let connection = Connection {
        source: connection.source.to_canonical(),
        destination: connection.destination.to_canonical(),
        ..*connection
    };
    Verdict {
        reason: decide(policies, false, &connection),
        dry_run: decide(policies, true, &connection),
    }
}

fn decide<'a, P: Borrow<Policy>>(
    policies: &'a [P],
    dry_run: bool,
    connection: &Connection<'_>,
) -> Reason<'a> {
    let with = |action| {
        let counts =
            move |policy: &&Policy| policy.action == action && (dry_run || !policy.dry_run);
        policies.iter().map(Borrow::borrow).filter(counts)
    };
    if let Some(hit) = with(Action::Deny).find_map(|policy| hit(policy, connection)) {
        return Reason::Denied(hit);
    }
    if with(Action::Allow).next().is_none() {
        return Reason::NoneApplies;
    }
    with(Action::Allow)
        .find_map(|policy| hit(policy, connection))
        .map_or(Reason::NoneAllows, Reason::Allowed)
}

/// The first group of the policy that matches.
fn hit<'a>(policy: &'a Policy, connection: &Connection<'_>) -> Option<Hit<'a>> {
    let held = |rule: &Vec<Match>| match rule.as_slice() {
        [] => Some(None),
        matches => matches.iter().position(|one| match_holds(one, connection)).map(Some),
    };
    policy.groups.iter().enumerate().find_map(|(group, rules)| {
        let matches = rules.iter().map(held).collect::<Option<_>>()?;
        Some(Hit { policy, group, matches })
    })
}

fn match_holds(one: &Match, connection: &Connection<'_>) -> bool {
    let who = connection.identity;
    let principal = who.map(ToString::to_string);
    let account = |account: &Account| {
        who.is_some_and(|who| {
            who.namespace == account.namespace && who.service_account == account.service_account
        })
    };
    !one.is_empty()
        && one.namespaces.holds(|test| who.is_some_and(|who| test.matches(&who.namespace)))
        && one.principals.holds(|test| principal.as_ref().is_some_and(|text| test.matches(text)))
        && one.accounts.holds(account)
        && one.source_ips.holds(|net| canonical(net).contains(&connection.source))
        && one.destination_ips.holds(|net| canonical(net).contains(&connection.destination))
        && one.destination_ports.holds(|port| *port == connection.port)
}
