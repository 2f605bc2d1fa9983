//! The control socket, `kmeshd.sock` in the run directory: what only root on this machine may ask.
//! `POST /hold?ms=N` lets the tables stand still for a moment, for a reader that met a moving
//! generation; `ms=0` lets them go again. `GET /status` says how the daemon is, `GET /snapshot`
//! what it wants the tables to say.
//!
//! It refuses everything else with 404. A socket that a dead daemon left is replaced in one step;
//! its own is removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use kmesh_bpf::control::{
    self, ControlPlaneStatus, DaemonStatus, DenialSaid, DenialsStatus, Rejected, STATUS_SCHEMA,
    SourceStatus, WaypointAwaited, WriterStatus,
};
use kmesh_bpf::places::CONTROL;
use kmesh_bpf::{clock, denials};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use crate::admin::Admin;
use crate::config::Config;
use crate::desired::Awaited;
use crate::http::{Answer, Door, say, say_json, stream_json};
use crate::reconcile::Order;
use crate::status::{Facts, XdsFacts};

/// The longest that writes are held, and how long unless the request says.
const HOLD: Duration = Duration::from_secs(2);

/// How long the writer may take to say what the tables shall say.
const SNAPSHOT_WITHIN: Duration = Duration::from_mins(1);
/// The kind of source that a mesh file is.
pub(crate) const MESH_FILE: &str = "mesh file";

/// The kind of source that a control plane is.
pub(crate) const CONTROL_PLANE: &str = "control plane";
/// So many refused resources are named.
const REFUSED: usize = 20;

/// What the control socket answers with.
#[derive(Clone, Debug)]
pub struct Control {
    admin: Admin,
    node: Arc<str>,
    mesh: Option<Arc<Path>>,
    xds: Vec<String>,
    /// Since the machine's boot.
    started: Duration,
}

impl Door for Control {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let get = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            control::STATUS if get => self.status().await,
            control::SNAPSHOT if get => self.snapshot().await,
            control::HOLD if request.method() == Method::POST => {
                self.hold(request.uri().query()).await
            }
            _ => say(
                StatusCode::NOT_FOUND,
                "here: GET /status, GET /snapshot, POST /hold?ms=N\n".to_owned(),
            ),
        }
    }
}

impl Control {
    /// What `config` says of this daemon, and what `admin` knows of it.
    #[must_use]
    pub fn new(admin: Admin, config: &Config) -> Self {
        Self {
            admin,
            node: config.here.node.clone(),
            mesh: config.mesh.as_deref().map(Into::into),
            xds: config.xds.iter().flat_map(|xds| xds.addresses.clone()).collect(),
            started: clock::since_boot(),
        }
    }

    async fn status(&self) -> Answer {
        self.admin.observe().await;
        let facts = self.admin.status.facts().clone();
        match serde_json::to_string_pretty(&self.describe(&facts)) {
            Ok(text) => say_json(text + "\n"),
            Err(error) => say(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    fn describe(&self, facts: &Facts) -> DaemonStatus {
        let pending = self.admin.readiness.pending();
        let ago = |at: Instant| at.elapsed().as_secs();
        let file = self.mesh.as_ref().map(|mesh| SourceStatus {
            kind: MESH_FILE.to_owned(),
            name: mesh.display().to_string(),
            complete: facts.taken_at.is_some(),
            taken_seconds_ago: facts.taken_at.map(ago),
            refused: facts.refused.clone(),
            control_plane: None,
        });
        let sources = file.into_iter().chain(self.control_plane(&facts.xds)).collect();
        let writer = WriterStatus {
            generation: facts.generation,
            last_sync_seconds_ago: facts.last_sync.map(ago),
            last_write_seconds_ago: facts.last_write.map(|(at, _)| ago(at)),
            last_write_elements: facts.last_write.map(|(_, elements)| elements).unwrap_or_default(),
            errors: facts.apply_errors,
            failing: facts.failing.clone(),
            held: facts.held.is_some_and(|until| Instant::now() < until),
        };
        DaemonStatus {
            schema_version: STATUS_SCHEMA,
            pid: std::process::id(),
            started_at_seconds: self.started.as_secs(),
            uptime_seconds: clock::since_boot().saturating_sub(self.started).as_secs(),
            node: self.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: pending.is_empty(),
            pending,
            sources,
            services: facts.model.0 as u64,
            workloads: facts.model.1 as u64,
            policies: facts.policies as u64,
            policies_refused: facts.policies_refused.clone(),
            waypoints_awaited: facts.oddities.waypoints.iter().map(awaited).collect(),
            pods_managed: facts.pods_managed as u64,
            pods_bypassed: facts.pods_bypassed as u64,
            pods_waiting: facts.pods_waiting.clone(),
            writer,
            denials: denials(facts),
        }
    }

    fn control_plane(&self, facts: &XdsFacts) -> Option<SourceStatus> {
        let first = self.xds.first()?;
        let ago = |at: Instant| at.elapsed().as_secs();
        let wrong = facts.trouble.clone().or_else(|| facts.held_back.clone());
        let rejected = |(name, reason, since): &(String, String, Instant)| Rejected {
            name: name.clone(),
            reason: reason.clone(),
            seconds: ago(*since),
        };
        let refused = facts.refused.iter().take(REFUSED);
        Some(SourceStatus {
            kind: CONTROL_PLANE.to_owned(),
            name: facts.address.clone().unwrap_or_else(|| first.clone()),
            complete: facts.complete,
            taken_seconds_ago: facts.last_response.map(ago),
            refused: wrong,
            control_plane: Some(ControlPlaneStatus {
                connected_seconds: facts.connected_at.map(ago),
                connections: facts.connects,
                responses: facts.responses,
                nacks: facts.nacks,
                version: facts.version.clone(),
                workloads: facts.workloads as u64,
                services: facts.services as u64,
                policies: facts.policies as u64,
                rejected: facts.refused.len() as u64,
                rejected_resources: refused.map(rejected).collect(),
                held_back: facts.held_back.clone(),
            }),
        })
    }

    async fn snapshot(&self) -> Answer {
        let (done, wanted) = oneshot::channel();
        let asked = self.admin.orders.send(Order::Snapshot(done)).is_ok();
        let busy = || say(StatusCode::SERVICE_UNAVAILABLE, "the writer is busy\n".to_owned());
        if !asked {
            return busy();
        }
        match tokio::time::timeout(SNAPSHOT_WITHIN, wanted).await {
            Ok(Ok(Some(snapshot))) => stream_json(move |out| snapshot.write_json(out)),
            Ok(Ok(None)) => {
                let said = "the source has not yet given a complete answer\n";
                say(StatusCode::SERVICE_UNAVAILABLE, said.to_owned())
            }
            _ => busy(),
        }
    }

    async fn hold(&self, query: Option<&str>) -> Answer {
        let asked = query.and_then(|query| query.strip_prefix("ms="));
        let time = match asked.map(str::parse) {
            None => HOLD,
            Some(Ok(ms)) => Duration::from_millis(ms).min(HOLD),
            Some(Err(_)) => {
                return say(StatusCode::BAD_REQUEST, "ms=N, a number of milliseconds\n".to_owned());
            }
        };
        let (done, held) = oneshot::channel();
        let asked = self.admin.orders.send(Order::Hold(time, done)).is_ok();
        if asked && matches!(tokio::time::timeout(HOLD, held).await, Ok(Ok(()))) {
            say(StatusCode::OK, "held\n".to_owned())
        } else {
            say(StatusCode::SERVICE_UNAVAILABLE, "the writer is busy\n".to_owned())
        }
    }
}

fn awaited(one: &Awaited) -> WaypointAwaited {
    WaypointAwaited {
        waypoint: one.waypoint.to_string(),
        staying: one.staying as u64,
        others: one.others as u64,
        endpoints: one.endpoints as u64,
        objects: one.objects.iter().cloned().collect(),
        said: one.to_string(),
    }
}

/// Denials: what the kernel counted, and what was told.
fn denials(facts: &Facts) -> DenialsStatus {
    let recent = facts.denials.recent.iter();
    DenialsStatus {
        denied: denials::reasons().map(|(_, counter)| facts.counter(counter)).sum(),
        lost: facts.counter("auth_lost"),
        logged: facts.denials.logged,
        suppressed: facts.denials.suppressed,
        recent: recent
            .map(|(at, said)| DenialSaid { seconds_ago: at.elapsed().as_secs(), ..said.clone() })
            .collect(),
    }
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
#[error("{op} the control socket {}", path.display())]
pub struct SocketError {
    op: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The socket at its place; removed by drop, unless another one stands there by then.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    inode: u64,
}

/// Takes the place of the control socket in `run_dir`: made aside, for root alone, then renamed,
/// so that nobody ever finds it missing or open to others.
pub fn listen(run_dir: &Path) -> Result<(UnixListener, Socket), SocketError> {
    let path = run_dir.join(CONTROL);
    let on = |op| {
        let path = path.clone();
        move |source| SocketError { op, path, source }
    };
    fs::create_dir_all(run_dir).map_err(on("make the directory of"))?;
    // By the directory's descriptor: the name aside is longer than the path that clients use.
    let dir = fs::File::open(run_dir).map_err(on("open the directory of"))?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&dir);
    let aside = PathBuf::from(format!("/proc/self/fd/{fd}/.{CONTROL}.{}", std::process::id()));
    // Left by a process of the same id that died between two steps.
    let _ = fs::remove_file(&aside);
    let listener = UnixListener::bind(&aside).map_err(on("make"))?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))
        .map_err(on("close to others"))?;
    fs::rename(&aside, &path).map_err(on("put in place"))?;
    let inode = fs::symlink_metadata(&path).map_err(on("look at"))?.ino();
    Ok((listener, Socket { path, inode }))
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|said| said.ino() == self.inode);
        if ours {
            // Gone already: what was wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_left_by_a_dead_daemon_is_replaced_and_ones_own_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = dir.path().join("run");
        let (first, left) = listen(&run).expect("a socket");
        let path = run.join(CONTROL);
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(first);
        let (_second, own) = listen(&run).expect("a socket in its place");
        drop(left);
        assert!(path.exists(), "the first one's end takes nothing from the second");
        std::os::unix::net::UnixStream::connect(&path).expect("somebody listens");
        drop(own);
        assert_eq!(fs::read_dir(&run).expect("a directory").count(), 0);
    }
}
