//! What may be said to `man`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

/// How the manual is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ManFormat {
    /// For man(1).
    #[default]
    Roff,
    /// Every verb's help in one page, as it stands in docs/cli.md.
    Markdown,
}

/// `kmeshctl man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kmeshctl man | man -l -                         read it now
  kmeshctl man restore | man -l -                 one verb
  kmeshctl man --dir /usr/local/share/man/man1    a page for each verb
  kmeshctl man -o markdown >docs/cli.md")]
pub struct Man {
    /// The page of this verb.
    #[arg(value_name = "VERB", conflicts_with_all = ["dir", "output"])]
    pub of: Option<String>,
    /// Write kmeshctl.1 and a page for each verb into this directory.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "output")]
    pub dir: Option<PathBuf>,
    /// How to write it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: ManFormat,
}
