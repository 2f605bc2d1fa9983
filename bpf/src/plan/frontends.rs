//! VIPs and addresses: which come, move and go.

use super::PlanError;
use super::draft::Draft;
use crate::layout::{FrontendKey, FrontendWord};
use crate::step::Step;
use crate::want::Name;

impl Draft<'_> {
    /// Leads every VIP and address of the change to its record, and removes the others of the
    /// records touched; of everything, where the change is complete.
    pub(super) fn plan_frontends(&mut self) -> Result<(), PlanError> {
        let change = self.change;
        for ((key, service), index) in change.services.iter().zip(self.service_at.clone()) {
            for vip in service.iter().flat_map(|service| &service.vips) {
                let key_there = FrontendKey::service(*vip, key.port);
                self.lead(key_there, index, &|| key.to_string())?;
            }
        }
        for ((uid, workload), index) in change.workloads.iter().zip(self.workload_at.clone()) {
            for address in workload.iter().flat_map(|workload| &workload.addresses) {
                self.lead(FrontendKey::workload(*address), index, &|| workload_text(uid))?;
            }
        }
        self.remove_services();
        self.remove_workloads();
        self.remove_foreign();
        Ok(())
    }

    fn lead(
        &mut self,
        key: FrontendKey,
        index: u32,
        wanted_by: &dyn Fn() -> String,
    ) -> Result<(), PlanError> {
        let word = FrontendWord::new(&key, index);
        let there = self.have.frontends.get(&key);
        if there == Some(word) {
            return Ok(());
        }
        if let Some(held_by) = there.and_then(|there| self.holder(&key, there)) {
            let address = match key.port() {
                0 => key.address().to_string(),
                port => format!("{} port {port}", key.address()),
            };
            return Err(PlanError::AddressTaken { address, held_by, wanted_by: wanted_by() });
        }
        self.groups.puts.push(Step::Frontend { key, word });
        Ok(())
    }

    /// Who has this VIP or address and does not give it up.
    fn holder(&self, key: &FrontendKey, word: FrontendWord) -> Option<String> {
        let index = word.index();
        if word.tag() != key.tag() {
            return None;
        }
        if key.kind() == FrontendKey::SERVICE {
            let record = self.have.services.get(index)?;
            let stays = !self.touched_services.contains(&index);
            return stays.then(|| self.have.service_name(record));
        }
        let record = self.have.backends.get(index)?;
        let stays = !self.touched_backends.contains(&index);
        stays.then(|| format!("workload {}", self.have.record_uid(record)))
    }

    fn remove_services(&mut self) {
        if self.change.all_services {
            return self.remove_kind(FrontendKey::SERVICE);
        }
        let mut touched: Vec<u32> = self.touched_services.iter().copied().collect();
        touched.sort_unstable();
        for index in touched {
            self.remove_of(FrontendKey::SERVICE, index);
        }
    }

    fn remove_workloads(&mut self) {
        if self.change.all_workloads {
            return self.remove_kind(FrontendKey::WORKLOAD);
        }
        let mut touched: Vec<u32> = self.touched_backends.iter().copied().collect();
        touched.sort_unstable();
        for index in touched {
            self.remove_of(FrontendKey::WORKLOAD, index);
        }
    }

    fn remove_of(&mut self, kind: u16, index: u32) {
        let have = self.have;
        let mut keys: Vec<_> = have.frontends.of(kind, index).collect();
        keys.sort_unstable();
        self.remove(keys);
    }

    fn remove_kind(&mut self, kind: u16) {
        let have = self.have;
        let keys = have.frontends.iter().map(|(key, _)| key).filter(|key| key.kind() == kind);
        let mut keys: Vec<_> = keys.filter(|key| !self.claims.contains_key(key)).collect();
        keys.sort_unstable();
        self.remove(keys);
    }

    /// What no Kmesh wrote.
    fn remove_foreign(&mut self) {
        if !self.change.all_services || !self.change.all_workloads {
            return;
        }
        let foreign = |key: &FrontendKey| key.kind() > FrontendKey::WORKLOAD;
        let have = self.have;
        let mut keys: Vec<_> = have.frontends.iter().map(|(key, _)| key).filter(foreign).collect();
        keys.sort_unstable();
        self.remove(keys);
    }

    fn remove(&mut self, keys: Vec<FrontendKey>) {
        let gone = keys.into_iter().filter(|key| !self.claims.contains_key(key));
        self.groups.removes.extend(gone.map(|key| Step::RemoveFrontend { key }));
    }
}

fn workload_text(uid: &Name) -> String {
    format!("workload {uid}")
}
