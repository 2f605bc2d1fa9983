//! What a change must be before it is planned.
//!
//! References to what the change does not carry are judged by `plan`, which sees the tables;
//! in a complete change nothing else can exist, so they are judged here.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};

use super::content::{Content, KeyView, ServiceView};
use super::{Invalid, Problem};
use crate::layout::{EXEMPT_PORTS, FrontendKey, NAME_MAX, ServiceWord};
use crate::snapshot::Snapshot;
use crate::tables::is_name;
use crate::want::{Change, Endpoint, Family, Kind, Mode, Settings, WaypointRef};

/// Whether a change makes sense by itself.
pub fn validate(change: &Change) -> Result<(), Invalid> {
    judge(change)
}

/// Whether a snapshot does, as the complete change that it stands for.
pub fn validate_snapshot(snapshot: &Snapshot) -> Result<(), Invalid> {
    judge(snapshot)
}

fn judge(content: &impl Content) -> Result<(), Invalid> {
    let (services, workloads) = content.counts();
    let mut judge = Judge {
        content,
        workloads: HashMap::with_capacity(workloads),
        waypoints: HashSet::new(),
        owners: HashMap::new(),
        problems: Vec::new(),
    };
    judge.collect(services, workloads);
    for at in 0..services {
        judge.service(at);
    }
    for at in 0..workloads {
        judge.workload(at);
    }
    judge.policies();
    if let Some(settings) = content.settings() {
        judge.settings(settings);
    }
    match judge.problems {
        problems if problems.is_empty() => Ok(()),
        problems => Err(Invalid { problems }),
    }
}

struct Judge<'a, C> {
    content: &'a C,
    /// Their places in the list.
    workloads: HashMap<&'a str, usize>,
    waypoints: HashSet<(&'a str, u16, Family)>,
    /// Who was the first to name a VIP or address: its place in the list.
    owners: HashMap<FrontendKey, usize>,
    problems: Vec<Problem>,
}

/// More problems than this are not written down: one mistake may have been made a million times.
const PROBLEMS_MAX: usize = 1000;

impl<'a, C: Content> Judge<'a, C> {
    fn say(&mut self, object: &dyn Fn() -> String, problem: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { object: object(), problem: problem.into() });
        }
    }

    fn collect(&mut self, services: usize, workloads: usize) {
        for at in 0..workloads {
            let (uid, _) = self.content.workload(at);
            if self.workloads.insert(uid, at).is_some() {
                self.say(&|| format!("workload {uid}"), "is there twice; keep one of them");
            }
        }
        let mut keys = HashSet::with_capacity(services);
        for at in 0..services {
            let (key, service) = self.content.service(at);
            if !keys.insert(key) {
                self.say(&|| key.to_string(), "is there twice; keep one of them");
            }
            if key.kind == Kind::Waypoint && service.is_some() {
                self.waypoints.insert((key.name, key.port, key.family));
            }
        }
    }

    fn service(&mut self, at: usize) {
        let (key, service) = self.content.service(at);
        let object = || key.to_string();
        self.name(&object, "its name", key.name);
        if key.port == 0 {
            self.say(&object, "port 0 is no port; give 1 to 65535");
        }
        let Some(service) = service else { return };
        self.vips(at, key, &service);
        if key.kind == Kind::Waypoint {
            self.waypoint_record(key, &service);
        }
        if let Some(waypoint) = service.waypoint {
            self.waypoint(&object, waypoint, key.family);
        }
        if service.endpoints.len() > ServiceWord::MAX_COUNT as usize {
            let (there, max) = (service.endpoints.len(), ServiceWord::MAX_COUNT);
            self.say(&object, format!("has {there} endpoints; a service holds at most {max}"));
        }
        let mut seen = HashSet::with_capacity(service.endpoints.len());
        for endpoint in service.endpoints {
            if !seen.insert(endpoint) {
                let (uid, port) = (&endpoint.workload, endpoint.port);
                self.say(&object, format!("endpoint {uid} port {port} is there twice"));
            }
            self.endpoint(&object, endpoint);
        }
    }

    fn waypoint_record(&mut self, key: KeyView<'a>, service: &ServiceView<'a>) {
        let object = || key.to_string();
        if !service.vips.is_empty() {
            self.say(&object, "a waypoint has no VIPs; publish them as a service");
        }
        if service.waypoint.is_some() {
            self.say(&object, "a waypoint has no waypoint itself; take it out");
        }
        if service.mode == Mode::Passthrough {
            self.say(&object, "a waypoint cannot be PASSTHROUGH; choose another mode");
        }
    }

    fn vips(&mut self, at: usize, key: KeyView<'a>, service: &ServiceView<'a>) {
        let object = || key.to_string();
        for vip in service.vips {
            if Family::of(*vip) != key.family {
                let family = key.family;
                self.say(&object, format!("VIP {vip} is not {family}; give it to its family"));
            }
            self.address(&object, *vip);
            self.claim(&object, at, FrontendKey::service(*vip, key.port), || {
                format!("VIP {vip} port {}", key.port)
            });
        }
    }

    fn endpoint(&mut self, object: &dyn Fn() -> String, endpoint: &'a Endpoint) {
        let Endpoint { workload: uid, port, family } = endpoint;
        if *port == 0 {
            self.say(object, format!("endpoint {uid}: port 0 is no port; give 1 to 65535"));
        }
        let there = self.workloads.get(&**uid).map(|at| self.content.workload(*at).1);
        match there {
            Some(Some(workload)) => {
                let there = match family {
                    Family::V4 => workload.v4.is_some(),
                    Family::V6 => workload.v6.is_some(),
                };
                if !there {
                    self.say(object, format!("endpoint {uid} has no {family} address"));
                }
            }
            Some(None) => {
                let problem = format!("endpoint {uid} is removed by the same change");
                self.say(object, problem);
            }
            None if self.content.all_workloads() => {
                let problem =
                    format!("endpoint {uid} is no known workload; add it, or take it out");
                self.say(object, problem);
            }
            None => {}
        }
    }

    fn waypoint(&mut self, object: &dyn Fn() -> String, waypoint: &'a WaypointRef, of: Family) {
        let WaypointRef { name, port } = waypoint;
        self.name(object, "its waypoint's name", name);
        if *port == 0 {
            self.say(object, format!("waypoint {name}: port 0 is no port; give 1 to 65535"));
        }
        if self.content.all_services() && !self.waypoints.contains(&(&**name, *port, of)) {
            let problem =
                format!("waypoint {name} port {port} ({of}) is not known; add it, or name none");
            self.say(object, problem);
        }
    }

    fn workload(&mut self, at: usize) {
        let (uid, workload) = self.content.workload(at);
        let object = || format!("workload {uid}");
        self.name(&object, "its uid", uid);
        let Some(workload) = workload else { return };
        if let Some(identity) = workload.identity {
            self.name(&object, "its identity", identity);
        }
        for policy in workload.policies {
            self.name(&object, "a policy that it names", policy);
        }
        let dialled = workload.v4.map(IpAddr::V4).into_iter().chain(workload.v6.map(IpAddr::V6));
        for address in dialled {
            self.address(&object, address);
        }
        for address in workload.addresses {
            self.address(&object, *address);
            self.claim(&object, at, FrontendKey::workload(*address), || {
                format!("address {address}")
            });
        }
        if let Some(waypoint) = workload.waypoint {
            for family in [Family::V4, Family::V6] {
                if workload.addresses.iter().any(|address| Family::of(*address) == family) {
                    self.waypoint(&object, waypoint, family);
                }
            }
        }
    }

    fn policies(&mut self) {
        let mut seen = HashSet::new();
        for (name, policy) in self.content.policies() {
            let object = || format!("policy {name}");
            self.name(&object, "its name", name);
            if !seen.insert(name) {
                self.say(&object, "is there twice; keep one of them");
            }
            let Some(policy) = policy else { continue };
            if &*policy.name != name {
                self.say(&object, format!("calls itself {}; give it one name", policy.name));
            }
            for problem in policy.problems() {
                self.say(&object, problem.what);
            }
        }
    }

    fn settings(&mut self, settings: &Settings) {
        let object = || "settings".to_owned();
        let ports = &settings.exempt_ports;
        if ports.len() > EXEMPT_PORTS {
            let problem = format!("{} exempt ports; there is room for {EXEMPT_PORTS}", ports.len());
            self.say(&object, problem);
        }
        if ports.contains(&0) {
            self.say(&object, "exempt port 0 is no port; give 1 to 65535");
        }
        if !ports.is_sorted_by(|one, next| one < next) {
            self.say(&object, "exempt ports must be sorted, each once");
        }
    }

    fn name(&mut self, object: &dyn Fn() -> String, which: &str, name: &str) {
        if is_name(name) {
            return;
        }
        let problem = if name.is_empty() {
            format!("{which} is empty; give one")
        } else if name.len() > NAME_MAX {
            format!("{which} has {} bytes; the tables hold at most {NAME_MAX}", name.len())
        } else {
            format!("{which} has control characters; take them out")
        };
        self.say(object, problem);
    }

    fn address(&mut self, object: &dyn Fn() -> String, address: IpAddr) {
        if address.is_unspecified() || address.is_multicast() {
            self.say(object, format!("{address} is no address of one host"));
        } else if address.to_canonical() != address {
            let plain = address.to_canonical();
            self.say(object, format!("{address} is an IPv4 address; write it as {plain}"));
        }
    }

    fn claim(
        &mut self,
        object: &dyn Fn() -> String,
        at: usize,
        key: FrontendKey,
        what: impl Fn() -> String,
    ) {
        let Some(owner) = self.owners.insert(key, at) else {
            return;
        };
        let owner = match key.kind() {
            FrontendKey::SERVICE => self.content.service(owner).0.to_string(),
            _ => format!("workload {}", self.content.workload(owner).0),
        };
        let problem = format!("{} belongs to {owner} too; keep it in one place", what());
        self.say(object, problem);
    }
}
