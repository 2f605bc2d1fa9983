//! Builds the model item by item, and finds what makes no sense: each problem names its object.
//!
//! References are checked at the end, since sections come in any order. Nothing is mended: one
//! problem refuses the file.

use hashbrown::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use kmesh_bpf::authz::Document;
use kmesh_bpf::layout::NAME_MAX;

use super::format::{self, HealthPolicy, LoadBalancerMode, NetworkMode, Status, Text};
use super::say::{Say, check_workload};
use super::{Problems, References};
use crate::model::{
    Destination, Interner, Ips, Membership, Mode, Model, Name, Place, Pod, Scope, Service,
    Standing, Traits, Workload,
};

/// A model in the making.
#[derive(Default)]
pub(super) struct Builder {
    model: Model,
    problems: Problems,
    references: References,
    texts: Interner<str>,
    places: Interner<Place>,
    traits: Interner<Traits>,
}

impl Builder {
    /// Nothing yet; its references will be looked for there.
    pub(super) fn new(references: References) -> Self {
        Self { references, ..Self::default() }
    }

    /// Takes a workload of the file.
    pub(super) fn workload(&mut self, from: &format::Workload) {
        let uid = uid_of(from);
        let mut say = Say { object: "workload", name: &uid, problems: &mut self.problems };
        if from.uid.is_empty() && (from.namespace.is_empty() || from.name.is_empty()) {
            say.problem("it has neither uid nor namespace and name");
        }
        check_workload(from, &uid, &mut say);
        let ips: Vec<IpAddr> = from.workload_ips.iter().filter_map(|ip| say.address(ip)).collect();
        let waypoint = from.waypoint.as_ref().and_then(|gateway| say.waypoint(gateway));
        let services = self.memberships(from, &uid);
        let place = self.place(from);
        let traits = Traits {
            identity: self.identity(from, &uid),
            waypoint,
            services,
            policies: self.texts.set(from.authorization_policies.iter().map(|name| &**name)),
        };
        let uid: Name = uid.as_str().into();
        if let Some(netns) = &from.netns {
            let pod = Pod { uid: uid.clone(), netns: netns.to_string(), bypass: from.bypass };
            self.model.pods.push(pod);
            if only_governs(from) {
                return;
            }
        }
        let workload = Workload {
            ips: match &*from.hostname {
                name if ips.is_empty() && !name.is_empty() => Ips::Hostname(name.into()),
                _ => ips.into(),
            },
            place: self.places.share(place),
            traits: self.traits.share(traits),
            healthy: matches!(from.status, Status::Healthy),
            host_network: matches!(from.network_mode, NetworkMode::HostNetwork),
        };
        self.model.workloads.push((uid, workload));
    }

    fn place(&mut self, from: &format::Workload) -> Place {
        Place {
            network: self.texts.text(&from.network),
            cluster: self.texts.text(&from.cluster_id),
            node: self.texts.text(&from.node),
            region: self.texts.text(&from.locality.region),
            zone: self.texts.text(&from.locality.zone),
            subzone: self.texts.text(&from.locality.subzone),
        }
    }

    fn memberships(&mut self, from: &format::Workload, uid: &str) -> Box<[Membership]> {
        let mut services = Vec::with_capacity(from.services.0.len());
        for (service, ports) in &from.services.0 {
            let mut say = Say { object: "workload", name: uid, problems: &mut self.problems };
            if ports.0.iter().any(|(service, target)| *service == 0 || *target == 0) {
                say.problem(&format!("port 0 for service {}", &**service));
            }
            let ports = say.ports(&ports.0);
            services.push(Membership { service: self.texts.text(service), ports });
        }
        services.sort_unstable_by(|a, b| a.service.cmp(&b.service));
        if let Some(twice) = services.windows(2).find(|pair| pair[0].service == pair[1].service) {
            let problem = format!("workload {uid}: service {} twice", twice[0].service);
            self.problems.add(problem);
        }
        services.into()
    }

    fn identity(&mut self, from: &format::Workload, uid: &str) -> Name {
        let or = |text: &Text, default: &'static str| {
            if text.is_empty() { default.to_owned() } else { text.to_string() }
        };
        let identity = format!(
            "{}/ns/{}/sa/{}",
            or(&from.trust_domain, "cluster.local"),
            &*from.namespace,
            or(&from.service_account, "default")
        );
        if identity.len() > NAME_MAX {
            let length = identity.len();
            let problem = format!("workload {uid}: identity of {length} bytes: at most {NAME_MAX}");
            self.problems.add(problem);
        }
        self.texts.text(&identity)
    }

    /// Takes a service of the file.
    pub(super) fn service(&mut self, from: &format::Service) {
        let key = format!("{}/{}", &*from.namespace, &*from.hostname);
        let mut say = Say { object: "service", name: &key, problems: &mut self.problems };
        say.label("name", &from.name);
        say.label("namespace", &from.namespace);
        say.label("hostname", &from.hostname);
        if from.namespace.is_empty() || from.hostname.is_empty() {
            say.problem("namespace and hostname must not be empty");
        }
        if from.namespace.contains('/') || from.hostname.contains('/') {
            say.problem("namespace and hostname hold no \"/\"");
        }
        if from.ports.0.iter().any(|(service, _)| *service == 0) {
            say.problem("port 0 is no service port");
        }
        let vips: Vec<(String, IpAddr)> = from.vips.iter().filter_map(|vip| say.vip(vip)).collect();
        let ports = say.ports(&from.ports.0);
        let waypoint = from.waypoint.as_ref().and_then(|gateway| say.waypoint(gateway));
        let (mode, preferences, allow_unhealthy) = balancing(from);
        let service = Service {
            vips: vips.into_iter().map(|(net, ip)| (self.texts.text(&net), ip)).collect(),
            ports,
            waypoint,
            mode,
            preferences,
            allow_unhealthy,
            left_out: 0,
            standing: Standing::default(),
        };
        self.model.services.push((self.texts.text(&key), service));
    }

    /// Takes a policy of the file.
    pub(super) fn policy(&mut self, from: Document) {
        let policy = from.policy(&mut |problem| self.problems.add(problem));
        self.model.policies.push((policy.name.clone(), Arc::new(policy)));
    }

    /// The model, if the text was well-formed and nothing is wrong with it.
    pub(super) fn finish(mut self, formed: Result<(), String>) -> Result<Model, Problems> {
        if let Err(problem) = formed {
            // References cannot be judged in half a file.
            self.problems.listed.insert(0, problem);
            return Err(self.problems);
        }
        let services = self.services_once();
        self.workloads_once();
        self.references(&services);
        self.pods_once();
        if self.problems.is_empty() { Ok(self.model) } else { Err(self.problems) }
    }

    fn services_once(&mut self) -> HashSet<Name> {
        let mut names = HashSet::new();
        let mut vips: HashMap<(Name, IpAddr), Name> = HashMap::new();
        for (name, service) in &self.model.services {
            if !names.insert(name.clone()) {
                self.problems.add(format!("service {name}: there twice"));
            }
            for (network, ip) in &service.vips {
                if let Some(other) = vips.insert((network.clone(), *ip), name.clone()) {
                    self.problems.add(format!(
                        "service {name}: duplicate VIP {network}/{ip}, also of service {other}"
                    ));
                }
            }
        }
        names
    }

    fn workloads_once(&mut self) {
        let mut uids = HashSet::with_capacity(self.model.workloads.len());
        let mut owners: HashMap<(&str, IpAddr), &Name> =
            HashMap::with_capacity(self.model.workloads.len());
        for (uid, workload) in &self.model.workloads {
            if !uids.insert(&**uid) {
                self.problems.add(format!("workload {uid}: duplicate uid"));
                continue;
            }
            for ip in workload.ips.all().iter().filter(|_| !workload.host_network) {
                if let Some(other) = owners.insert((&workload.place.network, *ip), uid) {
                    self.problems.add(format!(
                        "workload {uid}: duplicate address {ip}, also of workload {other}"
                    ));
                }
            }
        }
    }

    fn references(&mut self, services: &HashSet<Name>) {
        let mut policies: HashSet<&str> = HashSet::new();
        for (name, _) in &self.model.policies {
            if !policies.insert(name) {
                self.problems.add(format!("policy {name}: there twice"));
            }
        }
        if self.references == References::Beyond {
            return;
        }
        let unknown = |waypoint: &Option<Destination>| match waypoint {
            Some(Destination::Hostname(name)) if !services.contains(name) => Some(name.clone()),
            _ => None,
        };
        for (name, service) in &self.model.services {
            if let Some(waypoint) = unknown(&service.waypoint) {
                self.problems.add(format!("service {name}: unknown waypoint {waypoint}"));
            }
        }
        for (uid, workload) in &self.model.workloads {
            let traits = &workload.traits;
            if let Some(waypoint) = unknown(&traits.waypoint) {
                self.problems.add(format!("workload {uid}: unknown waypoint {waypoint}"));
            }
            for member in traits.services.iter().filter(|m| !services.contains(&m.service)) {
                let problem = format!("workload {uid}: unknown service {}", member.service);
                self.problems.add(problem);
            }
            for name in traits.policies.iter().filter(|name| !policies.contains(&***name)) {
                self.problems.add(format!("workload {uid}: unknown policy {name}"));
            }
        }
    }

    fn pods_once(&mut self) {
        let mut seen: HashMap<&str, &Name> = HashMap::new();
        for pod in &self.model.pods {
            if let Some(other) = seen.insert(&pod.netns, &pod.uid) {
                let (uid, netns) = (&pod.uid, &pod.netns);
                self.problems.add(format!(
                    "workload {uid}: netns {netns} given twice, also by workload {other}"
                ));
            }
        }
    }
}

/// Whether it says no more than that this pod is governed: what the pod is, another source says.
fn only_governs(from: &format::Workload) -> bool {
    from.netns.is_some()
        && from.workload_ips.is_empty()
        && from.hostname.is_empty()
        && from.services.0.is_empty()
        && from.authorization_policies.is_empty()
        && from.waypoint.is_none()
}

/// The workload's uid, or the one that Istio would give the pod.
fn uid_of(from: &format::Workload) -> String {
    if !from.uid.is_empty() {
        return from.uid.to_string();
    }
    let cluster = if from.cluster_id.is_empty() { "Kubernetes" } else { &*from.cluster_id };
    format!("{cluster}//Pod/{}/{}", &*from.namespace, &*from.name)
}

/// Locality mode, its scopes, and whether unhealthy workloads are used, too.
fn balancing(from: &format::Service) -> (Mode, Box<[Scope]>, bool) {
    let Some(balancer) = &from.load_balancer else {
        return (Mode::Standard, Box::default(), false);
    };
    let mode = match balancer.mode {
        LoadBalancerMode::Standard => Mode::Standard,
        LoadBalancerMode::Strict => Mode::Strict,
        LoadBalancerMode::Failover => Mode::Failover,
        LoadBalancerMode::Passthrough => Mode::Passthrough,
    };
    let allow_unhealthy = matches!(balancer.health_policy, HealthPolicy::AllowAll);
    (mode, balancer.routing_preferences.as_slice().into(), allow_unhealthy)
}
