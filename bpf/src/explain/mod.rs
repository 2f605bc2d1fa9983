//! Explain: what the kernel would do with a connection now, step by step from the live maps.
//!
//! ```text
//!  from ─→ source ─→ cookie ┐
//!  hooks (what runs there) ─┼→ walk (the raw words, as the programs read them) ─→ Explanation
//!  to, socket ──────────────┘            └→ inbound (the pod at the other end)
//! ```
//!
//! It takes no lock, writes nothing, and reads only the elements on the connection's way. It
//! refuses to guess: who an unknown name is, it does not say.

mod hooks;
mod inbound;
mod look;
mod outcome;
mod pick;
mod said;
mod source;
#[cfg(test)]
mod tests;
mod walk;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::kernel::{Kernel, KernelError};
use crate::layout::Hook;
use crate::netns::NetnsError;
use crate::pins::{self, Root};
use crate::pods::PodsError;
use crate::want::Family;

use inbound::{Caller, Inbound, PodHere};

pub use outcome::{Admission, Outcome, Verdict};
pub use said::{
    BySaid, DryRunSaid, EndpointSaid, Explanation, HookSaid, InboundSaid, MetadataSaid,
    OutcomeSaid, Protocol, SCHEMA_VERSION, ServiceSaid, Socket, Source, Step, Trail, WaypointSaid,
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
    /// The tables of a policy set say otherwise than the policies that it stands for.
    #[error(
        "the tables of policy set {set} {} a connection from {source_address} to {target}, and its \
         policies ({policies}) say otherwise: what the tables say is in force. See kmeshctl \
         verify; start kmeshd again, or kmeshctl restore a snapshot, and keep what `kmeshctl dump \
         maps --raw` says for whoever looks into it", if *tables { "let in" } else { "keep out" }
    )]
    Disagree {
        /// Its number.
        set: u16,
        /// Where the connection comes from.
        source_address: IpAddr,
        /// Where it goes.
        target: SocketAddr,
        /// The tables let it in.
        tables: bool,
        /// The policies' names.
        policies: String,
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
    let pods = hooks::pods(k, root)?;
    let address = from.given.parse().ok();
    let caller = Caller { cookie: from.cookie, address };
    let look = |hook| hooks::look(k, root, cgroup, hook).map_err(ExplainError::Kernel);
    let connect = look(if socket.family == Family::V4 { Hook::Connect4 } else { Hook::Connect6 })?;
    let asked = Asked { connect: &connect, pods: &pods, caller: &caller, to, socket };
    let (trail, inbound, generation, consistent) = settled(k, &asked)?;
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
        inbound,
        verdict,
    })
}

/// What is asked.
struct Asked<'a> {
    connect: &'a HookSaid,
    pods: &'a [PodHere],
    caller: &'a Caller,
    to: SocketAddr,
    socket: Socket,
}

/// The way of the connection, what the pods at its end say, the generation it was read at, and
/// whether nothing was written meanwhile.
fn settled(
    k: &dyn Kernel,
    asked: &Asked<'_>,
) -> Result<(Trail, Vec<InboundSaid>, u64, bool), ExplainError> {
    let generation = || Ok(pins::meta(k).map_err(ExplainError::Kernel)?.generation);
    let mut tried = 0;
    loop {
        let before = generation()?;
        let found = way(k, asked);
        tried += 1;
        let consistent = generation()? == before;
        match found {
            // What does not fit together may have been read in the middle of a change.
            Err(ExplainError::Disagree { .. }) if !consistent && tried < TRIES => {}
            Err(error) => return Err(error),
            Ok((trail, inbound)) if consistent || tried == TRIES => {
                return Ok((trail, inbound, before, consistent));
            }
            Ok(_) => {}
        }
    }
}

/// The hook, what its program does, and what the pod at the other end does.
fn way(k: &dyn Kernel, asked: &Asked<'_>) -> Result<(Trail, Vec<InboundSaid>), ExplainError> {
    let HookSaid { hook, effective, order } = asked.connect;
    let order = if order.is_empty() { "nothing".to_owned() } else { order.join(", ") };
    let mut trail = if *effective {
        walk::connect(k, asked.caller.cookie, asked.to, asked.socket)
            .map_err(ExplainError::Kernel)?
    } else {
        let outcomes = vec![OutcomeSaid::new(Outcome::NoHook, 1.0, 0)];
        Trail { outcomes, ..Trail::default() }
    };
    let state = if *effective { "in force" } else { "not in force" };
    let finding = format!("{hook} is {state}; what runs there, in order: {order}");
    trail.steps.insert(0, Step { step: "hook", finding });
    if asked.socket.protocol != Protocol::Tcp {
        return Ok((trail, Vec::new()));
    }
    let inbound = Inbound::new(k, asked.pods, asked.caller, asked.socket);
    let said = inbound.map_err(ExplainError::Kernel)?.admit(&mut trail, asked.to)?;
    Ok((trail, said))
}
