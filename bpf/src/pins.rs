//! Pins: where Kmesh's objects lie on the BPF file system, and how those that are there are
//! adopted.
//!
//! Every pinned map is compared with [`Map::shape`] by what the kernel says of it, and the
//! layout by `kmesh_meta`, before one byte of it is written. What is foreign or of another layout
//! is refused, never overwritten; what is missing is made.

use std::path::{Path, PathBuf};

use bytemuck::Zeroable;

use crate::identity::Identity;
use crate::kernel::{Id, Kernel, KernelError, MapInfo, Pinned, Put, Tables};
use crate::layout::{Hook, LAYOUT_VERSION, Limits, MAGIC, Map, MetaRecord};
use crate::ours;

mod grow;
mod kept;
mod lost;

pub use kept::kept_limits;

/// Where Kmesh keeps its pins unless told otherwise.
pub const DEFAULT_ROOT: &str = "/sys/fs/bpf/kmesh";

/// The root of Kmesh's directory on a BPF file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self::new(DEFAULT_ROOT)
    }
}

impl Root {
    /// The root at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The root directory itself: what the writer locks.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.0.join("maps")
    }

    /// The pin of a map.
    #[must_use]
    pub fn map(&self, map: Map) -> PathBuf {
        self.maps().join(map.name())
    }

    /// Where a larger copy of a map waits until it is complete.
    #[must_use]
    pub fn map_new(&self, map: Map) -> PathBuf {
        self.maps().join(format!("{}_new", map.name()))
    }

    /// The directory of programs.
    #[must_use]
    pub fn progs(&self) -> PathBuf {
        self.0.join("progs")
    }

    /// The pin of a hook's program.
    #[must_use]
    pub fn prog(&self, hook: Hook) -> PathBuf {
        self.progs().join(hook.name())
    }

    /// Where a hook's new program waits until it has taken the old one's place.
    #[must_use]
    pub fn prog_new(&self, hook: Hook) -> PathBuf {
        self.progs().join(format!("{}_new", hook.name()))
    }

    /// The directory of links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.0.join("links")
    }

    /// The pin of a hook's link.
    #[must_use]
    pub fn link(&self, hook: Hook) -> PathBuf {
        self.links().join(hook.name())
    }

    /// Where a hook's new link waits until it takes the place of one whose cgroup is gone.
    #[must_use]
    pub fn link_new(&self, hook: Hook) -> PathBuf {
        self.links().join(format!("{}_new", hook.name()))
    }

    /// The directory of pods.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.0.join("pods")
    }

    /// The directory of the pod with this netns cookie.
    #[must_use]
    pub fn pod(&self, cookie: u64) -> PathBuf {
        self.pods().join(cookie.to_string())
    }

    /// The pin of a pod's link.
    #[must_use]
    pub fn pod_link(&self, cookie: u64) -> PathBuf {
        self.pod(cookie).join(Hook::SkLookup.name())
    }

    /// Where a pod's program waits until a link holds it.
    #[must_use]
    pub fn pod_prog_new(&self, cookie: u64) -> PathBuf {
        self.pod(cookie).join(format!("{}_new", Hook::SkLookup.name()))
    }

    /// The pin of the link of a pod's XDP program at the interface with this index.
    #[must_use]
    pub fn pod_xdp(&self, cookie: u64, interface: u32) -> PathBuf {
        self.pod(cookie).join(format!("{}-{interface}", Hook::Xdp.name()))
    }

    /// Where a pod's XDP program waits until links hold it.
    #[must_use]
    pub fn pod_xdp_new(&self, cookie: u64) -> PathBuf {
        self.pod(cookie).join(format!("{}_new", Hook::Xdp.name()))
    }
}

/// Why the pins could not be adopted or opened.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// A pin holds something that is not this map.
    #[error(
        "{} is not Kmesh's {}: it {problem}; it was left alone. See `kmeshctl verify`; \
         `kmeshctl purge` removes it", path.display(), map.name()
    )]
    Foreign {
        /// The pin.
        path: PathBuf,
        /// What should be there.
        map: Map,
        /// What is there instead.
        problem: String,
    },
    /// The maps are of another layout than this build's.
    #[error(
        "{} is of layout {found}, this build reads and writes layout {}; use the build that made \
         it, or save its state with that build's `kmeshctl dump`, then `kmeshctl purge`",
        path.display(), crate::layout::LAYOUT_VERSION
    )]
    Layout {
        /// The pin of `kmesh_meta`.
        path: PathBuf,
        /// Its layout version.
        found: u32,
    },
    /// A map has no pin.
    #[error(
        "no {} at {}: Kmesh has not run here, or its pin was deleted; `kmeshd` makes it again",
        map.name(), path.display()
    )]
    Missing {
        /// The map.
        map: Map,
        /// Where its pin should be.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("adopt the maps in {}", root.display())]
    Kernel {
        /// The directory.
        root: PathBuf,
        /// What it said.
        #[source]
        source: KernelError,
    },
}

/// A map that keeps a limit other than the one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLimit {
    /// The map.
    pub map: Map,
    /// Its limit.
    pub has: u32,
    /// The limit asked for.
    pub wanted: u32,
}

/// What [`adopt_maps`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapsAdopted {
    /// Maps that were there and fit.
    pub reused: Vec<Map>,
    /// Maps whose pin was lost and that were found again through a program that uses them.
    pub repinned: Vec<Map>,
    /// Maps that were made.
    pub created: Vec<Map>,
    /// Maps that were made larger, with what they held.
    pub resized: Vec<Map>,
    /// Maps whose limit is not the one asked for: tell the operator.
    pub kept: Vec<KeptLimit>,
}

/// Checks every map's pin and opens it, creating and writing nothing: for verbs that only read.
pub fn open_existing(k: &mut dyn Kernel, root: &Root) -> Result<(), PinsError> {
    check_layout(k, root)?;
    for map in Map::ALL {
        let path = root.map(map);
        if check(k, root, map)?.is_none() {
            return Err(PinsError::Missing { map, path });
        }
        k.open_map(map, &path).map_err(on(root))?;
    }
    Ok(())
}

/// Opens what is there and fits, pins again what lost its pin, makes what is missing, and makes
/// larger what `limits` says is too small. Nothing is written through a pin that was not checked.
/// The caller holds the writer lock, and goes on to [`crate::attach::adopt_hooks`] before it
/// writes any table: that puts the programs on maps that were made larger.
pub fn adopt_maps(
    k: &mut dyn Kernel,
    root: &Root,
    limits: &Limits,
) -> Result<MapsAdopted, PinsError> {
    check_layout(k, root)?;
    let mut found = Vec::new();
    for map in Map::ALL {
        found.push((map, check(k, root, map)?));
    }
    if k.list(&root.maps()).map_err(on(root))?.is_none() {
        k.make_dir(&root.maps()).map_err(on(root))?;
    }
    let mut adopted = MapsAdopted::default();
    let mut reachable = None;
    for (map, info) in found {
        let info = if let Some(info) = info {
            adopted.reused.push(map);
            info
        } else {
            let reachable = match &mut reachable {
                Some(reachable) => reachable,
                none => none.insert(lost::reachable(k, root).map_err(on(root))?),
            };
            restore(k, root, map, limits, reachable, &mut adopted)?
        };
        let (has, wanted) = (info.max_entries, limits.of(map));
        if has != wanted {
            adopted.kept.push(KeptLimit { map, has, wanted });
        }
        k.open_map(map, &root.map(map)).map_err(on(root))?;
    }
    begin(k, root, &adopted).map_err(on(root))?;
    grow::grow_all(k, root, &mut adopted).map_err(on(root))?;
    Ok(adopted)
}

/// Pins a map that lost its pin, or makes it.
fn restore(
    k: &mut dyn Kernel,
    root: &Root,
    map: Map,
    limits: &Limits,
    reachable: &[MapInfo],
    adopted: &mut MapsAdopted,
) -> Result<MapInfo, PinsError> {
    let path = root.map(map);
    let lost = reachable
        .iter()
        .find(|info| ours::map_named(info) == Some(map) && mismatch(map, info).is_none());
    if let Some(info) = lost {
        k.pin(Id::Map(info.id), &path).map_err(on(root))?;
        adopted.repinned.push(map);
        return Ok(info.clone());
    }
    adopted.created.push(map);
    k.create_map(map, limits.of(map), &path).map_err(on(root))
}

/// Gives a `kmesh_meta` that is still empty its first content. Where the other maps are older
/// than it (its pin was lost, and no program holds it), what they hold is found again. One that
/// was made for another root (the directory was moved) is made this one's.
fn begin(k: &mut dyn Kernel, root: &Root, adopted: &MapsAdopted) -> Result<(), KernelError> {
    let mut meta = meta(k)?;
    let own = Identity::of(k, root.path())?;
    let known = meta.magic == MAGIC;
    if known && own.made(&meta) {
        return Ok(());
    }
    meta.root = own.root;
    meta.instance = own.instance.unwrap_or_default();
    if known {
        return write_meta(k, &meta);
    }
    meta.magic = MAGIC;
    meta.layout = LAYOUT_VERSION;
    let ends: [(Map, &mut u32); 4] = [
        (Map::Names, &mut meta.names_end),
        (Map::Backend, &mut meta.backends_end),
        (Map::Endpoint, &mut meta.endpoints_end),
        (Map::Service, &mut meta.services_end),
    ];
    for (map, end) in ends {
        if !adopted.created.contains(&map) {
            *end = lost::end(k, map)?;
        }
    }
    write_meta(k, &meta)
}

/// Reads `kmesh_meta`, which was opened before.
pub fn meta(k: &dyn Tables) -> Result<MetaRecord, KernelError> {
    let mut meta = MetaRecord::zeroed();
    k.lookup(Map::Meta, &0u32.to_ne_bytes(), bytemuck::bytes_of_mut(&mut meta))?;
    Ok(meta)
}

/// Writes `kmesh_meta`.
pub(crate) fn write_meta(k: &mut dyn Tables, meta: &MetaRecord) -> Result<(), KernelError> {
    k.update(Map::Meta, &0u32.to_ne_bytes(), bytemuck::bytes_of(meta), Put::Any).map(drop)
}

/// Refuses another layout, told by `kmesh_meta`, before anything else is looked at: maps of
/// other sizes are then explained by it. One that is missing or still empty says nothing.
fn check_layout(k: &mut dyn Kernel, root: &Root) -> Result<(), PinsError> {
    if check(k, root, Map::Meta)?.is_none() {
        return Ok(());
    }
    let path = root.map(Map::Meta);
    k.open_map(Map::Meta, &path).map_err(on(root))?;
    let meta = meta(k).map_err(on(root))?;
    if meta == MetaRecord::zeroed() {
        return Ok(());
    }
    if meta.magic != MAGIC {
        let problem = format!("begins with {:#x}", meta.magic);
        return Err(PinsError::Foreign { path, map: Map::Meta, problem });
    }
    if meta.layout != LAYOUT_VERSION {
        return Err(PinsError::Layout { path, found: meta.layout });
    }
    Ok(())
}

/// What the kernel says of a map's pin, if it is ours; `None` when nothing is there.
fn check(k: &dyn Kernel, root: &Root, map: Map) -> Result<Option<MapInfo>, PinsError> {
    let path = root.map(map);
    let problem = match k.pinned(&path).map_err(on(root))? {
        None => return Ok(None),
        Some(Pinned::Map(info)) => match mismatch(map, &info) {
            None => return Ok(Some(info)),
            Some(problem) => problem,
        },
        Some(Pinned::Prog(info)) => format!("is a program, {}", info.name),
        Some(Pinned::Link(_)) => "is a link".to_owned(),
    };
    Err(PinsError::Foreign { path, map, problem })
}

/// How a map differs from what this build makes, in words.
fn mismatch(map: Map, info: &MapInfo) -> Option<String> {
    let shape = map.shape();
    let fixed = map.limit_option().is_none();
    let numbers = [
        ("type", info.kind, shape.kind.number()),
        ("key size", info.key_size, shape.key_size),
        ("value size", info.value_size, shape.value_size),
        ("flags", info.flags, shape.flags),
        ("limit", info.max_entries, if fixed { limit(map) } else { info.max_entries }),
    ];
    if ours::map_named(info) != Some(map) {
        return Some(format!("is a map called {}", info.name));
    }
    numbers
        .into_iter()
        .find(|(_, has, wants)| has != wants)
        .map(|(what, has, wants)| format!("has {what} {has}, this build's has {wants}"))
}

/// The limit of a map that has no option for it.
fn limit(map: Map) -> u32 {
    Limits::default().of(map)
}

fn on(root: &Root) -> impl Fn(KernelError) -> PinsError {
    let root = root.path().to_owned();
    move |source| PinsError::Kernel { root: root.clone(), source }
}
