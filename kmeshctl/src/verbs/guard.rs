//! The process that `restore --rollback-after` leaves behind: waits, and goes back to the state
//! before unless the restore was confirmed.
//!
//! It is its own session, so that no terminal's end reaches it; its standard input is the writer's
//! lock, its standard output a socket to the process that restores, its standard error a log. It
//! does nothing while that process works, and ends it when the time is up.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::lock::WriterLock;
use kmesh_bpf::pending::{self, Pending, Stage};
use kmesh_bpf::restore::Place;
use kmesh_bpf::rollback::{self, RollbackError};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::End;
use crate::args::GuardRollback;
use crate::context::Context;

/// How often the record is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How often going back is tried.
const TRIES: u32 = 8;

/// Waits, and goes back.
pub fn run(ctx: &Context, args: &GuardRollback) -> anyhow::Result<End> {
    // Started by hand from a shell it may lead a group already; nothing is lost.
    let _ = rustix::process::setsid();
    let mut kernel = ctx.kernel()?;
    let own = |fd: io::Result<OwnedFd>| fd.context("take over what the restore handed on");
    let lock = WriterLock::inherit(own(io::stdin().as_fd().try_clone_to_owned())?, &ctx.root)?;
    let socket = UnixStream::from(own(io::stdout().as_fd().try_clone_to_owned())?);
    let mut restorer = Restorer::new(socket, args.restorer)?;
    restorer.socket.write_all(b"r").context("tell the restore that it is guarded")?;
    let Some(pending) = wait(ctx, &mut restorer)? else { return Ok(End::Good) };
    let end = go_back(ctx, &mut kernel, pending);
    drop(lock);
    end
}

/// The process that restores, as seen from here.
struct Restorer {
    process: OwnedFd,
    socket: UnixStream,
    ended: bool,
}

impl Restorer {
    fn new(socket: UnixStream, pid: u32) -> anyhow::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .context("open the process that restores")?;
        Ok(Self { process, socket, ended: false })
    }

    /// Waits for its end, so long at most. Its end of the socket closes when it is done, or dead.
    fn ended_within(&mut self, time: Duration) -> bool {
        if self.ended {
            sleep(time);
        } else if self.socket.set_read_timeout(Some(time)).is_ok() {
            self.ended = matches!(self.socket.read(&mut [0; 1]), Ok(0));
        }
        self.ended
    }

    /// The time is up, and it is still at work.
    fn kill(&self) {
        eprintln!("the time is up, and the restore is still at work: ending it");
        if let Err(error) = rustix::process::pidfd_send_signal(&self.process, Signal::KILL) {
            eprintln!("end the restore: {error}");
        }
    }
}

/// Waits until the time is up; `None` when there is nothing to guard any more.
fn wait(ctx: &Context, restorer: &mut Restorer) -> anyhow::Result<Option<Pending>> {
    let mut tick = Duration::from_millis(1);
    loop {
        let ended = restorer.ended_within(tick);
        let Some(pending) = pending::load(&ctx.state_dir)? else { return Ok(None) };
        if pending.stage == Stage::Going {
            return Ok(None);
        }
        let left = pending.left();
        tick = TICK.min(left).max(Duration::from_millis(1));
        if !left.is_zero() {
            continue;
        }
        if ended {
            return Ok(Some(pending));
        }
        restorer.kill();
    }
}

fn go_back(ctx: &Context, kernel: &mut Linux, mut pending: Pending) -> anyhow::Result<End> {
    match rollback::claim(&ctx.state_dir, &mut pending) {
        Err(RollbackError::TooLate) => return Ok(End::Good),
        claimed => claimed?,
    }
    let cgroup = ctx.cgroup()?;
    let place = Place { root: &ctx.root, cgroup: &cgroup };
    let mut pause = Duration::from_millis(250);
    for _ in 0..TRIES {
        match rollback::go_back(kernel, place, &ctx.state_dir, &pending) {
            Ok(restored) => {
                eprintln!(
                    "{} was not confirmed: the state before is back ({} elements written)",
                    pending.file, restored.applied.elements
                );
                return Ok(End::good_if(restored.report.is_good()));
            }
            Err(error) => eprintln!("go back: {:#}", anyhow::Error::new(error)),
        }
        sleep(pause);
        pause *= 2;
    }
    bail!("the state before {} is not back; see kmeshctl restore --rollback", pending.file)
}
