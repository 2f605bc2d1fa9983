//! Which policies apply to whom, once the change is made.

use hashbrown::{HashMap, HashSet};

use super::draft::Draft;
use crate::authz::{Policy, Scope};
use crate::want::Name;

/// What applies to a workload: indices of versions, sorted; or the refused policies among them.
pub(super) type Applying = Result<Vec<u32>, Vec<Name>>;

/// Policies by scope.
#[derive(Debug, Default)]
pub(super) struct Scopes<'a> {
    global: Vec<u32>,
    by_namespace: HashMap<&'a str, Vec<u32>>,
    by_name: HashMap<&'a str, u32>,
    /// Namespaces with policies that select workloads.
    selecting: HashSet<String>,
    refused: Vec<&'a Policy>,
}

impl Draft<'_> {
    /// The policies as they will be.
    pub(super) fn scopes(&self) -> Scopes<'_> {
        let mut scopes = Scopes::default();
        let named = &self.policy.now;
        for (index, policy) in self.have.policies.in_force() {
            let kept = !self.change.all_policies && !named.contains_key(&*policy.name);
            if kept && !self.policy.unstored.contains_key(&policy.name) {
                scopes.add(index, policy);
            }
        }
        for index in named.values().flatten() {
            if let Some(policy) = self.policy_at(*index) {
                scopes.add(*index, policy);
            }
        }
        for policy in self.policy.unstored.values() {
            scopes.note(policy);
            scopes.refused.push(policy);
        }
        scopes
    }
}

impl<'a> Scopes<'a> {
    fn note(&mut self, policy: &Policy) {
        if policy.scope == Scope::WorkloadSelector {
            self.selecting.insert(policy.namespace().to_owned());
        }
    }

    fn add(&mut self, index: u32, policy: &'a Policy) {
        self.note(policy);
        match policy.scope {
            Scope::Global => self.global.push(index),
            Scope::Namespace => {
                self.by_namespace.entry(policy.namespace()).or_default().push(index);
            }
            Scope::WorkloadSelector => {
                self.by_name.insert(&policy.name, index);
            }
        }
    }

    /// What applies to a workload of this namespace that names these policies.
    pub(super) fn of(&self, namespace: &str, named: &[Name]) -> Applying {
        let refused = self.refused.iter().filter(|policy| policy.applies_to(namespace, named));
        let refused: Vec<Name> = refused.map(|policy| policy.name.clone()).collect();
        if !refused.is_empty() {
            return Err(refused);
        }
        let own = self.by_namespace.get(namespace).into_iter().flatten();
        let selected = named.iter().filter_map(|name| self.by_name.get(&**name));
        let mut list: Vec<u32> = self.global.iter().chain(own).chain(selected).copied().collect();
        list.sort_unstable();
        list.dedup();
        Ok(list)
    }

    /// What applies to a pod that the model does not know; `None`: nobody can say, so nobody is
    /// let in.
    pub(super) fn of_unknown(&self, namespace: Option<&str>) -> Option<Applying> {
        match namespace {
            None if self.is_empty() => Some(Ok(Vec::new())),
            Some(namespace) if !self.selecting.contains(namespace) => Some(self.of(namespace, &[])),
            _ => None,
        }
    }

    fn is_empty(&self) -> bool {
        let there = [self.global.len(), self.by_namespace.len(), self.by_name.len()];
        there == [0; 3] && self.refused.is_empty()
    }
}
