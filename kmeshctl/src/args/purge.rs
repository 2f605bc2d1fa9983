//! What may be said to `purge`.

use clap::Args;

/// `kmeshctl purge`.
#[derive(Debug, Args)]
#[command(after_help = "\
Connections that are open stay open; new ones are no longer steered. Foreign programs, maps and
pins are left alone. Running it again is fine.

Examples:
  kmeshctl purge --dry-run                        what would go
  kmeshctl purge
  kmeshctl purge --yes --stop-daemon              from a script, with a daemon running")]
pub struct Purge {
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Show what would go, and remove nothing.
    #[arg(long, conflicts_with_all = ["yes", "stop_daemon"])]
    pub dry_run: bool,
    /// End a daemon that is running (SIGTERM), and wait for its end.
    #[arg(long)]
    pub stop_daemon: bool,
}
