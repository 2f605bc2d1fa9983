//! Reads snapshots from files: JSON and YAML.
//!
//! It refuses what is not of the schema, a wrong checksum, and content that contradicts itself.

use serde::Deserialize;

use super::schema::{File, checksum};
use super::{
    About, PodEntry, SCHEMA_VERSION, ServiceEntry, Snapshot, SnapshotError, WorkloadEntry,
};
use crate::check::{Invalid, Problem, validate};

type Owned = File<Vec<ServiceEntry>, Vec<WorkloadEntry>, Vec<PodEntry>>;

/// What every version of the schema says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    schema_version: u64,
}

impl Snapshot {
    /// Reads JSON or YAML; `origin` names the file in errors.
    pub fn parse(text: &[u8], origin: &str) -> Result<Self, SnapshotError> {
        let json = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        let file = if json { parse_json(text) } else { parse_yaml(text) };
        let syntax = |reason| SnapshotError::Syntax { origin: origin.to_owned(), reason };
        let newer = |found| SnapshotError::Newer { origin: origin.to_owned(), found };
        let file = match file {
            Ok(file) => file,
            Err(reason) => {
                return Err(match version(text, json) {
                    Some(found) if found > u64::from(SCHEMA_VERSION) => newer(found),
                    _ => syntax(reason),
                });
            }
        };
        if file.schema_version > SCHEMA_VERSION {
            return Err(newer(file.schema_version.into()));
        }
        if file.schema_version == 0 {
            return Err(syntax("schemaVersion 0 never was; write 1".to_owned()));
        }
        accept(file, origin)
    }
}

fn parse_json(text: &[u8]) -> Result<Owned, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

fn parse_yaml(text: &[u8]) -> Result<Owned, String> {
    serde_yaml::from_slice(text).map_err(|error| error.to_string())
}

fn version(text: &[u8], json: bool) -> Option<u64> {
    let version: Option<Version> =
        if json { serde_json::from_slice(text).ok() } else { serde_yaml::from_slice(text).ok() };
    version.map(|version| version.schema_version)
}

/// Compares the checksum, then judges the content.
fn accept(mut file: Owned, origin: &str) -> Result<Snapshot, SnapshotError> {
    if let Some(said) = file.checksum.take() {
        let is = checksum(&file).unwrap_or_default();
        if said != is {
            return Err(SnapshotError::Checksum { origin: origin.to_owned() });
        }
    }
    let about = About {
        node: file.node,
        kernel: file.kernel,
        boot_id: file.boot_id,
        time: file.time,
        generation: file.generation,
        consistent: file.consistent,
    };
    let snapshot = Snapshot {
        about,
        settings: file.settings,
        services: file.services,
        workloads: file.workloads,
        pods: file.pods,
    }
    .sorted();
    let invalid = |source| SnapshotError::Invalid { origin: origin.to_owned(), source };
    once_per_pod(&snapshot).map_err(invalid)?;
    validate(&snapshot.clone().into_change()).map_err(invalid)?;
    Ok(snapshot)
}

fn once_per_pod(snapshot: &Snapshot) -> Result<(), Invalid> {
    let pods = snapshot.pods.as_deref().unwrap_or_default();
    let twice = pods.windows(2).filter(|pair| pair[0].cookie == pair[1].cookie);
    let problems: Vec<_> = twice
        .map(|pair| Problem {
            object: format!("pod with netns cookie {}", pair[0].cookie),
            problem: "is there twice; keep one of them".to_owned(),
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Invalid { problems }) }
}
