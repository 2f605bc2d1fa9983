//! The Rust twin of `prog/layout.h`: every record, word, map, limit, hook and
//! counter that the programs and user space share.
//!
//! Sizes and offsets are asserted at compile time; the test `layout_matches_btf`
//! compares every struct, field offset, enumerator and map definition with the
//! BTF of the compiled programs and fails on any difference.
//!
//! It refuses to know what the records mean together: that is [`crate::tables`].

mod auth;
mod catalogue;
mod live;
mod record;
mod word;

pub use auth::{
    AuthChunk, AuthRun, AuthSetRecord, DenialRecord, POLICY_NONE, POLICY_WAIT, PolicyRecord,
};
pub(crate) use catalogue::MMAPABLE;
pub use catalogue::{COUNTERS, Counter, Hook, Limits, Map, MapKind, MapShape};
pub use live::{ConnectionKey, LiveRecord, LiveWhy, RevokedReason, RevokedRecord};
pub use record::{
    BackendRecord, DstRecord, FrontendKey, HookRecord, KIND_SERVICE, KIND_WAYPOINT, MetaRecord,
    NameChunk, ServiceRecord,
};
pub use word::{
    BackendWord, EndpointWord, FrontendWord, ManagerWord, ServiceWord, SettingsWords, WaypointWord,
    cookie_tag, tag32,
};

/// "kmesh" in ASCII, little-endian: the first word of `kmesh_meta`.
pub const MAGIC: u64 = 0x0068_7365_6d6b;
/// The version of the layout that this build reads and writes.
pub const LAYOUT_VERSION: u32 = 1;
/// Bytes of one chunk of `kmesh_names`.
pub const NAME_CHUNK: usize = 64;
/// The longest name that the tables hold, in bytes.
pub const NAME_MAX: usize = 512;
/// How many ports can be exempt from waypoints.
pub const EXEMPT_PORTS: usize = 16;
/// How many words `kmesh_settings` has.
pub const SETTINGS: usize = 8;
