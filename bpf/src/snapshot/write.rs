//! Writes snapshots as files.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::schema::{File, checksum};
use super::{About, SCHEMA_VERSION, Snapshot};

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
}
