//! `kmeshctl completions SHELL`: the script that is committed under completions/. It asks the
//! kmeshctl on the PATH, so that names of services, workloads, pods and maps come from the live
//! maps.

use std::io::Write;

use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use super::End;
use crate::args::{Completions, Shell};

/// Writes the script of a shell.
pub fn run(args: &Completions, out: &mut dyn Write) -> anyhow::Result<End> {
    let target: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    target.write_registration("COMPLETE", "kmeshctl", "kmeshctl", "kmeshctl", &mut &mut *out)?;
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
