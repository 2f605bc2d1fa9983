//! How the writer starts: what is there is adopted without a gap, and read.
//!
//! It refuses a kernel that is too old, a root that another writer holds, and pins that are
//! foreign or of another layout; then nothing was written.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use kmesh_bpf::apply::{ApplyError, converge};
use kmesh_bpf::attach::{AttachError, adopt_hooks};
use kmesh_bpf::boot::{self, BootError};
use kmesh_bpf::kernel::Kernel;
use kmesh_bpf::lock::{self, LockError, WriterLock};
use kmesh_bpf::netns::{self, NetnsError};
use kmesh_bpf::pins::{PinsError, adopt_maps};
use kmesh_bpf::pods::{PodsError, note_host};
use kmesh_bpf::tables::{Have, ReadError};
use kmesh_bpf::{clock, layout};
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::hooks;
use super::keep::{Keeper, Last};
use super::pods::Pods;
use super::{Awaited, BACKOFF, INSPECT, Layers, Live, Tokens, Writer};
use crate::config::Place;
use crate::desired::{Desired, Here, Oddities};
use crate::model::{Destination, Model};
use crate::resolve::Wanted;
use crate::status::{Began, Status};

/// Why the daemon cannot start. What is in force stays.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This machine will not do.
    #[error("look at this machine")]
    Boot(#[source] BootError),
    /// The root is not to be had.
    #[error("become the writer")]
    Lock(#[source] LockError),
    /// The maps could not be adopted.
    #[error("adopt the maps")]
    Pins(#[source] PinsError),
    /// The hooks could not be adopted.
    #[error("adopt the hooks")]
    Hooks(#[source] AttachError),
    /// The pods could not be looked at.
    #[error("adopt the pods")]
    Pods(#[source] PodsError),
    /// This process' own network namespace is not to be known.
    #[error("tell the programs which network namespace is the host's")]
    Host(#[source] NetnsError),
    /// The tables could not be read.
    #[error("read the tables")]
    Tables(#[source] ReadError),
    /// The last snapshot could not be put back into empty tables.
    #[error("put the last snapshot back")]
    Restore(#[source] ApplyError),
}

/// What the tables hold that a control plane may have served: no object that the mesh file names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Services and workloads.
    pub addresses: usize,
    /// Authorization policies.
    pub policies: usize,
}

/// What a writer starts from.
pub struct Start {
    /// Where everything lies.
    pub place: Place,
    /// Which node this is.
    pub here: Here,
    /// The sources, as people name them.
    pub sources: Vec<String>,
    /// Which of them there are.
    pub awaited: Awaited,
    /// Shared facts.
    pub status: Arc<Status>,
    /// What holds readiness back.
    pub tokens: Tokens,
    /// The hostnames that are to be resolved.
    pub names: watch::Sender<Wanted>,
    /// Is told what a control plane may have served, as soon as the mesh file has spoken.
    pub served: Option<oneshot::Sender<Served>>,
    /// When the process started.
    pub began: Began,
}

impl Start {
    /// Takes the lock, adopts and reads what is there, and puts the last snapshot back if there
    /// is nothing.
    pub fn adopt<K: Kernel>(self, mut k: K) -> Result<Writer<K>, StartError> {
        boot::require_kernel().and_then(|()| boot::require_btf()).map_err(StartError::Boot)?;
        let lock =
            lock::acquire(&self.place.root, self.place.own_place).map_err(StartError::Lock)?;
        let have = adopt(&mut k, &self.place, self.here.settings.peername)?;
        let adopted = self.began.phase("adopted");
        info!(
            ms = adopted.wall.as_millis(),
            generation = have.meta().generation,
            root = %self.place.root.path().display(),
            "adopted"
        );
        self.status.facts().phases.push(adopted);
        let mut writer = self.writer(k, have, Some(lock));
        writer.put_back_if_empty()?;
        if !writer.awaited.file {
            writer.tell_served(&Model::default());
        }
        Ok(writer)
    }

    /// The writer over tables that were read.
    pub(super) fn writer<K: Kernel>(self, k: K, have: Have, lock: Option<WriterLock>) -> Writer<K> {
        let live = Live::new(self.place.revoke);
        let keeper = Keeper::new(&self.place, &self.here.node, have.meta().generation);
        Writer {
            k,
            place: self.place,
            sources: self.sources,
            _lock: lock,
            desired: Desired::new(self.here),
            have,
            pods: Pods::default(),
            live,
            keeper,
            status: self.status,
            tokens: self.tokens,
            layers: Layers::new(self.awaited.xds),
            names: self.names,
            served: self.served,
            awaited: self.awaited,
            partial: false,
            due: None,
            squeezed: None,
            backoff: BACKOFF.0,
            held: None,
            inspect_at: Instant::now() + INSPECT,
            told: None,
            oddities: Oddities::default(),
            unverified: false,
        }
    }
}

/// Adopts maps and hooks, and reads the tables.
pub(super) fn adopt<K: Kernel>(
    k: &mut K,
    place: &Place,
    peername: bool,
) -> Result<Have, StartError> {
    let maps = adopt_maps(k, &place.root, &place.limits).map_err(StartError::Pins)?;
    for kept in &maps.kept {
        warn!(
            map = kept.map.name(),
            limit = kept.has,
            wanted = kept.wanted,
            "the map keeps its limit; to change it: kmeshctl purge, then start again"
        );
    }
    let names = |maps: &[layout::Map]| maps.iter().map(|map| map.name()).collect::<Vec<_>>();
    if maps.created.len() + maps.repinned.len() + maps.resized.len() > 0 {
        info!(
            created = ?names(&maps.created),
            repinned = ?names(&maps.repinned),
            resized = ?names(&maps.resized),
            "maps"
        );
    }
    let node = adopt_hooks(k, &place.root, &place.cgroup, &place.limits, peername)
        .map_err(StartError::Hooks)?;
    let names = |hooks: &[layout::Hook]| hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>();
    info!(
        kept = ?names(&node.kept),
        attached = ?names(&node.attached),
        replaced = ?names(&node.replaced),
        "hooks at {}", place.cgroup.display()
    );
    // Their programs, too, are on the maps of now before these are written.
    let pods = hooks::adopt(k, &place.root).map_err(StartError::Pods)?;
    info!(
        kept = pods.kept,
        attached = pods.attached.len(),
        replaced = pods.replaced.len(),
        failed = pods.failed.len(),
        "hooks of pods"
    );
    let host = netns::own_cookie().map_err(StartError::Host)?;
    note_host(k, host).map_err(StartError::Pods)?;
    let mut have = Have::read_locked(k).map_err(StartError::Tables)?;
    have.sign(std::process::id(), clock::process_start());
    Ok(have)
}

impl<K: Kernel> Writer<K> {
    /// Tells the control plane's source by what to judge its first answer, once. Nothing was taken
    /// from any source yet: what the mesh file names is not the control plane's.
    pub(super) fn tell_served(&mut self, file: &Model) {
        if let Some(served) = self.served.take() {
            // The source has ended: so does the process.
            let _ = served.send(self.in_tables(file));
        }
    }

    fn in_tables(&self, file: &Model) -> Served {
        let services: HashSet<&str> = file.services.iter().map(|(name, _)| &**name).collect();
        let workloads: HashSet<&str> = file.workloads.iter().map(|(uid, _)| &**uid).collect();
        let policies: HashSet<&str> = file.policies.iter().map(|(name, _)| &**name).collect();
        // A waypoint's address is named like one, and served by nobody.
        let is_address =
            |uid: &str| matches!(Destination::parse(uid), Some(Destination::Address(..)));
        let (services, workloads) = self.have.counts(&|name| !services.contains(name), &|uid| {
            !workloads.contains(uid) && !is_address(uid)
        });
        let others = self.have.policies().filter(|policy| !policies.contains(&*policy.name));
        Served { addresses: services + workloads, policies: others.count() }
    }

    /// Puts the last snapshot back into tables that hold nothing (after a reboot): whatever the
    /// source says later, what was in force is in force.
    pub(super) fn put_back_if_empty(&mut self) -> Result<(), StartError> {
        let empty = self.have.services().next().is_none() && self.have.workloads().next().is_none();
        if empty { self.put_back(None) } else { Ok(()) }
    }

    /// The source cannot say what shall be: if a writer died while it was putting the snapshot
    /// back, that is finished. Where the source can, this would only bring back what is old.
    pub(super) fn put_back_if_cut(&mut self) {
        let cut = self.have.meta().generation % 2 == 1;
        if !cut || self.is_complete() {
            return;
        }
        // A snapshot of this boot is older than the tables.
        if let Err(why) = {
            let boot = self.keeper.boot_id();
            self.put_back(boot.as_deref())
        } {
            error!("{}", crate::chain(&why));
        }
    }

    fn put_back(&mut self, not_of: Option<&str>) -> Result<(), StartError> {
        let snapshot = match self.keeper.last() {
            Last::Snapshot(snapshot) => snapshot,
            Last::None => return Ok(()),
            Last::Unusable(why) => {
                warn!("{why}; starting from nothing");
                return Ok(());
            }
        };
        if not_of.is_some() && snapshot.about.boot_id.as_deref() == not_of {
            return Ok(());
        }
        let mut change = snapshot.into_change();
        // The options decide, not what they were.
        change.settings = Some(self.desired.here.settings.clone());
        let applied = converge(&mut self.k, &mut self.have, &change, &mut |_, _| {})
            .map_err(StartError::Restore)?;
        info!(
            elements = applied.elements,
            services = change.services.len(),
            workloads = change.workloads.len(),
            "the last snapshot was put back"
        );
        Ok(())
    }
}
