//! Rules: values of metrics that a run reports.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::duration_text::parse_duration;
use crate::ConfigError;

/// A condition on metrics, and the answer to it. A rule has exactly one condition: `nan`, `above`,
/// `below`, `spike`, `flat` or `missing`.
///
/// Values that meet the condition one after another are one episode, which is reported once. The
/// episode ends after `window` values that do not meet the condition; one of `missing` ends with
/// the next value.
///
/// ```
/// use logcore::{LogConfig, Rule, RuleAnswer};
///
/// let config = LogConfig {
///     rules: vec![
///         Rule { metric: "loss".into(), spike: Some(6.0), ..Rule::default() },
///         Rule { metric: "*".into(), nan: true, then: RuleAnswer::Stop, ..Rule::default() },
///     ],
///     ..LogConfig::default()
/// };
/// config.validate()?;
/// assert_eq!(config.rules[0].name(), "loss-spike");
/// # Ok::<(), logcore::ConfigError>(())
/// ```
///
/// In a config file:
///
/// ```toml
/// [[rules]]
/// metric = "loss"
/// spike = 6.0
/// then = "alert"
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Name of the metric as the program logs it, without the config's `metrics_prefix`; `*` stands
    /// for any characters.
    pub metric: String,
    /// `true` to report values that are no finite number.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nan: bool,
    /// Reports values greater than this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Reports values less than this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// Reports values that are farther from the trend of the last `window` values than this many
    /// robust sigmas, 1 or more: 1.4826 times the median absolute deviation, which is the standard
    /// deviation of Gaussian noise. With more outliers than such noise has, the limit is higher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spike: Option<f64>,
    /// Reports a metric whose last values, so many, are all equal; from 2 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flat: Option<usize>,
    /// Reports a metric without a value for this time, such as `10m`, since its last one or since
    /// the start of the logger. Time in the phases `eval`, `checkpoint` and `idle` does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Number of values that `spike` compares with, and after which an episode ends; from 10 to
    /// 10,000. Default: 100.
    pub window: usize,
    /// The answer to an episode. Default: a line at level WARN.
    pub then: RuleAnswer,
}

/// The answer to a rule.
///
/// ```
/// use logcore::RuleAnswer;
///
/// assert_eq!(serde_json::from_str::<RuleAnswer>(r#""stop""#).unwrap(), RuleAnswer::Stop);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RuleAnswer {
    /// A line at level WARN, an event and an incident.
    #[default]
    Warn,
    /// The same, and an alert.
    Alert,
    /// The same, and the request to stop the run.
    Stop,
}

impl Rule {
    /// Returns the name of the rule in events and files: its metric and its condition, such as
    /// `loss-spike`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", self.metric, self.conditions().first().unwrap_or(&"none"))
    }

    /// Returns the time of `missing`.
    ///
    /// ```
    /// use logcore::Rule;
    /// use std::time::Duration;
    ///
    /// let rule = Rule { metric: "loss".into(), missing: Some("10m".into()), ..Rule::default() };
    /// assert_eq!(rule.missing_time(), Some(Duration::from_secs(600)));
    /// ```
    #[must_use]
    pub fn missing_time(&self) -> Option<Duration> {
        self.missing.as_deref().and_then(parse_duration)
    }

    /// Checks the rule at this place of the config's `rules`.
    pub(crate) fn validate(&self, at: usize) -> Result<(), ConfigError> {
        let refuse = |field: &str, value: String, remedy: &str| {
            Err(ConfigError::new(
                format!("rules[{at}].{field}"),
                value,
                remedy.to_owned(),
            ))
        };
        if self.metric.is_empty() {
            return refuse(
                "metric",
                "\"\"".to_owned(),
                "use the name of a metric; `*` stands for any characters",
            );
        }
        if let [] | [_, _, ..] = self.conditions().as_slice() {
            let remedy = "use exactly one of `nan = true`, `above`, `below`, `spike`, `flat` and `missing`";
            return refuse("metric", format!("{:?}", self.metric), remedy);
        }
        for (field, bound) in [("above", self.above), ("below", self.below)] {
            if let Some(bound) = bound.filter(|bound| !bound.is_finite()) {
                return refuse(
                    field,
                    bound.to_string(),
                    "use a finite number; `nan = true` finds values that are none",
                );
            }
        }
        match self.spike {
            Some(spike) if !(spike.is_finite() && spike >= 1.0) => {
                return refuse(
                    "spike",
                    spike.to_string(),
                    "use a number of deviations, 1 or more, such as 6",
                );
            }
            _ => {}
        }
        match self.flat {
            Some(flat) if !(2..=1_000_000).contains(&flat) => {
                return refuse("flat", flat.to_string(), "use a number of values from 2 to 1,000,000");
            }
            _ => {}
        }
        match &self.missing {
            Some(missing) if self.missing_time().is_none_or(|time| time.is_zero()) => {
                return refuse(
                    "missing",
                    format!("{missing:?}"),
                    "use a time, such as `10m`, `90s` or `2h`",
                );
            }
            _ => {}
        }
        if !(10..=10_000).contains(&self.window) {
            return refuse(
                "window",
                self.window.to_string(),
                "use a number of values from 10 to 10,000",
            );
        }
        Ok(())
    }

    fn conditions(&self) -> Vec<&'static str> {
        let conditions = [
            (self.nan, "nan"),
            (self.above.is_some(), "above"),
            (self.below.is_some(), "below"),
            (self.spike.is_some(), "spike"),
            (self.flat.is_some(), "flat"),
            (self.missing.is_some(), "missing"),
        ];
        conditions
            .iter()
            .filter(|(is_set, _)| *is_set)
            .map(|(_, name)| *name)
            .collect()
    }
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            metric: String::new(),
            nan: false,
            above: None,
            below: None,
            spike: None,
            flat: None,
            missing: None,
            window: 100,
            then: RuleAnswer::Warn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_exactly_one_condition() {
        let with = |change: fn(&mut Rule)| {
            let mut rule = Rule {
                metric: "loss".into(),
                ..Rule::default()
            };
            change(&mut rule);
            rule.validate(3).map_err(|error| error.field)
        };
        assert_eq!(with(|rule| rule.nan = true), Ok(()));
        assert_eq!(with(|rule| rule.missing = Some("10m".into())), Ok(()));
        assert_eq!(with(|_| {}), Err("rules[3].metric".to_owned()));
        assert_eq!(
            with(|rule| (rule.nan, rule.above) = (true, Some(1.0))),
            Err("rules[3].metric".to_owned())
        );
        assert_eq!(
            with(|rule| rule.above = Some(f64::NAN)),
            Err("rules[3].above".to_owned())
        );
        assert_eq!(
            with(|rule| rule.below = Some(f64::INFINITY)),
            Err("rules[3].below".to_owned())
        );
        assert_eq!(with(|rule| rule.spike = Some(0.5)), Err("rules[3].spike".to_owned()));
        assert_eq!(with(|rule| rule.flat = Some(1)), Err("rules[3].flat".to_owned()));
        assert_eq!(
            with(|rule| rule.missing = Some("soon".into())),
            Err("rules[3].missing".to_owned())
        );
        assert_eq!(
            with(|rule| (rule.nan, rule.window) = (true, 3)),
            Err("rules[3].window".to_owned())
        );
    }
}
