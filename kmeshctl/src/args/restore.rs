//! What may be said to `restore`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// A part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What the programs are told.
    Settings,
    /// Services and waypoints.
    Services,
    /// Workloads.
    Workloads,
    /// Managed pods.
    Pods,
}

/// `kmeshctl restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
The snapshot is checked wholly before the first write. On a node where nothing is installed, maps
are made and programs attached first. Pods are enrolled only under the boot they were saved in, and
only where their network namespace is alive. Interrupted anywhere: run it again.

Examples:
  kmeshctl restore node.json --dry-run            what would change
  kmeshctl restore node.json
  kmeshctl restore node.json --only services,workloads
  kmeshd snapshot --mesh mesh.yaml | kmeshctl restore -")]
pub struct Restore {
    /// The snapshot, JSON or YAML; `-` is standard input.
    pub file: PathBuf,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Part>,
}
