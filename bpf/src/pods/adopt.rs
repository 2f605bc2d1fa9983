//! Adoption of the pods' hooks, at every start and from time to time: each is brought to this
//! build's program, what is missing is attached. A hook that needs nothing costs no write and no
//! load.
//!
//! It refuses nothing for all because of one: what cannot be done for a pod is told of that pod.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::kernel::{Id, Kernel, KernelError, Outcome, Pinned, Put};
use crate::layout::{Hook, Map, SettingsWords};
use crate::netns::{Held, NetnsError};
use crate::pins::Root;

use super::hook::{self, Ground, Hooked, PodHook, Whose};
use super::{PodsError, Record, make_dir, records, word_of};

/// Finds the living namespaces with these cookies: [`crate::netns::find`].
pub type Find<'a> = &'a dyn Fn(&HashSet<u64>) -> Result<HashMap<u64, Held>, NetnsError>;

/// What [`adopt`] did.
#[derive(Debug, Default)]
pub struct HooksAdopted {
    /// Pods whose hook was as it should be.
    pub kept: usize,
    /// Pods whose hook was attached.
    pub attached: Vec<Record>,
    /// Pods whose hook's program was replaced, atomically.
    pub replaced: Vec<Record>,
    /// Pods whose namespace is gone: to be swept.
    pub gone: Vec<Record>,
    /// Pods that are managed and have no hook of this build, and why.
    pub failed: Vec<(Record, PodsError)>,
}

/// A program beside ours in a pod's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The cookie of the namespace.
    pub cookie: u64,
    /// The pod's uid, where it is known.
    pub uid: Option<String>,
    /// The program's id.
    pub program: u32,
    /// The kernel's name of it.
    pub name: String,
}

/// Brings every managed pod's hook to this build. The maps were adopted before; the caller is the
/// writer.
pub fn adopt(k: &mut dyn Kernel, root: &Root, find: Find<'_>) -> Result<HooksAdopted, PodsError> {
    let failed = |source| PodsError::Kernel { op: "look at the pods' hooks".to_owned(), source };
    let mut done = HooksAdopted::default();
    let mut todo = Vec::new();
    let ground = Ground::of(k, root).map_err(failed)?;
    for record in records(k, root).map_err(failed)? {
        if record.word.is_none() {
            continue;
        }
        if PodHook::of(k, root, &ground, record.cookie).map_err(failed)?.is_settled() {
            done.kept += 1;
        } else {
            todo.push(record);
        }
    }
    if todo.is_empty() {
        return Ok(done);
    }
    make_dir(k, &root.pods()).map_err(failed)?;
    let _lock = k.lock_dir(&root.pods()).map_err(failed)?;
    let mut lost = Vec::new();
    for record in todo {
        // Un-enrolled meanwhile.
        if word_of(k, record.cookie).map_err(failed)?.is_none() {
            continue;
        }
        let netns = record.netns.clone().unwrap_or_default();
        match bring(k, root, &ground, &record, &netns) {
            Ok(hooked) => done.note(hooked, record),
            Err(why @ PodsError::Foreign { .. }) => done.failed.push((record, why)),
            Err(why) => lost.push((record, why)),
        }
    }
    seek(k, root, &ground, lost, find, &mut done);
    Ok(done)
}

impl HooksAdopted {
    fn note(&mut self, hooked: Hooked, record: Record) {
        match hooked {
            Hooked::Kept => self.kept += 1,
            Hooked::Attached => self.attached.push(record),
            Hooked::Replaced => self.replaced.push(record),
        }
    }
}

/// Those whose namespace is not where their directory says: it may be found elsewhere.
fn seek(
    k: &mut dyn Kernel,
    root: &Root,
    ground: &Ground,
    lost: Vec<(Record, PodsError)>,
    find: Find<'_>,
    done: &mut HooksAdopted,
) {
    if lost.is_empty() {
        return;
    }
    let found = match find(&lost.iter().map(|(record, _)| record.cookie).collect()) {
        Ok(found) => found,
        Err(why) => {
            tracing::warn!("pods' namespaces were looked for only where they were last: {why}");
            return done.failed.extend(lost);
        }
    };
    for (record, _) in lost {
        match found.get(&record.cookie) {
            None => done.gone.push(record),
            Some(held) => match bring(k, root, ground, &record, &held.path()) {
                Ok(hooked) => done.note(hooked, record),
                Err(why) => done.failed.push((record, why)),
            },
        }
    }
}

fn bring(
    k: &mut dyn Kernel,
    root: &Root,
    ground: &Ground,
    record: &Record,
    netns: &Path,
) -> Result<Hooked, PodsError> {
    let whose = Whose { cookie: record.cookie, uid: record.uid.as_deref() };
    let made = make_dir(k, &root.pod(record.cookie));
    made.map_err(|source| PodsError::Kernel { op: format!("hook pod {whose}"), source })?;
    hook::ensure(k, root, ground, whose, netns)
}

/// Programs at the same hook in the pods' namespaces that are not ours, as far as the namespaces
/// are where the pods' directories say.
pub fn strangers(k: &dyn Kernel, root: &Root) -> Result<Vec<Stranger>, PodsError> {
    let op = || "look for other programs in pods' network namespaces".to_owned();
    let failed = |source| PodsError::Kernel { op: op(), source };
    let mut strangers = Vec::new();
    for record in records(k, root).map_err(failed)? {
        strangers.extend(strangers_of(k, root, &record).map_err(failed)?);
    }
    Ok(strangers)
}

/// Those of one pod.
pub(crate) fn strangers_of(
    k: &dyn Kernel,
    root: &Root,
    record: &Record,
) -> Result<Vec<Stranger>, KernelError> {
    let own = match k.pinned(&root.pod_link(record.cookie))? {
        Some(Pinned::Link(link)) => link.prog_id,
        _ => return Ok(Vec::new()),
    };
    let Some(netns) = &record.netns else {
        return Ok(Vec::new());
    };
    // A path that leads nowhere, or to another namespace by now, tells nothing of this pod.
    let there = k.attached(Hook::SkLookup, netns).unwrap_or_default();
    if !there.contains(&own) {
        return Ok(Vec::new());
    }
    let mut strangers = Vec::new();
    for program in there.into_iter().filter(|id| *id != own) {
        if let Some(Pinned::Prog(info)) = k.by_id(Id::Prog(program))? {
            let (cookie, uid) = (record.cookie, record.uid.clone());
            strangers.push(Stranger { cookie, uid, program, name: info.name });
        }
    }
    Ok(strangers)
}

/// Tells the programs which network namespace is the host's own: what its sockets dial is exempt.
/// True where that was written.
pub fn note_host(k: &mut dyn Kernel, cookie: u64) -> Result<bool, PodsError> {
    let op = || format!("note the host's netns cookie {cookie} in kmesh_settings");
    let failed = |source| PodsError::Kernel { op: op(), source };
    let key = u32::try_from(SettingsWords::HOST).unwrap_or_default().to_ne_bytes();
    let mut there = [0; 8];
    k.lookup(Map::Settings, &key, &mut there).map_err(failed)?;
    if u64::from_ne_bytes(there) == cookie {
        return Ok(false);
    }
    let put = k.update(Map::Settings, &key, &cookie.to_ne_bytes(), Put::Any).map_err(failed)?;
    Ok(put == Outcome::Done)
}
