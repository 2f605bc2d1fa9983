//! The mesh file: a whole mesh in one YAML or JSON file, told apart by content.
//!
//! ```text
//! text → format (well-formed? line and column) → build (makes sense? object's name) → Model
//! ```
//! A file that is wrong anywhere is refused as a whole, with all that is wrong in it; so is an
//! empty one, which is what a reader sees of a file that is just being written.

mod build;
mod format;
mod say;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::model::Model;
use build::Builder;
use format::Each;

/// A file larger than this is no mesh file (a million workloads take about 300 MB).
const MAX_BYTES: u64 = 1 << 30;
/// So many problems are listed; the rest is counted.
const MAX_LISTED: usize = 20;

/// Why a mesh file was refused.
#[derive(Debug, thiserror::Error)]
pub enum MeshFileError {
    /// It could not be read.
    #[error("read the mesh file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something wrong.
    #[error("the mesh file {} is refused: {problems}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        problems: Problems,
    },
}

/// Everything that is wrong in a file: one line each.
#[derive(Debug, Default, PartialEq)]
pub struct Problems {
    listed: Vec<String>,
    more: usize,
}

impl Problems {
    fn add(&mut self, problem: String) {
        if self.listed.len() < MAX_LISTED {
            self.listed.push(problem);
        } else {
            self.more += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.listed.join("; "))?;
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        Ok(())
    }
}

/// Where the objects are that a file's objects name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// In the file: one that is not there is a mistake.
    #[default]
    Within,
    /// Perhaps in another source, a control plane, and perhaps later.
    Beyond,
}

/// Reads and checks a mesh file.
pub fn read(path: &Path, references: References) -> Result<Model, MeshFileError> {
    let read = |source| MeshFileError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(read)?;
    let size = file.take(MAX_BYTES).read_to_string(&mut text).map_err(read)?;
    if size as u64 == MAX_BYTES {
        return Err(read(io::Error::new(io::ErrorKind::FileTooLarge, "over 1 GiB")));
    }
    let builder = Builder::new(references);
    let refused = |problems| MeshFileError::Refused { path: path.to_owned(), problems };
    build(&text, builder).map_err(refused)
}

/// Reads and checks the text of a mesh file: JSON if it begins with `{`, else YAML.
#[cfg(test)]
pub fn parse(text: &str) -> Result<Model, Problems> {
    build(text, Builder::default())
}

fn build(text: &str, mut builder: Builder) -> Result<Model, Problems> {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let formed = if start.is_empty() {
        Err("it is empty; write {} if it shall say nothing".to_owned())
    } else if start.starts_with('{') {
        from_json(text, &mut builder)
    } else {
        from_yaml(text, &mut builder)
    };
    builder.finish(formed)
}

fn from_json(text: &str, builder: &mut Builder) -> Result<(), String> {
    let mut json = serde_json::Deserializer::from_str(text.trim_start_matches('\u{feff}'));
    Document(builder).deserialize(&mut json).and_then(|()| json.end()).map_err(|error| {
        // The text of serde_json ends with the place; say it first, as for YAML.
        let place = format!("line {} column {}", error.line(), error.column());
        let what = error.to_string();
        format!("{place}: {}", what.strip_suffix(&format!(" at {place}")).unwrap_or(&what))
    })
}

fn from_yaml(text: &str, builder: &mut Builder) -> Result<(), String> {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(first) = documents.next() else {
        return Ok(());
    };
    Document(builder).deserialize(first).map_err(|error| {
        let what = error.to_string();
        let Some(at) = error.location() else {
            return what;
        };
        let place = format!("line {} column {}", at.line(), at.column());
        format!("{place}: {}", what.strip_suffix(&format!(" at {place}")).unwrap_or(&what))
    })?;
    if documents.next().is_some() {
        return Err("it holds more than one YAML document".to_owned());
    }
    Ok(())
}

/// A section of the file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
enum Section {
    Workloads,
    Services,
    Policies,
}

/// The file's outermost map, fed into a builder item by item.
struct Document<'b>(&'b mut Builder);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a map with workloads, services and policies")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let builder = self.0;
        let mut seen = Vec::new();
        while let Some(section) = map.next_key::<Section>()? {
            if seen.contains(&section) {
                return Err(A::Error::custom(format!("section {section:?} is there twice")));
            }
            seen.push(section);
            match section {
                Section::Workloads => {
                    map.next_value_seed(Each(|item| builder.workload(&item), PhantomData))?;
                }
                Section::Services => {
                    map.next_value_seed(Each(|item| builder.service(&item), PhantomData))?;
                }
                Section::Policies => {
                    map.next_value_seed(Each(|item| builder.policy(item), PhantomData))?;
                }
            }
        }
        Ok(())
    }
}
