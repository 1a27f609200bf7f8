//! The time of a frame.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970, to the precision of the system.
#[cfg(target_os = "linux")]
pub(crate) fn now() -> i64 {
    read(libc::CLOCK_REALTIME)
}

/// Nanoseconds since 1970, to the precision of the system.
#[cfg(not(target_os = "linux"))]
pub(crate) fn now() -> i64 {
    nanos(SystemTime::now())
}

/// Nanoseconds since 1970, to a few milliseconds: for metrics, whose order is that of their steps. It costs a fifth of
/// [`now`], which is most of what one value of a hot loop would cost.
#[cfg(target_os = "linux")]
pub(crate) fn coarse_now() -> i64 {
    read(libc::CLOCK_REALTIME_COARSE)
}

/// Nanoseconds since 1970.
#[cfg(not(target_os = "linux"))]
pub(crate) fn coarse_now() -> i64 {
    now()
}

/// What the standard library would read, without the checks that a sum in nanoseconds does not need.
#[cfg(target_os = "linux")]
fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours; both clocks are there on every Linux, and were one not, the call
    // would fail and leave the zeros.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) } != 0;
    if failed {
        return nanos(SystemTime::now());
    }
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// Nanoseconds from 1970 to `time`; enough until 2262.
pub(crate) fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// The time so many nanoseconds after 1970, or before.
pub(crate) fn time(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    let time = if nanos < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    // 292 years around 1970, which every system can say.
    time.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_is_the_same_clock() {
        let apart = (now() - coarse_now()).abs();
        assert!(apart < 1_000_000_000, "{apart} ns");
    }
}
