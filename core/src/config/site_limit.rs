//! The rate limit for one place in the code.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::duration_text::parse_duration;
use crate::ConfigError;

/// The number of records that one place in the code may emit per period: `100/10s`.
///
/// The units of the period are `ms`, `s`, `m` or `min`, and `h`.
///
/// ```
/// use logcore::SiteLimit;
/// use std::time::Duration;
///
/// let limit: SiteLimit = "100/10s".parse().unwrap();
/// assert_eq!((limit.records, limit.period), (100, Duration::from_secs(10)));
/// assert_eq!("5 / 2 min".parse::<SiteLimit>().unwrap().to_string(), "5/120s");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SiteLimit {
    /// Number of records; at least 1.
    pub records: u64,
    /// Period, which starts with the first record.
    pub period: Duration,
}

impl SiteLimit {
    /// Creates a limit of `records` per `period`.
    ///
    /// ```
    /// use logcore::SiteLimit;
    /// use std::time::Duration;
    ///
    /// assert_eq!(SiteLimit::new(100, Duration::from_secs(10)).to_string(), "100/10s");
    /// ```
    #[must_use]
    pub fn new(records: u64, period: Duration) -> Self {
        Self { records, period }
    }
}

impl FromStr for SiteLimit {
    type Err = ConfigError;

    /// # Errors
    ///
    /// If the text is not a number, a slash and a period, or a number is 0.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let parse = || {
            let (records, period) = text.split_once('/')?;
            let (records, period) = (records.trim().parse().ok()?, parse_duration(period)?);
            (records > 0 && !period.is_zero()).then_some(Self { records, period })
        };
        let remedy = "use a number of records and a period, such as `100/10s`, `1/500ms`, `5/2min` or `20/1h`";
        parse().ok_or_else(|| ConfigError::new("limit_per_site", text, remedy))
    }
}

impl fmt::Display for SiteLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}", self.records, self.period)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invalid_limits_are_refused() {
        for wrong in [
            "100",
            "/10s",
            "100/",
            "100/10",
            "0/10s",
            "100/0s",
            "-1/1s",
            "1/1d",
            "1/1.5s",
            "99999999999999999999/1s",
        ] {
            let error = wrong.parse::<SiteLimit>().unwrap_err();
            assert_eq!((error.field.as_str(), error.value.as_str()), ("limit_per_site", wrong));
        }
    }

    proptest! {
        #[test]
        fn displayed_limit_parses_to_the_same(records in 1_u64.., millis in 1_u64..1_000_000) {
            // Display has milliseconds only below a second.
            let period = Duration::from_millis(if millis < 1000 { millis } else { millis / 1000 * 1000 });
            let limit = SiteLimit { records, period };
            prop_assert_eq!(limit.to_string().parse::<SiteLimit>().unwrap(), limit);
        }

        #[test]
        fn parsing_any_text_does_not_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<SiteLimit>();
        }
    }
}
