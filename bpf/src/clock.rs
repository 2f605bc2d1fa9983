//! Time: the one place that reads the real clock, which may jump and is used only to stamp
//! snapshots. Everything that waits or measures uses [`std::time::Instant`], or, over the end of
//! a process, the time since boot.

use std::time::{Duration, SystemTime};

/// The real clock: time since 1970-01-01 UTC, for stamps that people read.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that stamps snapshots")]
pub fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Time since the machine booted, sleep included (`CLOCK_BOOTTIME`): for instants that another
/// process of the same boot understands.
#[must_use]
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        now.tv_sec.try_into().unwrap_or_default(),
        now.tv_nsec.try_into().unwrap_or_default(),
    )
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
    procfs::process::Process::new(pid).ok()?.stat().ok().map(|stat| stat.starttime)
}

const DAY: u64 = 86_400;

/// `since` 1970-01-01 as RFC 3339, UTC, to the second.
#[must_use]
pub fn rfc3339(since: Duration) -> String {
    let (days, seconds) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of the `days`-th day after 1970-01-01 (Gregorian).
fn date(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut left) = (1970, days);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(Duration::from_secs(951_827_696)), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(Duration::from_secs(1_798_761_599)), "2026-12-31T23:59:59Z");
        assert_eq!(rfc3339(Duration::from_secs(4_107_542_401)), "2100-03-01T00:00:01Z");
    }
}
