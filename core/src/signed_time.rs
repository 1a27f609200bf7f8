//! `#[serde(with = "logcore::signed_time")]` for a `SystemTime`: also one before 1970, which serde's own form refuses. A machine
//! without a clock of its own may begin there. From 1970 on the form is that of serde.
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

/// Writes a time.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    Parts::of(*time).serialize(serializer)
}

/// Reads what [`serialize`] or serde wrote.
///
/// # Errors
///
/// Those of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    Parts::deserialize(deserializer).map(Parts::time)
}

/// The same for a time that may be missing: `#[serde(with = "logcore::signed_time::option")]`.
pub mod option {
    use super::*;

    /// Writes a time, if there is one.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(Parts::of).serialize(serializer)
    }

    /// Reads what [`serialize`] or serde wrote.
    ///
    /// # Errors
    ///
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        Ok(Option::<Parts>::deserialize(deserializer)?.map(Parts::time))
    }
}

/// Whole seconds, rounded down, and what is beyond them.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Parts {
    secs_since_epoch: i64,
    nanos_since_epoch: u32,
}

impl Parts {
    fn of(time: SystemTime) -> Self {
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

    fn time(self) -> SystemTime {
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
        fn every_time_comes_back(seconds in -400_000_000_000_i64..400_000_000_000, nanos in 0_u32..1_000_000_000) {
            let time = Parts { secs_since_epoch: seconds, nanos_since_epoch: nanos }.time();
            let parts = Parts::of(time);
            prop_assert_eq!((parts.secs_since_epoch, parts.nanos_since_epoch), (seconds, nanos));
            if seconds >= 0 {
                prop_assert_eq!(serde_json::to_string(&parts).unwrap(), serde_json::to_string(&time).unwrap());
            }
        }
    }
}
