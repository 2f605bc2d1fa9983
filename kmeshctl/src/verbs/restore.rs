//! `kmeshctl restore`: makes the tables say what a snapshot says, then verifies.
//!
//! The snapshot is checked wholly before the first write. It refuses to write beside a live
//! writer. Interrupted anywhere: run it again and it converges.

use std::collections::HashSet;
use std::io::Write;

use anyhow::Context as _;
use kmesh_bpf::apply;
use kmesh_bpf::check;
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::kernel::{Objects as _, Pinned};
use kmesh_bpf::layout::{Limits, Map};
use kmesh_bpf::memory::MemoryKernel;
use kmesh_bpf::pods::Pod;
use kmesh_bpf::snapshot::{PodEntry, PodMode, Snapshot};
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::Change;
use kmesh_bpf::{attach, boot, clock, netns, pins, plan, pods, verify};

use super::verify::write_lines;
use super::{End, read_snapshot};
use crate::args::{Part, Restore};
use crate::context::{Context, line};
use crate::output::Progress;

/// Checks, adopts, plans, applies, verifies.
pub fn run(ctx: &Context, args: &Restore, out: &mut dyn Write) -> anyhow::Result<End> {
    let mut kernel = ctx.kernel()?;
    let snapshot = read_snapshot(&args.file)?;
    let wanted = Wanted::new(ctx, snapshot, &args.only)?;
    check::validate(&wanted.change)
        .with_context(|| format!("check {} before the first write", args.file.display()))?;
    let installed = ctx.is_installed()?;
    if args.dry_run {
        return dry_run(ctx, &mut kernel, &wanted, installed, out);
    }
    let lock = ctx.lock()?;
    let cgroup = ctx.cgroup()?;
    let mut have = adopt(ctx, &mut kernel, &cgroup, &wanted)?;
    let mut progress = Progress::new("restore");
    let applied = apply::converge(&mut kernel, &mut have, &wanted.change, &mut |done, all| {
        progress.tell(done, all);
    })?;
    drop(progress);
    enrol(ctx, &mut kernel, &have, &wanted.pods)?;
    drop(lock);
    writeln!(
        out,
        "restored: {} services, {} workloads, {} pods; {} elements written",
        wanted.change.services.len(),
        wanted.change.workloads.len(),
        wanted.pods.len(),
        applied.elements
    )?;
    let report = verify::verify(&mut kernel, &ctx.root, &cgroup, wanted.saved.as_ref())?;
    write_lines(ctx.style, &report, out)?;
    Ok(End::good_if(report.is_good()))
}

/// What shall be restored.
struct Wanted {
    change: Change,
    pods: Vec<PodEntry>,
    peername: Option<bool>,
    /// The snapshot, if nothing of it is left out by `--only`.
    saved: Option<Snapshot>,
}

impl Wanted {
    fn new(ctx: &Context, mut snapshot: Snapshot, only: &[Part]) -> anyhow::Result<Self> {
        let has = |part| only.is_empty() || only.contains(&part);
        let pods = snapshot.pods.take().filter(|_| has(Part::Pods)).unwrap_or_default();
        let pods = living(ctx, &snapshot, pods)?;
        let is_whole = [Part::Settings, Part::Services, Part::Workloads].into_iter().all(has);
        let saved = is_whole.then(|| snapshot.clone());
        let mut change = snapshot.into_change();
        if !has(Part::Services) {
            change.services.clear();
            change.all_services = false;
        }
        if !has(Part::Workloads) {
            change.workloads.clear();
            change.all_workloads = false;
        }
        if !has(Part::Settings) {
            change.settings = None;
        }
        let peername = change.settings.as_ref().map(|settings| settings.peername);
        Ok(Self { change, pods, peername, saved })
    }
}

/// The pods that can be enrolled: cookies mean something only under the boot that gave them, and
/// while their namespace lives. What is left out is said.
fn living(
    ctx: &Context,
    snapshot: &Snapshot,
    pods: Vec<PodEntry>,
) -> anyhow::Result<Vec<PodEntry>> {
    if pods.is_empty() {
        return Ok(pods);
    }
    if snapshot.about.boot_id.as_deref() != Some(boot::boot_id()?.as_str()) {
        ctx.say(&format!("{} pods left out: they were saved under another boot", pods.len()));
        return Ok(Vec::new());
    }
    let alive: HashSet<u64> = netns::alive_cookies()?;
    let (living, dead): (Vec<_>, Vec<_>) =
        pods.into_iter().partition(|pod| alive.contains(&pod.cookie));
    for pod in dead {
        let uid = pod.uid.as_deref().unwrap_or("unknown");
        ctx.say(&format!("pod {uid} (cookie {}) left out: its namespace is gone", pod.cookie));
    }
    Ok(living)
}

/// Maps and hooks of this build, made where they are missing; and what the tables say.
fn adopt(
    ctx: &Context,
    kernel: &mut Linux,
    cgroup: &std::path::Path,
    wanted: &Wanted,
) -> anyhow::Result<Have> {
    let limits = kept_limits(ctx, kernel);
    let maps = pins::adopt_maps(kernel, &ctx.root, &limits)?;
    ctx.mutter(&format!("maps: {maps:?}"));
    let have = Have::read_locked(kernel)?;
    let limits = *have.limits();
    let peername = wanted.peername.unwrap_or_else(|| have.settings().peername);
    let hooks = attach::adopt_hooks(kernel, &ctx.root, cgroup, &limits, peername)?;
    ctx.mutter(&format!("hooks: {hooks:?}"));
    let mut have = Have::read_locked(kernel)?;
    have.sign(std::process::id(), clock::process_start());
    Ok(have)
}

/// The limits of the maps that are there: a restore raises and lowers none.
fn kept_limits(ctx: &Context, kernel: &Linux) -> Limits {
    let mut limits = Limits::default();
    let keep = |map: Map, limit: &mut u32| {
        if let Ok(Some(Pinned::Map(info))) = kernel.pinned(&ctx.root.map(map)) {
            *limit = info.max_entries;
        }
    };
    keep(Map::Frontend, &mut limits.frontends);
    keep(Map::Service, &mut limits.services);
    keep(Map::Endpoint, &mut limits.endpoints);
    keep(Map::Backend, &mut limits.workloads);
    keep(Map::Names, &mut limits.names);
    keep(Map::Manager, &mut limits.pods);
    keep(Map::Socket, &mut limits.sockets);
    limits
}

fn enrol(
    ctx: &Context,
    kernel: &mut Linux,
    have: &Have,
    entries: &[PodEntry],
) -> anyhow::Result<()> {
    for entry in entries {
        let uid = entry.uid.as_deref().unwrap_or_default().to_owned();
        let backend = have.backend(&uid);
        let pod = Pod {
            cookie: entry.cookie,
            uid,
            netns: entry.netns.clone().unwrap_or_default().into(),
            bypass: entry.mode == PodMode::Bypass,
        };
        pods::enrol(kernel, &ctx.root, &pod, backend)?;
    }
    Ok(())
}

/// Says what would change; on an empty root, against empty tables.
fn dry_run(
    ctx: &Context,
    kernel: &mut Linux,
    wanted: &Wanted,
    installed: bool,
    out: &mut dyn Write,
) -> anyhow::Result<End> {
    let have = if installed {
        pins::open_existing(kernel, &ctx.root)?;
        Have::read(kernel)?
    } else {
        writeln!(out, "nothing is installed: maps would be made and programs attached first")?;
        Have::read(&MemoryKernel::with_tables(&Limits::default()))?
    };
    let steps = plan::plan(&have, &wanted.change)?;
    if let Some(saved) = &wanted.saved {
        for difference in check::compare(&have, saved) {
            writeln!(out, "now {}", line(&difference))?;
        }
    }
    for pod in &wanted.pods {
        writeln!(out, "enrol pod {} (cookie {})", pod.uid.as_deref().unwrap_or("?"), pod.cookie)?;
    }
    writeln!(out, "{} elements would be written", steps.len())?;
    Ok(End::Good)
}
