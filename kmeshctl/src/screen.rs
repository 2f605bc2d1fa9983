//! What `status` shows, for people: one screen.

use std::io::{self, Write};
use std::time::Duration;

use kmesh_bpf::control::{ControlPlaneStatus, DaemonStatus, DenialSaid, Rejected};
use kmesh_bpf::layout::COUNTERS;

use crate::output::{Style, Tone, table, write_table};
use crate::verbs::status::{Daemon, Fill, Kernel, Shown};
use crate::verbs::verify;

/// So many findings are shown; `verify` shows all.
const FINDINGS: usize = 5;
/// So many rejected resources are shown.
const REJECTED: usize = 5;
/// So many denied connections are shown; the daemon's log has more.
const DENIALS: usize = 5;
/// The width of a bar.
const BAR: u64 = 20;

/// Writes the screen. `before`: what was shown last time, and how long ago, for rates.
pub fn write(
    style: Style,
    shown: &Shown,
    before: Option<(Duration, &Shown)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    daemon(style, &shown.daemon, out)?;
    if let Some(kernel) = &shown.kernel {
        let before = before.and_then(|(time, shown)| Some((time, shown.kernel.as_ref()?)));
        in_kernel(style, kernel, out)?;
        maps(style, &kernel.maps, out)?;
        counters(style, kernel, before, out)?;
    }
    verdict(style, shown, out)
}

/// Lines of a name and what is said of it.
fn pairs(out: &mut dyn Write, pairs: Vec<(&str, String)>) -> io::Result<()> {
    for (name, said) in pairs {
        writeln!(out, "  {name:<12}{said}")?;
    }
    writeln!(out)
}

fn daemon(style: Style, daemon: &Daemon, out: &mut dyn Write) -> io::Result<()> {
    style.heading(out, "Daemon")?;
    let ago = daemon.last_sync_seconds_ago.map_or_else(|| "unknown".to_owned(), ago);
    let mut lines = Vec::new();
    match &daemon.status {
        Some(status) => running(style, status, &mut lines),
        None => lines.push(("state", absent(style, daemon))),
    }
    lines.push(("last sync", ago));
    pairs(out, lines)
}

/// What there is to say of a control plane.
fn control_plane(style: Style, plane: &ControlPlaneStatus) -> String {
    let ControlPlaneStatus { workloads, services, policies, .. } = plane;
    let connected = match plane.connected_seconds {
        Some(seconds) => {
            let again = match plane.connections {
                0 | 1 => String::new(),
                n => format!(" (connection {n} of this daemon)"),
            };
            format!("connected for {}{again}", lasting(seconds))
        }
        None => style.paint(Tone::Bad, "not connected"),
    };
    let rejected = match plane.rejected {
        0 => String::new(),
        n => style.paint(Tone::Bad, &format!(", {n} rejected")),
    };
    let version = match plane.version.as_str() {
        "" => String::new(),
        version => format!("; version {version}"),
    };
    format!(
        "{connected}; {workloads} workloads, {services} services, {policies} \
         policies{rejected}{version}"
    )
}

/// A resource that is refused, on one line.
fn rejected(one: &Rejected) -> String {
    format!("{}: {} (for {})", one.name, one.reason, lasting(one.seconds))
}

fn running(style: Style, status: &DaemonStatus, lines: &mut Vec<(&str, String)>) {
    let DaemonStatus { pid, node, version, .. } = status;
    let up = lasting(status.uptime_seconds);
    let alive = style.paint(Tone::Good, "running");
    lines.push(("state", format!("{alive}: pid {pid} for {up}, version {version}, node {node}")));
    lines.push((
        "ready",
        match status.pending.as_slice() {
            [] => style.paint(Tone::Good, "yes"),
            pending => format!("{}: {}", style.paint(Tone::Bad, "no"), pending.join("; ")),
        },
    ));
    for source in &status.sources {
        let taken = match source.taken_seconds_ago {
            Some(seconds) => format!("taken {}", ago(seconds)),
            None => "nothing taken yet".to_owned(),
        };
        let refused = source.refused.as_ref().map(|why| {
            format!(
                "; {}, the last good state is in force: {why}",
                style.paint(Tone::Bad, "refused")
            )
        });
        let refused = refused.unwrap_or_default();
        lines.push(("source", format!("{} {}: {taken}{refused}", source.kind, source.name)));
        if let Some(plane) = &source.control_plane {
            lines.push(("serves", control_plane(style, plane)));
            let refused = plane.rejected_resources.iter().take(REJECTED);
            lines.extend(refused.map(|one| ("rejected", style.paint(Tone::Bad, &rejected(one)))));
        }
    }
    let DaemonStatus { services, workloads, policies, .. } = status;
    let model = format!("{services} services, {workloads} workloads, {policies} policies");
    lines.push(("model", model));
    let refused = status.policies_refused.iter();
    lines.extend(refused.map(|why| ("policies", style.paint(Tone::Bad, why))));
    let awaited = status.waypoints_awaited.iter();
    lines.extend(
        awaited
            .map(|one| ("not known", style.paint(Tone::Warn, &format!("waypoint {}", one.said)))),
    );
    let writer = &status.writer;
    if let Some(seconds) = writer.last_write_seconds_ago {
        let elements = writer.last_write_elements;
        lines.push(("last write", format!("{}: {elements} elements", ago(seconds))));
    }
    if let Some(why) = &writer.failing {
        lines.push(("writes", format!("{}: {why}", style.paint(Tone::Bad, "failing"))));
    } else if writer.held {
        lines.push(("writes", "held back for a reader".to_owned()));
    }
    for why in &status.pods_waiting {
        lines.push(("pod waits", why.clone()));
    }
    let recent = status.denials.recent.iter().rev().take(DENIALS);
    lines.extend(recent.map(|denial| ("denied", denied(denial))));
}

/// A connection that was kept out, on one line.
fn denied(denial: &DenialSaid) -> String {
    let unknown = || "a stranger".to_owned();
    let who = denial.workload.clone().unwrap_or_else(unknown);
    let pod = denial.pod.clone().unwrap_or_else(|| format!("netns cookie {}", denial.cookie));
    let (source, destination) = (&denial.source, &denial.destination);
    let why = denial.by.as_ref().unwrap_or(&denial.reason);
    format!("{}: {who} ({source}) to {pod} ({destination}): {why}", ago(denial.seconds_ago))
}

fn absent(style: Style, daemon: &Daemon) -> String {
    if let Some(why) = &daemon.silent {
        return format!("{}: {why}", style.paint(Tone::Bad, "does not answer"));
    }
    let state = style.paint(Tone::Warn, "not running");
    match daemon.killed_pid {
        Some(pid) => format!("{state}: pid {pid} was killed or crashed; what is in force stays"),
        None => format!("{state}; what is in force stays"),
    }
}

fn in_kernel(style: Style, kernel: &Kernel, out: &mut dyn Write) -> io::Result<()> {
    style.heading(out, &format!("Kernel ({})", kernel.root))?;
    let hooks: Vec<_> = kernel
        .hooks
        .iter()
        // By a setting: where they are not wanted they are not there.
        .filter(|(hook, state)| !(hook.starts_with("getpeername") && **state == "absent"))
        .map(|(hook, state)| {
            let tone = if *state == "running" { Tone::Good } else { Tone::Bad };
            format!("{hook} {}", style.paint(tone, state))
        })
        .collect();
    let (managed, bypassed) = (kernel.pods_managed, kernel.pods_bypassed);
    let (services, workloads) = (kernel.services, kernel.workloads);
    pairs(
        out,
        vec![
            ("hooks", hooks.join(", ")),
            ("pods", format!("{managed} managed, {bypassed} bypassed")),
            ("tables", format!("{services} service records, {workloads} workloads")),
            ("policies", policies(kernel)),
            ("generation", format!("{}, layout {}", kernel.generation, kernel.layout)),
        ],
    )
}

/// How many there are, and which pods they are for.
fn policies(kernel: &Kernel) -> String {
    let Kernel { policies, policy_sets, pods_authorized, pods_waiting, .. } = kernel;
    let waiting = match pods_waiting {
        0 => String::new(),
        n => format!(", {n} that let nobody in until theirs are in the tables"),
    };
    format!("{policies}, in {policy_sets} sets for {pods_authorized} pods{waiting}")
}

fn maps(style: Style, maps: &[Fill], out: &mut dyn Write) -> io::Result<()> {
    style.heading(out, "Maps")?;
    let mut rows = table(&["MAP", "USED", "LIMIT", "FILL"]);
    for map in maps {
        let percent = map.used * 100 / u64::from(map.limit.max(1));
        let length = (percent * BAR).div_ceil(100).min(BAR);
        let bar = |piece: &str, length: u64| piece.repeat(usize::try_from(length).unwrap_or(0));
        let tone = if percent > 80 { Tone::Bad } else { Tone::Good };
        let used = style.paint(tone, &bar("#", length));
        let fill = format!("[{used}{}] {percent} %", bar(".", BAR - length));
        rows.add_row([map.name.to_owned(), map.used.to_string(), map.limit.to_string(), fill]);
    }
    write_table(out, &rows)?;
    writeln!(out)
}

/// Counters that are not zero, with what they grew by in a second.
fn counters(
    style: Style,
    kernel: &Kernel,
    before: Option<(Duration, &Kernel)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let counted = |kernel: &Kernel, name| kernel.counters.get(name).copied().unwrap_or_default();
    let seen: Vec<_> = COUNTERS.iter().filter(|one| counted(kernel, one.name) > 0).collect();
    if seen.is_empty() {
        return Ok(());
    }
    style.heading(out, "Connections")?;
    let mut rows = table(match before {
        Some(_) => &["COUNTER", "VALUE", "PER-SECOND", "WHAT"],
        None => &["COUNTER", "VALUE", "WHAT"],
    });
    for counter in seen {
        let value = counted(kernel, counter.name);
        let mut row = vec![counter.name.to_owned(), value.to_string()];
        if let Some((time, before)) = before {
            row.push(rate(value.saturating_sub(counted(before, counter.name)), time));
        }
        row.push(counter.help.to_owned());
        rows.add_row(row);
    }
    write_table(out, &rows)?;
    writeln!(out)
}

fn rate(more: u64, time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let tenths = more.saturating_mul(10_000) / millis;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn verdict(style: Style, shown: &Shown, out: &mut dyn Write) -> io::Result<()> {
    let (errors, warnings) = shown.counts();
    if shown.findings.is_empty() {
        return writeln!(out, "{}", style.paint(Tone::Good, "good: everything is as it should be"));
    }
    let tone = if errors > 0 { Tone::Bad } else { Tone::Warn };
    writeln!(out, "{}", style.paint(tone, &format!("errors: {errors}, warnings: {warnings}")))?;
    for finding in shown.findings.iter().take(FINDINGS) {
        writeln!(out, "  {}", verify::line(style, finding))?;
    }
    if shown.findings.len() > FINDINGS {
        writeln!(out, "  and {} more: kmeshctl verify", shown.findings.len() - FINDINGS)?;
    }
    Ok(())
}

/// "5 s ago".
fn ago(seconds: u64) -> String {
    format!("{} ago", lasting(seconds))
}

/// A time of so many seconds, in its two largest units.
fn lasting(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        assert_eq!(lasting(59), "59 s");
        assert_eq!(lasting(61), "1 min 1 s");
        assert_eq!(lasting(7260), "2 h 1 min");
        assert_eq!(lasting(90_000), "1 d 1 h");
    }

    #[test]
    fn rates_are_of_the_time_that_went_by() {
        assert_eq!(rate(10, Duration::from_secs(2)), "5.0");
        assert_eq!(rate(1, Duration::from_secs(3)), "0.3");
        assert_eq!(rate(0, Duration::ZERO), "0.0");
    }
}
