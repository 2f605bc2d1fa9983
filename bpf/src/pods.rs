//! Pods: who is managed. One record per network namespace: its word in `map_of_manager`, its
//! directory `pods/<cookie>/` with `uid` and `netns` as symbolic links, and its hook.
//!
//! ```text
//!  enrol:    directory → word → hook     a hook without a word lets everybody in
//!  un-enrol: word → hook → directory     what is half removed is not managed any more
//! ```
//! Owned per pod, outside the model's generation, under a short lock on `pods/`: whoever sees the
//! pod first writes it. It refuses to remove a record whose namespace may still be alive, other
//! than by the pod's uid.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use crate::kernel::{EntryKind, Kernel, KernelError, Outcome, Put};
use crate::layout::{ManagerWord, Map, POLICY_WAIT, cookie_tag};
use crate::netns::NetnsError;
use crate::pins::Root;

mod adopt;
mod hook;
pub mod xdp;

pub use crate::tables::Standing;
pub(crate) use adopt::strangers_of;
pub use adopt::{HooksAdopted, Stranger, adopt, note_host, strangers};
use hook::Whose;
pub use hook::{Ground, HookCondition, Hooked, PodHook};

/// The symbolic link that says a pod's uid.
const UID: &str = "uid";
/// The symbolic link that says the path of a pod's network namespace.
const NETNS: &str = "netns";

/// A pod to enrol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The cookie of its network namespace.
    pub cookie: u64,
    /// The uid of its workload.
    pub uid: String,
    /// A path of its network namespace.
    pub netns: PathBuf,
    /// Its connections pass as if Kmesh were not there.
    pub bypass: bool,
}

/// What became of an enrolment.
#[derive(Debug)]
#[must_use = "the pod may be without its hook"]
pub struct Enrolled {
    /// The word that is now in the map.
    pub word: ManagerWord,
    /// Whether the map was written: what is there already is not written again.
    pub written: bool,
    /// What was done for its hook, or why it is without: then its connections are not authorized.
    pub hook: Result<Hooked, PodsError>,
}

/// A pod that is enrolled, or half so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The cookie of its network namespace.
    pub cookie: u64,
    /// Its word; `None`: a directory without an entry.
    pub word: Option<ManagerWord>,
    /// Its workload's uid, where its directory says it.
    pub uid: Option<String>,
    /// The path of its network namespace, where its directory says it.
    pub netns: Option<PathBuf>,
}

impl Record {
    /// Whether its connections pass as if Kmesh were not there.
    #[must_use]
    pub fn bypass(&self) -> bool {
        self.word.is_some_and(ManagerWord::bypass)
    }
}

/// Why a pod could not be enrolled, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum PodsError {
    /// The kernel refused.
    #[error("{op}")]
    Kernel {
        /// What was attempted, on which pod.
        op: String,
        /// What it said.
        #[source]
        source: KernelError,
    },
    /// A pod is managed and its connections are not authorized: it has no hook, or another build's.
    #[error(
        "attach the authorization of pod {pod} to its network namespace {}; {}",
        netns.display(), remedy(source)
    )]
    Hook {
        /// The pod.
        pod: String,
        /// Where its namespace should be.
        netns: PathBuf,
        /// What the kernel said.
        #[source]
        source: KernelError,
    },
    /// Something else is pinned where a pod's link belongs.
    #[error(
        "attach the authorization of pod {pod}: {what} is pinned at {} and is not Kmesh's; it was \
         left alone. Remove it: rm {}", path.display(), path.display()
    )]
    Foreign {
        /// The pod.
        pod: String,
        /// The pin.
        path: PathBuf,
        /// What lies there.
        what: String,
    },
    /// Which namespaces are alive is not known, so none is swept.
    #[error("sweep pods whose namespace is gone")]
    Alive(#[source] NetnsError),
}

/// What an operator does about a hook that the kernel refuses.
fn remedy(source: &KernelError) -> &'static str {
    let errno = match source {
        KernelError::Attach { source, .. } => source.raw_os_error(),
        KernelError::Load { .. } => {
            return "Kmesh needs Linux 6.1 with BTF; see kmeshctl verify";
        }
        _ => None,
    };
    match errno {
        Some(libc::EPERM | libc::EACCES) => {
            "run as root of the host, with CAP_BPF and CAP_NET_ADMIN"
        }
        Some(libc::E2BIG) => {
            "64 programs are attached there, the most that the kernel allows: detach one \
             (bpftool link list)"
        }
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            "the kernel must have CONFIG_BPF_SYSCALL and CONFIG_INET"
        }
        _ => "see whether the namespace is still there; it is tried again until it works",
    }
}

/// Makes a pod managed, or brings its bypass flag, uid, backend, policy set and hook up to date.
pub fn enrol(
    k: &mut dyn Kernel,
    root: &Root,
    pod: &Pod,
    standing: Standing,
) -> Result<Enrolled, PodsError> {
    let failed = |source| {
        let op = format!("enrol pod {} (netns cookie {})", pod.uid, pod.cookie);
        PodsError::Kernel { op, source }
    };
    make_dir(k, &root.pods()).map_err(failed)?;
    let _lock = k.lock_dir(&root.pods()).map_err(failed)?;
    let same_pod = write_dir(k, root, pod).map_err(failed)?;
    let (word, written) = write_word(k, pod, standing, same_pod).map_err(failed)?;
    let ground = Ground::of(k, root).map_err(failed)?;
    let whose = Whose {
        cookie: pod.cookie,
        uid: Some(&pod.uid).filter(|uid| !uid.is_empty()).map(String::as_str),
    };
    let hook = hook::ensure(k, root, &ground, whose, &pod.netns);
    Ok(Enrolled { word, written, hook })
}

/// Writes the pod's word unless it is there; the word, and whether it was written.
fn write_word(
    k: &mut dyn Kernel,
    pod: &Pod,
    standing: Standing,
    same_pod: bool,
) -> Result<(ManagerWord, bool), KernelError> {
    loop {
        let there = word_of(k, pod.cookie)?;
        let word = wanted(pod, standing, there.filter(|_| same_pod));
        if there == Some(word) {
            return Ok((word, false));
        }
        let put = if there.is_some() { Put::Exist } else { Put::NoExist };
        let (key, value) = (pod.cookie.to_ne_bytes(), word.0.to_ne_bytes());
        // Unmet: another hand was faster; look again.
        if k.update(Map::Manager, &key, &value, put)? == Outcome::Done {
            return Ok((word, true));
        }
    }
}

/// Removes the records of the pod with this uid; their cookies.
pub fn unenrol(k: &mut dyn Kernel, root: &Root, uid: &str) -> Result<Vec<u64>, PodsError> {
    let op = || format!("un-enrol pod {uid}");
    let failed = |source| PodsError::Kernel { op: op(), source };
    if k.list(&root.pods()).map_err(failed)?.is_none() {
        return Ok(Vec::new());
    }
    let _lock = k.lock_dir(&root.pods()).map_err(failed)?;
    let records = records(k, root).map_err(failed)?;
    let mut cookies = Vec::new();
    for record in records.iter().filter(|record| record.uid.as_deref() == Some(uid)) {
        remove(k, root, record.cookie).map_err(failed)?;
        cookies.push(record.cookie);
    }
    Ok(cookies)
}

/// Removes these records again, by cookie and uid: whoever enrolled them takes them back.
pub fn take_back(k: &mut dyn Kernel, root: &Root, pods: &[(u64, &str)]) -> Result<(), PodsError> {
    let failed = |source| PodsError::Kernel { op: "take pods back".to_owned(), source };
    if pods.is_empty() || k.list(&root.pods()).map_err(failed)?.is_none() {
        return Ok(());
    }
    let _lock = k.lock_dir(&root.pods()).map_err(failed)?;
    for record in records(k, root).map_err(failed)? {
        let uid = record.uid.as_deref().unwrap_or_default();
        if pods.contains(&(record.cookie, uid)) {
            remove(k, root, record.cookie).map_err(failed)?;
        }
    }
    Ok(())
}

/// Every record, sorted by cookie. Takes no lock.
pub fn list(k: &dyn Kernel, root: &Root) -> Result<Vec<Record>, PodsError> {
    let op = "list enrolled pods".to_owned();
    records(k, root).map_err(|source| PodsError::Kernel { op, source })
}

/// The record of one namespace; empty where there is none. Takes no lock.
pub fn one(k: &dyn Kernel, root: &Root, cookie: u64) -> Result<Record, PodsError> {
    let op = || format!("look at the pod of netns cookie {cookie}");
    let failed = |source| PodsError::Kernel { op: op(), source };
    let word = word_of(k, cookie).map_err(failed)?;
    let mut record = Record { cookie, word, uid: None, netns: None };
    say_dir(&mut record, &k.list(&root.pod(cookie)).map_err(failed)?.unwrap_or_default());
    Ok(record)
}

/// Removes the records whose namespace `alive` does not name. `alive` is asked after the records
/// were listed, under the lock, so that a pod enrolled meanwhile is never taken for dead.
#[expect(clippy::implicit_hasher, reason = "what `netns::alive_cookies` answers")]
pub fn sweep(
    k: &mut dyn Kernel,
    root: &Root,
    alive: &dyn Fn() -> Result<HashSet<u64>, NetnsError>,
) -> Result<Vec<Record>, PodsError> {
    let failed = |source| PodsError::Kernel { op: "sweep dead pods".to_owned(), source };
    if records(k, root).map_err(failed)?.is_empty() {
        return Ok(Vec::new());
    }
    make_dir(k, &root.pods()).map_err(failed)?;
    let _lock = k.lock_dir(&root.pods()).map_err(failed)?;
    let mut records = records(k, root).map_err(failed)?;
    let alive = alive().map_err(PodsError::Alive)?;
    records.retain(|record| !alive.contains(&record.cookie));
    for record in &records {
        remove(k, root, record.cookie).map_err(failed)?;
    }
    Ok(records)
}

/// The word that the pod shall have, given the one that it has.
fn wanted(pod: &Pod, standing: Standing, there: Option<ManagerWord>) -> ManagerWord {
    let there = there.filter(|word| word.tag() == cookie_tag(pod.cookie));
    let flags = ManagerWord::MANAGED | if pod.bypass { ManagerWord::BYPASS } else { 0 };
    let backend = standing.backend.or_else(|| there.and_then(ManagerWord::backend));
    let policy_set = match there {
        // What is wanted is not in the tables (it did not fit): the pod keeps what it has.
        Some(there) if standing.policy_set == POLICY_WAIT => there.policy_set(),
        _ => standing.policy_set,
    };
    ManagerWord::new(pod.cookie, backend, policy_set, flags)
}

fn word_of(k: &dyn Kernel, cookie: u64) -> Result<Option<ManagerWord>, KernelError> {
    let mut value = [0; 8];
    let there = k.lookup(Map::Manager, &cookie.to_ne_bytes(), &mut value)?;
    Ok(there.then(|| ManagerWord(u64::from_ne_bytes(value))))
}

fn make_dir(k: &mut dyn Kernel, dir: &Path) -> Result<(), KernelError> {
    if k.list(dir)?.is_none() { k.make_dir(dir) } else { Ok(()) }
}

/// Writes the pod's directory, before its word: what is half enrolled is not managed yet. False
/// where it spoke of another pod so far.
fn write_dir(k: &mut dyn Kernel, root: &Root, pod: &Pod) -> Result<bool, KernelError> {
    let dir = root.pod(pod.cookie);
    make_dir(k, &dir)?;
    let netns = pod.netns.to_string_lossy();
    let there = k.list(&dir)?.unwrap_or_default();
    let mut same_pod = true;
    for (name, text) in [(UID, pod.uid.as_str()), (NETNS, &netns)] {
        let said = symlink(&there, name);
        same_pod &= name != UID || said.is_none_or(|said| said == text);
        // What is not known is not written, and does not undo what is.
        if said != Some(text) && !text.is_empty() {
            k.symlink(&dir.join(name), text)?;
        }
    }
    Ok(same_pod)
}

fn symlink<'a>(entries: &'a [(String, EntryKind)], name: &str) -> Option<&'a str> {
    entries.iter().find_map(|(entry, kind)| match kind {
        EntryKind::Symlink(text) if entry == name => Some(text.as_str()),
        _ => None,
    })
}

/// Removes a record: the word first, so that what is half removed is not managed any more.
fn remove(k: &mut dyn Kernel, root: &Root, cookie: u64) -> Result<(), KernelError> {
    k.delete(Map::Manager, &cookie.to_ne_bytes())?;
    hook::detach(k, root, cookie)?;
    xdp::take_away(k, root, cookie)?;
    let dir = root.pod(cookie);
    for (name, _) in k.list(&dir)?.unwrap_or_default() {
        k.unpin(&dir.join(name))?;
    }
    k.remove_dir(&dir)
}

fn records(k: &dyn Kernel, root: &Root) -> Result<Vec<Record>, KernelError> {
    let empty = |cookie| Record { cookie, word: None, uid: None, netns: None };
    let mut records = BTreeMap::new();
    k.scan(Map::Manager, 0, &mut |keys, values| {
        for (cookie, word) in words(keys).zip(words(values)) {
            records.insert(cookie, Record { word: Some(ManagerWord(word)), ..empty(cookie) });
        }
    })?;
    for (name, kind) in k.list(&root.pods())?.unwrap_or_default() {
        let (Ok(cookie), EntryKind::Dir) = (name.parse::<u64>(), kind) else {
            continue;
        };
        // Removed meanwhile by its owner: no record.
        let Some(entries) = k.list(&root.pod(cookie))? else {
            continue;
        };
        let record = records.entry(cookie).or_insert_with(|| empty(cookie));
        say_dir(record, &entries);
    }
    Ok(records.into_values().collect())
}

/// What the pod's directory says.
fn say_dir(record: &mut Record, entries: &[(String, EntryKind)]) {
    record.uid = symlink(entries, UID).map(str::to_owned);
    record.netns = symlink(entries, NETNS).map(PathBuf::from);
}

/// A run of u64 as the map has them.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned)
}
