//! The text of times, in local time or UTC.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use logcore::{Style, local_time_zone};

/// A writer of times that caches the text of the present second: a second usually has many records.
#[derive(Debug)]
pub(crate) struct TimeWriter {
    zone: TimeZone,
    /// The second since 1970 that `text` and `offset` describe; `true` for UTC.
    cached: Option<(i64, bool)>,
    text: String,
    offset: String,
}

impl TimeWriter {
    /// Creates a writer whose local time is that of `zone`.
    pub(crate) fn in_zone(zone: TimeZone) -> Self {
        Self {
            zone,
            cached: None,
            text: String::new(),
            offset: String::new(),
        }
    }

    /// Appends `2025-11-23 14:48:15` or, if the style has milliseconds, `2025-11-23 14:48:15.123`.
    pub(crate) fn write(&mut self, time: SystemTime, style: &Style, out: &mut String) {
        let millis = self.cache_second(time, style.utc);
        out.push_str(&self.text);
        if style.millis {
            push_millis(millis, out);
        }
    }

    /// Appends `2025-11-23T14:48:15.123+01:00`, the form of RFC 3339.
    pub(crate) fn write_rfc3339(&mut self, time: SystemTime, style: &Style, out: &mut String) {
        let millis = self.cache_second(time, style.utc);
        let (date, clock) = self.text.split_at(self.text.find(' ').unwrap_or(self.text.len()));
        out.push_str(date);
        out.push('T');
        out.push_str(clock.trim_start());
        push_millis(millis, out);
        out.push_str(&self.offset);
    }

    /// Formats the second of `time`, unless it is cached. Returns the milliseconds.
    fn cache_second(&mut self, time: SystemTime, utc: bool) -> u32 {
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
        if self.cached != Some((second, utc)) {
            self.cached = Some((second, utc));
            self.format_second(second, utc);
        }
        millis
    }

    /// Formats the date, the time and the offset of a second since 1970.
    fn format_second(&mut self, second: i64, utc: bool) {
        // A time beyond the calendar becomes its first or last second.
        let limit = if second < 0 { Timestamp::MIN } else { Timestamp::MAX };
        let timestamp = Timestamp::from_second(second).unwrap_or(limit);
        let zone = if utc { TimeZone::UTC } else { self.zone.clone() };
        let local = ZonedDateTime::new(timestamp, zone);
        self.text.clear();
        // Writing to a string cannot fail.
        let _ = write!(
            self.text,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            local.year(),
            local.month(),
            local.day(),
            local.hour(),
            local.minute(),
            local.second()
        );
        self.offset.clear();
        let minutes = local.offset().seconds() / 60;
        let sign = if minutes < 0 { '-' } else { '+' };
        let _ = write!(self.offset, "{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60);
    }
}

/// Returns the millisecond that contains a time after 1970.
pub(crate) fn millisecond_of(time: SystemTime) -> Option<Range<SystemTime>> {
    let since_epoch = time.duration_since(UNIX_EPOCH).ok()?;
    let start = time - Duration::from_nanos(u64::from(since_epoch.subsec_nanos() % 1_000_000));
    Some(start..start.checked_add(Duration::from_millis(1))?)
}

/// Returns the reason why local time is UTC although `TZ` names a time zone. Only the first call in
/// a process returns a reason.
///
/// Without `TZ`, a machine without a time zone uses UTC on purpose.
///
/// ```
/// // `TZ` is unset, or names a time zone of this machine.
/// assert_eq!(logcore_formatters::take_zone_problem(), None);
/// ```
#[must_use]
pub fn take_zone_problem() -> Option<String> {
    static REPORTED: AtomicBool = AtomicBool::new(false);
    let zone = std::env::var_os("TZ").filter(|name| !name.is_empty())?;
    let is_known = TimeZone::try_system().is_ok();
    (!is_known && !REPORTED.swap(true, Ordering::Relaxed)).then(|| {
        format!(
            "cannot find the time zone {zone:?} of the variable TZ: times are in UTC. Use a name such as Europe/Berlin, \
             and install the time zones (on most systems the package tzdata)"
        )
    })
}

impl Default for TimeWriter {
    /// Creates a writer with the time zone of `TZ`, of `/etc/localtime`, or UTC.
    fn default() -> Self {
        Self::in_zone(local_time_zone())
    }
}

/// Appends a dot and three digits.
fn push_millis(millis: u32, out: &mut String) {
    out.push('.');
    for unit in [100, 10, 1] {
        out.push(char::from(b'0' + (millis / unit % 10) as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UTC: bool = true;
    const LOCAL: bool = false;

    fn style(utc: bool) -> Style {
        let mut style = Style::default();
        (style.utc, style.millis) = (utc, true);
        style
    }

    fn text_of(clock: &mut TimeWriter, millis: i64, utc: bool) -> String {
        let distance = Duration::from_millis(millis.unsigned_abs());
        let time = if millis < 0 {
            UNIX_EPOCH - distance
        } else {
            UNIX_EPOCH + distance
        };
        let mut out = String::new();
        clock.write(time, &style(utc), &mut out);
        out
    }

    #[test]
    fn cached_second_is_not_used_for_another() {
        let mut clock = TimeWriter::default();
        let first = 1_763_909_295_999;
        assert_eq!(text_of(&mut clock, first, UTC), "2025-11-23 14:48:15.999");
        assert_eq!(text_of(&mut clock, first + 1, UTC), "2025-11-23 14:48:16.000");
        assert_eq!(text_of(&mut clock, first, UTC), "2025-11-23 14:48:15.999");
        assert_eq!(text_of(&mut clock, -1, UTC), "1969-12-31 23:59:59.999");
    }

    #[test]
    fn local_time_follows_the_change_to_winter_time() {
        let mut clock = TimeWriter::in_zone(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        let before = 1_761_440_399_000; // 2025-10-26 00:59:59 UTC
        assert_eq!(text_of(&mut clock, before, LOCAL), "2025-10-26 02:59:59.000");
        assert_eq!(text_of(&mut clock, before + 1000, LOCAL), "2025-10-26 02:00:00.000");
        assert_eq!(text_of(&mut clock, before + 1000, UTC), "2025-10-26 01:00:00.000");
        let mut out = String::new();
        clock.write_rfc3339(
            UNIX_EPOCH + Duration::from_millis(before as u64),
            &style(LOCAL),
            &mut out,
        );
        assert_eq!(out, "2025-10-26T02:59:59.000+02:00");
    }

    #[test]
    fn write_of_a_time_beyond_the_calendar_does_not_panic() {
        let mut clock = TimeWriter::default();
        let far = UNIX_EPOCH + Duration::from_secs(1 << 50);
        let mut out = String::new();
        clock.write(far, &style(UTC), &mut out);
        assert!(out.starts_with("9999-12-30"), "{out}");
    }
}
