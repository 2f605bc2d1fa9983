//! Authorization by name: the policies, what applies to whom, who an address is. Everything that
//! shows, restores or judges policies asks here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::Have;
use crate::authz::{Policy, Scope};
use crate::layout::{AuthSetRecord, BackendRecord, FrontendKey, POLICY_NONE, POLICY_WAIT};
use crate::want::Name;

/// A policy set in the tables.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySet {
    /// Its number: what a pod's word says.
    pub number: u16,
    /// What it was compiled from, by name.
    pub policies: Vec<Arc<Policy>>,
    /// Its record.
    pub record: AuthSetRecord,
}

/// What an enrolment writes into a pod's word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The index of the pod's own workload, if the model knows it.
    pub backend: Option<u32>,
    /// Its policy set; 0: none applies; 65535: nobody may connect until the tables say more.
    pub policy_set: u16,
}

/// The namespace of an identity: `trust-domain/ns/NAMESPACE/sa/ACCOUNT`; none: "".
pub(crate) fn namespace_of(identity: &str) -> &str {
    let rest = identity.split_once("/ns/").map_or("", |(_, rest)| rest);
    rest.split_once("/sa/").map_or("", |(namespace, _)| namespace)
}

/// The namespace that a pod's uid says: `cluster//Pod/NAMESPACE/name`.
pub(crate) fn namespace_of_uid(uid: &str) -> Option<&str> {
    let (_, rest) = uid.split_once("//Pod/")?;
    rest.split_once('/').map(|(namespace, _)| namespace)
}

/// Names of policies as a workload's record leads to them: sorted, each once.
pub(crate) fn names_text(names: &[Name]) -> String {
    let names: BTreeSet<&Name> = names.iter().collect();
    serde_json::to_string(&names).unwrap_or_default()
}

impl Have {
    /// The policies, the newest version of each, by name.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.in_force().map(|(_, policy)| policy)
    }

    /// The policy of this name (`namespace/name`), its newest version.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&Arc<Policy>> {
        self.policies.get(self.policies.current(name)?)
    }

    /// The policy sets, by number.
    pub fn policy_sets(&self) -> impl Iterator<Item = PolicySet> + '_ {
        self.sets.iter().map(|(number, held)| PolicySet {
            number,
            policies: self.set_policies(number),
            record: held.record,
        })
    }

    /// What a set was compiled from, by name: the versions that it has, not always the newest.
    #[must_use]
    pub fn set_policies(&self, number: u16) -> Vec<Arc<Policy>> {
        let list = self.sets.get(number).and_then(|held| held.list.as_deref());
        let found = list.unwrap_or_default().iter().filter_map(|at| self.policies.get(*at));
        let mut policies: Vec<_> = found.cloned().collect();
        policies.sort_by(|one, next| one.name.cmp(&next.name));
        policies
    }

    /// Who an address is: the identity of the workload that it leads to, as the programs find it.
    #[must_use]
    pub fn identity_of(&self, address: IpAddr) -> Option<Name> {
        let key = FrontendKey::workload(address);
        let word = self.frontends.get(&key).filter(|word| word.tag() == key.tag())?;
        let record = self.backends.get(word.index())?;
        self.identity_text(record).map(Into::into)
    }

    /// The identity with this number.
    #[must_use]
    pub fn who_name(&self, who: u32) -> Option<Name> {
        let (start, len) = self.identities.name(who)?;
        self.names.text(start, len).map(Into::into)
    }

    /// The policies that apply to a workload, by name; none where it is not known.
    #[must_use]
    pub fn applicable(&self, uid: &str) -> Vec<Arc<Policy>> {
        let Some(record) = self.backend(uid).and_then(|index| self.backends.get(index)) else {
            return Vec::new();
        };
        let named = self.named_policies(record);
        let namespace = namespace_of(self.identity_text(record).unwrap_or_default());
        let applies = |policy: &&Arc<Policy>| policy.applies_to(namespace, &named);
        self.policies().filter(applies).cloned().collect()
    }

    /// What an enrolment of the pod with this uid writes: the set that is in the tables for what
    /// applies to it. `namespace`: the pod's, asked where the model does not know the workload
    /// (else its uid may say it).
    #[must_use]
    pub fn standing(&self, uid: &str, namespace: Option<&str>) -> Standing {
        let backend = self.backend(uid);
        let record = backend.and_then(|index| self.backends.get(index));
        let policy_set = match record {
            Some(record) => {
                let namespace = namespace_of(self.identity_text(record).unwrap_or_default());
                self.set_for(namespace, &self.named_policies(record))
            }
            None => self.set_for_unknown(namespace.or_else(|| namespace_of_uid(uid))),
        };
        Standing { backend, policy_set }
    }

    fn set_for(&self, namespace: &str, named: &[Name]) -> u16 {
        if self.unstored.values().any(|policy| policy.applies_to(namespace, named)) {
            return POLICY_WAIT;
        }
        let applies = |policy: &Policy| policy.applies_to(namespace, named);
        let found = self.policies.in_force().filter(|(_, policy)| applies(policy));
        let mut list: Vec<u32> = found.map(|(index, _)| index).collect();
        if list.is_empty() {
            return POLICY_NONE;
        }
        list.sort_unstable();
        self.sets.find(&list).unwrap_or(POLICY_WAIT)
    }

    /// A pod that the model does not know may be selected by the policies of its namespace.
    fn set_for_unknown(&self, namespace: Option<&str>) -> u16 {
        let mut all = self.policies().chain(self.unstored.values());
        let Some(namespace) = namespace else {
            return if all.next().is_some() { POLICY_WAIT } else { POLICY_NONE };
        };
        let selects = |policy: &Arc<Policy>| {
            policy.scope == Scope::WorkloadSelector && policy.namespace() == namespace
        };
        if all.any(selects) { POLICY_WAIT } else { self.set_for(namespace, &[]) }
    }

    /// The identity in a workload's record.
    pub(crate) fn identity_text(&self, record: &BackendRecord) -> Option<&str> {
        let named = record.identity_len > 0;
        self.names.text(record.identity, record.identity_len).filter(|_| named)
    }

    /// The policies that a workload's record names.
    pub(crate) fn named_policies(&self, record: &BackendRecord) -> Vec<Name> {
        if record.policies_len == 0 {
            return Vec::new();
        }
        let text = self.names.text(record.policies, record.policies_len);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}
