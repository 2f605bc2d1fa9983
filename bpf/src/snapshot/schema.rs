//! The schema of snapshot files, and their checksum. `write` and `read` speak it.
//!
//! The checksum is the SHA-256 of the compact JSON of everything but itself: a YAML file and
//! a JSON file of the same content carry the same one.

use std::io::{self, BufWriter, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::kernel::hex;
use crate::want::Settings;

/// The schema. Lists are owned when read, borrowed when written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct File<Services, Workloads, Policies, Pods> {
    #[serde(deserialize_with = "super::read::version")]
    pub(super) schema_version: u32,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub(super) checksum: Option<String>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub(super) kernel: Option<String>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub(super) boot_id: Option<String>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub(super) time: Option<String>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub(super) generation: Option<u64>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub(super) consistent: Option<bool>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub(super) unfinished: Option<bool>,
    #[serde(default)]
    pub(super) settings: Settings,
    pub(super) services: Services,
    pub(super) workloads: Workloads,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub(super) policies: Option<Policies>,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub(super) pods: Option<Pods>,
}

fn none<T>() -> Option<T> {
    None
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
pub(super) fn checksum(file: &impl Serialize) -> io::Result<String> {
    let mut out = BufWriter::with_capacity(1 << 16, Hashing(Sha256::new()));
    serde_json::to_writer(&mut out, file)?;
    let hash = out.into_inner().map_err(io::IntoInnerError::into_error)?.0.finalize();
    Ok(format!("sha256:{}", hex(&hash)))
}
