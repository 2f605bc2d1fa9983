//! What the daemon and `kmeshctl` say to each other at the control socket: paths, and the form of
//! `GET /status`. Both sides stand on this; neither imports the other.
//!
//! A reader takes fields that it does not know; a field that changes its meaning raises
//! [`STATUS_SCHEMA`].

use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::process_start_of;
use crate::places::DAEMON;

/// The schema of [`DaemonStatus`].
pub const STATUS_SCHEMA: u32 = 1;
/// `GET`: [`DaemonStatus`] as JSON.
pub const STATUS: &str = "/status";
/// `GET`: what the daemon wants the tables to say, as a snapshot without pods.
pub const SNAPSHOT: &str = "/snapshot";
/// `POST`, with `?ms=N`: no writes for so long.
pub const HOLD: &str = "/hold";

/// What the daemon says of itself. Ages are in seconds, as of the answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DaemonStatus {
    /// [`STATUS_SCHEMA`] of who wrote it.
    pub schema_version: u32,
    /// Process id, as the daemon sees it.
    pub pid: u32,
    /// When it started, in seconds since boot (`CLOCK_BOOTTIME`).
    pub started_at_seconds: u64,
    /// How long it runs.
    pub uptime_seconds: u64,
    /// The node's name.
    pub node: String,
    /// Its version.
    pub version: String,
    /// Whether it is ready.
    pub ready: bool,
    /// What it waits for: "name: why".
    pub pending: Vec<String>,
    /// Where its model comes from.
    pub sources: Vec<SourceStatus>,
    /// Services that the sources name.
    pub services: u64,
    /// Workloads that the sources name.
    pub workloads: u64,
    /// Authorization policies that the sources name.
    #[serde(default)]
    pub policies: u64,
    /// Those that could not be brought in force as they are written, and why; what was in force
    /// of them stays.
    #[serde(default)]
    pub policies_refused: Vec<String>,
    /// Waypoints that are named and not known.
    #[serde(default)]
    pub waypoints_awaited: Vec<WaypointAwaited>,
    /// Pods whose connections are governed.
    pub pods_managed: u64,
    /// Pods that are enrolled and pass.
    pub pods_bypassed: u64,
    /// Pods that wait for their network namespace: why, by uid.
    pub pods_waiting: Vec<String>,
    /// What the writer did.
    pub writer: WriterStatus,
    /// Connections that were kept out of pods.
    #[serde(default)]
    pub denials: DenialsStatus,
}

/// A waypoint that is not known, and who names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaypointAwaited {
    /// Its name.
    pub waypoint: String,
    /// Objects that name it and stay as they were.
    pub staying: u64,
    /// The others: they go to its last endpoints, or are refused where it has none.
    pub others: u64,
    /// Its last endpoints.
    pub endpoints: u64,
    /// The first objects: "service NAME", "workload UID".
    pub objects: Vec<String>,
    /// All of it in words.
    pub said: String,
}

/// Connections that were kept out of pods, since the tables were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DenialsStatus {
    /// All of them, as the programs count.
    pub denied: u64,
    /// Those that found no room in the ring, and were not told.
    pub lost: u64,
    /// Those that this daemon logged one by one.
    pub logged: u64,
    /// Those that came too fast to be logged one by one.
    pub suppressed: u64,
    /// The last ones that were logged, oldest first.
    pub recent: Vec<DenialSaid>,
}

/// A connection that was kept out of a pod, or would be by dry-run policies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DenialSaid {
    /// When it was.
    pub seconds_ago: u64,
    /// The pod's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Its netns cookie.
    pub cookie: u64,
    /// Address and port that it came from.
    pub source: String,
    /// The workload with that address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Address and port that were dialled.
    pub destination: String,
    /// `denied`, `wait`, `unclassified`, `stale`, `dry_run`.
    pub reason: String,
    /// What decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A source of the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// "mesh file" or "control plane".
    pub kind: String,
    /// The file's path; the control plane's address.
    pub name: String,
    /// It has given a complete answer.
    pub complete: bool,
    /// When it last answered something that could be used.
    pub taken_seconds_ago: Option<u64>,
    /// Why its last answer was refused; the one before is in force.
    pub refused: Option<String>,
    /// What there is to say of a control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_plane: Option<ControlPlaneStatus>,
}

/// How a control plane does, as a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlaneStatus {
    /// For how long it is connected; nothing while it is not.
    pub connected_seconds: Option<u64>,
    /// Connections that came about since the daemon's start.
    pub connections: u64,
    /// Responses since then.
    pub responses: u64,
    /// Those of them of which something was refused.
    #[serde(default)]
    pub nacks: u64,
    /// The version of all that it knows, as its last response calls it.
    #[serde(default)]
    pub version: String,
    /// Workloads that it names.
    pub workloads: u64,
    /// Services that it names.
    pub services: u64,
    /// Policies that it names.
    pub policies: u64,
    /// Resources that are refused now.
    pub rejected: u64,
    /// The first of them.
    pub rejected_resources: Vec<Rejected>,
    /// What of its answer is held back, and why.
    pub held_back: Option<String>,
}

/// A resource of the control plane that is refused; what was in force of it stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
    /// For how long it is refused.
    pub seconds: u64,
}

/// What the writer did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriterStatus {
    /// Of `kmesh_meta`.
    pub generation: u64,
    /// When the tables last came to say all that the sources say.
    pub last_sync_seconds_ago: Option<u64>,
    /// When it last wrote something.
    pub last_write_seconds_ago: Option<u64>,
    /// Map elements that it wrote then.
    pub last_write_elements: u64,
    /// Changes that did not take hold.
    pub errors: u64,
    /// Why the last change did not, while it is the last.
    pub failing: Option<String>,
    /// Writes are held back for a reader.
    pub held: bool,
}

/// Who the daemon is: `kmeshd.json` in the run directory. Removed at a clean end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonNote {
    /// Process id.
    pub pid: u32,
    /// Its start, in clock ticks since boot: with the pid, what names it for ever.
    pub start: u64,
    /// Where health and metrics are served.
    pub admin: SocketAddr,
    /// Its version.
    pub version: String,
}

impl DaemonNote {
    /// The note in this run directory, if there is one.
    #[must_use]
    pub fn read(run_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(run_dir.join(DAEMON)).ok()?).ok()
    }

    /// Whether that process still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        process_start_of(self.pid) == Some(self.start)
    }
}
