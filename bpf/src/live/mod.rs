//! Live connections: judged again when what decided them has changed, and ended where they would
//! not be let in any more.
//!
//! ```text
//!  sockets of the namespace (INET_DIAG) ─→ inbound ─→ authz::judge ─→ exempt? ─→ map_of_auth ─→ SOCK_DESTROY, or XDP
//!          map_of_tuple annotates ───────────┘                         │
//!          sockets of the host's own namespace ────────────────────────┘
//! ```
//!
//! Which connections there are, half-open ones too, the kernel's sockets say. An inbound one is one
//! that `map_of_tuple` has by its socket's cookie, a half-open one, or one at a port where the pod
//! listens. What the pod dialled is never judged. A socket is ended by its cookie, so never a later
//! one with the same addresses.
//!
//! It refuses to end a connection of a pod that waits for the model: nothing says yet that it is
//! denied. It is judged when the pod's policy set comes.

mod inbound;
mod notes;
mod revoke;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::authz::{Connection, Identity, Policy, Reason, judge};
use crate::kernel::{Kernel, KernelError, Tables, TcpSocket};
use crate::layout::{
    ConnectionKey, LiveRecord, LiveWhy, ManagerWord, Map, POLICY_NONE, POLICY_WAIT, RevokedReason,
};
use crate::netns::NetnsError;
use crate::pins::Root;
use crate::pods::{PodsError, Record};
use crate::tables::Have;
use crate::want::Name;
use inbound::{Ends, Inbound};
use notes::{forget, on, revoked_of};
pub use notes::{lift, notes_of, sweep};
pub use revoke::{Revoke, tend};
use revoke::{end, spare};

/// Where this process' own namespace is: the host's.
const OWN_NETNS: &str = "/proc/self/ns/net";
/// So often a pod is looked at in one go: what a listing missed, the next one has.
const LOOKS: usize = 4;

/// Why a pod's live connections could not be judged, or not be ended.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The kernel refused.
    #[error("{op}")]
    Kernel {
        /// What was attempted, on which pod.
        op: String,
        /// What it said.
        #[source]
        source: KernelError,
    },
    /// Nobody knows where the pod's namespace is.
    #[error(
        "judge the live connections of netns cookie {cookie}: its directory under pods/ names no \
         network namespace; the next enrolment of the pod writes it"
    )]
    NoNamespace {
        /// The pod.
        cookie: u64,
    },
    /// The host's own namespace could not be looked at.
    #[error("look at the host's own network namespace")]
    Host(#[source] NetnsError),
    /// The pod's record could not be read.
    #[error("{op}")]
    Pod {
        /// What was attempted, on which pod.
        op: String,
        /// Why not.
        #[source]
        source: Box<PodsError>,
    },
    /// This kernel cannot end sockets.
    #[error(
        "end live connections of pod {uid} that policies deny: this kernel has no SOCK_DESTROY \
         (CONFIG_INET_DIAG_DESTROY); they go on until they close, new ones are refused. Start \
         kmeshd with --revoke=xdp to end them, or boot a kernel with that option"
    )]
    Unsupported {
        /// The pod's uid.
        uid: String,
    },
}

/// A connection that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The connection.
    pub connection: ConnectionKey,
    /// Why.
    pub reason: RevokedReason,
    /// The policy that denies it, where one does.
    pub policy: Option<Name>,
}

/// What became of a pod's connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Inbound connections that were looked at.
    pub judged: usize,
    /// Those that were ended.
    pub ended: Vec<Ended>,
    /// Notes of connections that were no more.
    pub swept: usize,
}

/// What the tables say, as far as a judgement needs it.
pub trait Says {
    /// The policies of a set.
    fn policies(&self, set: u16) -> Vec<Arc<Policy>>;

    /// Who an address is.
    fn identity(&self, address: IpAddr) -> Option<Identity>;
}

impl Says for Have {
    fn policies(&self, set: u16) -> Vec<Arc<Policy>> {
        self.set_policies(set)
    }

    fn identity(&self, address: IpAddr) -> Option<Identity> {
        self.identity_of(address).and_then(|name| Identity::parse(&name))
    }
}

/// One round of judging: the notes are read once, the host's sockets when first asked for.
pub struct Round<'a> {
    says: &'a dyn Says,
    notes: HashMap<u64, HashMap<ConnectionKey, LiveRecord>>,
    host: Option<HashSet<Ends>>,
    /// Ended by XDP, under this root.
    xdp: Option<&'a Root>,
}

impl<'a> Round<'a> {
    /// Reads `map_of_tuple`.
    pub fn begin(k: &dyn Tables, says: &'a dyn Says) -> Result<Self, LiveError> {
        let mut notes: HashMap<u64, HashMap<_, _>> = HashMap::new();
        for (key, note) in notes_of(k).map_err(on("read the notes of live connections"))? {
            notes.entry(key.cookie).or_default().insert(key, note);
        }
        Ok(Self { says, notes, host: None, xdp: None })
    }

    /// What is denied is ended this way.
    #[must_use]
    pub fn ending(self, how: Revoke, root: &'a Root) -> Self {
        Self { xdp: Some(root).filter(|_| how == Revoke::Xdp), ..self }
    }

    /// Judges the inbound connections of a pod; with `from`, only those from these addresses. What
    /// is denied is ended.
    pub fn pod(
        &mut self,
        k: &mut dyn Kernel,
        pod: &Record,
        from: Option<&HashSet<IpAddr>>,
    ) -> Result<Judged, LiveError> {
        let set = set_of(pod);
        if set == POLICY_NONE {
            return lift(k, pod.cookie).map(|()| Judged::default());
        }
        if set == POLICY_WAIT {
            return Ok(Judged::default());
        }
        let policies = self.says.policies(set);
        let mut all = Judged::default();
        for look in 0..LOOKS {
            let sockets = list(&*k, pod)?;
            if look == 0 && from.is_none() {
                all.swept = self.sweep(k, pod, &sockets)?;
            }
            let denied = self.denied(&*k, pod, &policies, &sockets, from, &mut all.judged)?;
            if look == 0 {
                spare(k, pod, &denied, from)?;
            }
            if denied.is_empty() {
                break;
            }
            let ended = end(k, self.xdp, pod, denied)?;
            all.ended.extend(ended.new);
            if !ended.again {
                break;
            }
        }
        Ok(all)
    }

    /// The inbound connections that would not be let in now.
    fn denied(
        &mut self,
        k: &dyn Kernel,
        pod: &Record,
        policies: &[Arc<Policy>],
        sockets: &[TcpSocket],
        from: Option<&HashSet<IpAddr>>,
        judged: &mut usize,
    ) -> Result<Vec<(TcpSocket, Ended)>, LiveError> {
        let empty = HashMap::new();
        let notes = self.notes.get(&pod.cookie).unwrap_or(&empty);
        let mut denied = Vec::new();
        for found in inbound::of(pod.cookie, sockets, notes) {
            let source = found.socket.peer.ip();
            if from.is_some_and(|from| !from.contains(&source)) {
                continue;
            }
            *judged += 1;
            if let Some(ended) = verdict(self.says, policies, &found)
                && !found.own
                && !matches!(found.why, Some(LiveWhy::Local | LiveWhy::Host))
            {
                denied.push((found.socket, ended));
            }
        }
        if !denied.is_empty() {
            let host = self.host(k)?;
            denied.retain(|(socket, _)| !host.contains(&Ends::of(socket).mirrored()));
        }
        Ok(denied)
    }

    /// The ends of the sockets of the host's own namespace.
    fn host(&mut self, k: &dyn Kernel) -> Result<&HashSet<Ends>, LiveError> {
        if self.host.is_none() {
            let own = Path::new(OWN_NETNS);
            let cookie = crate::netns::cookie_of(own).map_err(LiveError::Host)?;
            let sockets =
                k.tcp_sockets(own, cookie).map_err(on("list the host's own connections"))?;
            self.host = Some(sockets.iter().map(Ends::of).collect());
        }
        Ok(self.host.get_or_insert_default())
    }

    /// Removes notes whose socket is no more: of before an attach anew, or of a larger map.
    fn sweep(
        &self,
        k: &mut dyn Kernel,
        pod: &Record,
        sockets: &[TcpSocket],
    ) -> Result<usize, LiveError> {
        let alive: HashSet<u64> = sockets.iter().map(|socket| socket.cookie).collect();
        let mut swept = 0;
        for (key, note) in self.notes.get(&pod.cookie).into_iter().flatten() {
            if !alive.contains(&note.socket) {
                swept += usize::from(forget(k, Map::Tuple, key, note.socket)?);
            }
        }
        for (key, revoked) in revoked_of(&*k, pod.cookie)? {
            if !alive.contains(&revoked.socket) {
                forget(k, Map::Auth, &key, revoked.socket)?;
            }
        }
        Ok(swept)
    }
}

/// The pod's policy set, none where its connections pass.
fn set_of(pod: &Record) -> u16 {
    let governed = |word: &ManagerWord| word.flags() & ManagerWord::MANAGED != 0 && !word.bypass();
    pod.word.filter(governed).map_or(POLICY_NONE, ManagerWord::policy_set)
}

fn list(k: &dyn Kernel, pod: &Record) -> Result<Vec<TcpSocket>, LiveError> {
    let op = || format!("judge the live connections of pod {}", name_of(pod));
    k.tcp_sockets(&netns_of(pod)?, pod.cookie)
        .map_err(|source| LiveError::Kernel { op: op(), source })
}

fn netns_of(pod: &Record) -> Result<PathBuf, LiveError> {
    pod.netns.clone().ok_or(LiveError::NoNamespace { cookie: pod.cookie })
}

fn name_of(pod: &Record) -> String {
    pod.uid.clone().unwrap_or_else(|| format!("of netns cookie {}", pod.cookie))
}

/// What the policies say against a connection.
fn verdict(says: &dyn Says, policies: &[Arc<Policy>], found: &Inbound) -> Option<Ended> {
    let (source, to) = (found.socket.peer.ip(), found.socket.local);
    let identity = says.identity(source);
    let connection =
        Connection { source, identity: identity.as_ref(), destination: to.ip(), port: to.port() };
    let (reason, policy) = match judge(policies, &connection).reason {
        Reason::Allowed(_) | Reason::NoneApplies => return None,
        Reason::Denied(hit) => (RevokedReason::Denied, Some(hit.policy.name.clone())),
        Reason::NoneAllows => (RevokedReason::NoAllow, None),
    };
    Some(Ended { connection: found.key, reason, policy })
}

#[cfg(test)]
mod tests;
