//! `kmeshctl status`: how this node is, on one screen.
//!
//! It works with the daemon dead, from the kernel and the run directory, and judges nothing
//! itself: its verdict is verify's.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kmesh_bpf::check::{Finding, Severity};
use kmesh_bpf::control::{self, DaemonNote, DaemonStatus};
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::last_sync::LastSync;
use kmesh_bpf::layout::{POLICY_NONE, POLICY_WAIT};
use kmesh_bpf::tables::Have;
use kmesh_bpf::{attach, lock};
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{End, verify};
use crate::args::{Status, StatusFormat};
use crate::context::Context;
use crate::daemon::{self, NoDaemon};
use crate::{screen, view};

/// The schema of `-o json`.
const SCHEMA: u32 = 1;
/// Moves a terminal's cursor home and clears the screen.
const HOME: &[u8] = b"\x1b[H\x1b[2J";

/// Everything that is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    schema_version: u32,
    /// Nothing is wrong; there may be warnings.
    pub good: bool,
    /// The daemon.
    pub daemon: Daemon,
    /// What is in the kernel; absent where nothing could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
    /// What verify found.
    pub findings: Vec<Finding>,
}

/// What is known of the daemon.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Daemon {
    /// It answers, or holds the writer's lock.
    pub running: bool,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DaemonStatus>,
    /// Why it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
    /// It ended without a word: its process id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub killed_pid: Option<u32>,
    /// When the tables last came to say all that the sources say; absent when not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_seconds_ago: Option<u64>,
}

/// What is in the kernel.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// The directory of the pins.
    pub root: String,
    /// Of the tables.
    pub layout: u32,
    /// Of the tables.
    pub generation: u64,
    /// Each hook's state: "running", or what keeps it from that.
    pub hooks: BTreeMap<&'static str, &'static str>,
    /// Records of services.
    pub services: u64,
    /// Records of workloads.
    pub workloads: u64,
    /// Pods whose connections are governed.
    pub pods_managed: u64,
    /// Pods that are enrolled and pass.
    pub pods_bypassed: u64,
    /// Authorization policies in the tables.
    pub policies: u64,
    /// Policy sets.
    pub policy_sets: u64,
    /// Pods that a policy set judges.
    pub pods_authorized: u64,
    /// Pods that let nobody in until their policies are in the tables.
    pub pods_waiting: u64,
    /// How full the maps are.
    pub maps: Vec<Fill>,
    /// By name, summed over the CPUs.
    pub counters: BTreeMap<&'static str, u64>,
}

/// How full a map is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fill {
    /// Its name.
    pub name: &'static str,
    /// Elements in use.
    pub used: u64,
    /// How many it holds.
    pub limit: u32,
}

/// Shows it, once or until somebody ends it.
pub fn run(ctx: &Context, args: &Status, out: &mut dyn Write) -> anyhow::Result<End> {
    let mut kernel = ctx.kernel()?;
    let Some(seconds) = args.watch else {
        let shown = gather(ctx, &mut kernel)?;
        write(ctx, args, &shown, None, out)?;
        return Ok(End::good_if(shown.good));
    };
    let mut end = Ended::watch()?;
    let pause = Duration::from_secs(seconds.into());
    let redraw = args.output == StatusFormat::Table && std::io::stdout().is_terminal();
    let mut before: Option<(Instant, Shown)> = None;
    loop {
        let now = Instant::now();
        let shown = gather(ctx, &mut kernel)?;
        if redraw {
            out.write_all(HOME)?;
        }
        let since = before.as_ref().map(|(at, shown)| (now - *at, shown));
        write(ctx, args, &shown, since, out)?;
        out.flush()?;
        let good = End::good_if(shown.good);
        before = Some((now, shown));
        if end.within(pause.saturating_sub(now.elapsed()))? {
            return Ok(good);
        }
    }
}

fn write(
    ctx: &Context,
    args: &Status,
    shown: &Shown,
    before: Option<(Duration, &Shown)>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    match args.output {
        StatusFormat::Table => screen::write(ctx.style, shown, before, out)?,
        StatusFormat::Json if args.watch.is_none() => crate::output::write_json(out, shown)?,
        StatusFormat::Json => {
            serde_json::to_writer(&mut *out, shown).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Knows when SIGINT or SIGTERM came.
struct Ended(UnixStream);

impl Ended {
    fn watch() -> anyhow::Result<Self> {
        let (here, there) = UnixStream::pair().context("make a socket for signals")?;
        for signal in [SIGINT, SIGTERM] {
            let end = there.try_clone().context("copy the socket for signals")?;
            signal_hook::low_level::pipe::register(signal, end).context("listen for signals")?;
        }
        Ok(Self(here))
    }

    /// Waits so long at most; whether a signal came.
    fn within(&mut self, pause: Duration) -> anyhow::Result<bool> {
        let pause = pause.max(Duration::from_millis(1));
        self.0.set_read_timeout(Some(pause)).context("wait for signals")?;
        match self.0.read(&mut [0]) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error).context("wait for signals"),
        }
    }
}

fn gather(ctx: &Context, kernel: &mut Linux) -> anyhow::Result<Shown> {
    let daemon = ask(ctx)?;
    ctx.is_installed()?;
    let (report, have) = verify::look(ctx, kernel, None)?;
    let kernel = have.map(|have| in_kernel(ctx, kernel, &have)).transpose()?;
    Ok(Shown {
        schema_version: SCHEMA,
        good: report.is_good(),
        daemon,
        kernel,
        findings: report.findings,
    })
}

/// Asks the daemon; where it does not answer, what it left tells.
fn ask(ctx: &Context) -> anyhow::Result<Daemon> {
    let answer = daemon::ask(ctx, "GET", control::STATUS).and_then(daemon::Answer::text);
    let (status, silent) = match answer {
        Ok(text) => match serde_json::from_str::<DaemonStatus>(&text) {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(format!("its answer cannot be read: {error}"))),
        },
        Err(NoDaemon::Absent { .. } | NoDaemon::Dead { .. }) => (None, None),
        Err(other) => (None, Some(format!("{:#}", anyhow::Error::new(other)))),
    };
    let holder = lock::holder(&ctx.root)?;
    let silent = silent.or_else(|| {
        let holder = holder.as_ref().filter(|_| status.is_none())?;
        let (command, pid) = (&holder.command, holder.pid);
        Some(format!("{command} (pid {pid}) writes the tables, without a control socket"))
    });
    let noted = LastSync::read(&ctx.run_dir).map(|note| note.age().as_secs());
    let said = status.as_ref().and_then(|status| status.writer.last_sync_seconds_ago);
    let killed = DaemonNote::read(&ctx.run_dir).filter(|note| !note.is_alive());
    Ok(Daemon {
        running: status.is_some() || silent.is_some(),
        killed_pid: killed.filter(|_| status.is_none()).map(|note| note.pid),
        last_sync_seconds_ago: said.or(noted),
        status,
        silent,
    })
}

fn in_kernel(ctx: &Context, kernel: &Linux, have: &Have) -> anyhow::Result<Kernel> {
    let states = attach::inspect(kernel, &ctx.root, &ctx.cgroup()?)?;
    let hooks = states.iter().map(|state| (state.hook.name(), view::words(state))).collect();
    let pods = have.managers();
    let bypassed = pods.iter().filter(|(_, word)| word.bypass()).count();
    let standing = |is: &dyn Fn(u16) -> bool| {
        let managed = pods.iter().filter(|(_, word)| !word.bypass());
        managed.filter(|(_, word)| is(word.policy_set())).count() as u64
    };
    let usage = have.usage();
    let used = |map| usage.iter().find(|usage| usage.map == map).map_or(0, |usage| usage.used);
    Ok(Kernel {
        root: ctx.root.path().display().to_string(),
        layout: have.meta().layout,
        generation: have.meta().generation,
        hooks,
        services: used(kmesh_bpf::layout::Map::Service),
        workloads: used(kmesh_bpf::layout::Map::Backend),
        pods_managed: (pods.len() - bypassed) as u64,
        pods_bypassed: bypassed as u64,
        policies: have.policies().count() as u64,
        policy_sets: have.policy_sets().count() as u64,
        pods_authorized: standing(&|set| set != POLICY_NONE && set != POLICY_WAIT),
        pods_waiting: standing(&|set| set == POLICY_WAIT),
        maps: usage
            .iter()
            .map(|usage| Fill { name: usage.map.name(), used: usage.used, limit: usage.limit })
            .collect(),
        counters: view::counters(kernel).context("read the counters")?,
    })
}

impl Shown {
    /// How many findings are errors, and how many warnings.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let errors = self.findings.iter().filter(|one| one.severity == Severity::Error).count();
        (errors, self.findings.len() - errors)
    }
}
