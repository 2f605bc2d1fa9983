//! Enrols the pods that the source names by their network namespace, and removes those that are
//! gone.
//!
//! A namespace that is not there yet is waited for; a pod's record is removed only when the
//! source no longer names the pod, or when its namespace is verifiably gone. Namespaces are told
//! apart by what `stat` says of them, so that looking at all of them costs a call each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use kmesh_bpf::kernel::Kernel;
use kmesh_bpf::netns;
use kmesh_bpf::pins::Root;
use kmesh_bpf::pods::{self, PodsError};
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::Change;
use tracing::{error, info, warn};

use crate::model::{Name, Pod};
use crate::status::Status;

/// How often dead namespaces are looked for.
const SWEEP: Duration = Duration::from_secs(30);

/// How often namespaces are looked at, at most.
const LOOK: Duration = Duration::from_millis(500);

/// What tells one namespace at a path from the next one there.
type Stamp = (u64, u64, i64, i64);

/// The pods of this node.
#[derive(Debug, Default)]
pub(super) struct Pods {
    wanted: Vec<Pod>,
    /// Where each pod was enrolled.
    enrolled: HashMap<Name, (Stamp, u64)>,
    /// Why pods are not enrolled.
    waiting: BTreeMap<Name, String>,
    /// All are to be enrolled anew, and those that are not wanted removed.
    all: bool,
    looked: Option<Instant>,
    sweep_at: Option<Instant>,
    blind: bool,
}

impl Pods {
    /// These are all pods that the source names.
    pub(super) fn want(&mut self, wanted: Vec<Pod>) {
        self.wanted = wanted;
        self.all = true;
    }

    /// The tables changed: a pod's record may name its workload now, if that is among them.
    pub(super) fn follow(&mut self, change: &Change) {
        let known = |uid: &Name| self.wanted.iter().any(|pod| pod.uid == *uid);
        self.all |= change.all_workloads || change.workloads.iter().any(|(uid, _)| known(uid));
    }

    /// Enrols what is new or has moved, and removes what is gone. Only after the source's first
    /// complete answer.
    pub(super) fn look(
        &mut self,
        k: &mut dyn Kernel,
        root: &Root,
        have: &mut Have,
        status: &Status,
    ) {
        let now = Instant::now();
        if !self.all && self.looked.is_some_and(|at| now < at + LOOK) {
            return;
        }
        self.looked = Some(now);
        if self.all {
            match self.remove_unwanted(k, root, have) {
                Ok(()) => self.all = false,
                Err(why) => error!("{}; trying again", crate::chain(&why)),
            }
            self.enrolled.clear();
        }
        for pod in self.wanted.clone() {
            match self.look_at(k, root, have, &pod) {
                Ok(()) => {
                    self.waiting.remove(&pod.uid);
                }
                Err(why) => self.wait_for(&pod, why),
            }
        }
        self.sweep(k, root, have);
        let mut facts = status.facts();
        facts.pods = self.enrolled.len();
        facts.pods_waiting =
            self.waiting.iter().map(|(uid, why)| format!("{uid}: {why}")).collect();
    }

    fn wait_for(&mut self, pod: &Pod, why: String) {
        self.enrolled.remove(&pod.uid);
        if self.waiting.get(&pod.uid) != Some(&why) {
            warn!("pod {} is not enrolled: {why}; looking again every 2 s", pod.uid);
            self.waiting.insert(pod.uid.clone(), why);
        }
    }

    fn look_at(
        &mut self,
        k: &mut dyn Kernel,
        root: &Root,
        have: &mut Have,
        pod: &Pod,
    ) -> Result<(), String> {
        let path = netns::resolve(&pod.netns).map_err(|why| crate::chain(&why))?;
        let stamp = stamp(&path).map_err(|why| format!("{}: {why}", path.display()))?;
        let known = self.enrolled.get(&pod.uid);
        if known.is_some_and(|(before, _)| *before == stamp) {
            return Ok(());
        }
        let cookie = netns::cookie_of(&path).map_err(|why| crate::chain(&why))?;
        let twin = self.enrolled.iter().find(|(uid, known)| known.1 == cookie && **uid != pod.uid);
        if let Some((other, _)) = twin {
            return Err(format!("netns {} is also that of {other}", pod.netns));
        }
        let record =
            pods::Pod { cookie, uid: pod.uid.to_string(), netns: path, bypass: pod.bypass };
        let failed = |why: PodsError| crate::chain(&why);
        Self::leave_others(k, root, have, &record).map_err(failed)?;
        let backend = have.backend(&pod.uid);
        let done = pods::enrol(k, root, &record, backend).map_err(failed)?;
        have.note_manager(cookie, Some(done.word));
        if done.written {
            info!(pod = %pod.uid, netns = %pod.netns, bypass = pod.bypass, "enrolled");
        }
        self.enrolled.insert(pod.uid.clone(), (stamp, cookie));
        Ok(())
    }

    /// A pod is in one namespace: records of it in others go first.
    fn leave_others(
        k: &mut dyn Kernel,
        root: &Root,
        have: &mut Have,
        pod: &pods::Pod,
    ) -> Result<(), PodsError> {
        let records = pods::list(k, root)?;
        let elsewhere = |record: &&pods::Record| {
            record.uid.as_ref() == Some(&pod.uid) && record.cookie != pod.cookie
        };
        if records.iter().any(|record| elsewhere(&record)) {
            for cookie in pods::unenrol(k, root, &pod.uid)? {
                have.note_manager(cookie, None);
            }
        }
        Ok(())
    }

    fn remove_unwanted(
        &self,
        k: &mut dyn Kernel,
        root: &Root,
        have: &mut Have,
    ) -> Result<(), PodsError> {
        let wanted: HashSet<&str> = self.wanted.iter().map(|pod| &*pod.uid).collect();
        for record in pods::list(k, root)? {
            if let Some(uid) = record.uid.filter(|uid| !wanted.contains(uid.as_str())) {
                for cookie in pods::unenrol(k, root, &uid)? {
                    have.note_manager(cookie, None);
                    info!(pod = uid, "un-enrolled: the mesh file no longer names its netns");
                }
            }
        }
        Ok(())
    }

    fn sweep(&mut self, k: &mut dyn Kernel, root: &Root, have: &mut Have) {
        let now = Instant::now();
        if self.blind || self.sweep_at.is_some_and(|at| now < at) {
            return;
        }
        self.sweep_at = Some(now + SWEEP);
        match pods::sweep(k, root, &netns::alive_cookies) {
            Ok(dead) => {
                for record in dead {
                    have.note_manager(record.cookie, None);
                    self.enrolled.retain(|_, known| known.1 != record.cookie);
                    info!(pod = record.uid, cookie = record.cookie, "removed: its netns is gone");
                }
            }
            Err(PodsError::Alive(why @ netns::NetnsError::OutOfSight)) => {
                self.blind = true;
                warn!("pods whose namespace is gone are not removed: {why}");
            }
            Err(why) => error!("{}; trying again in 30 s", crate::chain(&why)),
        }
    }
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let said = std::fs::metadata(path)?;
    Ok((said.dev(), said.ino(), said.ctime(), said.ctime_nsec()))
}
