use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

/// Writes times. There are many records in a second, so the text of the second is kept.
///
/// ```
/// use logcore_formatters::Clock;
/// use std::time::{Duration, UNIX_EPOCH};
///
/// let mut out = String::new();
/// Clock::default().write(UNIX_EPOCH + Duration::from_millis(1_763_909_295_123), true, true, &mut out);
/// assert_eq!(out, "2025-11-23 14:48:15.123");
/// ```
#[derive(Debug)]
pub struct Clock {
    zone: TimeZone,
    /// The second since 1970 and whether it is in UTC, for which `text` holds date, time and offset.
    kept: Option<(i64, bool)>,
    text: String,
    offset: String,
}

impl Clock {
    /// Writes local times as in `zone`.
    pub(crate) fn in_zone(zone: TimeZone) -> Self {
        Self {
            zone,
            kept: None,
            text: String::new(),
            offset: String::new(),
        }
    }

    /// Appends `2025-11-23 14:48:15`, with `.123` behind it if `millis`; in UTC if `utc`, else in local time.
    pub fn write(&mut self, time: SystemTime, utc: bool, millis: bool, out: &mut String) {
        let thousandths = self.keep(time, utc);
        out.push_str(&self.text);
        if millis {
            push_millis(thousandths, out);
        }
    }

    /// Appends `2025-11-23T14:48:15.123+01:00`, as RFC 3339 has it.
    pub(crate) fn write_rfc3339(&mut self, time: SystemTime, utc: bool, out: &mut String) {
        let thousandths = self.keep(time, utc);
        let (date, clock) = self.text.split_at(self.text.find(' ').unwrap_or(self.text.len()));
        out.push_str(date);
        out.push('T');
        out.push_str(clock.trim_start());
        push_millis(thousandths, out);
        out.push_str(&self.offset);
    }

    /// Sees to it that the second of `time` is the kept one; returns the milliseconds within it.
    fn keep(&mut self, time: SystemTime, utc: bool) -> u32 {
        let (second, millis) = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => (
                i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                after.subsec_millis(),
            ),
            Err(before) => {
                let millis = i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis);
                (millis.div_euclid(1000), millis.rem_euclid(1000) as u32)
            }
        };
        if self.kept != Some((second, utc)) {
            self.kept = Some((second, utc));
            self.render(second, utc);
        }
        millis
    }

    fn render(&mut self, second: i64, utc: bool) {
        // Times that a calendar has no name for are shown as its first or last.
        let limit = if second < 0 { Timestamp::MIN } else { Timestamp::MAX };
        let timestamp = Timestamp::from_second(second).unwrap_or(limit);
        let zone = if utc { TimeZone::UTC } else { self.zone.clone() };
        let here = ZonedDateTime::new(timestamp, zone);
        self.text.clear();
        // Writing to a string cannot fail.
        let _ = write!(
            self.text,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            here.year(),
            here.month(),
            here.day(),
            here.hour(),
            here.minute(),
            here.second()
        );
        self.offset.clear();
        let minutes = here.offset().seconds() / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        let _ = write!(self.offset, "{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60);
    }
}

/// Why local times are in UTC although `TZ` names a zone, for the first of a process that asks; then never again.
///
/// Without such a variable a machine that names no zone has none, and UTC is right.
pub fn take_zone_problem() -> Option<String> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let named = std::env::var_os("TZ").filter(|zone| !zone.is_empty())?;
    let is_known = TimeZone::try_system().is_ok();
    (!is_known && !TAKEN.swap(true, Ordering::Relaxed)).then(|| {
        format!(
            "cannot find the time zone that TZ names, {named:?}; times are in UTC. Name one such as Europe/Berlin, and install \
             the zones (on most systems the package tzdata)"
        )
    })
}

impl Default for Clock {
    /// Local time is that of the system: the zone that `TZ` names, else that of `/etc/localtime`, else UTC.
    fn default() -> Self {
        Self::in_zone(TimeZone::system())
    }
}

fn push_millis(thousandths: u32, out: &mut String) {
    out.push('.');
    for unit in [100, 10, 1] {
        out.push(char::from(b'0' + (thousandths / unit % 10) as u8));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(clock: &mut Clock, millis: i64, utc: bool) -> String {
        let distance = Duration::from_millis(millis.unsigned_abs());
        let time = if millis < 0 {
            UNIX_EPOCH - distance
        } else {
            UNIX_EPOCH + distance
        };
        let mut out = String::new();
        clock.write(time, utc, true, &mut out);
        out
    }

    #[test]
    fn the_kept_second_is_never_shown_for_another() {
        let mut clock = Clock::default();
        let first = 1_763_909_295_999;
        assert_eq!(shown(&mut clock, first, true), "2025-11-23 14:48:15.999");
        assert_eq!(shown(&mut clock, first + 1, true), "2025-11-23 14:48:16.000");
        assert_eq!(shown(&mut clock, first, true), "2025-11-23 14:48:15.999");
        assert_eq!(shown(&mut clock, -1, true), "1969-12-31 23:59:59.999");
    }

    #[test]
    fn local_time_follows_its_zone_through_a_change_of_the_clock() {
        let mut clock = Clock::in_zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        let before = 1_761_440_399_000; // 2025-10-26 00:59:59 UTC
        assert_eq!(shown(&mut clock, before, false), "2025-10-26 02:59:59.000");
        assert_eq!(shown(&mut clock, before + 1000, false), "2025-10-26 02:00:00.000");
        assert_eq!(shown(&mut clock, before + 1000, true), "2025-10-26 01:00:00.000");
        let mut out = String::new();
        clock.write_rfc3339(UNIX_EPOCH + Duration::from_millis(before as u64), false, &mut out);
        assert_eq!(out, "2025-10-26T02:59:59.000+02:00");
    }

    #[test]
    fn times_beyond_the_calendar_do_not_panic() {
        let mut clock = Clock::default();
        let far = UNIX_EPOCH + Duration::from_secs(1 << 50);
        let mut out = String::new();
        clock.write(far, true, false, &mut out);
        assert!(out.starts_with("9999-12-30"), "{out}");
    }
}
