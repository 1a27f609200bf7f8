//! When the lines of a text were said: they have local time, of which an hour comes twice when the clocks are set back.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

/// A rank whose lines are so much out of order has not gone back to an hour that was there before.
const DISORDER: i64 = 5_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// The zone in which the ranks have written, as far as it is known.
pub(crate) struct LocalClock {
    zone: TimeZone,
    /// When clocks were set back of which the zone of this process does not know: the end of the hour that came twice.
    set_back: Vec<DateTime>,
}

/// When a line was said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LineTime {
    /// In milliseconds.
    pub(crate) time: i64,
    /// In the second of two hours with one name.
    again: bool,
}

impl LocalClock {
    pub(crate) fn new() -> Self {
        Self {
            zone: TimeZone::system(),
            set_back: Vec::new(),
        }
    }

    /// When a line was said, behind the one `before` it in its file. Any time of a calendar has a place in the order.
    pub(crate) fn time(&self, local: DateTime, before: Option<LineTime>) -> LineTime {
        let (first, second) = self.times(local);
        let is_again = |before: LineTime| before.again || before.time - first > DISORDER;
        match second {
            Some(second) if before.is_some_and(is_again) => LineTime {
                time: second,
                again: true,
            },
            _ => LineTime {
                time: first,
                again: false,
            },
        }
    }

    /// Learns from two lines of a file that follow each other. RankLines that go back by almost an hour at once tell of clocks
    /// that were set back, also where another zone is asked than that of the ranks. Returns whether something is new.
    pub(crate) fn learn(&mut self, before: DateTime, local: DateTime) -> bool {
        let back = naive(before) - naive(local);
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

    fn times(&self, local: DateTime) -> (i64, Option<i64>) {
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        let mut first = ambiguous.earlier().map_or(naive(local), Timestamp::as_millisecond);
        let mut second = match ambiguous.offset() {
            AmbiguousOffset::Fold { .. } => ambiguous.later().ok().map(Timestamp::as_millisecond),
            _ => None,
        };
        for end in &self.set_back {
            if local >= *end {
                first += HOUR;
                second = second.map(|second| second + HOUR);
            } else if naive(*end) - naive(local) <= HOUR {
                second = Some(first + HOUR);
            }
        }
        (first, second)
    }
}

/// As if it were a time of UTC.
fn naive(local: DateTime) -> i64 {
    let beyond = match local.year() < 1970 {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    };
    TimeZone::UTC.to_timestamp(local).unwrap_or(beyond).as_millisecond()
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

    /// As a file has them: each is told by the one before.
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
        times.iter().map(|moment| moment.time).collect()
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
    fn the_hour_that_comes_twice_comes_once_after_the_other() {
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        for zone in [berlin, TimeZone::UTC] {
            let times = times(&mut clock(zone), &FOLD);
            let seconds: Vec<i64> = times.iter().map(|time| (time - times[0]) / 1000).collect();
            assert_eq!(seconds, [0, 1, 3600, 3601, 7200, 7201]);
        }
    }

    #[test]
    fn a_zone_tells_what_no_line_shows() {
        let mut clock = clock(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        let times = times(
            &mut clock,
            &["2026-10-25 02:40:00", "2026-10-25 02:20:00", "2026-10-25 03:00:00"],
        );
        assert_eq!((times[1] - times[0], times[2] - times[1]), (40 * MINUTE, 40 * MINUTE));
    }

    #[test]
    fn lines_out_of_order_and_clocks_that_are_put_right_are_no_end_of_summer() {
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
    fn any_time_of_a_calendar_has_a_place() {
        for zone in [TimeZone::UTC, TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()] {
            let clock = clock(zone);
            let stamps = [DateTime::MIN, "1969-12-31 23:59:59".parse().unwrap(), DateTime::MAX];
            assert!(stamps.map(|stamp| clock.time(stamp, None).time).is_sorted());
        }
    }
}
