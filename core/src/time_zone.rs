//! The time zone in which people read times.

use std::sync::OnceLock;
use std::{env, fs};

use jiff::tz::TimeZone;

/// The system's own time zone, on Unix.
const LOCAL_TIME: &str = "/etc/localtime";

/// Returns the time zone of `TZ`, else that of the machine, else UTC.
///
/// Without `TZ` this reads one file, once in a process. [`TimeZone::system`] would list all zones
/// of the machine first, at its first call: milliseconds of a program's start.
///
/// ```
/// use jiff::tz::TimeZone;
/// use jiff::{Timestamp, ZonedDateTime};
/// use logcore::local_time_zone;
///
/// let in_zone = |zone| ZonedDateTime::new(Timestamp::UNIX_EPOCH, zone).offset();
/// assert_eq!(in_zone(local_time_zone()), in_zone(TimeZone::system()));
/// ```
#[must_use]
pub fn local_time_zone() -> TimeZone {
    static OF_MACHINE: OnceLock<Option<TimeZone>> = OnceLock::new();

    // A pipe or a device in its place would stop the start.
    let is_file = || fs::metadata(LOCAL_TIME).is_ok_and(|metadata| metadata.is_file());
    let read = || TimeZone::tzif("Local", &is_file().then(|| fs::read(LOCAL_TIME).ok())??).ok();
    let zone = match env::var_os("TZ") {
        None => OF_MACHINE.get_or_init(read).clone(),
        Some(_) => None,
    };
    zone.unwrap_or_else(TimeZone::system)
}
