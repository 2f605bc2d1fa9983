//! What explain says: the fields of its JSON, documented in docs/explain.md. A change of their
//! meaning raises [`SCHEMA_VERSION`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Serialize;

use super::outcome::{Admission, Outcome, Verdict};
use crate::want::{Family, Kind, Mode};

/// The version of the JSON.
pub const SCHEMA_VERSION: u32 = 1;

/// What the kernel would do with a connection now.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Who connects.
    pub from: Source,
    /// The address and port that are dialled.
    pub to: SocketAddr,
    /// The socket that dials.
    pub socket: Socket,
    /// The hooks that this connection meets.
    pub hooks: Vec<HookSaid>,
    /// The generation of the tables that was read.
    pub generation: u64,
    /// Nothing was written while they were read.
    pub consistent: bool,
    /// What was found on the way.
    #[serde(flatten)]
    pub trail: Trail,
    /// What the pods of this node that it may reach say to it.
    pub inbound: Vec<InboundSaid>,
    /// What becomes of the connection.
    pub verdict: Verdict,
}

/// Who connects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// As the question named it.
    pub given: String,
    /// The cookie of the network namespace; absent where none is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
    /// The workload's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The path of the network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
}

/// The transport protocol of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Steered.
    #[default]
    Tcp,
    /// Passes.
    Udp,
}

/// The socket that dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Socket {
    /// The family that it was made with: an IPv6 socket dials IPv4 addresses as v4-mapped.
    pub family: Family,
    /// Its protocol.
    pub protocol: Protocol,
    /// `IPV6_V6ONLY` is set.
    pub v6_only: bool,
    /// The address that it is bound to before it dials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<IpAddr>,
}

/// A hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookSaid {
    /// Its name.
    pub hook: &'static str,
    /// Kmesh's program runs there, on the pinned maps.
    pub effective: bool,
    /// The names of all programs that run there, in order.
    pub order: Vec<String>,
}

/// What was found on the way.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trail {
    /// Each decision, in the order in which the programs take them.
    pub steps: Vec<Step>,
    /// The service that was dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSaid>,
    /// The workload whose own address was dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The waypoint that is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waypoint: Option<WaypointSaid>,
    /// What may be chosen: of the waypoint, where it is met.
    pub endpoints: Vec<EndpointSaid>,
    /// Every way that it may end, with its probability.
    pub outcomes: Vec<OutcomeSaid>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `hook`, `pod`, `protocol`, `bypass`, `frontend`, `workload`, `service`, `waypoint`,
    /// `endpoint`, `family` or `inbound`; readers pass over others.
    pub step: &'static str,
    /// What was found, in words.
    pub finding: String,
}

/// A service record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSaid {
    /// `namespace/hostname`; of a waypoint named by address: `network/ip`.
    pub name: String,
    /// Service port.
    pub port: u16,
    /// The family of its VIPs.
    pub family: Family,
    /// Service or waypoint.
    pub kind: Kind,
    /// Locality mode.
    pub mode: Mode,
    /// Having no endpoint means refuse.
    pub synced: bool,
    /// Slots in use.
    pub endpoints: u32,
}

/// A waypoint, and whether it is met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WaypointSaid {
    /// Its record; absent where the word leads to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSaid>,
    /// Connections go there.
    pub met: bool,
    /// What the first bytes would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<MetadataSaid>,
}

/// What a waypoint reads first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetadataSaid {
    /// `tlv` or `proxy-v2`.
    pub format: &'static str,
    /// The original destination that they carry.
    pub destination: SocketAddr,
    /// The bytes in hex, where they do not depend on the socket's own port (`tlv`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// A slot that may be chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSaid {
    /// The workload's uid; absent where the slot leads to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Where the connection would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<SocketAddr>,
    /// The probability that it is the one; slots that are stale are looked up again.
    pub chance: f64,
    /// What choosing it means.
    pub outcome: Outcome,
}

/// What a pod says to a connection that comes in.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InboundSaid {
    /// Its uid.
    pub pod: String,
    /// Its netns cookie.
    pub cookie: u64,
    /// Where the connection comes in.
    pub target: SocketAddr,
    /// The address that it comes from; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The workload with that address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Its identity; absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The policy set that the pod's word says.
    pub set: u16,
    /// The policies that the set stands for, by name.
    pub policies: Vec<String>,
    /// What becomes of it.
    pub admission: Admission,
    /// The counter of `kmesh_stats` that moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counter: Option<&'static str>,
    /// Why, in words.
    pub why: String,
    /// What decided, where one policy did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<BySaid>,
    /// What dry-run policies would change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRunSaid>,
}

impl InboundSaid {
    /// On one line.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { pod, admission, why, .. } = self;
        format!("{pod} {}: {why}", admission.verb())
    }
}

/// What of a policy matched; all are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BySaid {
    /// `namespace/name`.
    pub policy: String,
    /// Which of its groups.
    pub group: usize,
    /// Of each rule of the group the match that held; null for a rule without matches.
    pub matches: Vec<Option<usize>>,
}

/// What would be if dry-run policies were in force, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DryRunSaid {
    /// Whether it would be let in.
    pub lets_in: bool,
    /// What would decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<BySaid>,
    /// Why, in words.
    pub why: String,
}

/// A way that it may end.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeSaid {
    /// Which.
    pub outcome: Outcome,
    /// What becomes of the connection.
    pub verdict: Verdict,
    /// The counter of `kmesh_stats` that moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counter: Option<&'static str>,
    /// How often `retried` moves before, where that is certain.
    pub retried: u32,
    /// Its probability.
    pub chance: f64,
    /// Why, in words.
    pub why: &'static str,
}

impl OutcomeSaid {
    /// An outcome of this probability.
    #[must_use]
    pub(super) fn new(outcome: Outcome, chance: f64, retried: u32) -> Self {
        let (verdict, counter, why) = (outcome.verdict(), outcome.counter(), outcome.why());
        Self { outcome, verdict, counter, retried, chance, why }
    }
}

impl Trail {
    /// What the outcomes come to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.outcomes.as_slice() {
            [] => Verdict::Passes,
            [first, rest @ ..] if rest.iter().all(|other| other.verdict == first.verdict) => {
                first.verdict
            }
            _ => Verdict::Varies,
        }
    }

    /// Notes a decision.
    pub(super) fn step(&mut self, step: &'static str, finding: impl Into<String>) {
        self.steps.push(Step { step, finding: finding.into() });
    }
}
