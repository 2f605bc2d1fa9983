//! JSON as snapshots have it: each field on a line, each entry of a list on a line of its own, so
//! that `diff` speaks of entries; what lies deeper is compact.

use std::io::{self, Write};

use serde_json::ser::Formatter;

/// Down to this depth (the file, its lists) each item has a line.
const OPEN: usize = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lines {
    depth: usize,
    empty: bool,
}

impl Lines {
    fn enter<W: ?Sized + Write>(&mut self, bracket: &[u8], out: &mut W) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        out.write_all(bracket)
    }

    fn item<W: ?Sized + Write>(&mut self, first: bool, out: &mut W) -> io::Result<()> {
        self.empty = false;
        let comma: &[u8] = if first { b"" } else { b"," };
        out.write_all(comma)?;
        if self.depth <= OPEN {
            return self.line(out);
        }
        out.write_all(if first { b"" } else { b" " })
    }

    fn line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(if self.depth == 0 {
            b"\n"
        } else if self.depth == 1 {
            b"\n  "
        } else {
            b"\n    "
        })
    }

    fn leave<W: ?Sized + Write>(&mut self, bracket: &[u8], out: &mut W) -> io::Result<()> {
        let inner = self.depth;
        self.depth -= 1;
        if inner <= OPEN && !self.empty {
            self.line(out)?;
        }
        self.empty = false;
        out.write_all(bracket)
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.enter(b"[", out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.leave(b"]", out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(first, out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.enter(b"{", out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.leave(b"}", out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.item(first, out)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}
