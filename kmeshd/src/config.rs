//! What the operator said: flags and their variables → [`Config`]. Parsing touches nothing; what
//! must be looked up on this machine (the cgroup, the host's name) is looked up by
//! [`Args::resolve`].
//!
//! ```text
//!  command line, KMESH_… → Args → resolve → Config → app
//! ```

mod control_plane;
mod limits;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args as _, Parser, Subcommand, ValueEnum};
use kmesh_bpf::cgroup::{self, CgroupError};
use kmesh_bpf::layout::{EXEMPT_PORTS, Limits};
use kmesh_bpf::live::Revoke;
use kmesh_bpf::pins::{DEFAULT_ROOT, Root};
use kmesh_bpf::places::{CONTROL, DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, SOCKET_PATH_MAX};
use kmesh_bpf::want::{MetadataFormat, Settings};

use crate::desired::Here;
use crate::sources::xds;
use control_plane::XdsArgs;
use limits::LimitArgs;

const EXAMPLES: &str = "\
Examples:
  kmeshd --mesh /etc/kmesh/mesh.yaml
      govern this machine by a mesh file; kill it at any time, its rules stay in the kernel
  kmeshd --mesh mesh.yaml --bpf-root /sys/fs/bpf/mine --cgroup /sys/fs/cgroup/test
      the same in a place of one's own
  kmeshd --xds https://istiod.istio-system.svc:15012
      govern it by what Istio's control plane says
  kmeshd snapshot --mesh mesh.yaml | kmeshctl verify --against -
      compare what a mesh file means with what the kernel holds

Every option can also be given by the variable that is named with it.";

/// The Kmesh daemon: brings the pinned eBPF tables into line with a mesh, and keeps them so.
#[derive(Debug, Parser)]
#[command(name = "kmeshd", version, about, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    mesh: MeshArgs,
    #[command(flatten)]
    xds: XdsArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    pod: PodArgs,
}

/// What a pod's template names with the variables that ztunnel's users know; the options come first.
#[expect(clippy::struct_field_names, reason = "told from the options of the same name")]
#[derive(Debug, clap::Args)]
struct PodArgs {
    #[arg(long, env = "NODE_NAME", hide = true, global = true)]
    env_node_name: Option<String>,
    #[arg(long, env = "POD_NAME", hide = true, global = true)]
    env_pod_name: Option<String>,
    #[arg(long, env = "POD_NAMESPACE", hide = true, global = true)]
    env_pod_namespace: Option<String>,
    #[arg(long, env = "SERVICE_ACCOUNT", hide = true, global = true)]
    env_service_account: Option<String>,
    #[arg(long, env = "INSTANCE_IP", hide = true, global = true)]
    env_instance_ip: Option<IpAddr>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write what the mesh file means as a snapshot to standard output, and touch nothing
    Snapshot {
        /// The format
        #[arg(short, long, value_enum, default_value = "json")]
        output: Output,
    },
}

/// How a snapshot is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Indented JSON.
    Json,
    /// YAML.
    Yaml,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The mesh")]
struct MeshArgs {
    /// The mesh file, YAML or JSON; read again when it changes, and at SIGHUP
    #[arg(long, env = "KMESH_MESH", value_name = "FILE", global = true)]
    mesh: Option<PathBuf>,
    /// The mesh file, as ztunnel's users know it
    #[arg(long, env = "LOCAL_XDS_PATH", hide = true, global = true)]
    local_xds_path: Option<PathBuf>,
    /// This node's name, as workloads name it [default: NODE_NAME, else the host's name]
    #[arg(long, env = "KMESH_NODE", value_name = "NAME", global = true)]
    node: Option<String>,
    /// This node's network
    #[arg(long, env = "KMESH_NETWORK", value_name = "NAME", default_value = "", global = true)]
    network: String,
    /// This node's cluster
    #[arg(long, env = "KMESH_CLUSTER_ID", value_name = "NAME", default_value = "Kubernetes")]
    #[arg(global = true)]
    cluster_id: String,
    /// The port that waypoints listen on for connections from Kmesh
    #[arg(long, env = "KMESH_WAYPOINT_PORT", value_name = "PORT", default_value = "15019")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..), global = true)]
    waypoint_port: u16,
    /// How a waypoint is told where a connection was to go
    #[arg(long, env = "KMESH_WAYPOINT_METADATA", value_enum, default_value = "tlv")]
    #[arg(global = true)]
    waypoint_metadata: Metadata,
    /// Ports that no waypoint sees (protocols where the server speaks first); at most 16
    #[arg(long, env = "KMESH_WAYPOINT_EXEMPT_PORTS", value_name = "PORT,…", global = true)]
    #[arg(value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    waypoint_exempt_ports: Vec<u16>,
    /// Let getpeername() answer the address that the application dialled
    #[arg(long, env = "KMESH_PEERNAME", global = true)]
    peername: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Metadata {
    /// Kmesh's own: 16 bytes for IPv4, 28 for IPv6
    Tlv,
    /// PROXY protocol version 2
    ProxyV2,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The machine")]
struct PlaceArgs {
    /// Where maps, programs and links are pinned
    #[arg(long, env = "KMESH_BPF_ROOT", value_name = "DIR", default_value = DEFAULT_ROOT)]
    #[arg(global = true)]
    bpf_root: PathBuf,
    /// The cgroup whose processes are governed [default: the root of cgroup2]
    #[arg(long, env = "KMESH_CGROUP", value_name = "DIR", global = true)]
    cgroup: Option<PathBuf>,
    /// What a reboot needs: the last snapshot
    #[arg(long, env = "KMESH_STATE_DIR", value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    #[arg(global = true)]
    state_dir: PathBuf,
    /// What may be lost: who runs, what was last written, the control socket
    #[arg(long, env = "KMESH_RUN_DIR", value_name = "DIR", default_value = DEFAULT_RUN_DIR)]
    #[arg(global = true)]
    run_dir: PathBuf,
    /// Where /healthz/ready, /healthz/live and /metrics are served
    #[arg(long, env = "KMESH_ADMIN", value_name = "ADDR:PORT", default_value = "127.0.0.1:15200")]
    #[arg(global = true)]
    admin: SocketAddr,
    /// How live connections that policies deny by now are ended
    #[arg(long, env = "KMESH_REVOKE", value_enum, default_value = "destroy", global = true)]
    revoke: RevokeBy,
    /// How the log is written
    #[arg(long, env = "KMESH_LOG_FORMAT", value_enum, default_value = "text", global = true)]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or a filter such as kmeshd=debug
    #[arg(long, env = "KMESH_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    #[arg(global = true)]
    log_level: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RevokeBy {
    /// At once, by SOCK_DESTROY (CONFIG_INET_DIAG_DESTROY): both ends see a reset
    Destroy,
    /// With the client's next packet, by a program at the pod's interfaces while any is to end
    Xdp,
}

impl From<RevokeBy> for Revoke {
    fn from(by: RevokeBy) -> Self {
        match by {
            RevokeBy::Destroy => Self::Destroy,
            RevokeBy::Xdp => Self::Xdp,
        }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the options make no sense together, or on this machine.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Nothing says what the mesh is.
    #[error(
        "no mesh: name its file with --mesh FILE (or KMESH_MESH, or LOCAL_XDS_PATH), or a control \
         plane with --xds URL (or KMESH_XDS)"
    )]
    NoMesh,
    /// An address of a control plane that is none.
    #[error("--xds {url}: write https://HOST:PORT or http://HOST:PORT")]
    Xds {
        /// What was said.
        url: String,
    },
    /// Too many exempt ports.
    #[error("--waypoint-exempt-ports: {count} ports, at most {EXEMPT_PORTS}")]
    ExemptPorts {
        /// How many there are.
        count: usize,
    },
    /// The control socket's path does not fit into a socket's address.
    #[error(
        "the control socket {} would have a path of {} bytes, and a Unix socket's has at most \
         {SOCKET_PATH_MAX}: name a shorter directory with --run-dir",
        path.display(), path.as_os_str().len()
    )]
    SocketPath {
        /// The path.
        path: PathBuf,
    },
    /// There is no cgroup to attach to.
    #[error("find the cgroup to govern")]
    Cgroup(#[source] CgroupError),
}

/// What the daemon needs to know of its place.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where the pins are.
    pub root: Root,
    /// The operator named the root.
    pub own_place: bool,
    /// The cgroup to govern.
    pub cgroup: PathBuf,
    /// Directory of the snapshot.
    pub state_dir: PathBuf,
    /// Directory of what may be lost.
    pub run_dir: PathBuf,
    /// Limits of maps that are made anew.
    pub limits: Limits,
    /// How live connections are ended.
    pub revoke: Revoke,
}

/// What the daemon is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The mesh file, if it is a source.
    pub mesh: Option<PathBuf>,
    /// The control plane, if it is a source. There is at least one.
    pub xds: Option<xds::Options>,
    /// Name servers; none: those of the system.
    pub dns: Vec<SocketAddr>,
    /// Which node this is.
    pub here: Here,
    /// Where everything lies.
    pub place: Place,
    /// Where health and metrics are served.
    pub admin: SocketAddr,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Run the daemon.
    Run(Box<Config>),
    /// Write what the mesh file means.
    Snapshot {
        /// The mesh file.
        mesh: PathBuf,
        /// Which node this is.
        here: Here,
        /// The format.
        output: Output,
    },
}

impl Args {
    /// How the log is to be written: format and filter.
    #[must_use]
    pub fn log(&self) -> (LogFormat, &str) {
        (self.place.log_format, &self.place.log_level)
    }

    /// What is to be done.
    pub fn resolve(self) -> Result<Action, ConfigError> {
        let mesh = &self.mesh;
        let file = mesh.mesh.clone().or_else(|| mesh.local_xds_path.clone());
        let here = self.mesh.here(&self.pod)?;
        if let Some(Verb::Snapshot { output }) = self.verb {
            let mesh = file.ok_or(ConfigError::NoMesh)?;
            return Ok(Action::Snapshot { mesh, here, output });
        }
        let xds = self.xds.resolve(&here, &self.pod)?;
        if file.is_none() && xds.is_none() {
            return Err(ConfigError::NoMesh);
        }
        let socket = self.place.run_dir.join(CONTROL);
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(ConfigError::SocketPath { path: socket });
        }
        let cgroup = match self.place.cgroup {
            Some(cgroup) => cgroup,
            None => cgroup::find_root().map_err(ConfigError::Cgroup)?,
        };
        let place = Place {
            own_place: self.place.bpf_root != *DEFAULT_ROOT,
            root: Root::new(self.place.bpf_root),
            cgroup,
            state_dir: self.place.state_dir,
            run_dir: self.place.run_dir,
            limits: self.limits.resolve(),
            revoke: self.place.revoke.into(),
        };
        let (admin, dns) = (self.place.admin, self.xds.dns_server);
        Ok(Action::Run(Box::new(Config { mesh: file, xds, dns, here, place, admin })))
    }
}

impl MeshArgs {
    fn here(&self, pod: &PodArgs) -> Result<Here, ConfigError> {
        let mut exempt_ports = self.waypoint_exempt_ports.clone();
        exempt_ports.sort_unstable();
        exempt_ports.dedup();
        if exempt_ports.len() > EXEMPT_PORTS {
            return Err(ConfigError::ExemptPorts { count: exempt_ports.len() });
        }
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Here {
            node: self
                .node
                .clone()
                .or_else(|| pod.env_node_name.clone())
                .unwrap_or_else(host)
                .into(),
            network: self.network.as_str().into(),
            cluster: self.cluster_id.as_str().into(),
            waypoint_port: self.waypoint_port,
            settings: Settings {
                metadata: match self.waypoint_metadata {
                    Metadata::Tlv => MetadataFormat::Tlv,
                    Metadata::ProxyV2 => MetadataFormat::ProxyV2,
                },
                peername: self.peername,
                exempt_ports,
            },
        })
    }
}

/// Every variable that stands for an option, for the documentation and its test.
#[must_use]
pub fn variables() -> Vec<(String, String)> {
    let command = Args::augment_args(clap::Command::new("kmeshd"));
    let pairs = command.get_arguments().filter_map(|arg| {
        let env = arg.get_env()?.to_string_lossy().into_owned();
        Some((arg.get_long()?.to_owned(), env))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests;
