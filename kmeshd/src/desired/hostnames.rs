//! Workloads that have a hostname and no address: which names are to be resolved, and what the
//! resolver last said of them.
//!
//! An answer stays until the next one, whatever becomes of the resolver. Before the first one a
//! workload has the addresses that the tables hold of it ([`Desired::seed`]): a restart changes
//! nothing. The order of workloads and answers does not matter.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hashbrown::HashMap;

use super::Desired;
use crate::model::{Ips, Name, Workload};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hostnames {
    /// The workloads that have each name.
    users: HashMap<Name, BTreeSet<Name>>,
    /// The name of each of these workloads.
    of: HashMap<Name, Name>,
    answers: HashMap<Name, Vec<IpAddr>>,
    /// Other names are used than when it was last asked.
    changed: bool,
}

impl Hostnames {
    /// The workload with the addresses of its name, if it has one and they are known.
    pub(super) fn fill(&mut self, uid: &Name, new: Option<Workload>) -> Option<Workload> {
        let name = match &new {
            Some(Workload { ips: Ips::Hostname(name), .. }) => Some(name.clone()),
            _ => None,
        };
        if self.of.get(uid) != name.as_ref() {
            self.release(uid);
            if let Some(name) = &name {
                self.changed = true;
                self.of.insert(uid.clone(), name.clone());
                self.users.entry(name.clone()).or_default().insert(uid.clone());
            }
        }
        let answer = name.and_then(|name| self.answers.get(&name));
        let filled = |workload: Workload| match answer {
            Some(answer) => Workload { ips: answer.clone().into(), ..workload },
            None => workload,
        };
        new.map(filled)
    }

    fn release(&mut self, uid: &Name) {
        let Some(name) = self.of.remove(uid) else {
            return;
        };
        let Some(users) = self.users.get_mut(&name) else {
            return;
        };
        users.remove(uid);
        if users.is_empty() {
            self.changed = true;
            self.users.remove(&name);
            self.answers.remove(&name);
        }
    }
}

impl Desired {
    /// The names that are to be resolved, if they are others than at the last call.
    pub fn take_hostnames(&mut self) -> Option<BTreeSet<Name>> {
        let changed = std::mem::take(&mut self.hostnames.changed);
        changed.then(|| self.hostnames.users.keys().cloned().collect())
    }

    /// A workload as its source says it: with its hostname, if it has one.
    #[must_use]
    pub fn said(&self, uid: &Name) -> Option<Workload> {
        let mut workload = self.workload(uid)?.clone();
        if let Some(name) = self.hostnames.of.get(uid) {
            workload.ips = Ips::Hostname(name.clone());
        }
        Some(workload)
    }

    /// The resolver says that a name has these addresses now; none: it is known to have none.
    pub fn answer(&mut self, name: &Name, mut ips: Vec<IpAddr>) {
        ips.sort_unstable();
        ips.dedup();
        let Some(users) = self.hostnames.users.get(name).cloned() else {
            return;
        };
        if self.hostnames.answers.get(name) == Some(&ips) {
            return;
        }
        self.hostnames.answers.insert(name.clone(), ips);
        for uid in users {
            let said = self.said(&uid);
            self.set_workload(&uid, said);
        }
    }

    /// What a name had when this process began, unless it was resolved since.
    pub fn seed(&mut self, name: &Name, ips: Vec<IpAddr>) {
        if !ips.is_empty() && !self.hostnames.answers.contains_key(name) {
            self.answer(name, ips);
        }
    }

    /// Workloads whose name has no answer yet, with the name.
    #[must_use]
    pub fn unanswered(&self) -> Vec<(Name, Name)> {
        let Hostnames { of, answers, .. } = &self.hostnames;
        let open = of.iter().filter(|(_, name)| !answers.contains_key(*name));
        open.map(|(uid, name)| (uid.clone(), name.clone())).collect()
    }
}
