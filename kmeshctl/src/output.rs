//! What the operator sees: data on standard output, talk on standard error.
//!
//! It refuses colours and progress bars off a terminal, and never fails because a reader of the
//! pipe went away.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::When;

/// How things look.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    color: bool,
}

/// What a word means, where colours tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Needs attention.
    Warn,
    /// Is wrong.
    Bad,
    /// A heading.
    Head,
}

impl Style {
    /// The style for standard output.
    #[must_use]
    pub fn new(when: When) -> Self {
        let auto = || {
            io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        };
        Self {
            color: match when {
                When::Auto => auto(),
                When::Always => true,
                When::Never => false,
            },
        }
    }

    /// The text in the colour of its tone.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Head => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A heading over a table.
    pub fn heading(self, out: &mut dyn Write, text: &str) -> io::Result<()> {
        writeln!(out, "{}", self.paint(Tone::Head, text))
    }
}

/// A table of plain columns, as wide as its content.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    table
}

/// Writes a table without the blanks at the ends of its lines.
pub fn write_table(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    for line in table.lines() {
        writeln!(out, "{}", line.trim())?;
    }
    Ok(())
}

/// Writes JSON with a final newline.
pub fn write_json(out: &mut dyn Write, value: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Whether this error is only that nobody reads any more.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Tells how far a long piece of work is: only on a terminal, only after half a second.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    what: &'static str,
    bar: Option<ProgressBar>,
    terminal: bool,
}

const SILENT_FOR: Duration = Duration::from_millis(500);

impl Progress {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self { began: Instant::now(), what, bar: None, terminal: io::stderr().is_terminal() }
    }

    /// `done` of `all` are done.
    pub fn tell(&mut self, done: u64, all: u64) {
        if !self.terminal || self.began.elapsed() < SILENT_FOR {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(all);
            if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
                bar.set_style(style);
            }
            bar.set_message(self.what);
            bar
        });
        bar.set_length(all);
        bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_a_word_is_only_the_word() {
        assert_eq!(Style::new(When::Never).paint(Tone::Bad, "error"), "error");
        assert_eq!(Style::new(When::Always).paint(Tone::Bad, "error"), "\x1b[31merror\x1b[0m");
    }

    #[test]
    fn a_closed_pipe_is_known_below_any_context() {
        let closed = anyhow::Error::new(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&closed.context("write the snapshot")));
        let full = anyhow::Error::new(io::Error::from(io::ErrorKind::StorageFull));
        assert!(!is_broken_pipe(&full));
    }

    #[test]
    fn tables_have_no_blanks_at_their_ends() {
        let mut table = table(&["NAME", "PORT"]);
        table.add_row(["a-long-name", "1"]);
        let mut out = Vec::new();
        write_table(&mut out, &table).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line == line.trim()), "{text:?}");
    }
}
