//! The node's clocks. Nothing else reads them, so that a test or a simulator can find every use.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch by the machine's wall clock; 0 if it stands before 1970.
pub fn wall_ms() -> u64 {
    millis(since_epoch())
}

/// Microseconds since the Unix epoch, for `TIME` and INFO's `server_time_usec`.
pub fn wall_us() -> u64 {
    u64::try_from(since_epoch().as_micros()).unwrap_or(u64::MAX)
}

/// The monotonic clock, for durations only.
pub fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds since the machine was started, times of suspension included: for leases and election
/// timers, which must not stand still while other machines' clocks go on.
pub fn boot_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither is ever negative.
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(time.tv_nsec))
}

/// Nanoseconds since `start`, saturating.
pub fn nanos_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds of a duration, saturating.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[allow(clippy::disallowed_methods)] // The one place that reads the wall clock.
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clocks_agree_and_stand_after_2020() {
        let (ms, us) = (wall_ms(), wall_us());
        assert!(ms > 1_577_836_800_000, "the machine's clock stands at {ms} ms");
        assert!((us / 1000).abs_diff(ms) < 10_000);
    }
}
