//! `kmeshd snapshot`: what a mesh file means, as a snapshot on standard output. Touches nothing.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use kmesh_bpf::snapshot::{About, Snapshot};

use crate::compile;
use crate::config::Output;
use crate::desired::{Desired, Here};
use crate::sources::mesh_file::{self, References};

/// Writes what `mesh` means for the node `here`.
pub fn write(mesh: &Path, here: Here, output: Output) -> anyhow::Result<()> {
    let about = About { node: Some(here.node.to_string()), ..About::default() };
    let mut desired = Desired::new(here);
    desired.replace(mesh_file::read(mesh, References::Within)?);
    let snapshot = Snapshot::of_change(&compile::everything(&desired), about);
    let mut out = BufWriter::new(io::stdout().lock());
    let written = match output {
        Output::Json => snapshot.write_json(&mut out),
        Output::Yaml => snapshot.write_yaml(&mut out),
    };
    match written.and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("write the snapshot to standard output"),
    }
}
