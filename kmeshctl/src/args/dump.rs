//! What may be said to `dump`.

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter as Live;

use crate::complete;

/// What `dump` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Services, workloads, pods, settings, counters; limits and fill.
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

/// `kmeshctl dump`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kmeshctl dump                                   services, workloads, pods, counters, limits
  kmeshctl dump maps kmesh_service map_of_manager only what these maps hold
  kmeshctl dump maps --service shop/cart          one service
  kmeshctl dump programs -o wide                  programs with build, order, map ids
  kmeshctl dump all -o json >node.json            a snapshot for `kmeshctl restore`
  kmeshctl dump maps -o json | jq .counters

A map is named as its pin: kmesh_service, kmesh_backend, map_of_manager, …; a hook as its
program: connect4, sockops, …")]
pub struct Dump {
    /// What to show.
    #[arg(value_enum, default_value_t)]
    pub what: What,
    /// Only these maps or hooks.
    #[arg(value_name = "NAME", add = Live::new(complete::names))]
    pub names: Vec<String>,
    /// How to write it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Only services whose name has this text.
    #[arg(long, value_name = "TEXT", add = Live::new(complete::services))]
    pub service: Option<String>,
    /// Only workloads whose uid has this text.
    #[arg(long, value_name = "TEXT", add = Live::new(complete::workloads))]
    pub workload: Option<String>,
    /// Only what has this address.
    #[arg(long, value_name = "IP")]
    pub address: Option<std::net::IpAddr>,
    /// Write the time into the snapshot (then two dumps of the same state differ).
    #[arg(long)]
    pub stamp: bool,
}
