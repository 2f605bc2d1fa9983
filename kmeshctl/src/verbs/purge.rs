//! `kmeshctl purge`: says what goes, asks, removes it, and says what is left.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kmesh_bpf::lock::{self, Holder, LockError, WriterLock};
use kmesh_bpf::mounts::BpfMounts;
use kmesh_bpf::places;
use kmesh_bpf::purge::{self, Places, Plan, Purged, Strays};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::End;
use crate::args::Purge;
use crate::context::Context;
use crate::output::{Progress, tell};

/// Plans, asks, runs, looks again.
pub fn run(ctx: &Context, args: &Purge, out: &mut dyn Write) -> anyhow::Result<End> {
    let mut kernel = ctx.kernel()?;
    let cgroup = search_at(ctx)?;
    let mounts = BpfMounts::look().context("list the mounted BPF file systems")?;
    let places = Places {
        root: ctx.root.path(),
        cgroup: cgroup.as_deref(),
        mounts: &mounts,
        state_dir: &ctx.state_dir,
        run_dir: &ctx.run_dir,
    };
    if args.dry_run {
        let plan = purge::plan(&kernel, &places)?;
        say_plan(&plan, out)?;
        return Ok(End::good_if(plan.is_empty()));
    }
    refuse_pending(ctx)?;
    if args.stop_daemon
        && let Some(holder) = lock::holder(&ctx.root)?
    {
        stop(ctx, &holder)?;
    }
    let lock = take_lock(ctx)?;
    let plan = purge::plan(&kernel, &places)?;
    say_plan(&plan, out)?;
    let strays = purge::strays(&kernel, &plan)?;
    if plan.is_empty() && plan.foreign.is_empty() {
        return say_strays(ctx, &strays, out);
    }
    if !args.yes && !plan.is_empty() {
        ask(out)?;
    }
    let mut progress = Progress::new("purge");
    let purged = purge::run(&mut kernel, &places, &plan, &mut |done, all| {
        progress.tell(done as u64, all as u64);
    })?;
    drop(progress);
    drop(lock);
    let end = say_result(purged, out)?;
    Ok(end.and(say_strays(ctx, &strays, out)?))
}

/// What only processes keep. Whose a single map is cannot always be told: then it is said, and no
/// more.
fn say_strays(ctx: &Context, strays: &Strays, out: &mut dyn Write) -> anyhow::Result<End> {
    for stray in &strays.ours {
        writeln!(out, "left: {stray}")?;
    }
    for stray in &strays.unknown {
        let text = format!("of this or another Kmesh, which cannot be told: {stray}");
        if ctx.own_place() { ctx.mutter(&text) } else { ctx.say(&text) }
    }
    Ok(End::good_if(strays.ours.is_empty()))
}

/// The governed cgroup: links there are ours even where the BPF file system of our root was
/// unmounted. What is elsewhere is found by its pins and its maps.
fn search_at(ctx: &Context) -> anyhow::Result<Option<std::path::PathBuf>> {
    match ctx.cgroup() {
        Ok(path) => Ok(Some(path)),
        Err(error) if ctx.cgroup.is_none() => {
            ctx.mutter(&format!("{error:#}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Refuses while a restore waits to be confirmed and somebody guards it: the guard would put back
/// what is removed. A record that nobody guards goes with the rest.
fn refuse_pending(ctx: &Context) -> anyhow::Result<()> {
    let record = ctx.state_dir.join(places::ROLLBACK);
    if !record.exists() {
        return Ok(());
    }
    let Some(Holder { pid, command, .. }) = lock::holder(&ctx.root)? else {
        return Ok(());
    };
    let command = if command.is_empty() { "its guard" } else { &command };
    bail!(
        "a restore waits to be confirmed ({}), and {command} (pid {pid}) holds the tables to put \
         the state before back; end that first: kmeshctl restore --confirm; then run this again",
        record.display()
    )
}

/// The writer's lock; `None` where there is no root to lock.
fn take_lock(ctx: &Context) -> anyhow::Result<Option<WriterLock>> {
    match lock::acquire_existing(&ctx.root) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Absent { .. } | LockError::NotBpffs { .. }) => Ok(None),
        Err(LockError::Held { holder, .. }) => bail!(
            "{} (pid {}) is running and would make again what is removed; end it first, or let \
             purge do it: kmeshctl purge --stop-daemon",
            holder.command,
            holder.pid
        ),
        Err(other) => Err(other.into()),
    }
}

const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// Sends SIGTERM to the holder of the lock and waits for its end.
fn stop(ctx: &Context, holder: &Holder) -> anyhow::Result<()> {
    let who = format!("{} (pid {})", holder.command, holder.pid);
    let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw);
    let Some(pid) = pid else {
        bail!("the daemon is in another pid namespace: end it there, or run this on the host");
    };
    ctx.say(&format!("ending {who}"));
    let process = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("open {who}")),
    };
    rustix::process::pidfd_send_signal(&process, Signal::TERM)
        .with_context(|| format!("send SIGTERM to {who}"))?;
    let deadline = Instant::now() + STOPS_WITHIN;
    while lock::holder(&ctx.root)?.is_some_and(|now| now.pid == holder.pid) {
        if Instant::now() >= deadline {
            bail!("{who} did not end within {} s of SIGTERM", STOPS_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn say_plan(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    if plan.is_empty() {
        writeln!(out, "nothing to do: Kmesh left nothing here")?;
    }
    for step in &plan.steps {
        writeln!(out, "{step}")?;
    }
    for foreign in &plan.foreign {
        writeln!(out, "not Kmesh's, left alone: {foreign}")?;
    }
    out.flush()
}

/// Goes on only when somebody at a terminal says yes.
fn ask(out: &mut dyn Write) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("purge removes all of this; say --yes where nobody can be asked");
    }
    out.flush()?;
    tell("Remove all of this? New connections will no longer be governed. [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("read the answer")?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was removed");
    }
    Ok(())
}

fn say_result(purged: Purged, out: &mut dyn Write) -> anyhow::Result<End> {
    for failure in purged.failures {
        let why = anyhow::Error::new(failure.error);
        tell(&format!("kmeshctl: failed: {}: {why:#}\n", failure.step));
    }
    for left in &purged.left {
        writeln!(out, "left: {left}")?;
    }
    if purged.left.is_empty() {
        writeln!(out, "done: {} steps; nothing is left", purged.done)?;
    }
    Ok(End::good_if(purged.left.is_empty()))
}
