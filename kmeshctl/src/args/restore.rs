//! What may be said to `restore`.

use std::path::PathBuf;

use clap::Args;
use kmesh_bpf::snapshot::Only;

use super::FindingsFormat;

/// `kmeshctl restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
The snapshot is checked wholly before the first write. On a node where nothing is installed, maps
are made and programs attached first. Pods are enrolled only under the boot they were saved in, and
only where their network namespace is alive; those left out are listed. Interrupted anywhere: run
it again.

Exit status: 0 restored, and verified (with --dry-run: shown); 1 restored, but verify found
something; 2 refused or failed: what was in force stays in force.

Examples:
  kmeshctl restore node.json --dry-run            what would be added, changed, removed
  kmeshctl restore node.json
  kmeshctl restore node.json --only services,workloads
  kmeshctl restore node.json --only service=default/web.default.svc.cluster.local
  kmeshd snapshot --mesh mesh.yaml | kmeshctl restore -")]
pub struct Restore {
    /// The snapshot, JSON or YAML; `-` is standard input.
    pub file: PathBuf,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How --dry-run is shown.
    #[arg(short, long, value_enum, default_value_t, requires = "dry_run")]
    pub output: FindingsFormat,
    /// Only these parts: settings, services, workloads, pods, service=NAME, workload=UID.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Only>,
    /// Also a snapshot of another node.
    #[arg(long)]
    pub any_node: bool,
}
