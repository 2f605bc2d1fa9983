//! What may be said to `status`.

use clap::{Args, ValueEnum};

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// One screen.
    #[default]
    Table,
    /// For scripts; with `--watch`, one line each.
    Json,
}

/// `kmeshctl status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: that of kmeshctl verify: 0 nothing wrong, 1 something is wrong, 2 it could not look.

Examples:
  kmeshctl status
  kmeshctl status --watch                  every 2 seconds, counters as rates; end it with Ctrl-C
  kmeshctl status --watch 10 -o json >log  a line every 10 seconds
  kmeshctl status -o json | jq .daemon.status.ready")]
pub struct Status {
    /// How to write it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: StatusFormat,
    /// Again and again, every so many seconds.
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub watch: Option<u32>,
}
