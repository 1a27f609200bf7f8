use std::{env, fs};

use jiff::tz::TimeZone;

/// The system's own time zone, on Unix.
const LOCAL_TIME: &str = "/etc/localtime";

/// Returns the time zone of `TZ`, else that of the machine, else UTC.
///
/// Without `TZ` this reads one file. [`TimeZone::system`] would list all zones of the machine first,
/// at its first call in a process: milliseconds of a program's start.
///
/// ```
/// use logcore::local_time_zone;
///
/// let now = jiff::Timestamp::now().to_zoned(local_time_zone());
/// assert_eq!(now.offset(), jiff::Zoned::now().offset());
/// ```
#[must_use]
pub fn local_time_zone() -> TimeZone {
    let is_named = env::var_os("TZ").is_some();
    let zone_of_machine = || TimeZone::tzif("Local", &fs::read(LOCAL_TIME).ok()?).ok();
    let zone = if is_named { None } else { zone_of_machine() };
    zone.unwrap_or_else(TimeZone::system)
}
