//! The way of a connect() through the tables, decision by decision as `prog/steer.h` takes them,
//! over the raw words as the programs read them.
//!
//! It reads only the elements that lie on the way, by look-ups. It judges no record by what the
//! programs do not look at, and knows nothing of what the tables were meant to say. A further
//! decision (the endpoint's pod authorizing the connection) comes after
//! the slot: one more function in `pick`.

use std::net::{IpAddr, SocketAddr};

use bytemuck::Zeroable;

use super::look::{Read, element, said, settings, uid, words};
use super::outcome::Outcome;
use super::pick::{self, Picker};
use super::said::{MetadataSaid, OutcomeSaid, Protocol, Socket, Trail, WaypointSaid};
use crate::kernel::{Tables, hex};
use crate::layout::{
    BackendRecord, BackendWord, FrontendKey, FrontendWord, ManagerWord, Map, ServiceRecord,
    ServiceWord, SettingsWords, WaypointWord, cookie_tag,
};

/// How often a look-up is made before the connection is refused (`KMESH_TRIES`).
const TRIES: u32 = 4;

/// `enum found` of `prog/lookup.h`.
enum Found<T> {
    At(T),
    Nothing,
    Stale,
}

/// Where an attempt leads: to an outcome, to the slots of a record, or to another attempt.
enum Lead {
    Ends(Outcome),
    Slots(ServiceWord, Outcome),
    Stale,
}

/// What a connect() of this socket in the namespace with this cookie meets. `cookie`: `None` for a
/// source that is in no namespace known here.
pub(super) fn connect(
    k: &dyn Tables,
    cookie: Option<u64>,
    to: SocketAddr,
    socket: Socket,
) -> Read<Trail> {
    let mut trail = Trail::default();
    let Some(pod) = own_pod(k, cookie, &mut trail)? else {
        return Ok(trail);
    };
    if socket.protocol != Protocol::Tcp {
        trail.step("protocol", "not TCP: it passes");
        return Ok(ends(trail, Outcome::NotTcp, 0));
    }
    trail.step("protocol", "TCP: it is governed");
    if pod.flags() & ManagerWord::BYPASS != 0 {
        trail.step("bypass", "the pod's word says bypass");
        return Ok(ends(trail, Outcome::Bypass, 0));
    }
    trail.step("bypass", "not bypassed");
    steer(k, pod, to, socket, trail)
}

fn ends(mut trail: Trail, outcome: Outcome, retried: u32) -> Trail {
    trail.outcomes.push(OutcomeSaid::new(outcome, 1.0, retried));
    trail
}

/// `find_own_pod`: the word of the pod that connects; `None` where that is the end.
fn own_pod(k: &dyn Tables, cookie: Option<u64>, trail: &mut Trail) -> Read<Option<ManagerWord>> {
    let Some(cookie) = cookie else {
        trail.step("pod", "no managed pod of this node");
        trail.outcomes.push(OutcomeSaid::new(Outcome::Unmanaged, 1.0, 0));
        return Ok(None);
    };
    for _ in 0..TRIES {
        let mut word = ManagerWord::zeroed();
        let found =
            k.lookup(Map::Manager, bytemuck::bytes_of(&cookie), bytemuck::bytes_of_mut(&mut word))?;
        if !found || word.tag() == cookie_tag(cookie) && word.flags() & ManagerWord::MANAGED == 0 {
            trail.step("pod", format!("map_of_manager has no managed pod of cookie {cookie}"));
            trail.outcomes.push(OutcomeSaid::new(Outcome::Unmanaged, 1.0, 0));
            return Ok(None);
        }
        if word.tag() == cookie_tag(cookie) {
            trail.step("pod", format!("managed: map_of_manager has cookie {cookie}"));
            return Ok(Some(word));
        }
    }
    trail.step("pod", format!("map_of_manager has another cookie's word at cookie {cookie}"));
    trail.outcomes.push(OutcomeSaid::new(Outcome::RefusedStale, 1.0, TRIES - 1));
    Ok(None)
}

/// `steer`: attempts, until one does not meet what is in transit.
fn steer(
    k: &dyn Tables,
    pod: ManagerWord,
    to: SocketAddr,
    socket: Socket,
    trail: Trail,
) -> Read<Trail> {
    let mut walk = Walk { k, pod, to, socket, trail };
    let begin = walk.trail.steps.len();
    let mut retried = 0;
    loop {
        match walk.attempt()? {
            Lead::Ends(outcome) => return Ok(ends(walk.trail, outcome, retried)),
            Lead::Slots(word, outcome) => {
                walk.pick(word, outcome, retried)?;
                return Ok(walk.trail);
            }
            Lead::Stale if retried + 1 == TRIES => {
                return Ok(ends(walk.trail, Outcome::RefusedStale, retried));
            }
            Lead::Stale => {
                retried += 1;
                let steps = walk.trail.steps.drain(..begin).collect();
                walk.trail = Trail { steps, ..Trail::default() };
            }
        }
    }
}

/// One attempt of one connection.
struct Walk<'a> {
    k: &'a dyn Tables,
    pod: ManagerWord,
    to: SocketAddr,
    socket: Socket,
    trail: Trail,
}

impl Walk<'_> {
    /// `attempt`: one way through the tables, from the frontend on.
    fn attempt(&mut self) -> Read<Lead> {
        let key = FrontendKey::service(self.to.ip(), self.to.port());
        let (word, named, service) = match self.frontend(&key)? {
            Found::At(index) => match self.service(index)? {
                Some(record) => {
                    let said = said(self.k, &record)?;
                    self.trail.step("service", words(&said));
                    self.trail.service = Some(said);
                    let named = record.word.has(ServiceWord::WAYPOINT).then_some(record.waypoint);
                    (record.word, named, true)
                }
                None => return Ok(self.stale("service", "the record that it leads to is cleared")),
            },
            Found::Nothing => match self.at_workload()? {
                Found::At(waypoint) => (ServiceWord::default(), Some(waypoint), false),
                Found::Nothing => return Ok(Lead::Ends(Outcome::Miss)),
                Found::Stale => return Ok(Lead::Stale),
            },
            Found::Stale => return Ok(self.stale("frontend", RECYCLED)),
        };
        let outcome = if let Some(waypoint) = named {
            match self.meets_waypoint()? {
                Outcome::Waypoint => return self.turn_to_waypoint(waypoint),
                past => self.past_waypoint(waypoint, past)?,
            }
        } else {
            self.trail.step("waypoint", "none is named");
            Outcome::Steered
        };
        if !service {
            return Ok(Lead::Ends(Outcome::Miss));
        }
        if word.has(ServiceWord::PASSTHROUGH) {
            return Ok(Lead::Ends(Outcome::Passthrough));
        }
        Ok(self.endpoints_of(word, outcome))
    }

    fn stale(&mut self, step: &'static str, finding: &str) -> Lead {
        self.trail.step(step, finding);
        Lead::Stale
    }

    /// `find_frontend`.
    fn frontend(&mut self, key: &FrontendKey) -> Read<Found<u32>> {
        let mut word = FrontendWord::zeroed();
        let there = self.k.lookup(
            Map::Frontend,
            bytemuck::bytes_of(key),
            bytemuck::bytes_of_mut(&mut word),
        )?;
        if !there {
            return Ok(Found::Nothing);
        }
        if word.tag() != key.tag() {
            return Ok(Found::Stale);
        }
        let what = if key.kind() == FrontendKey::SERVICE { "a service" } else { "a workload" };
        let at = SocketAddr::new(key.address(), key.port());
        let at = if key.port() == 0 { key.address().to_string() } else { at.to_string() };
        self.trail.step("frontend", format!("{at} is {what}'s (record {})", word.index()));
        Ok(Found::At(word.index()))
    }

    /// `find_service`: a record in use.
    fn service(&self, index: u32) -> Read<Option<ServiceRecord>> {
        let record = element::<ServiceRecord>(self.k, Map::Service, index)?;
        Ok(record.filter(|record| record.word.has(ServiceWord::VALID)))
    }

    /// `at_workload`: no such service; the waypoint that the workload of this address names.
    fn at_workload(&mut self) -> Read<Found<WaypointWord>> {
        let key = FrontendKey::workload(self.to.ip());
        let index = match self.frontend(&key)? {
            Found::At(index) => index,
            Found::Nothing => {
                self.trail.step(
                    "frontend",
                    "no service has this address and port, no workload this address",
                );
                return Ok(Found::Nothing);
            }
            Found::Stale => {
                self.trail.step("frontend", RECYCLED);
                return Ok(Found::Stale);
            }
        };
        let Some(record) = element::<BackendRecord>(self.k, Map::Backend, index)? else {
            self.trail.step("workload", "the record that it leads to is beyond the map's end");
            return Ok(Found::Stale);
        };
        let uid = uid(self.k, &record)?;
        self.trail.step("workload", format!("{uid}, dialled at its own address"));
        self.trail.workload = Some(uid);
        let v4 = key.address().is_ipv4();
        let word = if v4 { record.waypoint_v4 } else { record.waypoint_v6 };
        if word == WaypointWord::NONE {
            self.trail.step("waypoint", "none is named");
            return Ok(Found::Nothing);
        }
        Ok(Found::At(word))
    }

    /// `meets_waypoint`: whether this connection meets the waypoint that is named.
    fn meets_waypoint(&mut self) -> Read<Outcome> {
        let exempt = settings(self.k)?.exempt();
        // a port of 0 is in every list: the unused entries are 0
        if self.to.port() == 0 || exempt.contains(&self.to.port()) {
            self.trail.step("waypoint", format!("port {} meets none (setting)", self.to.port()));
            return Ok(Outcome::Steered);
        }
        if let Some(index) = self.pod.backend()
            && let Some(own) = element::<BackendRecord>(self.k, Map::Backend, index)?
            && own.word.has(BackendWord::WAYPOINT)
        {
            self.trail.step("waypoint", "the pod is a waypoint itself and meets none");
            return Ok(Outcome::WaypointSelf);
        }
        Ok(Outcome::Waypoint)
    }

    /// A waypoint is named and not met.
    fn past_waypoint(&mut self, word: WaypointWord, past: Outcome) -> Read<Outcome> {
        let service =
            self.waypoint_record(word)?.map(|record| said(self.k, &record)).transpose()?;
        self.trail.waypoint = Some(WaypointSaid { service, met: false, metadata: None });
        Ok(past)
    }

    fn waypoint_record(&self, word: WaypointWord) -> Read<Option<ServiceRecord>> {
        word.service().map_or(Ok(None), |index| self.service(index))
    }

    /// `turn_to_waypoint`: the waypoint's record takes the service's place.
    fn turn_to_waypoint(&mut self, word: WaypointWord) -> Read<Lead> {
        let Some(record) = self.waypoint_record(word)? else {
            self.trail.waypoint = Some(WaypointSaid { service: None, met: true, metadata: None });
            return Ok(self.stale("waypoint", "one is named, and its record is not in use"));
        };
        let service = said(self.k, &record)?;
        self.trail.step("waypoint", words(&service));
        let metadata = Some(self.metadata()?);
        self.trail.waypoint = Some(WaypointSaid { service: Some(service), met: true, metadata });
        Ok(self.endpoints_of(record.word, Outcome::Waypoint))
    }

    /// What the waypoint would read first (`prog/metadata.h`).
    fn metadata(&self) -> Read<MetadataSaid> {
        let destination = SocketAddr::new(self.to.ip().to_canonical(), self.to.port());
        if settings(self.k)?.flags() & SettingsWords::PROXY_V2 != 0 {
            return Ok(MetadataSaid { format: "proxy-v2", destination, bytes: None });
        }
        let address = match destination.ip() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let length = if address.len() == 4 { 6 } else { 18 };
        let port = destination.port().to_be_bytes();
        let parts = [&[1, 0, 0, 0, length], address.as_slice(), &port, &[0xfe, 0, 0, 0, 0]];
        let bytes = Some(hex(&parts.concat()));
        Ok(MetadataSaid { format: "tlv", destination, bytes })
    }

    /// What it means to pick from this record: `without_endpoint` where there is none.
    fn endpoints_of(&mut self, word: ServiceWord, outcome: Outcome) -> Lead {
        if word.count() > 0 {
            return Lead::Slots(word, outcome);
        }
        self.trail.step("endpoint", "there is none");
        Lead::Ends(match outcome {
            Outcome::Waypoint => Outcome::RefusedWaypoint,
            _ if word.has(ServiceWord::SYNCED) => Outcome::RefusedEmpty,
            _ => Outcome::Unsynced,
        })
    }

    /// `pick_endpoint`: any slot of the record may be it.
    fn pick(&mut self, word: ServiceWord, outcome: Outcome, retried: u32) -> Read<()> {
        let (socket, dialled) = (self.socket, self.to.ip());
        let picker = Picker { socket, dialled, outcome, retried, tries: TRIES };
        let (endpoints, outcomes) = pick::slots(self.k, word, picker)?;
        let finding = match word.count() {
            1 => "the only one".to_owned(),
            many => format!("one of {many}, each as likely as another"),
        };
        self.trail.step("endpoint", finding);
        let unfit = outcomes.iter().any(|said| said.outcome == Outcome::RefusedFamily);
        let finding =
            if unfit { "not every one can be reached by this socket" } else { "fits the socket" };
        self.trail.step("family", finding);
        (self.trail.endpoints, self.trail.outcomes) = (endpoints, outcomes);
        Ok(())
    }
}

const RECYCLED: &str = "kmesh_frontend has another key's word at this key";
