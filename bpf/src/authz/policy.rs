//! Authorization policies, as Istio's `istio.security.Authorization` has them, and the identity
//! of a source. A policy is groups of rules of matches: any group, all of its rules, any match
//! of each, all conditions of that.
//!
//! These types refuse nothing; [`Policy::problems`] says what makes no sense.

use std::fmt;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::want::Name;

/// A test of a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StringMatch {
    /// The whole text.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// It is not empty.
    Presence,
}

impl StringMatch {
    /// Whether `text` passes.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(whole) => text == whole,
            Self::Prefix(start) => text.starts_with(start.as_str()),
            Self::Suffix(end) => text.ends_with(end.as_str()),
            Self::Presence => !text.is_empty(),
        }
    }
}

/// A service account, of any trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
}

/// One kind of condition: what must match, what must not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition<T> {
    /// One of these matches (empty: no such condition).
    pub any: Vec<T>,
    /// None of these does.
    pub none: Vec<T>,
}

impl<T> Default for Condition<T> {
    fn default() -> Self {
        Self { any: Vec::new(), none: Vec::new() }
    }
}

impl<T> Condition<T> {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }

    /// Whether it holds for a value that is tested by `test`.
    pub(super) fn holds(&self, test: impl Fn(&T) -> bool) -> bool {
        (self.any.is_empty() || self.any.iter().any(&test)) && !self.none.iter().any(&test)
    }
}

/// One match of a rule: all its conditions hold. One without any condition matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Match {
    /// Namespaces of the source.
    pub namespaces: Condition<StringMatch>,
    /// Principals of the source: `trust-domain/ns/NAMESPACE/sa/ACCOUNT`.
    pub principals: Condition<StringMatch>,
    /// Service accounts of the source.
    pub accounts: Condition<Account>,
    /// Source addresses.
    pub source_ips: Condition<IpNet>,
    /// Destination addresses.
    pub destination_ips: Condition<IpNet>,
    /// Destination ports, host order.
    pub destination_ports: Condition<u16>,
}

impl Match {
    /// Whether it has no condition: it is skipped then.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
            && self.principals.is_empty()
            && self.accounts.is_empty()
            && self.source_ips.is_empty()
            && self.destination_ips.is_empty()
            && self.destination_ports.is_empty()
    }
}

/// Where a policy applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// To every workload.
    Global,
    /// To the workloads of its namespace.
    Namespace,
    /// To the workloads that name it.
    WorkloadSelector,
}

/// What a policy does to what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Lets it in.
    Allow,
    /// Keeps it out.
    Deny,
}

/// An authorization policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// `namespace/name`.
    pub name: Name,
    /// Where it applies.
    pub scope: Scope,
    /// What it does.
    pub action: Action,
    /// It is only logged and counted.
    pub dry_run: bool,
    /// Groups of rules of matches.
    pub groups: Vec<Vec<Vec<Match>>>,
}

impl Policy {
    /// The namespace that it belongs to.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.name.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Whether it applies to a workload of `namespace` that names the policies `named`.
    #[must_use]
    pub fn applies_to(&self, namespace: &str, named: &[Name]) -> bool {
        match self.scope {
            Scope::Global => true,
            Scope::Namespace => self.namespace() == namespace,
            Scope::WorkloadSelector => named.contains(&self.name),
        }
    }
}

/// Who a source is. Its text is `trust-domain/ns/NAMESPACE/sa/ACCOUNT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The trust domain.
    pub trust_domain: String,
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
}

impl Identity {
    /// Reads an identity's text; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (trust_domain, rest) = text.split_once("/ns/")?;
        let (namespace, service_account) = rest.split_once("/sa/")?;
        let whole = [trust_domain, namespace, service_account].map(|part| !part.contains('/'));
        whole.iter().all(|whole| *whole).then(|| Self {
            trust_domain: trust_domain.to_owned(),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

/// An address range in one form: what lies in `::ffff:0:0/96` is IPv4.
pub(super) fn canonical(net: &IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.network().to_ipv4_mapped()
        && let Some(length) = v6.prefix_len().checked_sub(96)
        && let Ok(net) = Ipv4Net::new(v4, length)
    {
        return IpNet::V4(net);
    }
    net.trunc()
}
