//! What may be said to `completions`.

use clap::{Args, ValueEnum};

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
