//! What the operator sees: data on standard output, talk on standard error.
//!
//! It refuses colours and progress bars off a terminal, and never fails because a reader of the
//! pipe went away.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use crate::args::When;

/// Blanks between two columns.
const GAP: usize = 2;

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
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// An empty table.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    Table { header: header.iter().map(ToString::to_string).collect(), rows: Vec::new() }
}

impl Table {
    /// Adds a row.
    pub fn add_row(&mut self, cells: impl IntoIterator<Item: Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

/// Writes a table.
pub fn write_table(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    let header: Vec<_> = table.header.iter().map(String::as_str).collect();
    write_rows(out, &header, &|| table.rows.iter().cloned())
}

/// Writes rows in columns as wide as their widest cell, without blanks at the ends of lines. The
/// rows are gone through twice, for the widths and for the text: none is kept, so that a million
/// of them take no memory.
pub fn write_rows<I: Iterator<Item = Vec<String>>>(
    out: &mut dyn Write,
    header: &[&str],
    rows: &dyn Fn() -> I,
) -> io::Result<()> {
    let mut widths: Vec<_> = header.iter().map(|cell| cell.width()).collect();
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.width());
        }
    }
    write_row(out, &widths, header.iter().copied())?;
    rows().try_for_each(|row| write_row(out, &widths, row.iter().map(String::as_str)))
}

fn write_row<'c>(
    out: &mut dyn Write,
    widths: &[usize],
    cells: impl Iterator<Item = &'c str>,
) -> io::Result<()> {
    let mut blanks = 0;
    for (cell, width) in cells.zip(widths) {
        if !cell.is_empty() {
            write!(out, "{:blanks$}{cell}", "")?;
            blanks = 0;
        }
        blanks += width + GAP - cell.width();
    }
    writeln!(out)
}

/// Writes JSON with a final newline.
pub fn write_json(out: &mut dyn Write, value: &impl Serialize) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Talk, on standard error. That nobody listens keeps nothing from being done.
pub fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Standard output of a verb that changes something: that nobody reads any more does not keep it
/// from finishing what it began.
#[derive(Debug)]
pub struct Undeterred<W>(pub W);

impl<W: Write> Write for Undeterred<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
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
        table.add_row(["\u{fc}ber", ""]);
        let mut out = Vec::new();
        write_table(&mut out, &table).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "NAME         PORT\na-long-name  1\n\u{fc}ber\n");
    }
}
