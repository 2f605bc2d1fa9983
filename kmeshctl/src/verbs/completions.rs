//! `kmeshctl completions SHELL`: the script that is committed under completions/.

use std::io::Write;

use clap::CommandFactory as _;
use clap_complete::Shell as Target;

use super::End;
use crate::args::{Cli, Completions, Shell};

/// Writes the script of a shell.
pub fn run(args: &Completions, out: &mut dyn Write) -> anyhow::Result<End> {
    let target = match args.shell {
        Shell::Bash => Target::Bash,
        Shell::Zsh => Target::Zsh,
        Shell::Fish => Target::Fish,
    };
    // The generator panics when its writer fails: into memory first.
    let mut script = Vec::new();
    clap_complete::generate(target, &mut Cli::command(), "kmeshctl", &mut script);
    out.write_all(&script)?;
    Ok(End::Good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_completions_are_current() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../completions");
        for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let mut script = Vec::new();
            run(&Completions { shell }, &mut script).unwrap();
            let path = format!("{dir}/kmeshctl.{name}");
            let committed = std::fs::read(&path).unwrap_or_default();
            assert!(committed == script, "{path} is not current: run `just completions`");
        }
    }
}
