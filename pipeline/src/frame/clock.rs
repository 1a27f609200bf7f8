//! The times of frames, in nanoseconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(target_os = "linux")]
use crate::process::sys::calls::clock_time;

/// Returns the time to the precision of the system.
#[cfg(target_os = "linux")]
pub(crate) fn now() -> i64 {
    read(libc::CLOCK_REALTIME)
}

/// Returns the time to the precision of the system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn now() -> i64 {
    to_nanos(SystemTime::now())
}

/// Returns the time to a few milliseconds, for a single metric of a handle. The cost is a fifth of
/// that of [`now`], which would be most of the cost of such a call in a hot loop.
#[cfg(target_os = "linux")]
pub(crate) fn coarse_now() -> i64 {
    read(libc::CLOCK_REALTIME_COARSE)
}

/// Returns the time.
#[cfg(not(target_os = "linux"))]
pub(crate) fn coarse_now() -> i64 {
    now()
}

/// Reads the clock as the standard library would, without the checks that a sum in nanoseconds does
/// not need.
#[cfg(target_os = "linux")]
fn read(clock: libc::clockid_t) -> i64 {
    // Every Linux has both clocks.
    let Some(time) = clock_time(clock) else {
        return to_nanos(SystemTime::now());
    };
    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    let (seconds, nanos) = (time.tv_sec as i64, time.tv_nsec as i64);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Returns the nanoseconds from 1970 to `time`; enough until 2262.
pub(crate) fn to_nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// Returns the time so many nanoseconds after 1970, or before.
pub(crate) fn from_nanos(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    let time = if nanos < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    // Every system can represent the 292 years around 1970.
    time.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_clock_agrees_with_the_precise_one() {
        let difference = (now() - coarse_now()).abs();
        assert!(difference < 1_000_000_000, "{difference} ns");
    }
}
