//! This build's programs: the object files that `build.rs` compiled from `prog/`, and their
//! build ids. One object per hook, named as the hook; each defines every map.

use crate::layout::Hook;

/// One compiled object file.
#[derive(Debug)]
pub struct Object {
    /// The name of its source, without `.bpf.c`.
    pub name: &'static str,
    /// The ELF file, aligned as parsers want it.
    pub bytes: &'static [u8],
    /// First 8 bytes of its SHA-256, big-endian.
    pub build: u64,
}

/// Bytes of a file, aligned to 8.
#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);

macro_rules! aligned {
    ($path:literal) => {{
        static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!($path));
        &BYTES.0
    }};
}

include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// Every object file.
#[must_use]
pub fn all() -> &'static [Object] {
    &OBJECTS
}

/// The object file of `hook`'s program.
#[must_use]
pub fn of(hook: Hook) -> Option<&'static Object> {
    OBJECTS.iter().find(|object| object.name == hook.name())
}
