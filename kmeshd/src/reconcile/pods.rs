//! Enrols the pods that the source names by their network namespace, and removes those that are
//! gone.
//!
//! A namespace that is not there yet is waited for; a pod's record is removed only when the
//! source no longer names the pod, or when its namespace is verifiably gone. Where no source names
//! pods (a control plane alone does not), those that are enrolled stay. Namespaces are told
//! apart by what `stat` says of them, so that looking at all of them costs a call each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kmesh_bpf::apply::converge;
use kmesh_bpf::kernel::Kernel;
use kmesh_bpf::netns;
use kmesh_bpf::pins::Root;
use kmesh_bpf::pods::{self, PodsError};
use kmesh_bpf::tables::Have;
use kmesh_bpf::want::Change;
use tracing::{error, info, warn};

use super::hooks::Hooks;
use crate::model::{Name, Pod};
use crate::readiness::Readiness;
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
    /// A source has said which pods there are.
    told: bool,
    /// Where each pod was enrolled.
    enrolled: HashMap<Name, (Stamp, u64)>,
    /// Why pods are not enrolled.
    waiting: BTreeMap<Name, String>,
    /// All are to be enrolled anew, and those that are not wanted removed.
    all: bool,
    looked: Option<Instant>,
    sweep_at: Option<Instant>,
    blind: bool,
    hooks: Hooks,
}

impl Pods {
    /// These are all pods that the source names.
    pub(super) fn want(&mut self, wanted: Vec<Pod>) {
        self.wanted = wanted;
        self.told = true;
        self.all = true;
    }

    /// The uids of all pods that the source names.
    pub(super) fn uids(&self) -> HashSet<Name> {
        self.wanted.iter().map(|pod| pod.uid.clone()).collect()
    }

    /// Whether a change concerns pods: their records may name their workloads once these are there;
    /// what applies to a pod that the model does not know may be something else.
    pub(super) fn are_in(&self, change: &Change) -> bool {
        let known = |uid: &Name| self.wanted.iter().any(|pod| pod.uid == *uid);
        !change.policies.is_empty() || change.workloads.iter().any(|(uid, _)| known(uid))
    }

    /// The tables changed; `all`: in what concerns pods.
    pub(super) fn follow(&mut self, all: bool) {
        self.all |= all;
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
        let mut found = Vec::new();
        for pod in self.wanted.clone() {
            match self.locate(&pod) {
                Ok(None) => drop(self.waiting.remove(&pod.uid)),
                Ok(Some(stamp)) => found.push((pod, stamp)),
                Err(why) => self.wait_for(&pod, why),
            }
        }
        self.enrol_all(k, root, have, found, status);
        self.sweep(k, root, have);
        let mut facts = status.facts();
        facts.pods = self.enrolled.len();
        facts.pods_waiting = self.said();
    }

    /// Which pods wait for what.
    fn said(&self) -> Vec<String> {
        let waiting = self.waiting.iter().map(|(uid, why)| format!("{uid}: {why}"));
        let known = |uid: &&String| !self.waiting.contains_key(uid.as_str());
        let unhooked = self.hooks.unhooked().iter().filter(|(uid, _)| known(uid));
        waiting.chain(unhooked.map(|(uid, why)| format!("{uid}: {why}"))).collect()
    }

    /// Looks after the hooks of all pods, the sources' and others', where it is time.
    pub(super) fn watch_hooks(
        &mut self,
        k: &mut dyn Kernel,
        root: &Root,
        readiness: &Readiness,
        status: &Status,
    ) {
        if self.hooks.watch(k, root, readiness) {
            self.sweep_at = None;
        }
        let said = self.said();
        let mut facts = status.facts();
        facts.pods_unhooked = self.hooks.unhooked().len();
        facts.pods_waiting = said;
    }

    fn wait_for(&mut self, pod: &Pod, why: String) {
        self.enrolled.remove(&pod.uid);
        if self.waiting.get(&pod.uid) != Some(&why) {
            warn!("pod {} is not enrolled: {why}; looking again every 2 s", pod.uid);
            self.waiting.insert(pod.uid.clone(), why);
        }
    }

    /// Where the pod's namespace is, unless the pod is enrolled there.
    fn locate(&self, pod: &Pod) -> Result<Option<(Stamp, PathBuf)>, String> {
        let path = netns::resolve(&pod.netns).map_err(|why| crate::chain(&why))?;
        let stamp = stamp(&path).map_err(|why| format!("{}: {why}", path.display()))?;
        let known = self.enrolled.get(&pod.uid);
        let there = known.is_some_and(|(before, _)| *before == stamp);
        Ok((!there).then_some((stamp, path)))
    }

    /// Enrols the pods that were found: their policy sets first, then each with word and hook.
    fn enrol_all(
        &mut self,
        k: &mut dyn Kernel,
        root: &Root,
        have: &mut Have,
        found: Vec<(Pod, (Stamp, PathBuf))>,
        status: &Status,
    ) {
        if found.is_empty() {
            return;
        }
        let pods = found.iter().map(|(pod, _)| pod.uid.clone()).collect();
        let change = Change { pods, ..Change::default() };
        match converge(k, have, &change, &mut |_, _| {}) {
            Ok(applied) => status.note_refused(&applied),
            Err(why) => {
                let why = format!("its policies are not in the tables: {}", crate::chain(&why));
                return found.iter().for_each(|(pod, _)| self.wait_for(pod, why.clone()));
            }
        }
        for (pod, place) in found {
            match self.enrol(k, root, have, &pod, place) {
                Ok(()) => drop(self.waiting.remove(&pod.uid)),
                Err(why) => self.wait_for(&pod, why),
            }
        }
    }

    fn enrol(
        &mut self,
        k: &mut dyn Kernel,
        root: &Root,
        have: &mut Have,
        pod: &Pod,
        (stamp, path): (Stamp, PathBuf),
    ) -> Result<(), String> {
        let cookie = netns::cookie_of(&path).map_err(|why| crate::chain(&why))?;
        let twin = self.enrolled.iter().find(|(uid, known)| known.1 == cookie && **uid != pod.uid);
        if let Some((other, _)) = twin {
            return Err(format!("netns {} is also that of {other}", pod.netns));
        }
        let record =
            pods::Pod { cookie, uid: pod.uid.to_string(), netns: path, bypass: pod.bypass };
        let failed = |why: PodsError| crate::chain(&why);
        Self::leave_others(k, root, have, &record).map_err(failed)?;
        let standing = have.standing(&pod.uid, None);
        let done = pods::enrol(k, root, &record, standing).map_err(failed)?;
        have.note_manager(cookie, Some(done.word));
        if done.written {
            info!(pod = %pod.uid, netns = %pod.netns, bypass = pod.bypass, "enrolled");
        }
        // It is managed all the same; that it has no hook is told until it has one.
        self.hooks.note(done.hook.as_ref().err().map(|why| (cookie, &record.uid, why)));
        done.hook.map_err(|why| format!("{}; its connections are NOT authorized", failed(why)))?;
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
        if !self.told {
            return Ok(());
        }
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
