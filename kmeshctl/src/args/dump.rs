//! What may be said to `dump`.

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter as Live;
use kmesh_bpf::snapshot;

use crate::complete;

/// What `dump` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Services, workloads, policies, pods, settings, counters; limits and fill.
    #[default]
    Maps,
    /// The programs, and whether they run.
    Programs,
    /// The links that keep them attached.
    Links,
    /// The managed pods of this node.
    Pods,
    /// All of it; as JSON or YAML: a complete snapshot.
    All,
}

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For people with wide screens.
    Wide,
    /// For scripts.
    Json,
    /// For both.
    Yaml,
}

impl Format {
    /// As what a snapshot is written; `None`: as tables for people.
    #[must_use]
    pub fn of_snapshot(self) -> Option<snapshot::Format> {
        match self {
            Self::Table | Self::Wide => None,
            Self::Json => Some(snapshot::Format::Json),
            Self::Yaml => Some(snapshot::Format::Yaml),
        }
    }
}

/// `kmeshctl dump`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kmeshctl dump                                   services, workloads, policies, pods, counters
  kmeshctl dump maps kmesh_service map_of_manager only what these maps hold
  kmeshctl dump maps --service shop/cart          a service, its workloads, their pods here
  kmeshctl dump maps --address 10.96.0.10         whose address is this?
  kmeshctl dump maps --policy shop/allow-cart     a policy, its sets, the pods it applies to
  kmeshctl dump pods shop/cart-1                  one pod
  kmeshctl dump programs -o wide                  programs with build, order, map ids
  kmeshctl dump all -o json >node.json            a snapshot for `kmeshctl restore`
  kmeshctl dump maps -o json | jq .counters
  kmeshctl dump maps kmesh_meta --raw             the bytes, whatever the layout

A map is named as its pin: kmesh_service, kmesh_backend, map_of_manager, …; a hook as its
program: connect4, sockops, …; a pod by uid, namespace/name or netns cookie. Filters are
taken together: what is shown has to do with all that they name.")]
pub struct Dump {
    /// What to show.
    #[arg(value_enum, default_value_t)]
    pub what: What,
    /// Only these maps, hooks or pods.
    #[arg(value_name = "NAME", add = Live::new(complete::names))]
    pub names: Vec<String>,
    /// How to write it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Only this service: namespace/host, or namespace/ for all of it.
    #[arg(long, value_name = "NAME", add = Live::new(complete::services))]
    pub service: Option<String>,
    /// Only this workload: its uid, or namespace/name.
    #[arg(long, value_name = "UID", add = Live::new(complete::workloads))]
    pub workload: Option<String>,
    /// Only this pod: its uid, namespace/name, or netns cookie.
    #[arg(long, value_name = "POD", add = Live::new(complete::pods))]
    pub pod: Option<String>,
    /// Only this authorization policy: namespace/name, or namespace/ for all of it; the workloads
    /// and pods that it applies to.
    #[arg(long, value_name = "NAME", add = Live::new(complete::policies))]
    pub policy: Option<String>,
    /// Only what has this address: a VIP, or a workload's.
    #[arg(long, value_name = "IP")]
    pub address: Option<std::net::IpAddr>,
    /// Keys and values in hex, of any layout; all-zero elements of arrays are left out.
    #[arg(long)]
    pub raw: bool,
}
