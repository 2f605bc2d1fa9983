//! What may be said to `restore`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kmesh_bpf::snapshot::Only;

use super::FindingsFormat;

/// `kmeshctl restore`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[command(after_help = "\
The snapshot is checked wholly before the first write. On a node where nothing is installed, maps
are made and programs attached first. Pods are enrolled only under the boot they were saved in, and
only where their network namespace is alive; those left out are listed. Interrupted anywhere: run
it again.

With --rollback-after a process stays behind that goes back to the state before when the time is up,
also after this terminal is closed. Until then it holds the tables: no daemon and no other restore
writes them. If it is killed, nothing goes back by itself: verify and status tell, --confirm or
--rollback ends it. A reboot ends it, too: the state on disk is the one before.

Exit status: 0 restored, and verified (with --dry-run: shown); 1 restored, but verify found
something; 2 refused or failed: what was in force stays in force.

Examples:
  kmeshctl restore node.json --dry-run            what would be added, changed, removed
  kmeshctl restore node.json
  kmeshctl restore node.json --rollback-after 5m  then, if all is well:
  kmeshctl restore --confirm
  kmeshctl restore node.json --only services,workloads
  kmeshctl restore node.json --only service=default/web.default.svc.cluster.local
  kmeshd snapshot --mesh mesh.yaml | kmeshctl restore -")]
pub struct Restore {
    /// The snapshot, JSON or YAML; `-` is standard input.
    #[arg(required_unless_present_any = ["confirm", "rollback"])]
    pub file: Option<PathBuf>,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How --dry-run is shown.
    #[arg(short, long, value_enum, default_value_t, requires = "dry_run")]
    pub output: FindingsFormat,
    /// Only these parts: settings, services, workloads, policies, pods, service=NAME,
    /// workload=UID, policy=NAME.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Only>,
    /// Also a snapshot of another node.
    #[arg(long)]
    pub any_node: bool,
    /// Go back to the state before, so long after the restore (30s, 5m, 1h), unless it is confirmed.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "dry_run")]
    pub rollback_after: Option<Duration>,
    /// Keep what was restored with --rollback-after.
    #[arg(long, conflicts_with_all = ["file", "dry_run", "only", "any_node", "rollback_after", "rollback"])]
    pub confirm: bool,
    /// Go back now to the state before what was restored with --rollback-after.
    #[arg(long, conflicts_with_all = ["file", "dry_run", "only", "any_node", "rollback_after"])]
    pub rollback: bool,
}

/// The process that `restore --rollback-after` leaves behind.
#[derive(Debug, Args)]
pub struct GuardRollback {
    /// The process that restores.
    #[arg(long)]
    pub restorer: u32,
}

/// The longest that a restore may wait to be confirmed.
const LONGEST: Duration = Duration::from_hours(24);

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return Err("write it as 30s, 5m or 1h".to_owned()),
    };
    let count: u32 = digits.parse().map_err(|_| "write it as 30s, 5m or 1h".to_owned())?;
    let duration = unit.checked_mul(count).filter(|duration| *duration <= LONGEST);
    match duration {
        Some(Duration::ZERO) => Err("0 leaves no time to confirm".to_owned()),
        Some(duration) => Ok(duration),
        None => Err("at most 24h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_an_end() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        for wrong in ["", "5", "s", "5d", "-5s", "0s", "25h", "5s s", "99999999999s", "5ü"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
