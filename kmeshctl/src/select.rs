//! What the filters of `dump` choose: by name, by pod, by address.
//!
//! Each filter holds for everything that has to do with what it names, and all that are given must
//! hold: `--service` shows the service, the workloads behind it, and those of its pods that are
//! managed here.

use std::collections::HashSet;
use std::net::IpAddr;

use kmesh_bpf::snapshot::{Listing, PodEntry, ServiceEntry, WorkloadEntry};
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::Name;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// A service, as [`names_service`] takes it.
    pub service: Option<String>,
    /// A workload, as [`names_workload`] takes it.
    pub workload: Option<String>,
    /// Pods, as [`names_pod`] takes them; any of them. Empty is no filter.
    pub pods: Vec<String>,
    /// A policy, as [`names_policy`] takes it.
    pub policy: Option<String>,
    /// A VIP, or a workload's address.
    pub address: Option<IpAddr>,
}

impl Filter {
    /// Whether anything is filtered.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.service.is_some()
            || self.workload.is_some()
            || self.policy.is_some()
            || self.address.is_some()
            || !self.pods.is_empty()
    }
}

/// Whether `text` names this service: its whole name, `namespace/host` up to the host's first
/// dot, or `namespace/` for all of a namespace.
#[must_use]
pub fn names_service(text: &str, name: &str) -> bool {
    name == text
        || (text.ends_with('/') && name.starts_with(text))
        || name.strip_prefix(text).is_some_and(|rest| text.contains('/') && rest.starts_with('.'))
}

/// Whether `text` names this workload: its uid, or the end of it from a slash on, as
/// `namespace/name`.
#[must_use]
pub fn names_workload(text: &str, uid: &str) -> bool {
    uid == text || uid.strip_suffix(text).is_some_and(|rest| rest.ends_with('/'))
}

/// Whether `text` names this policy: its whole name, or `namespace/` for all of a namespace.
#[must_use]
pub fn names_policy(text: &str, name: &str) -> bool {
    name == text || (text.len() > 1 && text.ends_with('/') && name.starts_with(text))
}

/// Whether `text` names this pod: its netns cookie, or its workload.
#[must_use]
pub fn names_pod(text: &str, pod: &PodEntry) -> bool {
    let of_workload = pod.uid.as_ref().is_some_and(|uid| names_workload(text, uid));
    of_workload || text == pod.cookie.to_string()
}

/// A filter with what it means in these tables.
#[derive(Debug)]
pub struct Select<'a> {
    filter: &'a Filter,
    /// The uids of the pods that are named.
    of_pods: Option<HashSet<Name>>,
    /// The uids of the workloads behind the service.
    of_service: Option<HashSet<Name>>,
    /// The uids of the workloads that have the address.
    of_address: Option<HashSet<Name>>,
    /// The uids of the workloads and pods that the policy applies to.
    of_policy: Option<HashSet<Name>>,
    /// The policies that apply to what the other filters name.
    policies: Option<HashSet<Name>>,
}

impl<'a> Select<'a> {
    /// Looks up what the filter names.
    #[must_use]
    pub fn new(filter: &'a Filter, have: &Have, listing: &Listing<'_>, pods: &[PodEntry]) -> Self {
        let named = |pod: &&PodEntry| filter.pods.iter().any(|text| names_pod(text, pod));
        let of_pods = || pods.iter().filter(named).filter_map(|pod| pod.uid.clone()).collect();
        let of_service = |text: &String| {
            let services = listing.services().filter(|service| names_service(text, &service.name));
            services.flat_map(|service| service.endpoints).map(|at| at.workload).collect()
        };
        let of_address = |address: IpAddr| {
            let workloads = listing.workloads().filter(|workload| has(workload, address));
            workloads.map(|workload| workload.uid).collect()
        };
        let of_policy = |text: &String| {
            let applies = |uid: &Name| {
                have.applicable(uid).iter().any(|policy| names_policy(text, &policy.name))
            };
            let in_force =
                |pod: &&PodEntry| pod.policies.iter().any(|name| names_policy(text, name));
            let workloads = listing.workloads().map(|workload| workload.uid).filter(applies);
            let pods = pods.iter().filter(in_force).filter_map(|pod| pod.uid.clone());
            workloads.chain(pods).collect()
        };
        let mut select = Self {
            filter,
            of_pods: (!filter.pods.is_empty()).then(of_pods),
            of_service: filter.service.as_ref().map(of_service),
            of_address: filter.address.map(of_address),
            of_policy: filter.policy.as_ref().map(of_policy),
            policies: None,
        };
        let others = Filter { policy: None, ..filter.clone() };
        if others.is_set() {
            let workloads = listing.workloads().filter(|workload| select.workload(workload));
            let applicable = workloads.flat_map(|workload| have.applicable(&workload.uid));
            let of_workloads = applicable.map(|policy| policy.name.clone());
            let of_pods = pods.iter().filter(|pod| select.pod(pod));
            let of_pods = of_pods.flat_map(|pod| pod.policies.iter().cloned());
            select.policies = Some(of_workloads.chain(of_pods).collect());
        }
        select
    }

    /// Whether this policy is chosen.
    #[must_use]
    pub fn policy(&self, name: &Name) -> bool {
        let named = self.filter.policy.as_ref();
        named.is_none_or(|text| names_policy(text, name))
            && self.policies.as_ref().is_none_or(|names| names.contains(name))
    }

    /// Whether the set of these policies is chosen: one of them is.
    #[must_use]
    pub fn names(&self, policies: &[Name]) -> bool {
        policies.iter().any(|name| self.policy(name))
    }

    /// Whether this service is chosen.
    #[must_use]
    pub fn service(&self, service: &ServiceEntry) -> bool {
        let Filter { service: name, workload, address, .. } = self.filter;
        let any = |named: &dyn Fn(&Name) -> bool| {
            service.endpoints.iter().any(|endpoint| named(&endpoint.workload))
        };
        name.as_ref().is_none_or(|text| names_service(text, &service.name))
            && workload.as_ref().is_none_or(|text| any(&|uid| names_workload(text, uid)))
            && self.of_pods.as_ref().is_none_or(|uids| any(&|uid| uids.contains(uid)))
            && self.of_policy.as_ref().is_none_or(|uids| any(&|uid| uids.contains(uid)))
            && address.is_none_or(|address| service.vips.contains(&address))
    }

    /// Whether this workload is chosen.
    #[must_use]
    pub fn workload(&self, workload: &WorkloadEntry) -> bool {
        let named = self.filter.workload.as_ref();
        named.is_none_or(|text| names_workload(text, &workload.uid))
            && self.has_uid(&workload.uid)
            && self.of_pods.as_ref().is_none_or(|uids| uids.contains(&workload.uid))
    }

    /// Whether this pod is chosen.
    #[must_use]
    pub fn pod(&self, pod: &PodEntry) -> bool {
        let Filter { pods, workload, service, policy, address } = self.filter;
        let named = pods.is_empty() || pods.iter().any(|text| names_pod(text, pod));
        match &pod.uid {
            _ if !named => false,
            Some(uid) => {
                self.has_uid(uid) && workload.as_ref().is_none_or(|text| names_workload(text, uid))
            }
            None => {
                let of_set =
                    |text: &String| pod.policies.iter().any(|name| names_policy(text, name));
                let others = workload.is_none() && service.is_none() && address.is_none();
                others && policy.as_ref().is_none_or(of_set)
            }
        }
    }

    fn has_uid(&self, uid: &Name) -> bool {
        let sets = [&self.of_service, &self.of_address, &self.of_policy];
        sets.into_iter().flatten().all(|uids| uids.contains(uid))
    }
}

fn has(workload: &WorkloadEntry, address: IpAddr) -> bool {
    workload.addresses.contains(&address)
        || workload.v4.is_some_and(|v4| address == IpAddr::V4(v4))
        || workload.v6.is_some_and(|v6| address == IpAddr::V6(v6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_wholly_up_to_its_domain_or_by_its_namespace() {
        let name = "shop/cart.shop.svc.cluster.local";
        for text in [name, "shop/cart", "shop/cart.shop.svc", "shop/"] {
            assert!(names_service(text, name), "{text}");
        }
        for text in ["shop", "shop/car", "cart", "op/cart", "", "/"] {
            assert!(!names_service(text, name), "{text}");
        }
    }

    #[test]
    fn a_policy_is_named_wholly_or_by_its_namespace() {
        for text in ["shop/allow", "shop/"] {
            assert!(names_policy(text, "shop/allow"), "{text}");
        }
        for text in ["shop", "shop/al", "allow", "/", ""] {
            assert!(!names_policy(text, "shop/allow"), "{text}");
        }
    }

    #[test]
    fn a_workload_is_named_by_its_uid_or_the_end_of_it() {
        let uid = "Kubernetes//Pod/shop/cart-1";
        for text in [uid, "shop/cart-1", "cart-1", "Pod/shop/cart-1"] {
            assert!(names_workload(text, uid), "{text}");
        }
        for text in ["art-1", "shop", "", "cart", "x/shop/cart-1"] {
            assert!(!names_workload(text, uid), "{text}");
        }
    }
}
