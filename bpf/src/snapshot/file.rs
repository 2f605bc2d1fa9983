//! Snapshots as files: the schema, its checksum, JSON and YAML.
//!
//! The checksum is the SHA-256 of the compact JSON of everything but itself: a YAML file and
//! a JSON file of the same content carry the same one.

use std::io::{self, BufWriter, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    About, PodEntry, SCHEMA_VERSION, ServiceEntry, Snapshot, SnapshotError, WorkloadEntry,
};
use crate::check::{Invalid, Problem, validate};
use crate::kernel::hex;
use crate::want::Settings;

/// The schema. Lists are owned when read, borrowed when written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File<Services, Workloads, Pods> {
    schema_version: u32,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    kernel: Option<String>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    boot_id: Option<String>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    consistent: Option<bool>,
    #[serde(default)]
    settings: Settings,
    services: Services,
    workloads: Workloads,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pods: Option<Pods>,
}

fn none<T>() -> Option<T> {
    None
}

type Owned = File<Vec<ServiceEntry>, Vec<WorkloadEntry>, Vec<PodEntry>>;

/// What every version of the schema says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    schema_version: u64,
}

struct Hashing(Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The checksum of a file whose own is taken out.
fn checksum(file: &impl Serialize) -> io::Result<String> {
    let mut out = BufWriter::with_capacity(1 << 16, Hashing(Sha256::new()));
    serde_json::to_writer(&mut out, file)?;
    let hash = out.into_inner().map_err(io::IntoInnerError::into_error)?.0.finalize();
    Ok(format!("sha256:{}", hex(&hash)))
}

impl Snapshot {
    /// Writes it as indented JSON, with its checksum and a final newline.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 16, out);
        serde_json::to_writer_pretty(&mut out, &self.signed()?)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Writes it as YAML, with its checksum.
    pub fn write_yaml(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 16, out);
        serde_yaml::to_writer(&mut out, &self.signed()?).map_err(io::Error::other)?;
        out.flush()
    }

    fn signed(&self) -> io::Result<impl Serialize + '_> {
        let About { node, kernel, boot_id, time, generation, consistent } = self.about.clone();
        let mut file = File {
            schema_version: SCHEMA_VERSION,
            checksum: None,
            node,
            kernel,
            boot_id,
            time,
            generation,
            consistent,
            settings: self.settings.clone(),
            services: self.services.as_slice(),
            workloads: self.workloads.as_slice(),
            pods: self.pods.as_deref(),
        };
        file.checksum = Some(checksum(&file)?);
        Ok(file)
    }

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
