//! What may be said to `purge`.

use clap::Args;

/// `kmeshctl purge`.
#[derive(Debug, Args)]
#[command(after_help = "\
Connections that are open stay open; new ones are no longer steered. Foreign programs, maps and
pins are left alone, and so is another Kmesh on this machine. Running it again is fine. It refuses
while a daemon runs (but for --stop-daemon), and while a restore waits to be confirmed.

Exit status: 0 nothing is left (--dry-run: there is nothing to do), 1 something is left and named
with what keeps it (--dry-run: there is something to do), 2 it could not look, or was not allowed to.

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
