//! Explain: what the kernel would do with a connection now, step by step from the live maps.
//!
//! ```text
//!  from ─→ source ─→ cookie ┐
//!  hooks (what runs there) ─┼→ walk (the raw words, as the programs read them) ─→ Explanation
//!  to, socket ──────────────┘
//! ```
//!
//! It takes no lock, writes nothing, and reads only the elements on the connection's way. It
//! refuses to guess: who an unknown name is, it does not say.

mod hooks;
mod look;
mod outcome;
mod pick;
mod said;
mod source;
#[cfg(test)]
mod tests;
mod walk;

use std::net::SocketAddr;
use std::path::Path;

use crate::kernel::{Kernel, KernelError};
use crate::layout::Hook;
use crate::netns::NetnsError;
use crate::pins::{self, Root};
use crate::pods::PodsError;
use crate::want::Family;

pub use outcome::{Outcome, Verdict};
pub use said::{
    EndpointSaid, Explanation, HookSaid, MetadataSaid, OutcomeSaid, Protocol, SCHEMA_VERSION,
    ServiceSaid, Socket, Source, Step, Trail, WaypointSaid,
};

/// How often the tables are read when they change meanwhile.
const TRIES: u32 = 3;

/// Why it could not be said.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// No enrolled pod has this name.
    #[error(
        "no enrolled pod of this node is called \"{given}\" (enrolled: {pods}); connections of \
         others pass as if Kmesh were not there. Name it by uid, namespace/name, address, netns \
         cookie, pid:N or the path of its network namespace"
    )]
    Unknown {
        /// The name.
        given: String,
        /// Some that are enrolled.
        pods: String,
    },
    /// Several pods have this name.
    #[error("\"{given}\" may be {pods}: say which, by namespace/name or uid")]
    Ambiguous {
        /// The name.
        given: String,
        /// Which.
        pods: String,
    },
    /// The network namespace that was named could not be looked at.
    #[error("find who connects")]
    Netns(#[source] NetnsError),
    /// The records of pods could not be read.
    #[error("find who connects")]
    Pods(#[source] PodsError),
    /// The kernel did not answer.
    #[error("read what the connection would meet")]
    Kernel(#[source] KernelError),
    /// An IPv4 socket cannot dial this.
    #[error("an IPv4 socket cannot dial {to}: leave --family out, or make it 6")]
    Family {
        /// The destination.
        to: SocketAddr,
    },
}

/// What would become of a connection to `to` by this socket, made by the source that `from` names,
/// in a cgroup below `cgroup`. The maps were opened before.
pub fn explain(
    k: &dyn Kernel,
    root: &Root,
    cgroup: &Path,
    from: &str,
    to: SocketAddr,
    socket: Socket,
) -> Result<Explanation, ExplainError> {
    if socket.family == Family::V4 && to.is_ipv6() {
        return Err(ExplainError::Family { to });
    }
    let from = source::find(k, root, from)?;
    let look = |hook| hooks::look(k, root, cgroup, hook).map_err(ExplainError::Kernel);
    let connect = look(if socket.family == Family::V4 { Hook::Connect4 } else { Hook::Connect6 })?;
    let (trail, generation, consistent) =
        settled(k, &connect, &from, to, socket).map_err(ExplainError::Kernel)?;
    let mut hooks = vec![connect];
    if trail.waypoint.as_ref().is_some_and(|waypoint| waypoint.met) {
        hooks.extend([look(Hook::SockOps)?, look(Hook::SkMsg)?]);
    }
    let verdict = trail.verdict();
    let schema_version = SCHEMA_VERSION;
    Ok(Explanation {
        schema_version,
        from,
        to,
        socket,
        hooks,
        generation,
        consistent,
        trail,
        verdict,
    })
}

/// The way of the connection, the generation it was read at, and whether nothing was written
/// meanwhile.
fn settled(
    k: &dyn Kernel,
    connect: &HookSaid,
    from: &Source,
    to: SocketAddr,
    socket: Socket,
) -> Result<(Trail, u64, bool), KernelError> {
    let mut tried = 0;
    loop {
        let before = pins::meta(k)?.generation;
        let trail = way(k, connect, from, to, socket)?;
        tried += 1;
        let consistent = pins::meta(k)?.generation == before;
        if consistent || tried == TRIES {
            return Ok((trail, before, consistent));
        }
    }
}

/// The hook, and what its program does.
fn way(
    k: &dyn Kernel,
    connect: &HookSaid,
    from: &Source,
    to: SocketAddr,
    socket: Socket,
) -> Result<Trail, KernelError> {
    let HookSaid { hook, effective, order } = connect;
    let order = if order.is_empty() { "nothing".to_owned() } else { order.join(", ") };
    let mut trail = if *effective {
        walk::connect(k, from.cookie, to, socket)?
    } else {
        let outcomes = vec![OutcomeSaid::new(Outcome::NoHook, 1.0, 0)];
        Trail { outcomes, ..Trail::default() }
    };
    let state = if *effective { "in force" } else { "not in force" };
    let finding = format!("{hook} is {state}; what runs there, in order: {order}");
    trail.steps.insert(0, Step { step: "hook", finding });
    Ok(trail)
}
