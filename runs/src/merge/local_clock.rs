//! Converts the local times of lines to points in time. At the end of daylight saving time an hour
//! occurs twice.
//!
//! In Berlin the clocks go from 02:59:59 back to 02:00:00, so the local time alone does not tell
//! which of two hours is meant. Two facts decide:
//!
//! - The lines of one file are in order. A line at 02:10 after a line at 02:50 is in the second
//!   hour.
//! - A rank that starts in that hour has no line before. Its first lines count as the first hour.
//!
//! The time zone of this process may differ from the ranks'. So a step back by 55 to 60 minutes
//! between two lines counts as the end of daylight saving time, too.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};
use logcore::local_time_zone;

/// Most milliseconds that lines of one file may be out of order without counting as a repeated
/// hour.
const MAX_DISORDER: i64 = 5_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// The time zone of the ranks, as far as it is known.
pub(crate) struct LocalClock {
    zone: TimeZone,
    /// Ends of repeated hours that the time zone of this process does not have.
    set_back: Vec<DateTime>,
}

/// The time of a line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LineTime {
    /// Milliseconds since 1970.
    pub(crate) millis: i64,
    /// `true` in the second occurrence of a repeated hour.
    is_repeated: bool,
}

impl LocalClock {
    /// A clock in the time zone of this process.
    pub(crate) fn new() -> Self {
        Self {
            zone: local_time_zone(),
            set_back: Vec::new(),
        }
    }

    /// Returns the time of a line that follows the line of `before` in its file. Each calendar time
    /// is valid.
    pub(crate) fn time(&self, local: DateTime, before: Option<LineTime>) -> LineTime {
        let (first, second) = self.times(local);
        let is_repeated = |before: LineTime| before.is_repeated || before.millis - first > MAX_DISORDER;
        match second {
            Some(second) if before.is_some_and(is_repeated) => LineTime {
                millis: second,
                is_repeated: true,
            },
            _ => LineTime {
                millis: first,
                is_repeated: false,
            },
        }
    }

    /// Learns from two consecutive lines of a file. A step back by almost an hour shows that the
    /// clocks were set back, even if the time zone of this process differs from the ranks'. Returns
    /// `true` if that is new.
    pub(crate) fn learn(&mut self, before: DateTime, local: DateTime) -> bool {
        let back = as_utc(before) - as_utc(local);
        if !(55 * MINUTE..HOUR).contains(&back) || self.times(local).1.is_some() {
            return false;
        }
        let hour = before.date().at(before.hour(), 0, 0, 0);
        match hour.checked_add(Span::new().hours(1)) {
            Ok(end) => self.set_back.push(end),
            Err(_) => return false,
        }
        true
    }

    /// Returns the time, and a second one in a repeated hour.
    fn times(&self, local: DateTime) -> (i64, Option<i64>) {
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        let mut first = ambiguous.earlier().map_or(as_utc(local), Timestamp::as_millisecond);
        let mut second = match ambiguous.offset() {
            AmbiguousOffset::Fold { .. } => ambiguous.later().ok().map(Timestamp::as_millisecond),
            _ => None,
        };
        for end in &self.set_back {
            if local >= *end {
                first += HOUR;
                second = second.map(|second| second + HOUR);
            } else if as_utc(*end) - as_utc(local) <= HOUR {
                second = Some(first + HOUR);
            }
        }
        (first, second)
    }
}

/// Returns the milliseconds since 1970 as if the time were UTC.
fn as_utc(local: DateTime) -> i64 {
    let out_of_range = match local.year() < 1970 {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    };
    TimeZone::UTC
        .to_timestamp(local)
        .unwrap_or(out_of_range)
        .as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(zone: TimeZone) -> LocalClock {
        LocalClock {
            zone,
            set_back: Vec::new(),
        }
    }

    /// Returns the times of the lines of one file, in order.
    fn times(clock: &mut LocalClock, stamps: &[&str]) -> Vec<i64> {
        let mut times: Vec<LineTime> = Vec::new();
        let mut before = None;
        for stamp in stamps {
            let local = stamp.parse().unwrap();
            if let Some(before) = before.replace(local) {
                clock.learn(before, local);
            }
            times.push(clock.time(local, times.last().copied()));
        }
        times.iter().map(|line| line.millis).collect()
    }

    const FOLD: [&str; 6] = [
        "2026-10-25 01:59:59",
        "2026-10-25 02:00:00",
        "2026-10-25 02:59:59",
        "2026-10-25 02:00:00",
        "2026-10-25 02:59:59",
        "2026-10-25 03:00:00",
    ];

    #[test]
    fn repeated_hour_is_told_by_the_order_of_lines() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        for zone in [berlin, TimeZone::UTC] {
            let times = times(&mut clock(zone), &FOLD);
            let seconds: Vec<i64> = times.iter().map(|time| (time - times[0]) / 1000).collect();
            assert_eq!(seconds, [0, 1, 3600, 3601, 7200, 7201]);
        }
    }

    #[test]
    fn repeated_hour_is_told_by_the_time_zone() {
        let mut clock = clock(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        let times = times(
            &mut clock,
            &["2026-10-25 02:40:00", "2026-10-25 02:20:00", "2026-10-25 03:00:00"],
        );
        assert_eq!((times[1] - times[0], times[2] - times[1]), (40 * MINUTE, 40 * MINUTE));
    }

    #[test]
    fn disorder_and_clock_corrections_are_no_repeated_hour() {
        let mut clock = clock(TimeZone::UTC);
        times(
            &mut clock,
            &[
                "2026-10-25 02:40:00",
                "2026-10-25 02:39:59",
                "2026-10-25 02:20:00",
                "2026-10-24 02:20:00",
            ],
        );
        assert!(clock.set_back.is_empty());
    }

    #[test]
    fn each_calendar_time_is_ordered() {
        for zone in [TimeZone::UTC, TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()] {
            let clock = clock(zone);
            let stamps = [DateTime::MIN, "1969-12-31 23:59:59".parse().unwrap(), DateTime::MAX];
            assert!(stamps.map(|stamp| clock.time(stamp, None).millis).is_sorted());
        }
    }
}
