//! What may be said to `verify`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How findings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FindingsFormat {
    /// One line each.
    #[default]
    Table,
    /// For scripts.
    Json,
}

/// `kmeshctl verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 nothing wrong (there may be warnings), 1 something is wrong, 2 it could not look.

Examples:
  kmeshctl verify
  kmeshctl verify -o json | jq -r '.findings[].problem'
  kmeshctl verify --against node.json
  kmeshctl verify --against daemon        what the kernel holds, and what the daemon wants
  kmeshd snapshot --mesh mesh.yaml | kmeshctl verify --against -")]
pub struct Verify {
    /// Compare the tables with this snapshot, too; `-` is standard input, `daemon` what the
    /// running daemon wants.
    #[arg(long, value_name = "FILE|-|daemon")]
    pub against: Option<PathBuf>,
    /// How to write it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: FindingsFormat,
}
