//! The command line: what may be said, and the help for it. One table for help, man page and
//! completions.
//!
//! It refuses to do anything: parsing touches neither the kernel nor a file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kmesh_bpf::{pins, places};

/// Looks at, saves, restores, checks and removes what Kmesh keeps in the kernel. Needs no daemon.
#[derive(Debug, Parser)]
#[command(name = "kmeshctl", version, max_term_width = 100, after_help = AFTER)]
pub struct Cli {
    /// Where to look.
    #[command(flatten)]
    pub places: Places,
    /// Say more on standard error.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Colours: `auto` means on a terminal, unless `NO_COLOR` is set.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: When,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const AFTER: &str = "\
Exit status: 0 good; 1 something differs, is wrong or is left; 2 the command failed.

Examples:
  kmeshctl dump maps                          what is in force on this node
  kmeshctl dump all -o json >node.json        save it
  kmeshctl restore node.json                  put it back
  kmeshctl verify                             is everything as it should be?
  kmeshctl purge                              remove Kmesh from this node's kernel";

/// Where to look.
#[derive(Debug, Args)]
pub struct Places {
    /// Kmesh's directory on a BPF file system.
    #[arg(long, global = true, env = "KMESH_BPF_ROOT", hide_env_values = true, default_value = pins::DEFAULT_ROOT)]
    pub bpf_root: PathBuf,
    /// The cgroup whose connections are governed [default: the root of the cgroup2 hierarchy].
    #[arg(long, global = true, env = "KMESH_CGROUP", hide_env_values = true)]
    pub cgroup: Option<PathBuf>,
    /// What Kmesh keeps over a reboot.
    #[arg(long, global = true, env = "KMESH_STATE_DIR", hide_env_values = true, default_value = places::DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// What Kmesh keeps while it runs.
    #[arg(long, global = true, env = "KMESH_RUN_DIR", hide_env_values = true, default_value = places::DEFAULT_RUN_DIR)]
    pub run_dir: PathBuf,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what is in the kernel, by name; `dump all -o json` is a snapshot that restore takes.
    Dump(Dump),
    /// Make the kernel's tables say what a snapshot says.
    Restore(Restore),
    /// Check pins, links, programs, tables and pods, and the tables against a snapshot.
    Verify(Verify),
    /// Remove everything of Kmesh from this node's kernel and disk, and prove it.
    Purge(Purge),
    /// Write a completion script for a shell.
    Completions(Completions),
    /// Write the manual page.
    Man,
}

/// What `dump` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Services, workloads, pods, settings, counters; limits and fill.
    #[default]
    Maps,
    /// The programs, and whether they run.
    Programs,
    /// The links that keep them attached.
    Links,
    /// The managed pods of this node.
    Pods,
    /// All of it; as JSON or YAML: a complete snapshot.
    All,
}

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For people with wide screens.
    Wide,
    /// For scripts.
    Json,
    /// For both.
    Yaml,
}

/// `kmeshctl dump`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kmeshctl dump                                   services, workloads, pods, counters, limits
  kmeshctl dump maps kmesh_service map_of_manager only what these maps hold
  kmeshctl dump maps --service shop/cart          one service
  kmeshctl dump programs -o wide                  programs with build, order, map ids
  kmeshctl dump all -o json >node.json            a snapshot for `kmeshctl restore`
  kmeshctl dump maps -o json | jq .counters

A map is named as its pin: kmesh_service, kmesh_backend, map_of_manager, …; a hook as its
program: connect4, sockops, …")]
pub struct Dump {
    /// What to show.
    #[arg(value_enum, default_value_t)]
    pub what: What,
    /// Only these maps or hooks.
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// How to write it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
    /// Only services whose name has this text.
    #[arg(long, value_name = "TEXT")]
    pub service: Option<String>,
    /// Only workloads whose uid has this text.
    #[arg(long, value_name = "TEXT")]
    pub workload: Option<String>,
    /// Only what has this address.
    #[arg(long, value_name = "IP")]
    pub address: Option<std::net::IpAddr>,
    /// Write the time into the snapshot (then two dumps of the same state differ).
    #[arg(long)]
    pub stamp: bool,
}

/// A part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What the programs are told.
    Settings,
    /// Services and waypoints.
    Services,
    /// Workloads.
    Workloads,
    /// Managed pods.
    Pods,
}

/// `kmeshctl restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
The snapshot is checked wholly before the first write. On a node where nothing is installed, maps
are made and programs attached first. Pods are enrolled only under the boot they were saved in, and
only where their network namespace is alive. Interrupted anywhere: run it again.

Examples:
  kmeshctl restore node.json --dry-run            what would change
  kmeshctl restore node.json
  kmeshctl restore node.json --only services,workloads
  kmeshd snapshot --mesh mesh.yaml | kmeshctl restore -")]
pub struct Restore {
    /// The snapshot, JSON or YAML; `-` is standard input.
    pub file: PathBuf,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    pub only: Vec<Part>,
}

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
  kmeshd snapshot --mesh mesh.yaml | kmeshctl verify --against -")]
pub struct Verify {
    /// Compare the tables with this snapshot, too; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// How to write it.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: FindingsFormat,
}

/// `kmeshctl purge`.
#[derive(Debug, Args)]
#[command(after_help = "\
Connections that are open stay open; new ones are no longer steered. Foreign programs, maps and
pins are left alone. Running it again is fine.

Examples:
  kmeshctl purge --dry-run                        what would go
  kmeshctl purge
  kmeshctl purge --yes --stop-daemon              from a script, with a daemon running")]
pub struct Purge {
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Show what would go, and remove nothing.
    #[arg(long, conflicts_with_all = ["yes", "stop_daemon"])]
    pub dry_run: bool,
    /// End a daemon that is running (SIGTERM), and wait for its end.
    #[arg(long)]
    pub stop_daemon: bool,
}

/// `kmeshctl completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kmeshctl completions bash >/usr/share/bash-completion/completions/kmeshctl
  kmeshctl completions zsh >/usr/share/zsh/vendor-completions/_kmeshctl
  kmeshctl completions fish >~/.config/fish/completions/kmeshctl.fish")]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// A shell with completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_contradicts_nothing() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_that_works_has_examples() {
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(verb.get_name() == "man" || help.contains("Examples:"), "{}", verb.get_name());
        }
    }

    #[test]
    fn global_options_stand_anywhere() {
        let cli =
            Cli::try_parse_from(["kmeshctl", "verify", "--bpf-root", "/b", "-v"]).expect("parses");
        assert_eq!(cli.places.bpf_root, PathBuf::from("/b"));
        assert!(cli.verbose);
    }
}
