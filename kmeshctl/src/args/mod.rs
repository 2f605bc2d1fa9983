//! The command line: what may be said, and the help for it. One table for help, man page and
//! completions.
//!
//! Each verb has a file of its own. It refuses to do anything: parsing touches neither the kernel
//! nor a file.

mod completions;
mod dump;
mod explain;
mod man;
mod purge;
mod restore;
mod status;
mod verify;

use std::path::PathBuf;

pub use completions::{Completions, Shell};
pub use dump::{Dump, Format, What};
pub use explain::{Explain, ExplainFormat, SocketFamily, SocketProtocol};
pub use man::{Man, ManFormat};
pub use purge::Purge;
pub use restore::{GuardRollback, Restore};
pub use status::{Status, StatusFormat};
pub use verify::{FindingsFormat, Verify};

use clap::{Args, Parser, Subcommand, ValueEnum};
use kmesh_bpf::{pins, places};

/// Looks at, saves, restores, checks and removes what Kmesh keeps in the kernel. Needs no daemon.
#[derive(Debug, Parser)]
#[command(name = "kmeshctl", version, max_term_width = 100, after_help = AFTER)]
#[command(next_help_heading = "Common options")]
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
  kmeshctl status                             how is this node?
  kmeshctl dump maps                          what is in force on this node
  kmeshctl dump all -o json >node.json        save it
  kmeshctl restore node.json                  put it back
  kmeshctl verify                             is everything as it should be?
  kmeshctl explain --from POD --to IP:PORT    where would this connection go?
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
    /// Show on one screen how the daemon, the kernel's part and the pods are.
    Status(Status),
    /// Check pins, links, programs, tables and pods, and the tables against a snapshot.
    Verify(Verify),
    /// Remove everything of Kmesh from this node's kernel and disk, and prove it.
    Purge(Purge),
    /// Say what the kernel would do with a connection now, step by step.
    Explain(Explain),
    /// Write a completion script for a shell.
    Completions(Completions),
    /// Write the manual pages, or the reference of the command line.
    Man(Man),
    /// Wait for `restore --confirm`, and go back without it.
    #[command(hide = true)]
    GuardRollback(GuardRollback),
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
            assert!(verb.is_hide_set() || help.contains("Examples:"), "{}", verb.get_name());
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
