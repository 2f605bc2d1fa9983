//! `kmeshctl dump`: what is in the kernel, by name.
//!
//! `dump all` as JSON or YAML is a snapshot that `restore` takes; two dumps of the same state are
//! the same bytes. It writes nothing and takes no lock.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context as _, bail};
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::layout::{Hook, Map};
use kmesh_bpf::snapshot::{About, PodEntry, PodMode, Snapshot};
use kmesh_bpf::tables::{Consistency, Have};
use kmesh_bpf::{attach, boot, clock, lock, pins, pods};
use serde::Serialize;

use super::End;
use crate::args::{Dump, Format, What};
use crate::context::Context;
use crate::output::write_json;
use crate::tables;
use crate::view::{self, Filter, LinkView, MapView, ProgramView};

/// Everything a dump may show; what is not asked for is left out.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consistent: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maps: Option<Vec<MapView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counters: Option<BTreeMap<&'static str, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<kmesh_bpf::want::Settings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Vec<kmesh_bpf::snapshot::ServiceEntry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workloads: Option<Vec<kmesh_bpf::snapshot::WorkloadEntry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<Vec<PodEntry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    programs: Option<Vec<ProgramView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Vec<LinkView>>,
}

/// Reads what is asked for and writes it.
pub fn run(ctx: &Context, args: &Dump, out: &mut dyn Write) -> anyhow::Result<End> {
    check_names(args)?;
    let mut kernel = ctx.kernel()?;
    ctx.require_installed()?;
    let with_tables = !matches!(args.what, What::Programs | What::Links);
    let mut end = End::Good;
    let mut snapshot = None;
    let mut shown = Shown::default();
    if with_tables {
        pins::open_existing(&mut kernel, &ctx.root)?;
        let have = Have::read(&kernel)?;
        end = consistency(ctx, &have)?;
        shown.layout = Some(have.meta().layout);
        shown.maps = shows_maps(args).then(|| view::maps(&kernel, &ctx.root, &have)).transpose()?;
        snapshot = Some(read(ctx, &kernel, &have, args)?);
    }
    if let (What::All, Format::Json | Format::Yaml, Some(snapshot)) =
        (args.what, args.output, &snapshot)
    {
        write_snapshot(args.output, snapshot, out)?;
        return Ok(end);
    }
    if let Some(snapshot) = snapshot {
        fill(&kernel, args, snapshot, &mut shown)?;
    }
    if matches!(args.what, What::Programs | What::Links | What::All) {
        hooks(ctx, &mut kernel, args, &mut shown)?;
    }
    write(ctx, args, &shown, out)?;
    Ok(end)
}

fn write_snapshot(format: Format, snapshot: &Snapshot, out: &mut dyn Write) -> anyhow::Result<()> {
    match format {
        Format::Yaml => snapshot.write_yaml(out)?,
        _ => snapshot.write_json(out)?,
    }
    Ok(())
}

/// Refuses a name that is no map or hook.
fn check_names(args: &Dump) -> anyhow::Result<()> {
    let hooks = matches!(args.what, What::Programs | What::Links);
    let known: Vec<&str> = if hooks {
        Hook::ALL.iter().map(|hook| hook.name()).collect()
    } else {
        Map::ALL.iter().map(|map| map.name()).collect()
    };
    for name in &args.names {
        if !known.contains(&name.as_str()) {
            let what = if hooks { "hook" } else { "map" };
            bail!("\"{name}\" is no {what} of Kmesh; there are: {}", known.join(", "));
        }
    }
    if args.what == What::All && !args.names.is_empty() {
        bail!("dump all shows everything: name maps with `dump maps`, hooks with `dump programs`");
    }
    Ok(())
}

/// What a reader must know of a reading that is not settled.
fn consistency(ctx: &Context, have: &Have) -> anyhow::Result<End> {
    match have.consistency() {
        Consistency::Settled => Ok(End::Good),
        Consistency::LeftOpen => {
            match lock::holder(&ctx.root)? {
                Some(holder) => {
                    ctx.say(&format!("{} (pid {}) is writing", holder.command, holder.pid));
                    return Ok(End::Differs);
                }
                None => ctx.say(
                    "a writer died at work: this is what it left, safe but maybe unfinished; \
                     start kmeshd, or kmeshctl restore FILE",
                ),
            }
            Ok(End::Good)
        }
        Consistency::Moving => {
            ctx.say("a writer changed the tables under every look: this is not consistent");
            Ok(End::Differs)
        }
    }
}

/// The snapshot of what the tables say, filtered.
fn read(ctx: &Context, kernel: &Linux, have: &Have, args: &Dump) -> anyhow::Result<Snapshot> {
    let about = About {
        node: Some(node_name()),
        kernel: Some(boot::kernel_release()),
        boot_id: Some(boot::boot_id()?),
        time: args.stamp.then(|| clock::rfc3339(clock::wall_clock())),
        generation: Some(have.meta().generation),
        consistent: Some(have.consistency() == Consistency::Settled),
    };
    let pods = pods::list(kernel, &ctx.root)?
        .into_iter()
        .filter(|record| record.word.is_some())
        .map(|record| PodEntry {
            mode: if record.bypass() { PodMode::Bypass } else { PodMode::Managed },
            cookie: record.cookie,
            uid: record.uid.map(Into::into),
            netns: record.netns.map(|path| path.display().to_string()),
        })
        .collect();
    let mut snapshot = Snapshot::of(have, about, Some(pods));
    filter(args).apply(&mut snapshot);
    Ok(snapshot)
}

fn filter(args: &Dump) -> Filter<'_> {
    Filter {
        service: args.service.as_deref(),
        workload: args.workload.as_deref(),
        address: args.address,
    }
}

/// This node, as snapshots name it: `KMESH_NODE`, or the host's name.
pub fn node_name() -> String {
    std::env::var("KMESH_NODE")
        .unwrap_or_else(|_| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// Whether limits, counters and settings are shown: not where one thing is looked for.
fn shows_maps(args: &Dump) -> bool {
    args.what != What::Pods && !filter(args).is_set()
}

/// Puts what the tables say where it is shown.
fn fill(kernel: &Linux, args: &Dump, snapshot: Snapshot, shown: &mut Shown) -> anyhow::Result<()> {
    let named = |maps: &[Map]| {
        args.names.is_empty() || maps.iter().any(|map| args.names.iter().any(|n| n == map.name()))
    };
    let all = args.what != What::Pods;
    shown.generation = snapshot.about.generation;
    shown.consistent = snapshot.about.consistent;
    if let Some(maps) = &mut shown.maps {
        maps.retain(|map| args.names.is_empty() || args.names.iter().any(|name| name == map.name));
        if named(&[Map::Stats]) {
            shown.counters = Some(view::counters(kernel).context("read the counters")?);
        }
        shown.settings = named(&[Map::Settings]).then_some(snapshot.settings);
    }
    if all && named(&[Map::Frontend, Map::Service, Map::Endpoint]) {
        shown.services = Some(snapshot.services);
    }
    if all && named(&[Map::Backend, Map::Names]) {
        shown.workloads = Some(snapshot.workloads);
    }
    if named(&[Map::Manager]) {
        shown.pods = snapshot.pods;
    }
    Ok(())
}

fn hooks(ctx: &Context, kernel: &mut Linux, args: &Dump, shown: &mut Shown) -> anyhow::Result<()> {
    use kmesh_bpf::kernel::Objects as _;
    let meta = ctx.root.map(Map::Meta);
    if shown.layout.is_none() && kernel.pinned(&meta)?.is_some() {
        pins::open_existing(kernel, &ctx.root)?;
    }
    let mut states = attach::inspect(kernel, &ctx.root, &ctx.cgroup()?)?;
    states.retain(|state| {
        args.what == What::All
            || args.names.is_empty()
            || args.names.iter().any(|name| name == state.hook.name())
    });
    if args.what != What::Links {
        let programs: Result<_, _> =
            states.iter().map(|state| ProgramView::new(kernel, state)).collect();
        shown.programs = Some(programs?);
    }
    if args.what != What::Programs {
        shown.links = Some(view::links(&states));
    }
    Ok(())
}

fn write(ctx: &Context, args: &Dump, shown: &Shown, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.output {
        Format::Json => write_json(out, shown),
        Format::Yaml => Ok(serde_yaml::to_writer(out, shown)?),
        Format::Table | Format::Wide => {
            Ok(write_tables(ctx, args.output == Format::Wide, shown, out)?)
        }
    }
}

fn write_tables(
    ctx: &Context,
    wide: bool,
    shown: &Shown,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let style = ctx.style;
    if let (Some(layout), Some(generation)) = (shown.layout, shown.generation) {
        let consistent = shown.consistent.unwrap_or(true);
        tables::about(out, ctx.root.path(), layout, generation, consistent)?;
    }
    if let Some(rows) = &shown.services {
        tables::services(out, style, wide, rows)?;
    }
    if let Some(rows) = &shown.workloads {
        tables::workloads(out, style, wide, rows)?;
    }
    if let Some(rows) = &shown.pods {
        tables::pods(out, style, rows)?;
    }
    if let Some(settings) = &shown.settings {
        tables::settings(out, style, settings)?;
    }
    if let Some(counters) = &shown.counters {
        tables::counters(out, style, wide, counters)?;
    }
    if let Some(rows) = &shown.maps {
        tables::maps(out, style, wide, rows)?;
    }
    if let Some(rows) = &shown.programs {
        tables::programs(out, style, wide, rows)?;
    }
    if let Some(rows) = &shown.links {
        tables::links(out, style, rows)?;
    }
    Ok(())
}
