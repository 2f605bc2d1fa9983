//! Denials: what the pods' programs tell of connections that they kept out, and what that means
//! by name.
//!
//! ```text
//!  prog/authz.h ─→ kmesh_denials (ring, 64 KiB) ─→ Ring ─→ Namer ─→ Denial
//! ```
//!
//! The ring keeps its oldest elements: while nobody reads, it fills, and what finds no room is
//! counted (`auth_lost`). Reading takes an element out, so one process reads: the daemon. Nothing
//! here slows a connection down or decides anything.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use aya::maps::{MapData, MapError, RingBuf};
use hashbrown::HashMap;

use crate::authz::{Connection, Known, LiveSet, Policy, Reason, judge};
use crate::kernel::{Kernel, KernelError};
use crate::layout::{AuthSetRecord, COUNTERS, DenialRecord, Map};
use crate::pins::Root;
use crate::pods::{self, PodsError};

/// Why denials cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum DenialsError {
    /// The ring could not be opened.
    #[error("open the ring of denials {}", path.display())]
    Open {
        /// Its pin.
        path: PathBuf,
        /// Why.
        source: MapError,
    },
    /// The tables did not say who somebody is.
    #[error("find the names of a denied connection")]
    Kernel(#[source] KernelError),
    /// The pods' directory did not say which pod it is.
    #[error("find the pod of a denied connection")]
    Pods(#[source] PodsError),
}

/// The ring, for its one reader.
pub struct Ring(RingBuf<MapData>);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// The ring that is pinned in this root, which was adopted before.
    pub fn open(root: &Root) -> Result<Self, DenialsError> {
        let path = root.map(Map::Denials);
        let open = || RingBuf::try_from(aya::maps::Map::RingBuf(MapData::from_pin(&path)?));
        match open() {
            Ok(ring) => Ok(Self(ring)),
            Err(source) => Err(DenialsError::Open { path, source }),
        }
    }

    /// Takes the oldest one out.
    pub fn take(&mut self) -> Option<DenialRecord> {
        loop {
            let item = self.0.next()?;
            // Of another size: another layout's, told by nobody of this one.
            if let Ok(record) = bytemuck::try_pod_read_unaligned(&item) {
                return Some(record);
            }
        }
    }
}

/// The names of outcomes that are told, as `reason`, with what they mean.
const REASONS: [(&str, &str, &str); 5] = [
    ("auth_denied", "denied", "the policies deny it"),
    ("auth_wait", "wait", "the pod waits: its policies are not in the tables yet"),
    ("auth_unclassified", "unclassified", "the source's identity is not in the set's tables"),
    ("auth_stale", "stale", "the tables do not fit together; see kmeshctl verify"),
    ("auth_dry_run", "dry_run", "let in; dry-run policies would decide otherwise"),
];

/// Every reason of a connection that was kept out: its word, and the counter that moves.
pub fn reasons() -> impl Iterator<Item = (&'static str, &'static str)> {
    let denied = REASONS.iter().filter(|(counter, ..)| *counter != "auth_dry_run");
    denied.map(|(counter, reason, _)| (*reason, *counter))
}

/// A connection that was kept out, or would be, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The netns cookie of the pod.
    pub cookie: u64,
    /// Its uid, where it is still enrolled.
    pub pod: Option<String>,
    /// Where the connection came from.
    pub source: SocketAddr,
    /// The workload that has this address now.
    pub workload: Option<String>,
    /// The identity by which it was judged; `None`: it had none, or it is another's by now.
    pub identity: Option<String>,
    /// What was dialled.
    pub destination: SocketAddr,
    /// `denied`, `wait`, `unclassified`, `stale`, `dry_run`.
    pub reason: &'static str,
    /// What that means.
    pub meaning: &'static str,
    /// The policy set.
    pub set: u16,
    /// What of the set decided, as its policies say it now; `None` where they no longer say so.
    pub by: Option<String>,
    /// How long ago it was (`CLOCK_MONOTONIC`).
    pub ago: Duration,
}

/// Finds names; remembers the policies of sets.
#[derive(Debug, Default)]
pub struct Namer {
    sets: HashMap<u16, (AuthSetRecord, Vec<Policy>)>,
}

/// So many sets are remembered.
const SETS: usize = 64;

impl Namer {
    /// What a record means. The maps were opened before.
    pub fn name(
        &mut self,
        k: &dyn Kernel,
        root: &Root,
        record: &DenialRecord,
    ) -> Result<Denial, DenialsError> {
        let ip = |octets: [u8; 16]| Ipv6Addr::from(octets).to_canonical();
        let source = SocketAddr::new(ip(record.source), u16::from_be_bytes(record.source_port));
        let destination = SocketAddr::new(ip(record.destination), record.port);
        let known = Known::at(k, source.ip()).map_err(DenialsError::Kernel)?;
        let counter = COUNTERS.iter().find(|counter| counter.index == u32::from(record.why));
        let reason =
            counter.and_then(|counter| REASONS.iter().find(|(name, ..)| *name == counter.name));
        let (_, reason, meaning) =
            reason.copied().unwrap_or(("", "unknown", "told by another build"));
        let judged = known.as_ref().filter(|known| known.who == record.who);
        let by = match reason {
            "denied" | "dry_run" if record.who == 0 || judged.is_some() => {
                let identity = judged.and_then(|known| known.identity.as_ref());
                let (source, destination) = (source.ip(), destination.ip());
                let connection = Connection { source, identity, destination, port: record.port };
                self.by(k, record.set, &connection, reason == "dry_run")?
            }
            _ => None,
        };
        let pod = pods::one(k, root, record.cookie).map_err(DenialsError::Pods)?.uid;
        let identity = judged.and_then(|known| known.identity.as_ref()).map(ToString::to_string);
        Ok(Denial {
            cookie: record.cookie,
            pod,
            source,
            workload: known.map(|known| known.uid),
            identity,
            destination,
            reason,
            meaning,
            set: record.set,
            by,
            ago: since_boot().saturating_sub(Duration::from_nanos(record.time)),
        })
    }

    /// What of a set denies a connection.
    fn by(
        &mut self,
        k: &dyn Kernel,
        number: u16,
        connection: &Connection<'_>,
        dry_run: bool,
    ) -> Result<Option<String>, DenialsError> {
        let Some(set) = LiveSet::at(k, number).map_err(DenialsError::Kernel)? else {
            return Ok(None);
        };
        if self.sets.get(&number).is_none_or(|(record, _)| *record != set.record) {
            let live = set.policies(k).map_err(DenialsError::Kernel)?;
            if !live.unreadable.is_empty() {
                return Ok(None);
            }
            if self.sets.len() >= SETS {
                self.sets.clear();
            }
            self.sets.insert(number, (set.record, live.policies));
        }
        let policies = self.sets.get(&number).map_or(&[][..], |(_, policies)| policies);
        let verdict = judge(policies, connection);
        Ok(match if dry_run { &verdict.dry_run } else { &verdict.reason } {
            Reason::Denied(hit) => Some(format!("policy {}", hit.policy.name)),
            Reason::NoneAllows => Some(none_allows(policies, dry_run)),
            Reason::Allowed(_) | Reason::NoneApplies => None,
        })
    }
}

/// "no ALLOW policy matches (ns/a, ns/b and 3 more)"
fn none_allows(policies: &[Policy], dry_run: bool) -> String {
    const NAMED: usize = 3;
    let allow = |policy: &&Policy| {
        policy.action == crate::authz::Action::Allow && (dry_run || !policy.dry_run)
    };
    let names: Vec<&str> = policies.iter().filter(allow).map(|policy| &*policy.name).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = &names[..names.len().min(NAMED)];
    format!("no ALLOW policy matches ({}{more})", shown.join(", "))
}

/// `CLOCK_MONOTONIC`, as the programs read it.
fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// The index of `auth_lost`: denials that found no room.
#[must_use]
pub fn lost_counter() -> u32 {
    let lost = COUNTERS.iter().find(|counter| counter.name == "auth_lost");
    lost.map_or(0, |counter| counter.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_counter() {
        for (counter, ..) in REASONS {
            assert!(COUNTERS.iter().any(|known| known.name == counter), "{counter}");
        }
        assert_eq!(COUNTERS[lost_counter() as usize].name, "auth_lost");
        assert_eq!(reasons().count(), 4, "dry run keeps nobody out");
    }
}
