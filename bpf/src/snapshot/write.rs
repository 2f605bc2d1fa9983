//! Writes snapshots as files, entry by entry: nothing is assembled in memory.
//!
//! What is written is gone through twice, once for the checksum, once for the text.

use std::io::{self, BufWriter, Write};

use serde::{Serialize, Serializer};

use super::lines::Lines;
use super::schema::{File, checksum};
use super::{About, Listing, PodEntry, SCHEMA_VERSION, Snapshot};
use crate::want::Settings;

/// As what a snapshot is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, one entry a line.
    Json,
    /// YAML.
    Yaml,
}

impl Snapshot {
    /// Writes it as JSON, one entry a line, with its checksum and a final newline.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write(Format::Json, out)
    }

    /// Writes it as YAML, with its checksum.
    pub fn write_yaml(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write(Format::Yaml, out)
    }

    fn write(&self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        let (services, workloads) = (self.services.as_slice(), self.workloads.as_slice());
        let (settings, policies) = (self.settings.clone(), self.policies.as_deref());
        let pods = self.pods.as_deref();
        let file = file(self.about.clone(), settings, services, workloads, policies, pods);
        sign_and_write(file, format, out)
    }
}

impl Listing<'_> {
    /// Writes what the tables say as a snapshot, an entry at a time.
    pub fn write(
        &self,
        about: About,
        pods: Option<&[PodEntry]>,
        format: Format,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let (services, workloads) = (Each(|| self.services()), Each(|| self.workloads()));
        let policies = Some(Each(|| self.policies()));
        let file = file(about, self.settings(), services, workloads, policies, pods);
        sign_and_write(file, format, out)
    }
}

/// A list that is made while it is written.
#[derive(Debug)]
pub struct Each<F>(pub F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

fn file<S, W, P>(
    about: About,
    settings: Settings,
    services: S,
    workloads: W,
    policies: Option<P>,
    pods: Option<&[PodEntry]>,
) -> File<S, W, P, &[PodEntry]> {
    let About { node, kernel, boot_id, time, generation, consistent, unfinished } = about;
    File {
        schema_version: SCHEMA_VERSION,
        checksum: None,
        node,
        kernel,
        boot_id,
        time,
        generation,
        consistent,
        unfinished,
        settings,
        services,
        workloads,
        policies,
        pods,
    }
}

fn sign_and_write<S: Serialize, W: Serialize, P: Serialize>(
    mut file: File<S, W, P, &[PodEntry]>,
    format: Format,
    out: &mut dyn Write,
) -> io::Result<()> {
    file.checksum = Some(checksum(&file)?);
    match format {
        Format::Json => write_json(&file, out),
        Format::Yaml => write_yaml(&file, out),
    }
}

/// Writes JSON with the entries of its lists on a line each, and a final newline.
pub fn write_json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Lines::default()))?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes YAML.
pub fn write_yaml(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    serde_yaml::to_writer(&mut out, value).map_err(io::Error::other)?;
    out.flush()
}
