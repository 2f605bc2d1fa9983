//! `dump maps --raw`: keys and values of each map in hex, as the kernel has them.
//!
//! It looks at no layout: maps are read with the sizes that the kernel says, so that it works
//! where nothing else does. Elements of arrays that are all zero are left out.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::kernel::{EntryKind, KernelError, MapInfo, Objects as _, Pinned, RawVisit, hex};
use kmesh_bpf::snapshot::{write_json, write_yaml};
use serde::ser::{Error as _, Serialize, SerializeMap as _, SerializeSeq as _, Serializer};

use crate::args::{Dump, Format};
use crate::context::Context;
use crate::output::Style;
use crate::verbs::End;

/// The kernel's types of arrays, one value or one for each CPU: every index is there.
const ARRAYS: [u32; 2] = [2, 6];

/// Reads the maps that are pinned, whatever they are, and writes their elements.
pub fn run(ctx: &Context, k: &Linux, args: &Dump, out: &mut dyn Write) -> anyhow::Result<End> {
    let maps = pinned(ctx, k, &args.names)?;
    match args.output {
        Format::Json => write_json(&Raw(&maps), out)?,
        Format::Yaml => write_yaml(&Raw(&maps), out)?,
        Format::Table | Format::Wide => {
            for map in &maps {
                map.write(ctx.style, out)?;
            }
        }
    }
    Ok(End::Good)
}

/// The maps that are pinned, or those of these names.
fn pinned<'k>(ctx: &Context, k: &'k Linux, names: &[String]) -> anyhow::Result<Vec<RawMap<'k>>> {
    let dir = ctx.root.maps();
    let there = k.list(&dir)?.unwrap_or_default();
    let pins = there.into_iter().filter(|(_, kind)| *kind == EntryKind::Pin);
    let pins: Vec<_> = pins.map(|(name, _)| name).collect();
    if let Some(name) = names.iter().find(|name| !pins.contains(name)) {
        anyhow::bail!(
            "map {name} is not pinned at {}; what is missing: kmeshctl verify",
            dir.join(name).display()
        );
    }
    let chosen = pins.into_iter().filter(|name| names.is_empty() || names.contains(name));
    let mut maps = Vec::new();
    for name in chosen {
        let path = dir.join(&name);
        match k.pinned(&path).with_context(|| format!("look at {}", path.display()))? {
            Some(Pinned::Map(info)) => maps.push(RawMap { k, name, path, info }),
            Some(_) => ctx.say(&format!("{} is no map: left out", path.display())),
            None => {}
        }
    }
    Ok(maps)
}

/// A map that is pinned, still to be read.
struct RawMap<'k> {
    k: &'k Linux,
    name: String,
    path: PathBuf,
    info: MapInfo,
}

impl RawMap<'_> {
    /// Visits the elements; false where the kernel lists none.
    fn each(&self, visit: RawVisit<'_>) -> Result<bool, KernelError> {
        let array = ARRAYS.contains(&self.info.kind);
        self.k.scan_pin(&self.path, &mut |key, value| {
            let empty = value.is_some_and(|value| value.iter().all(|byte| *byte == 0));
            if !(array && empty) {
                visit(key, value);
            }
        })
    }

    fn write(&self, style: Style, out: &mut dyn Write) -> anyhow::Result<()> {
        let MapInfo { id, kind, key_size, value_size, max_entries, flags, .. } = &self.info;
        let about = format!(
            "{}: id {id}, type {kind}, key {key_size} B, value {value_size} B, \
             limit {max_entries}, flags {flags:#x}",
            self.name
        );
        style.heading(out, &about)?;
        let mut written = Ok(());
        let listed = self.each(&mut |key, value| {
            let value = value.map_or_else(|| "-".to_owned(), hex);
            if written.is_ok() {
                written = writeln!(out, "{} {value}", hex(key));
            }
        })?;
        written?;
        if !listed {
            writeln!(out, "(the kernel does not list its elements)")?;
        }
        writeln!(out)?;
        Ok(())
    }
}

/// The maps as one object.
struct Raw<'a>(&'a [RawMap<'a>]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("rawMaps", self.0)?;
        map.end()
    }
}

impl Serialize for RawMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("id", &self.info.id)?;
        map.serialize_entry("type", &self.info.kind)?;
        map.serialize_entry("keySize", &self.info.key_size)?;
        map.serialize_entry("valueSize", &self.info.value_size)?;
        map.serialize_entry("limit", &self.info.max_entries)?;
        map.serialize_entry("flags", &self.info.flags)?;
        map.serialize_entry("elements", &Elements(self))?;
        map.end()
    }
}

/// The elements of a map: `[key, value]`, the value null where user space may not see it.
struct Elements<'a>(&'a RawMap<'a>);

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut written = Ok(());
        let listed = self.0.each(&mut |key, value| {
            if written.is_ok() {
                written = list.serialize_element(&(hex(key), value.map(hex)));
            }
        });
        listed.map_err(S::Error::custom)?;
        written?;
        list.end()
    }
}
