//! One view of what a change says and what a snapshot says, so that one judge judges both and
//! neither is copied for it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::authz::Policy;
use crate::snapshot::Snapshot;
use crate::want::{
    Change, Endpoint, Family, Kind, Mode, Name, ServiceKey, Settings, WaypointRef, describe_key,
};

/// Services and workloads by their place in the lists.
pub(super) trait Content {
    /// How many services and workloads.
    fn counts(&self) -> (usize, usize);
    /// A service, or that it is removed.
    fn service(&self, at: usize) -> (KeyView<'_>, Option<ServiceView<'_>>);
    /// A workload, or that it is removed.
    fn workload(&self, at: usize) -> (&str, Option<WorkloadView<'_>>);
    fn settings(&self) -> Option<&Settings>;
    fn all_services(&self) -> bool;
    fn all_workloads(&self) -> bool;
    /// Policies: what each is called, and what it says, if it is not removed.
    fn policies(&self) -> Vec<(&str, Option<&Policy>)>;
}

/// A [`ServiceKey`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyView<'a> {
    pub(super) name: &'a str,
    pub(super) port: u16,
    pub(super) family: Family,
    pub(super) kind: Kind,
}

impl fmt::Display for KeyView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_key(f, self.kind, self.name, self.port, self.family)
    }
}

/// What a service says.
#[derive(Clone, Copy)]
pub(super) struct ServiceView<'a> {
    pub(super) vips: &'a [IpAddr],
    pub(super) mode: Mode,
    pub(super) waypoint: Option<&'a WaypointRef>,
    pub(super) endpoints: &'a [Endpoint],
}

/// What a workload says.
#[derive(Clone, Copy)]
pub(super) struct WorkloadView<'a> {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
    pub(super) addresses: &'a [IpAddr],
    pub(super) waypoint: Option<&'a WaypointRef>,
    pub(super) identity: Option<&'a Name>,
    pub(super) policies: &'a [Name],
}

impl Content for Change {
    fn counts(&self) -> (usize, usize) {
        (self.services.len(), self.workloads.len())
    }

    fn service(&self, at: usize) -> (KeyView<'_>, Option<ServiceView<'_>>) {
        let (ServiceKey { name, port, family, kind }, service) = &self.services[at];
        let key = KeyView { name, port: *port, family: *family, kind: *kind };
        let service = service.as_ref().map(|service| ServiceView {
            vips: &service.vips,
            mode: service.mode,
            waypoint: service.waypoint.as_ref(),
            endpoints: &service.endpoints,
        });
        (key, service)
    }

    fn workload(&self, at: usize) -> (&str, Option<WorkloadView<'_>>) {
        let (uid, workload) = &self.workloads[at];
        let workload = workload.as_ref().map(|workload| WorkloadView {
            v4: workload.v4,
            v6: workload.v6,
            addresses: &workload.addresses,
            waypoint: workload.waypoint.as_ref(),
            identity: workload.identity.as_ref(),
            policies: &workload.policies,
        });
        (uid, workload)
    }

    fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    fn all_services(&self) -> bool {
        self.all_services
    }

    fn all_workloads(&self) -> bool {
        self.all_workloads
    }

    fn policies(&self) -> Vec<(&str, Option<&Policy>)> {
        self.policies.iter().map(|(name, policy)| (&**name, policy.as_deref())).collect()
    }
}

impl Content for Snapshot {
    fn counts(&self) -> (usize, usize) {
        (self.services.len(), self.workloads.len())
    }

    fn service(&self, at: usize) -> (KeyView<'_>, Option<ServiceView<'_>>) {
        let entry = &self.services[at];
        let (port, family, kind) = (entry.port, entry.family, entry.kind);
        let service = ServiceView {
            vips: &entry.vips,
            mode: entry.mode,
            waypoint: entry.waypoint.as_ref(),
            endpoints: &entry.endpoints,
        };
        (KeyView { name: &entry.name, port, family, kind }, Some(service))
    }

    fn workload(&self, at: usize) -> (&str, Option<WorkloadView<'_>>) {
        let entry = &self.workloads[at];
        let workload = WorkloadView {
            v4: entry.v4,
            v6: entry.v6,
            addresses: &entry.addresses,
            waypoint: entry.waypoint.as_ref(),
            identity: entry.identity.as_ref(),
            policies: &entry.policies,
        };
        (&entry.uid, Some(workload))
    }

    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn all_services(&self) -> bool {
        true
    }

    fn all_workloads(&self) -> bool {
        true
    }

    fn policies(&self) -> Vec<(&str, Option<&Policy>)> {
        let policies = self.policies.iter().flatten();
        policies.map(|policy| (&*policy.name, Some(&**policy))).collect()
    }
}
