//! What dump shows, as tables for people.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use kmesh_bpf::authz::Policy;
use kmesh_bpf::last_sync::LastSync;
use kmesh_bpf::layout::COUNTERS;
use kmesh_bpf::snapshot::{About, PodEntry, PodMode, ServiceEntry, WorkloadEntry};
use kmesh_bpf::want::{Endpoint, Family, Mode, Settings, WaypointRef};

use crate::output::{Style, table, write_rows, write_table};
use crate::view::{LinkView, MapView, ProgramView, SetView, is_waypoint};

/// How many names a narrow table shows in one cell.
const SHOWN: usize = 3;

/// Entries that can be gone through again: for the columns' widths, then for the text.
type Again<'a, I> = &'a dyn Fn() -> I;

/// Services, then waypoints.
pub fn services<I: Iterator<Item = ServiceEntry>>(
    out: &mut dyn Write,
    style: Style,
    wide: bool,
    services: Again<'_, I>,
) -> io::Result<()> {
    const HEADER: [&str; 8] =
        ["NAME", "PORT", "FAMILY", "VIPS", "MODE", "SYNCED", "WAYPOINT", "ENDPOINTS"];
    for (heading, waypoints) in [("Services", false), ("Waypoints", true)] {
        let chosen = || services().filter(|service| is_waypoint(service.kind) == waypoints);
        let count = chosen().count();
        if count == 0 {
            continue;
        }
        style.heading(out, &format!("{heading} ({count})"))?;
        let row = |service: ServiceEntry| {
            vec![
                service.name.to_string(),
                service.port.to_string(),
                family(service.family).to_owned(),
                list(wide, service.vips.iter().map(ToString::to_string)),
                mode(service.mode).to_owned(),
                yes(service.synced),
                waypoint(service.waypoint.as_ref()),
                endpoints(wide, &service.endpoints),
            ]
        };
        write_rows(out, &HEADER, &|| chosen().map(row))?;
        writeln!(out)?;
    }
    Ok(())
}

/// Workloads.
pub fn workloads<I: Iterator<Item = WorkloadEntry>>(
    out: &mut dyn Write,
    style: Style,
    wide: bool,
    workloads: Again<'_, I>,
) -> io::Result<()> {
    style.heading(out, &format!("Workloads ({})", workloads().count()))?;
    let mut header = vec!["UID", "ADDRESSES", "WAYPOINT"];
    if wide {
        header.extend(["DIALLED-V4", "DIALLED-V6", "IDENTITY", "IS-WAYPOINT", "POLICIES"]);
    }
    let row = |workload: WorkloadEntry| {
        let mut row = vec![
            workload.uid.to_string(),
            list(wide, workload.addresses.iter().map(ToString::to_string)),
            waypoint(workload.waypoint.as_ref()),
        ];
        if wide {
            row.extend([
                workload.v4.map_or_else(dash, |v4| v4.to_string()),
                workload.v6.map_or_else(dash, |v6| v6.to_string()),
                workload.identity.as_ref().map_or_else(dash, ToString::to_string),
                yes(workload.is_waypoint),
                list(wide, workload.policies.iter().map(ToString::to_string)),
            ]);
        }
        row
    };
    write_rows(out, &header, &|| workloads().map(row))?;
    writeln!(out)
}

/// Authorization policies; `pods`: all that are managed here.
pub fn policies<'p, I: Iterator<Item = &'p Arc<Policy>>>(
    out: &mut dyn Write,
    style: Style,
    wide: bool,
    pods: &[PodEntry],
    policies: Again<'_, I>,
) -> io::Result<()> {
    let count = policies().count();
    if count == 0 {
        return Ok(());
    }
    style.heading(out, &format!("Policies ({count})"))?;
    let mut header = vec!["NAME", "SCOPE", "ACTION", "DRY-RUN", "RULES", "PODS-HERE"];
    if wide {
        header.push("DOCUMENT");
    }
    let row = |policy: &'p Arc<Policy>| {
        let here = pods.iter().filter(|pod| pod.policies.contains(&policy.name));
        let mut row = vec![
            policy.name.to_string(),
            format!("{:?}", policy.scope),
            format!("{:?}", policy.action),
            yes(policy.dry_run),
            policy.groups.iter().flatten().count().to_string(),
            here.count().to_string(),
        ];
        if wide {
            row.push(policy.to_text());
        }
        row
    };
    write_rows(out, &header, &|| policies().map(row))?;
    writeln!(out)
}

/// Policy sets.
pub fn sets<'s, I: Iterator<Item = &'s SetView>>(
    out: &mut dyn Write,
    style: Style,
    wide: bool,
    sets: Again<'_, I>,
) -> io::Result<()> {
    let count = sets().count();
    if count == 0 {
        return Ok(());
    }
    style.heading(out, &format!("Policy sets ({count})"))?;
    let row = |set: &'s SetView| {
        vec![
            set.set.to_string(),
            list(wide, set.policies.iter().map(ToString::to_string)),
            list(wide, set.pods.iter().cloned()),
            set.identities.to_string(),
            set.words.to_string(),
            set.chunks.to_string(),
        ]
    };
    let header = ["SET", "POLICIES", "PODS", "IDENTITIES", "WORDS", "CHUNKS"];
    write_rows(out, &header, &|| sets().map(row))?;
    writeln!(out)
}

/// What a pod's policies are, in a cell.
fn policies_of(wide: bool, pod: &PodEntry) -> String {
    if pod.waits {
        return "(waits: nobody is let in)".to_owned();
    }
    list(wide, pod.policies.iter().map(ToString::to_string))
}

/// Managed pods.
pub fn pods<'p, I: Iterator<Item = &'p PodEntry>>(
    out: &mut dyn Write,
    style: Style,
    wide: bool,
    pods: Again<'_, I>,
) -> io::Result<()> {
    style.heading(out, &format!("Pods ({})", pods().count()))?;
    let row = |pod: &PodEntry| {
        vec![
            pod.uid.as_ref().map_or_else(dash, ToString::to_string),
            match pod.mode {
                PodMode::Managed => "managed",
                PodMode::Bypass => "bypass",
            }
            .to_owned(),
            pod.cookie.to_string(),
            pod.netns.clone().unwrap_or_else(dash),
            policies_of(wide, pod),
        ]
    };
    write_rows(out, &["UID", "MODE", "COOKIE", "NETNS", "POLICIES"], &|| pods().map(row))?;
    writeln!(out)
}

/// What the programs are told.
pub fn settings(out: &mut dyn Write, style: Style, settings: &Settings) -> io::Result<()> {
    style.heading(out, "Settings")?;
    let mut table = table(&["SETTING", "VALUE"]);
    let metadata = serde_json::to_value(settings.metadata).map_err(io::Error::from)?;
    table.add_row(["metadata", metadata.as_str().unwrap_or_default()]);
    table.add_row(["peername", &yes(settings.peername)]);
    let ports: Vec<_> = settings.exempt_ports.iter().map(ToString::to_string).collect();
    let ports = if ports.is_empty() { dash() } else { ports.join(",") };
    table.add_row(["exempt ports", &ports]);
    write_table(out, &table)?;
    writeln!(out)
}

/// Counters that are not zero; all of them when wide.
pub fn counters(
    out: &mut dyn Write,
    style: Style,
    wide: bool,
    counters: &BTreeMap<&'static str, u64>,
) -> io::Result<()> {
    style.heading(out, "Counters")?;
    let mut table = table(&["COUNTER", "VALUE", "WHAT"]);
    for counter in &COUNTERS {
        let value = counters.get(counter.name).copied().unwrap_or_default();
        if wide || value != 0 {
            table.add_row([counter.name.to_owned(), value.to_string(), counter.help.to_owned()]);
        }
    }
    write_table(out, &table)?;
    writeln!(out)
}

/// Maps with limit and fill.
pub fn maps(out: &mut dyn Write, style: Style, wide: bool, maps: &[MapView]) -> io::Result<()> {
    style.heading(out, "Maps")?;
    let mut header = vec!["MAP", "USED", "LIMIT", "FILL", "RAISED-BY"];
    if wide {
        header.extend(["ID", "KEY", "VALUE"]);
    }
    let mut table = table(&header);
    for map in maps {
        let percent = |used: u64| format!("{} %", used * 100 / u64::from(map.limit.max(1)));
        let mut row = vec![
            map.name.to_owned(),
            map.used.map_or_else(dash, |used| used.to_string()),
            map.limit.to_string(),
            map.used.map_or_else(dash, percent),
            map.limit_option.map_or_else(dash, str::to_owned),
        ];
        if wide {
            row.extend([
                map.id.to_string(),
                format!("{} B", map.key_size),
                format!("{} B", map.value_size),
            ]);
        }
        table.add_row(row);
    }
    write_table(out, &table)?;
    writeln!(out)
}

/// Programs.
pub fn programs(
    out: &mut dyn Write,
    style: Style,
    wide: bool,
    programs: &[ProgramView],
) -> io::Result<()> {
    style.heading(out, "Programs")?;
    let mut header = vec!["HOOK", "POD", "STATE", "ID", "NAME", "BUILD", "THIS-BUILD"];
    if wide {
        header.extend(["TAG", "VERIFIED", "ORDER", "MAPS"]);
    }
    let mut table = table(&header);
    let ids = |ids: &[u32]| list(true, ids.iter().map(ToString::to_string));
    for program in programs {
        let mut row = vec![
            program.hook.to_owned(),
            program.pod.clone().unwrap_or_else(dash),
            program.state.to_owned(),
            program.id.map_or_else(dash, |id| id.to_string()),
            program.name.clone().unwrap_or_else(dash),
            program.build.clone(),
            yes(program.same_build),
        ];
        if wide {
            row.extend([
                program.tag.clone().unwrap_or_else(dash),
                program.verified_instructions.map_or_else(dash, |count| count.to_string()),
                ids(&program.order),
                ids(&program.maps),
            ]);
        }
        table.add_row(row);
    }
    write_table(out, &table)?;
    writeln!(out)
}

/// Links.
pub fn links(out: &mut dyn Write, style: Style, links: &[LinkView]) -> io::Result<()> {
    style.heading(out, "Links")?;
    let mut table = table(&["HOOK", "POD", "ID", "PROGRAM", "AT", "ATTACHED"]);
    for link in links {
        table.add_row([
            link.hook.to_owned(),
            link.pod.clone().unwrap_or_else(dash),
            link.id.to_string(),
            link.program.to_string(),
            match (link.cgroup_id, link.netns_inode) {
                (Some(id), _) => format!("cgroup {id}"),
                (None, Some(inode)) => format!("netns inode {inode}"),
                (None, None) => dash(),
            },
            yes(link.attached),
        ]);
    }
    write_table(out, &table)?;
    writeln!(out)
}

/// Where and of which state all this is.
pub fn about(
    out: &mut dyn Write,
    root: &std::path::Path,
    layout: u32,
    about: &About,
    last_sync: Option<&LastSync>,
) -> io::Result<()> {
    let generation = about.generation.unwrap_or_default();
    write!(out, "{}: layout {layout}, generation {generation}", root.display())?;
    if about.unfinished == Some(true) {
        write!(out, " (left unfinished by a writer)")?;
    }
    if about.consistent == Some(false) {
        write!(out, " (not consistent)")?;
    }
    match &about.time {
        Some(time) => write!(out, ", written {time}")?,
        None => write!(out, ", never written")?,
    }
    match last_sync {
        Some(last) => {
            let age = span(last.age());
            writeln!(out, ", last full sync {age} ago\n")
        }
        None => writeln!(out, ", last full sync unknown\n"),
    }
}

/// A time span as people say it: the two largest units.
fn span(time: Duration) -> String {
    let all = time.as_secs();
    let (days, hours, minutes, seconds) = (all / 86_400, all / 3600 % 24, all / 60 % 60, all % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {seconds} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Standard => "standard",
        Mode::Strict => "strict",
        Mode::Failover => "failover",
        Mode::Passthrough => "passthrough",
    }
}

fn waypoint(waypoint: Option<&WaypointRef>) -> String {
    waypoint.map_or_else(dash, |waypoint| format!("{}:{}", waypoint.name, waypoint.port))
}

fn endpoints(wide: bool, endpoints: &[Endpoint]) -> String {
    list(wide, endpoints.iter().map(|endpoint| format!("{}:{}", endpoint.workload, endpoint.port)))
}

/// Names with commas; a narrow table shows the first few and how many more there are.
fn list(wide: bool, names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return dash();
    }
    if wide || names.len() <= SHOWN {
        return names.join(",");
    }
    format!("{},+{} more", names[..SHOWN].join(","), names.len() - SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_by_its_two_largest_units() {
        let said = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(said(59), "59 s");
        assert_eq!(said(61), "1 min 1 s");
        assert_eq!(said(2 * 3600 + 180), "2 h 3 min");
        assert_eq!(said(3 * 86_400 + 7200), "3 d 2 h");
    }

    #[test]
    fn a_narrow_cell_says_how_many_more_there_are() {
        let names = || (1..=5).map(|n| format!("n{n}"));
        assert_eq!(list(false, names()), "n1,n2,n3,+2 more");
        assert_eq!(list(true, names()), "n1,n2,n3,n4,n5");
        assert_eq!(list(false, std::iter::empty()), "-");
    }
}
