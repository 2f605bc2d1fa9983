//! `restore --rollback-after`, `--confirm`, `--rollback`: what the operator's side of a restore
//! that waits does. What a pending restore is: `kmesh_bpf::rollback`; who waits: `guard`.

use std::fs::File;
use std::io::{Read as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::absolute;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::lock::WriterLock;
use kmesh_bpf::pending::{self, Pending, Process, Stage, Unreadable};
use kmesh_bpf::places::ROLLBACK_LOG;
use kmesh_bpf::restore::{self, Place, Wanted};
use kmesh_bpf::rollback::{self, RollbackError};

use super::End;
use super::verify::write_lines;
use crate::context::Context;

/// How long a guardian may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A restore in progress that has a guardian.
pub struct Guarded {
    pending: Pending,
    /// Closed when the restore is done.
    socket: UnixStream,
}

impl Guarded {
    /// Before the first write: saves the state, and starts the guardian.
    pub fn begin(
        ctx: &Context,
        kernel: &mut Linux,
        lock: &WriterLock,
        wanted: &Wanted,
        what: (String, Duration),
    ) -> anyhow::Result<Self> {
        let have = restore::present(kernel, &ctx.root)?.ok_or(RollbackError::NothingBefore)?;
        let mut pending = rollback::begin(kernel, &ctx.root, &ctx.state_dir, &have, wanted, what)?;
        drop(have);
        let guarded = guardian(ctx, lock).and_then(|(socket, pid)| {
            pending.guardian = Process::of(pid);
            rollback::update(&ctx.state_dir, &pending)?;
            Ok(socket)
        });
        match guarded {
            Ok(socket) => Ok(Self { pending, socket }),
            Err(error) => {
                rollback::forget(&ctx.state_dir)?;
                Err(error.context("start the process that would go back; nothing was written"))
            }
        }
    }

    /// The restore is done: from now on it waits to be confirmed.
    pub fn settle(mut self, ctx: &Context, out: &mut dyn Write) -> anyhow::Result<()> {
        self.pending.settle();
        rollback::update(&ctx.state_dir, &self.pending)?;
        drop(self.socket);
        writeln!(out, "{}", self.pending)?;
        Ok(())
    }

    /// The restore failed: the state before comes back at once.
    pub fn failed(
        mut self,
        ctx: &Context,
        kernel: &mut Linux,
        place: Place<'_>,
    ) -> anyhow::Result<()> {
        rollback::claim(&ctx.state_dir, &mut self.pending)?;
        rollback::go_back(kernel, place, &ctx.state_dir, &self.pending)?;
        ctx.say("the restore failed: the state before it is back");
        Ok(())
    }
}

/// Starts the guardian, with the lock, and waits until it is there.
fn guardian(ctx: &Context, lock: &WriterLock) -> anyhow::Result<(UnixStream, u32)> {
    let (mut socket, theirs) = UnixStream::pair().context("make a socket")?;
    std::fs::create_dir_all(&ctx.run_dir)
        .with_context(|| format!("make directory {}", ctx.run_dir.display()))?;
    let log = ctx.run_dir.join(ROLLBACK_LOG);
    let log_file = File::create(&log).with_context(|| format!("write {}", log.display()))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("kmeshctl").arg("guard-rollback").arg("--restorer");
    command.arg(std::process::id().to_string());
    command.arg("--bpf-root").arg(absolute(ctx.root.path())?);
    command.arg("--cgroup").arg(absolute(ctx.cgroup()?)?);
    command.arg("--state-dir").arg(absolute(&ctx.state_dir)?);
    command.arg("--run-dir").arg(absolute(&ctx.run_dir)?);
    command.stdin(Stdio::from(lock.share().context("share the writer's lock")?));
    command.stdout(Stdio::from(OwnedFd::from(theirs))).stderr(Stdio::from(log_file));
    command.current_dir("/");
    let child = command.spawn().context("start kmeshctl again")?;
    // Its end of the socket is held by the command, too.
    drop(command);
    socket.set_read_timeout(Some(PATIENCE)).context("set a deadline")?;
    let mut ready = [0; 1];
    if !matches!(socket.read(&mut ready), Ok(1)) {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        bail!("it did not begin: {}", said.trim());
    }
    Ok((socket, child.id()))
}

/// `restore --confirm`.
pub fn confirm(ctx: &Context, out: &mut dyn Write) -> anyhow::Result<End> {
    let pending = match pending::load(&ctx.state_dir) {
        Ok(pending) => pending,
        Err(Unreadable { path, source }) => {
            rollback::forget(&ctx.state_dir)?;
            ctx.say(&format!("forgot {}, which could not be read: {source}", path.display()));
            return Ok(End::Good);
        }
    };
    let Some(pending) = pending else { bail!("{}", nothing(ctx)) };
    if is_of_another_boot(&pending)? {
        rollback::forget(&ctx.state_dir)?;
        bail!(
            "the node was started again since {} was restored: what was restored is gone, and \
             there is nothing to confirm",
            pending.file
        );
    }
    if pending.is_restoring() || (pending.is_guarded() && pending.stage != Stage::Waiting) {
        bail!("{pending}");
    }
    if pending.stage == Stage::Going {
        rollback::forget(&ctx.state_dir)?;
    } else {
        rollback::confirm(&ctx.state_dir)?;
    }
    until_gone(&pending)?;
    writeln!(out, "confirmed: {} stays", pending.file)?;
    if pending.stage != Stage::Waiting {
        ctx.say("it was interrupted before it was done; see: kmeshctl verify");
    }
    Ok(End::Good)
}

/// `restore --rollback`.
pub fn go_back(ctx: &Context, kernel: &mut Linux, out: &mut dyn Write) -> anyhow::Result<End> {
    let Some(mut pending) = pending::load(&ctx.state_dir)? else { bail!("{}", nothing(ctx)) };
    if pending.is_restoring() || (pending.stage == Stage::Going && pending.is_guarded()) {
        bail!("{pending}");
    }
    if is_of_another_boot(&pending)? {
        bail!(
            "the node was started again since {} was restored: what was restored is gone; forget \
             it: kmeshctl restore --confirm",
            pending.file
        );
    }
    let guarded = pending.clone();
    let lock = if pending.is_guarded() { None } else { Some(ctx.lock()?) };
    rollback::claim(&ctx.state_dir, &mut pending)?;
    until_gone(&guarded)?;
    let lock = match lock {
        Some(lock) => lock,
        None => ctx.lock()?,
    };
    let cgroup = ctx.cgroup()?;
    let place = Place { root: &ctx.root, cgroup: &cgroup };
    let restored = rollback::go_back(kernel, place, &ctx.state_dir, &pending)?;
    drop(lock);
    writeln!(
        out,
        "the state before {} is back; {} elements written",
        pending.file, restored.applied.elements
    )?;
    write_lines(ctx.style, &restored.report, out)?;
    Ok(End::good_if(restored.report.is_good()))
}

fn nothing(ctx: &Context) -> String {
    format!(
        "no restore waits to be confirmed: there is no record in {} (--state-dir); only \
         kmeshctl restore --rollback-after leaves one",
        ctx.state_dir.display()
    )
}

fn is_of_another_boot(pending: &Pending) -> anyhow::Result<bool> {
    Ok(pending.boot_id != kmesh_bpf::boot::boot_id()?)
}

/// Waits until the guardian saw that there is nothing to guard: then the lock is free.
fn until_gone(pending: &Pending) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while pending.is_guarded() {
        if Instant::now() >= deadline {
            let pid = pending.guardian.map_or(0, |guardian| guardian.pid);
            bail!("process {pid}, that would have gone back, does not end: kill -KILL {pid}");
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}
