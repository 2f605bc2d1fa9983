//! What is wrong with the tables themselves.

use std::net::IpAddr;

use hashbrown::HashSet;

use super::{Finding, Severity};
use crate::layout::{
    BackendRecord, BackendWord, EndpointWord, FrontendKey, FrontendWord, KIND_WAYPOINT,
    ServiceRecord, ServiceWord, WaypointWord, cookie_tag,
};
use crate::tables::{Consistency, Have};

/// Above this share of its limit a map is called nearly full.
const NEARLY_FULL_PERCENT: u64 = 80;
/// What mends the tables.
const SYNC: &str = "start kmeshd (or start it again): it mends that; or: kmeshctl restore SNAPSHOT";
/// What mends one pod's word.
const ENROL: &str = "start kmeshd, which enrols its pods again";

/// What is wrong with the tables: sorted, empty when all is well. A host-network workload that
/// serves nothing is fine: its record says that no address leads to it.
#[must_use]
pub fn check(have: &Have) -> Vec<Finding> {
    let mut checker = Checker { have, findings: Vec::new(), used: None };
    checker.generation();
    for (key, word) in have.frontends.iter() {
        checker.frontend(&key, word);
    }
    for (index, record) in have.services.iter() {
        checker.service(index, record);
    }
    for (index, record) in have.backends.iter() {
        checker.backend(index, record);
    }
    checker.policies();
    checker.managers();
    checker.usage();
    checker.findings.sort_unstable();
    checker.findings
}

pub(super) struct Checker<'a> {
    pub(super) have: &'a Have,
    findings: Vec<Finding>,
    /// Backends that services or pods lead to, once that is asked.
    used: Option<HashSet<u32>>,
}

/// Backends that services or pods lead to.
fn backends_in_use(have: &Have) -> HashSet<u32> {
    let slots = have.services.iter().flat_map(|(_, record)| have.slots.of(record));
    let pods = have.managers.values().filter_map(|word| word.backend());
    slots.map(|word| word.backend()).chain(pods).collect()
}

impl Checker<'_> {
    pub(super) fn say(&mut self, layer: &'static str, object: String, problem: impl Into<String>) {
        let (severity, problem, fix) = (Severity::Error, problem.into(), SYNC.to_owned());
        self.findings.push(Finding { severity, layer, object, problem, fix });
    }

    fn generation(&mut self) {
        let problem = match self.have.consistency() {
            Consistency::Settled => return,
            Consistency::LeftOpen => "is odd: a writer is at work, or died at work",
            Consistency::Moving => {
                "changed at every try: a writer is at work; this reading is torn"
            }
        };
        self.findings.push(Finding {
            severity: Severity::Warning,
            layer: "generation",
            object: "kmesh_meta generation".to_owned(),
            problem: problem.to_owned(),
            fix: "ask again; if it stays so, start kmeshd, or: kmeshctl restore SNAPSHOT"
                .to_owned(),
        });
    }

    fn frontend(&mut self, key: &FrontendKey, word: FrontendWord) {
        let have = self.have;
        let (index, kind) = (word.index(), key.kind());
        let object = || match kind {
            FrontendKey::SERVICE => format!("VIP {} port {}", key.address(), key.port()),
            FrontendKey::WORKLOAD => format!("address {}", key.address()),
            _ => format!("frontend {} port {}", key.address(), key.port()),
        };
        if word.tag() != key.tag() {
            let problem = "carries the tag of another key: programs refuse its connections";
            self.say("references", object(), problem);
        }
        let problem = match kind {
            FrontendKey::SERVICE => match have.services.get(index) {
                None => format!("leads to service {index}, which is not in use"),
                Some(record) if record.kind == KIND_WAYPOINT => {
                    format!("leads to {}", have.service_name(record))
                }
                Some(_) => return,
            },
            FrontendKey::WORKLOAD if have.backends.get(index).is_some() => return,
            FrontendKey::WORKLOAD => format!("leads to backend {index}, which is not in use"),
            kind => format!("has kind {kind}, which no Kmesh writes"),
        };
        self.say("references", object(), problem);
    }

    fn service(&mut self, index: u32, record: &ServiceRecord) {
        let have = self.have;
        let object = || format!("{} (record {index})", have.service_name(record));
        if have.services.nameless().contains(&index) {
            self.say("references", object(), "its name cannot be read");
        }
        if have.services.twins().contains(&index) {
            self.say("references", object(), "another record has the same name, port and family");
        }
        let (count, capacity) = (record.word.count(), record.capacity);
        if count > capacity {
            self.say("counts", object(), format!("uses {count} slots, owns {capacity}"));
        } else if have.slots.is_damaged(index) {
            let problem = "its slots overlap another service's, or end beyond the last one";
            self.say("counts", object(), problem);
        }
        let flagged = record.word.has(ServiceWord::WAYPOINT);
        if flagged != record.waypoint.service().is_some() {
            self.say("references", object(), "its waypoint flag and its waypoint word disagree");
        }
        self.waypoint(&object, record.waypoint);
        for word in have.slots.of(record) {
            self.slot(&object, *word);
        }
    }

    fn slot(&mut self, object: &dyn Fn() -> String, word: EndpointWord) {
        let (have, index) = (self.have, word.backend());
        if !word.valid() {
            self.say("references", object(), "a slot in use was never written");
            return;
        }
        let Some(record) = have.backends.get(index) else {
            let problem = format!("an endpoint leads to backend {index}, which is not in use");
            self.say("references", object(), problem);
            return;
        };
        let dialled = if word.v6() { record.v6().is_some() } else { record.word.v4().is_some() };
        if !dialled {
            let (uid, family) = (have.record_uid(record), if word.v6() { "IPv6" } else { "IPv4" });
            self.say("references", object(), format!("endpoint {uid} has no {family} address"));
        }
    }

    fn waypoint(&mut self, object: &dyn Fn() -> String, word: WaypointWord) {
        let Some(index) = word.service() else { return };
        match self.have.services.get(index) {
            None => {
                let problem = format!("its waypoint is record {index}, which is not in use");
                self.say("references", object(), problem);
            }
            Some(record) if record.kind != KIND_WAYPOINT => {
                let name = self.have.service_name(record);
                self.say("references", object(), format!("its waypoint is {name}"));
            }
            Some(_) => {}
        }
    }

    fn backend(&mut self, index: u32, record: &BackendRecord) {
        let have = self.have;
        let object = || format!("workload {} (record {index})", have.record_uid(record));
        if have.backends.nameless().contains(&index) {
            self.say("references", object(), "its uid cannot be read");
        }
        if have.backends.twins().contains(&index) {
            self.say("references", object(), "another record has the same uid");
        }
        self.waypoint(&object, record.waypoint_v4);
        self.waypoint(&object, record.waypoint_v6);
        self.found(&object, index, record);
    }

    /// A workload with addresses of its own is found by them, and nobody else is.
    fn found(&mut self, object: &dyn Fn() -> String, index: u32, record: &BackendRecord) {
        let have = self.have;
        if record.word.has(BackendWord::NO_ADDRESS) {
            return;
        }
        let own = || have.frontends.of(FrontendKey::WORKLOAD, index);
        let dialled = record.word.v4().map(IpAddr::V4).into_iter();
        for address in dialled.chain(record.v6().map(IpAddr::V6)) {
            let key = FrontendKey::workload(address);
            // what leads here leads nowhere else: no need to search for it
            if own().any(|own| own == key) {
                continue;
            }
            let leads = have.frontends.get(&key);
            let other = leads.map(FrontendWord::index).filter(|other| *other != index);
            if let Some(other) = other.and_then(|other| have.backends.get(other)) {
                let uid = have.record_uid(other);
                let problem = format!("duplicate address: {address} is also that of {uid}");
                self.say("references", object(), problem);
            }
        }
        if own().next().is_none() {
            let used = self.used.get_or_insert_with(|| backends_in_use(have));
            if used.contains(&index) {
                let problem = "no address leads to it: as a source it has no identity, and its waypoint is passed by";
                self.say("references", object(), problem);
            } else {
                self.unreferenced(object());
            }
        }
    }

    /// Records are written before what leads to them: in an unfinished transaction one that
    /// nothing leads to yet is no fault.
    fn unreferenced(&mut self, object: String) {
        self.say("references", object, "unreferenced: no address, service or pod leads to it");
        if self.have.consistency() != Consistency::Settled
            && let Some(last) = self.findings.last_mut()
        {
            last.severity = Severity::Warning;
        }
    }

    fn managers(&mut self) {
        let have = self.have;
        for (cookie, word) in &have.managers {
            let object = match word.backend().and_then(|index| have.uid(index)) {
                Some(uid) => format!("pod {uid}"),
                None => format!("pod with netns cookie {cookie}"),
            };
            self.pods_set(&object, *word);
            let lost = word.backend().filter(|index| have.backends.get(*index).is_none());
            let problem = if word.tag() != cookie_tag(*cookie) {
                "carries the tag of another pod: programs pass its connections".to_owned()
            } else if let Some(index) = lost {
                format!("its own workload is backend {index}, which is not in use")
            } else {
                continue;
            };
            let (severity, fix) = (Severity::Error, ENROL.to_owned());
            self.findings.push(Finding { severity, layer: "references", object, problem, fix });
        }
    }

    fn usage(&mut self) {
        for usage in self.have.usage() {
            let limit = u64::from(usage.limit);
            if usage.used * 100 <= limit * NEARLY_FULL_PERCENT {
                continue;
            }
            let option = usage.map.limit_option().unwrap_or("its limit");
            self.findings.push(Finding {
                severity: Severity::Warning,
                layer: "capacity",
                object: format!("map {}", usage.map.name()),
                problem: format!("{} of {limit} elements are in use", usage.used),
                fix: format!("raise {option}"),
            });
        }
    }
}
