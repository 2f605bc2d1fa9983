//! Which hostnames are to be resolved: told to the resolver whenever they change. A name that this
//! process has not resolved yet has the addresses that the tables hold, so a restart takes none
//! away, whether a name server answers or not.

use std::net::IpAddr;
use std::sync::Arc;

use kmesh_bpf::kernel::Kernel;
use kmesh_bpf::want::Workload;

use super::Writer;

impl<K: Kernel> Writer<K> {
    /// Brings the resolver up to date with what the sources name.
    pub(super) fn ask_for_names(&mut self) {
        let Some(names) = self.desired.take_hostnames() else {
            return;
        };
        for (uid, name) in self.desired.unanswered() {
            let there = self.have.workload(&uid);
            self.desired.seed(&name, there.map(addresses).unwrap_or_default());
        }
        self.names.send_replace(Arc::new(names));
    }
}

fn addresses(workload: Workload) -> Vec<IpAddr> {
    if workload.addresses.is_empty() {
        let v4 = workload.v4.map(IpAddr::from);
        v4.into_iter().chain(workload.v6.map(IpAddr::from)).collect()
    } else {
        workload.addresses
    }
}
