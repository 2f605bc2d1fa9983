//! What a dump shows: as tables for people, or as one JSON or YAML object for scripts, written
//! entry by entry. Its fields are told in docs/snapshot.md, with the snapshot's.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use kmesh_bpf::authz::Policy;
use kmesh_bpf::last_sync::LastSync;
use kmesh_bpf::snapshot::{
    self, About, Each, Listing, PodEntry, ServiceEntry, WorkloadEntry, write_json, write_yaml,
};
use kmesh_bpf::want::Settings;
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::args::Format;
use crate::context::Context;
use crate::select::Select;
use crate::tables;
use crate::view::{LinkView, MapView, ProgramView, SetView};

/// The version of what is shown to scripts.
const VIEW_VERSION: u32 = 1;

/// Hooks, where they are asked for.
#[derive(Debug, Default)]
pub struct Hooks {
    /// Their programs.
    pub programs: Option<Vec<ProgramView>>,
    /// Their links.
    pub links: Option<Vec<LinkView>>,
}

/// What the tables hold.
#[derive(Debug)]
pub struct Tables<'a> {
    /// Of which state.
    pub about: About,
    /// The entries.
    pub listing: &'a Listing<'a>,
    /// Which of them.
    pub select: Option<&'a Select<'a>>,
    /// The policy sets.
    pub sets: &'a [SetView],
    /// The pods.
    pub pods: &'a [PodEntry],
}

/// Everything that a dump may show; what is not asked for is left out.
#[expect(clippy::struct_excessive_bools, reason = "each is a list of its own")]
#[derive(Debug, Default)]
pub struct Shown<'a> {
    /// The layout's version.
    pub layout: Option<u32>,
    /// When the daemon was last told everything.
    pub last_sync: Option<LastSync>,
    /// Limits and fill.
    pub maps: Option<Vec<MapView>>,
    /// Counters by name.
    pub counters: Option<BTreeMap<&'static str, u64>>,
    /// What the programs are told.
    pub settings: Option<Settings>,
    /// The entries.
    pub tables: Option<Tables<'a>>,
    /// Services among them.
    pub shows_services: bool,
    /// Workloads among them.
    pub shows_workloads: bool,
    /// Authorization policies among them.
    pub shows_policies: bool,
    /// Policy sets among them.
    pub shows_sets: bool,
    /// Pods among them.
    pub shows_pods: bool,
    /// Hooks.
    pub hooks: Hooks,
}

impl Tables<'_> {
    fn services(&self) -> impl Iterator<Item = ServiceEntry> + '_ {
        let chosen = |entry: &ServiceEntry| self.select.is_none_or(|select| select.service(entry));
        self.listing.services().filter(chosen)
    }

    fn workloads(&self) -> impl Iterator<Item = WorkloadEntry> + '_ {
        let chosen =
            |entry: &WorkloadEntry| self.select.is_none_or(|select| select.workload(entry));
        self.listing.workloads().filter(chosen)
    }

    fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> + '_ {
        let chosen =
            |entry: &&Arc<Policy>| self.select.is_none_or(|select| select.policy(&entry.name));
        self.listing.policies().filter(chosen)
    }

    fn sets(&self) -> impl Iterator<Item = &SetView> + '_ {
        let chosen = |set: &&SetView| self.select.is_none_or(|select| select.names(&set.policies));
        self.sets.iter().filter(chosen)
    }

    fn pods(&self) -> impl Iterator<Item = &PodEntry> + '_ {
        self.pods.iter().filter(|pod| self.select.is_none_or(|select| select.pod(pod)))
    }
}

impl Shown<'_> {
    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Some(tables) = &self.tables else { return true };
        let services = self.shows_services && tables.services().next().is_some();
        let workloads = self.shows_workloads && tables.workloads().next().is_some();
        let policies = self.shows_policies && tables.policies().next().is_some();
        let sets = self.shows_sets && tables.sets().next().is_some();
        let pods = self.shows_pods && tables.pods().next().is_some();
        !(services || workloads || policies || sets || pods)
    }

    /// Writes it.
    pub fn write(&self, ctx: &Context, format: Format, out: &mut dyn Write) -> anyhow::Result<()> {
        match format.of_snapshot() {
            Some(snapshot::Format::Json) => write_json(self, out)?,
            Some(snapshot::Format::Yaml) => write_yaml(self, out)?,
            None => self.write_tables(ctx, format == Format::Wide, out)?,
        }
        Ok(())
    }

    fn write_tables(&self, ctx: &Context, wide: bool, out: &mut dyn Write) -> std::io::Result<()> {
        let style = ctx.style;
        if let Some(entries) = &self.tables {
            let layout = self.layout.unwrap_or_default();
            let last_sync = self.last_sync.as_ref();
            tables::about(out, ctx.root.path(), layout, &entries.about, last_sync)?;
            if self.shows_services {
                tables::services(out, style, wide, &|| entries.services())?;
            }
            if self.shows_workloads {
                tables::workloads(out, style, wide, &|| entries.workloads())?;
            }
            if self.shows_policies {
                tables::policies(out, style, wide, entries.pods, &|| entries.policies())?;
            }
            if self.shows_sets {
                tables::sets(out, style, wide, &|| entries.sets())?;
            }
            if self.shows_pods {
                tables::pods(out, style, wide, &|| entries.pods())?;
            }
        }
        if let Some(settings) = &self.settings {
            tables::settings(out, style, settings)?;
        }
        if let Some(counters) = &self.counters {
            tables::counters(out, style, wide, counters)?;
        }
        if let Some(rows) = &self.maps {
            tables::maps(out, style, wide, rows)?;
        }
        if let Some(rows) = &self.hooks.programs {
            tables::programs(out, style, wide, rows)?;
        }
        if let Some(rows) = &self.hooks.links {
            tables::links(out, style, rows)?;
        }
        Ok(())
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("viewVersion", &VIEW_VERSION)?;
        if let Some(entries) = &self.tables {
            let About { time, generation, consistent, unfinished, .. } = &entries.about;
            optional(&mut map, "layout", self.layout.as_ref())?;
            optional(&mut map, "generation", generation.as_ref())?;
            optional(&mut map, "consistent", consistent.as_ref())?;
            optional(&mut map, "unfinished", unfinished.as_ref())?;
            optional(&mut map, "time", time.as_ref())?;
            let age = self.last_sync.as_ref().map(|last| last.age().as_secs());
            map.serialize_entry("lastSyncAgeSeconds", &age)?;
        }
        optional(&mut map, "maps", self.maps.as_ref())?;
        optional(&mut map, "counters", self.counters.as_ref())?;
        optional(&mut map, "settings", self.settings.as_ref())?;
        if let Some(entries) = &self.tables {
            if self.shows_services {
                map.serialize_entry("services", &Each(|| entries.services()))?;
            }
            if self.shows_workloads {
                map.serialize_entry("workloads", &Each(|| entries.workloads()))?;
            }
            if self.shows_policies {
                map.serialize_entry("policies", &Each(|| entries.policies()))?;
            }
            if self.shows_sets {
                map.serialize_entry("policySets", &Each(|| entries.sets()))?;
            }
            if self.shows_pods {
                map.serialize_entry("pods", &Each(|| entries.pods()))?;
            }
        }
        optional(&mut map, "programs", self.hooks.programs.as_ref())?;
        optional(&mut map, "links", self.hooks.links.as_ref())?;
        map.end()
    }
}

fn optional<M: serde::ser::SerializeMap>(
    map: &mut M,
    key: &str,
    value: Option<&impl Serialize>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(key, value))
}
