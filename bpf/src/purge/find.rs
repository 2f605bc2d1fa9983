//! Finds what is Kmesh's: by the pins under its root, and by the census of all that leads to its
//! `kmesh_meta`, so that what lost its pins is found too, also where the BPF file system was
//! unmounted and mounted elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::identity::Identity;
use crate::kernel::{EntryKind, Id, KernelError, LinkInfo, MapInfo, Objects, Pinned, ProgInfo};
use crate::layout::{Hook, Map};
use crate::ours;

use super::census::{Census, Search};
use super::disk::files;
use super::{Places, Plan, PurgeError, Step, is_mount};

/// Links in the order in which they are detached: steering first, so that no connection is sent
/// to a waypoint that nothing would tell its destination to; authorization before sockops, which
/// tells it of the host's probes.
const DETACH_ORDER: [Hook; 7] = [
    Hook::Connect4,
    Hook::Connect6,
    Hook::GetPeerName4,
    Hook::GetPeerName6,
    Hook::Xdp,
    Hook::SkLookup,
    Hook::SockOps,
];

/// A link to detach.
struct FoundLink {
    id: u32,
    hook: Option<Hook>,
    what: String,
    pins: Vec<PathBuf>,
}

/// Everything found, before it is put in order.
#[derive(Default)]
struct Found {
    links: BTreeMap<u32, FoundLink>,
    progs: BTreeMap<u32, String>,
    maps: BTreeMap<u32, Option<Map>>,
    prog_pins: Vec<(PathBuf, String)>,
    map_pins: Vec<(PathBuf, String)>,
    /// Symbolic links and pins of others at our places.
    others: Vec<(PathBuf, String)>,
    dirs: Vec<PathBuf>,
    /// Attached to a cgroup without a link.
    linkless: Vec<(Hook, u32, PathBuf)>,
    foreign: Vec<String>,
}

/// What purge would do now. Changes nothing.
pub fn plan(k: &dyn Objects, places: &Places<'_>) -> Result<Plan, PurgeError> {
    let (found, sockhash) = Found::everything(k, places).map_err(PurgeError::Kernel)?;
    let mut plan = found.into_plan(&sockhash);
    files(places.state_dir, crate::places::STATE_FILES, &mut plan)?;
    if places.run_dir != places.state_dir {
        files(places.run_dir, crate::places::RUN_FILES, &mut plan)?;
    }
    Ok(plan)
}

impl Found {
    /// Everything that is ours, and the programs on sockhashes among it.
    fn everything(
        k: &dyn Objects,
        places: &Places<'_>,
    ) -> Result<(Self, Vec<(u32, u32)>), KernelError> {
        let mut found = Self::default();
        let identity = Identity::of(k, places.root)?;
        let census = Census::take(k)?;
        let cgroup_id = places.cgroup.and_then(|cgroup| k.cgroup_id(cgroup).ok());
        let pinned = match identity.instance {
            Some(_) => k.pinned(&meta_below(places.root))?,
            None => None,
        };
        let pinned = match pinned {
            Some(Pinned::Map(info)) => Some(info.id),
            _ => None,
        };
        let (root, mounts) = (places.root, places.mounts);
        let search = Search { root, identity, mounts, cgroup_id, pinned };
        let metas = census.own(&search);
        found.keepers(k, &census, &metas)?;
        if identity.instance.is_some() {
            found.walk(k, places.root, places.root)?;
        }
        for root in elsewhere(k, places, identity, &metas) {
            found.walk(k, &root, &root)?;
        }
        found.follow(k)?;
        if let (Some(cgroup), Some(id)) = (places.cgroup, cgroup_id) {
            found.without_link(k, cgroup, id, &census)?;
        }
        let sockhash = found.sockhash(k)?;
        Ok((found, sockhash))
    }

    /// What keeps our `kmesh_meta`, whether it has a pin or not: programs, and the links that hold
    /// them, of whatever kind.
    fn keepers(
        &mut self,
        k: &dyn Objects,
        census: &Census,
        metas: &BTreeSet<u32>,
    ) -> Result<(), KernelError> {
        self.maps.extend(metas.iter().map(|id| (*id, Some(Map::Meta))));
        for prog in census.keepers(metas) {
            self.progs.insert(prog.id, prog.name.clone());
            self.maps_of(k, prog)?;
            for link in census.links.iter().filter(|link| link.prog_id == prog.id) {
                self.link(link, &prog.name, None);
            }
        }
        Ok(())
    }

    /// Programs of ours that somebody attached to our cgroup without a link.
    fn without_link(
        &mut self,
        k: &dyn Objects,
        cgroup: &Path,
        cgroup_id: u64,
        census: &Census,
    ) -> Result<(), KernelError> {
        for hook in Hook::ALL.into_iter().filter(|hook| hook.on_cgroup()) {
            for prog in k.attached(hook, cgroup)? {
                let holds = |link: &LinkInfo| {
                    (link.prog_id, link.cgroup_id, link.attach_type)
                        == (prog, cgroup_id, hook.attach_type())
                };
                let linked = census.links.iter().any(holds);
                if !linked && self.progs.contains_key(&prog) {
                    self.linkless.push((hook, prog, cgroup.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Walks a directory of the BPF file system.
    fn walk(&mut self, k: &dyn Objects, root: &Path, dir: &Path) -> Result<(), KernelError> {
        let Some(entries) = k.list(dir)? else {
            return Ok(());
        };
        for (name, kind) in entries {
            let path = dir.join(&name);
            match kind {
                EntryKind::Dir => self.walk(k, root, &path)?,
                EntryKind::Symlink(text) => self.others.push((path, format!("says {text}"))),
                EntryKind::Pin => {
                    if let Some(pinned) = k.pinned(&path)? {
                        self.pin(k, root, path, &name, pinned)?;
                    }
                }
            }
        }
        self.dirs.push(dir.to_owned());
        Ok(())
    }

    /// Sorts one pin in.
    fn pin(
        &mut self,
        k: &dyn Objects,
        root: &Path,
        path: PathBuf,
        file: &str,
        pinned: Pinned,
    ) -> Result<(), KernelError> {
        match pinned {
            Pinned::Map(info) if map_is_ours(root, &path, file, &info) => {
                self.maps.insert(info.id, ours::map_named(&info));
                self.map_pins.push((path, format!("map {}", info.id)));
            }
            Pinned::Prog(info)
                if ours::prog_named(&info).is_some() || self.progs.contains_key(&info.id) =>
            {
                self.progs.insert(info.id, info.name.clone());
                self.prog_pins.push((path, format!("program {}", info.id)));
            }
            Pinned::Link(info)
                if self.progs.contains_key(&info.prog_id)
                    || link_is_ours(k, root, &path, file, &info)? =>
            {
                self.link(&info, file, Some(path));
            }
            other => self.foreign_pin(root, path, file, &describe(&other)),
        }
        Ok(())
    }

    /// Something that is not ours: at a place that only ours may have its pin goes, elsewhere it
    /// stays.
    fn foreign_pin(&mut self, root: &Path, path: PathBuf, file: &str, what: &str) {
        let places = ["maps", "progs", "links"].map(|dir| root.join(dir));
        let base = file.strip_suffix("_new").unwrap_or(file);
        let named = Map::by_name(base).is_some() || Hook::ALL.iter().any(|h| h.name() == base);
        let in_place = path.parent().is_some_and(|parent| places.iter().any(|p| p == parent));
        if named && in_place || is_pods_place(root, &path, base) {
            self.others.push((path, format!("{what}, not Kmesh's, in the place of its pin")));
        } else {
            self.foreign.push(format!("{} ({what})", path.display()));
        }
    }

    fn link(&mut self, info: &LinkInfo, name: &str, pin: Option<PathBuf>) {
        let hook = match info.kind {
            ours::LINK_CGROUP => Hook::ALL
                .into_iter()
                .find(|hook| hook.on_cgroup() && hook.attach_type() == info.attach_type),
            ours::LINK_XDP => Some(Hook::Xdp),
            _ => Some(Hook::SkLookup).filter(|_| ours::is_pod_link(info)),
        };
        let what = match hook {
            Some(Hook::SkLookup) => format!("sk_lookup in netns inode {}", info.cgroup_id),
            Some(Hook::Xdp) => format!("xdp at interface {}", info.cgroup_id),
            Some(hook) => hook.name().to_owned(),
            None => name.to_owned(),
        };
        let link = FoundLink { id: info.id, hook, what, pins: Vec::new() };
        self.links.entry(info.id).or_insert(link).pins.extend(pin);
    }

    /// Follows links to programs, and programs to maps.
    fn follow(&mut self, k: &dyn Objects) -> Result<(), KernelError> {
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            let Some(Pinned::Link(link)) = k.by_id(Id::Link(id))? else {
                continue;
            };
            if let Some(Pinned::Prog(prog)) = k.by_id(Id::Prog(link.prog_id))?
                && ours::prog_unpinned(k, &prog)?.is_some()
            {
                self.progs.insert(prog.id, prog.name);
            }
        }
        for id in self.progs.keys().copied().collect::<Vec<_>>() {
            let Some(Pinned::Prog(prog)) = k.by_id(Id::Prog(id))? else {
                continue;
            };
            self.maps_of(k, &prog)?;
        }
        Ok(())
    }

    /// A program of ours uses no map that is not ours: also its constants are.
    fn maps_of(&mut self, k: &dyn Objects, prog: &ProgInfo) -> Result<(), KernelError> {
        for id in &prog.map_ids {
            if let Some(Pinned::Map(MapInfo { id, name, .. })) = k.by_id(Id::Map(*id))? {
                let map = Map::ALL.into_iter().find(|m| ours::kernel_name(m.name()) == name);
                self.maps.entry(id).or_insert(map);
            }
        }
        Ok(())
    }

    /// Programs of ours attached to sockhashes of ours, found or not by a pin of their own.
    fn sockhash(&mut self, k: &dyn Objects) -> Result<Vec<(u32, u32)>, KernelError> {
        let mut attached = Vec::new();
        let maps = self.maps.iter().filter(|(_, map)| **map == Some(Map::Socket));
        for map in maps.map(|(id, _)| *id).collect::<Vec<_>>() {
            let Ok(progs) = k.sockhash_programs(map) else {
                continue;
            };
            for id in progs {
                let Some(Pinned::Prog(prog)) = k.by_id(Id::Prog(id))? else {
                    continue;
                };
                if ours::prog_named(&prog) == Some(Hook::SkMsg) {
                    self.progs.insert(prog.id, prog.name.clone());
                    self.maps_of(k, &prog)?;
                    attached.push((prog.id, map));
                }
            }
        }
        Ok(attached)
    }

    /// Puts what was found in order.
    fn into_plan(mut self, sockhash: &[(u32, u32)]) -> Plan {
        let mut plan = Plan { foreign: self.foreign, ..Plan::default() };
        plan.objects.extend(self.links.keys().map(|id| Id::Link(*id)));
        plan.objects.extend(self.progs.keys().map(|id| Id::Prog(*id)));
        plan.objects.extend(self.maps.keys().map(|id| Id::Map(*id)));
        let mut links: Vec<_> = self.links.into_values().collect();
        links.sort_by_key(|link| {
            let at = DETACH_ORDER.iter().position(|hook| Some(*hook) == link.hook);
            (at.unwrap_or(DETACH_ORDER.len()), link.id)
        });
        for link in links {
            plan.steps.push(Step::Detach { link: link.id, what: link.what });
            let what = format!("link {}", link.id);
            let unpin = |path| Step::Unpin { path, what: what.clone() };
            plan.steps.extend(link.pins.into_iter().map(unpin));
        }
        let detach = |(hook, prog, cgroup)| Step::DetachCgroup { hook, prog, cgroup };
        plan.steps.extend(self.linkless.into_iter().map(detach));
        let unpin = |(path, what)| Step::Unpin { path, what };
        plan.steps.extend(self.prog_pins.into_iter().map(unpin));
        let detach = |(prog, map): &(u32, u32)| Step::DetachSockhash { prog: *prog, map: *map };
        plan.steps.extend(sockhash.iter().map(detach));
        plan.steps.extend(self.map_pins.into_iter().map(unpin));
        plan.steps.extend(self.others.into_iter().map(unpin));
        self.dirs.retain(|dir| !is_mount(dir));
        plan.steps.extend(self.dirs.into_iter().map(Step::RemovePinDir));
        plan
    }
}

/// Roots of ours on BPF file systems that are mounted at another place than ours was: where our
/// `kmesh_meta` is pinned below a part of the root's path.
fn elsewhere(
    k: &dyn Objects,
    places: &Places<'_>,
    identity: Identity,
    metas: &BTreeSet<u32>,
) -> Vec<PathBuf> {
    let parts: Vec<_> = places.root.components().collect();
    let mut roots = Vec::new();
    let mut seen = BTreeSet::from_iter(identity.instance);
    for mount in &places.mounts.mounts {
        if !seen.insert(mount.instance) {
            continue;
        }
        for from in 1..parts.len() {
            let root = mount.path.join(parts[from..].iter().collect::<PathBuf>());
            // a path that cannot be looked at is none of our pins
            let meta = k.pinned(&meta_below(&root)).unwrap_or_default();
            if matches!(meta, Some(Pinned::Map(info)) if metas.contains(&info.id)) {
                roots.push(root);
            }
        }
    }
    roots
}

fn meta_below(root: &Path) -> PathBuf {
    root.join("maps").join(Map::Meta.name())
}

/// Whether this is where a pod's link, or its program on the way there, has its pin.
fn is_pods_place(root: &Path, path: &Path, base: &str) -> bool {
    let pods = path.parent().and_then(Path::parent);
    let named = base == Hook::SkLookup.name()
        || base.split('-').next().is_some_and(|name| name == Hook::Xdp.name());
    named && pods == Some(&root.join("pods"))
}

/// Whether a pinned link is ours: by its program, or by its place and attach type (its program
/// may have been replaced by another's).
fn link_is_ours(
    k: &dyn Objects,
    root: &Path,
    path: &Path,
    file: &str,
    info: &LinkInfo,
) -> Result<bool, KernelError> {
    let base = file.strip_suffix("_new").unwrap_or(file);
    if path.parent() == Some(&root.join("links")) && ours::link_named(base, info).is_some() {
        return Ok(true);
    }
    if is_pods_place(root, path, base) && ours::is_pod_link(info) {
        return Ok(true);
    }
    let prog = k.by_id(Id::Prog(info.prog_id))?;
    let Some(Pinned::Prog(prog)) = prog else {
        return Ok(false);
    };
    Ok(ours::prog_unpinned(k, &prog)?.is_some())
}

/// Whether a pinned map is ours: by its name, and its place or its shape (of another layout it is
/// ours at its place only).
fn map_is_ours(root: &Path, path: &Path, file: &str, info: &MapInfo) -> bool {
    let base = file.strip_suffix("_new").unwrap_or(file);
    let in_place = |map: Map| path.parent() == Some(&root.join("maps")) && map.name() == base;
    ours::map_named(info).is_some_and(|map| in_place(map) || ours::has_shape(map, info))
}

/// A pinned object in a few words.
fn describe(pinned: &Pinned) -> String {
    match pinned {
        Pinned::Map(info) => format!("map {} \"{}\"", info.id, info.name),
        Pinned::Prog(info) => format!("program {} \"{}\"", info.id, info.name),
        Pinned::Link(info) => format!("link {}", info.id),
    }
}
