//! Time: the one place that reads the real clock, which may jump and is used only to stamp
//! snapshots. Everything that waits or measures uses [`std::time::Instant`].

use std::time::{Duration, SystemTime};

/// The real clock: time since 1970-01-01 UTC, for stamps that people read.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that stamps snapshots"
)]
pub fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// When this process started, in clock ticks since boot: with its pid, what names it for ever.
/// 0 where `/proc` does not say.
#[must_use]
pub fn process_start() -> u64 {
    process_start_of(std::process::id()).unwrap_or_default()
}

/// When process `pid` started, in clock ticks since boot; `None` when it is not there.
#[must_use]
pub fn process_start_of(pid: u32) -> Option<u64> {
    let pid = i32::try_from(pid).ok()?;
    procfs::process::Process::new(pid)
        .ok()?
        .stat()
        .ok()
        .map(|stat| stat.starttime)
}
