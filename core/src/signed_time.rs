//! A serde form for `SystemTime` that allows times before 1970:
//! `#[serde(with = "logcore::signed_time")]`.
//!
//! serde refuses times before 1970, but a machine without a battery-backed clock may start there.
//! From 1970 on, the form is the same as serde's.
//!
//! ```
//! use std::time::{Duration, SystemTime, UNIX_EPOCH};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Call {
//!     #[serde(with = "logcore::signed_time")]
//!     time: SystemTime,
//! }
//!
//! let time = UNIX_EPOCH - Duration::from_millis(1500);
//! let text = logcore::serde_json::to_string(&Call { time }).unwrap();
//! assert_eq!(logcore::serde_json::from_str::<Call>(&text).unwrap().time, time);
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Serializes a time.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    SplitTime::from_time(*time).serialize(serializer)
}

/// Deserializes a time that [`serialize`] or serde wrote.
///
/// # Errors
///
/// Those of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    SplitTime::deserialize(deserializer).map(SplitTime::to_time)
}

/// The same form for an optional time: `#[serde(with = "logcore::signed_time::option")]`.
///
/// ```
/// #[derive(serde::Serialize)]
/// struct Run {
///     #[serde(with = "logcore::signed_time::option")]
///     finished: Option<std::time::SystemTime>,
/// }
///
/// let text = logcore::serde_json::to_string(&Run { finished: None }).unwrap();
/// assert_eq!(text, r#"{"finished":null}"#);
/// ```
pub mod option {
    use super::*;

    /// Serializes a time, or null.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(SplitTime::from_time).serialize(serializer)
    }

    /// Deserializes a time that [`serialize`] or serde wrote.
    ///
    /// # Errors
    ///
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<SplitTime>::deserialize(deserializer)?.map(SplitTime::to_time))
    }
}

/// Whole seconds since 1970, rounded down, and the rest in nanoseconds.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct SplitTime {
    secs_since_epoch: i64,
    nanos_since_epoch: u32,
}

impl SplitTime {
    fn from_time(time: SystemTime) -> Self {
        let (secs, nanos) = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                let secs = i64::try_from(before.as_secs()).map_or(i64::MIN, |secs| -secs);
                match before.subsec_nanos() {
                    0 => (secs, 0),
                    nanos => (secs.saturating_sub(1), 1_000_000_000 - nanos),
                }
            }
        };
        Self {
            secs_since_epoch: secs,
            nanos_since_epoch: nanos,
        }
    }

    fn to_time(self) -> SystemTime {
        let whole = Duration::from_secs(self.secs_since_epoch.unsigned_abs());
        let seconds = match self.secs_since_epoch < 0 {
            true => UNIX_EPOCH.checked_sub(whole),
            false => UNIX_EPOCH.checked_add(whole),
        };
        let time = seconds.and_then(|time| time.checked_add(Duration::from_nanos(self.nanos_since_epoch.into())));
        time.unwrap_or(UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_time_survives_a_round_trip(
            seconds in -400_000_000_000_i64..400_000_000_000,
            nanos in 0_u32..1_000_000_000,
        ) {
            let time = SplitTime { secs_since_epoch: seconds, nanos_since_epoch: nanos }.to_time();
            let parts = SplitTime::from_time(time);
            prop_assert_eq!((parts.secs_since_epoch, parts.nanos_since_epoch), (seconds, nanos));
            if seconds >= 0 {
                prop_assert_eq!(serde_json::to_string(&parts).unwrap(), serde_json::to_string(&time).unwrap());
            }
        }
    }
}
