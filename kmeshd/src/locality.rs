//! Which endpoints are near enough: the locality modes, relative to this node.
//!
//! The node's region, zone and subzone are those of the workloads that name it; its name, network
//! and cluster are the daemon's options. Scopes compare as texts; an empty network or cluster is
//! this node's.

use kmesh_bpf::want::{Endpoint, Mode};

use crate::desired::Desired;
use crate::model::{Place, Scope, Service, Workload};

/// The endpoints that the service's mode leaves, of those that could be used.
pub(crate) fn choose(
    desired: &Desired,
    service: &Service,
    found: Vec<(&Workload, Endpoint)>,
) -> Vec<Endpoint> {
    let wanted = service.preferences.len();
    let rank = |workload: &Workload| {
        let same = |scope: &&Scope| matches(desired, **scope, &workload.place);
        service.preferences.iter().take_while(same).count()
    };
    let least = match service.mode {
        Mode::Standard | Mode::Passthrough => 0,
        Mode::Strict => wanted,
        Mode::Failover => found.iter().map(|(workload, _)| rank(workload)).max().unwrap_or(0),
    };
    let near = found.into_iter().filter(|(workload, _)| least == 0 || rank(workload) >= least);
    near.map(|(_, endpoint)| endpoint).collect()
}

fn matches(desired: &Desired, scope: Scope, there: &Place) -> bool {
    let here = &desired.place;
    match scope {
        Scope::Region => there.region == here.region,
        Scope::Zone => there.zone == here.zone,
        Scope::Subzone => there.subzone == here.subzone,
        Scope::Node => there.node == desired.here.node,
        Scope::Cluster => there.cluster.is_empty() || there.cluster == desired.here.cluster,
        Scope::Network => desired.is_local(&there.network),
    }
}
