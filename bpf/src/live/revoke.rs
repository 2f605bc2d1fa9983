//! How a live connection is ended: by `SOCK_DESTROY`, or by an XDP program that turns what its client
//! sends into a reset. By either, `map_of_auth` says which are under way.
//!
//! It refuses to leave the XDP program at a pod's interfaces when nothing is to end.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::notes::{forget, on, revoked_of};
use super::{Ended, LiveError, list, name_of, netns_of};
use crate::kernel::{Kernel, KernelError, Outcome, Put, TcpSocket};
use crate::layout::{ConnectionKey, Map, RevokedRecord};
use crate::pins::Root;
use crate::pods::{Record, xdp};

/// How live connections are ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Revoke {
    /// By `SOCK_DESTROY`: at once, both ends see a reset.
    #[default]
    Destroy,
    /// By an XDP program at the pod's interfaces, with the client's next packet.
    Xdp,
}

/// What became of connections that were to end.
pub(super) struct Ending {
    /// Those that end by this, and not by something before.
    pub(super) new: Vec<Ended>,
    /// It may be worth while to look again.
    pub(super) again: bool,
}

/// Ends these connections of a pod; with `xdp`, sees to it that they end.
pub(super) fn end(
    k: &mut dyn Kernel,
    xdp: Option<&Root>,
    pod: &Record,
    denied: Vec<(TcpSocket, Ended)>,
) -> Result<Ending, LiveError> {
    let before: HashMap<_, _> = revoked_of(&*k, pod.cookie)?.into_iter().collect();
    for (socket, ended) in &denied {
        note(k, xdp.is_some(), socket.cookie, ended)?;
    }
    let Some(root) = xdp else {
        return destroy(k, pod, denied);
    };
    let op = || format!("end live connections of pod {} that policies deny", name_of(pod));
    xdp::attach(k, root, pod)
        .map_err(|source| LiveError::Pod { op: op(), source: Box::new(source) })?;
    let is_new = |socket: u64, ended: &Ended| {
        before.get(&ended.connection).is_none_or(|there| there.socket != socket)
    };
    let new = denied.into_iter().filter(|(socket, ended)| is_new(socket.cookie, ended));
    let new: Vec<_> = new.map(|(_, ended)| ended).collect();
    Ok(Ending { again: !new.is_empty(), new })
}

fn note(k: &mut dyn Kernel, ends: bool, socket: u64, ended: &Ended) -> Result<(), LiveError> {
    let record = RevokedRecord::new(&ended.connection, socket, ended.reason);
    let (key, value) = (bytemuck::bytes_of(&ended.connection), bytemuck::bytes_of(&record));
    match k.update(Map::Auth, key, value, Put::Any) {
        Ok(Outcome::Done | Outcome::Unmet) => Ok(()),
        // It says what is under way, and ends nothing by itself.
        Err(KernelError::Full { .. }) if !ends => Ok(()),
        Err(source) => Err(on("note what is to end")(source)),
    }
}

/// Ends them by their cookies, and takes the notes away.
fn destroy(
    k: &mut dyn Kernel,
    pod: &Record,
    denied: Vec<(TcpSocket, Ended)>,
) -> Result<Ending, LiveError> {
    let sockets: Vec<_> = denied.iter().map(|(socket, _)| *socket).collect();
    let ended = k.end_sockets(&netns_of(pod)?, pod.cookie, &sockets).map_err(|source| {
        let unsupported = matches!(
            &source,
            KernelError::System { source, .. } if source.raw_os_error() == Some(libc::EOPNOTSUPP)
        );
        if unsupported {
            return LiveError::Unsupported { uid: name_of(pod) };
        }
        let op = format!("end live connections of pod {} that policies deny", name_of(pod));
        LiveError::Kernel { op, source }
    })?;
    for (socket, ended) in &denied {
        forget(k, Map::Auth, &ended.connection, socket.cookie)?;
    }
    let new = denied.into_iter().map(|(_, ended)| ended).collect();
    Ok(Ending { new, again: ended > 0 })
}

/// What was to end and is not denied any more lives on; with `from`, of those from there.
pub(super) fn spare(
    k: &mut dyn Kernel,
    pod: &Record,
    denied: &[(TcpSocket, Ended)],
    from: Option<&HashSet<IpAddr>>,
) -> Result<(), LiveError> {
    let still: HashSet<&ConnectionKey> =
        denied.iter().map(|(_, ended)| &ended.connection).collect();
    for (key, revoked) in revoked_of(&*k, pod.cookie)? {
        let asked = from.is_none_or(|from| from.contains(&key.from().ip()));
        if asked && !still.contains(&key) {
            forget(k, Map::Auth, &key, revoked.socket)?;
        }
    }
    Ok(())
}

/// Looks after a pod's XDP program: forgets connections that have ended, brings the program to
/// interfaces that came, and takes it away when nothing is left to end, or when connections are
/// ended otherwise. Whether something is left.
pub fn tend(k: &mut dyn Kernel, root: &Root, how: Revoke, pod: &Record) -> Result<bool, LiveError> {
    let op = || format!("look after the XDP program of pod {}", name_of(pod));
    let failed = |source| LiveError::Pod { op: op(), source: Box::new(source) };
    let revoked = revoked_of(&*k, pod.cookie)?;
    let mut left = false;
    if how == Revoke::Xdp && !revoked.is_empty() {
        let alive: HashSet<u64> = list(&*k, pod)?.iter().map(|socket| socket.cookie).collect();
        for (key, revoked) in revoked {
            if alive.contains(&revoked.socket) {
                left = true;
            } else {
                forget(k, Map::Auth, &key, revoked.socket)?;
            }
        }
    }
    if left {
        xdp::attach(k, root, pod).map_err(failed)?;
    } else {
        xdp::detach(k, root, pod.cookie).map_err(failed)?;
    }
    Ok(left)
}
