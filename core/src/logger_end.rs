//! The end of a logger, as sinks receive it: the cause of the end, and a summary of the metrics.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::escape::to_one_line;
use crate::{Point, Stats, StopReason};

/// Exit code and cause of the end of a logger; an argument of
/// [`Sink::logger_ended`](crate::Sink::logger_ended).
///
/// ```
/// use logcore::{LoggerEnd, RunEnd};
///
/// assert_eq!(LoggerEnd::default().run_end, RunEnd::Finished);
/// assert_eq!(LoggerEnd::from_exit_code(3).run_end, RunEnd::Failed { exit_code: 3 });
/// let end = LoggerEnd::new(143, RunEnd::Interrupted { signal: "SIGTERM".into() });
/// assert_eq!(end.exit_code, 143);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoggerEnd {
    /// Exit code of the run; 0 means success.
    pub exit_code: i32,
    /// Cause of the end, as far as it is known.
    pub run_end: RunEnd,
}

impl LoggerEnd {
    /// Creates an end with this exit code and this cause.
    #[must_use]
    pub fn new(exit_code: i32, run_end: RunEnd) -> Self {
        Self { exit_code, run_end }
    }

    /// Creates an end whose cause follows from the exit code: [`RunEnd::Finished`] for 0, else
    /// [`RunEnd::Failed`].
    #[must_use]
    pub fn from_exit_code(exit_code: i32) -> Self {
        let run_end = match exit_code {
            0 => RunEnd::Finished,
            exit_code => RunEnd::Failed { exit_code },
        };
        Self { exit_code, run_end }
    }

    /// Creates the end of a logger whose process was killed. The exit code is 137, as shells report
    /// SIGKILL.
    ///
    /// ```
    /// use logcore::{LoggerEnd, RunEnd};
    ///
    /// let end = LoggerEnd::killed();
    /// assert_eq!((end.exit_code, end.run_end), (137, RunEnd::Killed));
    /// ```
    #[must_use]
    pub fn killed() -> Self {
        const SIGKILL: i32 = 9;
        Self::new(128 + SIGKILL, RunEnd::Killed)
    }
}

/// The cause of the end of a run.
///
/// ```
/// use logcore::RunEnd;
///
/// let end = RunEnd::Interrupted { signal: "SIGTERM".to_owned() };
/// assert_eq!(end.to_string(), "interrupted by SIGTERM");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
#[non_exhaustive]
pub enum RunEnd {
    /// The run ended with exit code 0.
    #[default]
    Finished,
    /// The run ended with an exit code other than 0.
    Failed {
        /// Exit code, not 0.
        exit_code: i32,
    },
    /// A panic ended the run.
    Panicked {
        /// Message and location of the panic.
        message: String,
    },
    /// A signal ended the run.
    Interrupted {
        /// Name of the signal.
        signal: String,
    },
    /// The program was asked to stop, and ended with exit code 0.
    Stopped {
        /// The reason of the request.
        reason: StopReason,
    },
    /// The process was killed; a later process delivered what the run had left.
    Killed,
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Failed { exit_code } => write!(f, "failed with exit code {exit_code}"),
            // The message of a panic may contain control characters.
            Self::Panicked { message } => write!(f, "failed: {}", to_one_line(message)),
            Self::Interrupted { signal } => write!(f, "interrupted by {signal}"),
            Self::Stopped { reason } => write!(f, "stopped by {reason}"),
            Self::Killed => f.write_str("killed"),
        }
    }
}

/// Metrics and counts of a logger at its end; an argument of
/// [`Sink::logger_ended`](crate::Sink::logger_ended).
///
/// The summary is empty for the logger of a killed process, and for a sink that all loggers share.
///
/// ```
/// use logcore::{LoggerSummary, MetricSummary, Stats};
///
/// let mut summary = LoggerSummary::default();
/// assert!(!summary.has_metrics());
/// summary.metrics.push(MetricSummary::new("loss", Stats::empty()));
/// assert!(summary.has_metrics());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoggerSummary {
    /// Time since the logger was opened.
    #[serde(rename = "duration_seconds", with = "seconds")]
    pub duration: Duration,
    /// Highest logged step.
    pub last_step: Option<u64>,
    /// Steps per second over the time with an open progress.
    pub steps_per_sec: Option<f64>,
    /// Samples per second over the time with an open progress.
    pub samples_per_sec: Option<f64>,
    /// Share of `peak_flops` that the samples took, over the time with an open progress: 1 is all.
    /// `None` if the config names no operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfu: Option<f64>,
    /// Energy of the GPUs in kWh, as far as the logger has read their counters. `None` if one of
    /// the counters is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_energy_kwh: Option<f64>,
    /// Number of records of the level WARN.
    pub warnings: u64,
    /// Number of records of the level ERROR.
    pub errors: u64,
    /// The metrics of the user, in the order in which they were first logged.
    pub metrics: Vec<MetricSummary>,
    /// The logger's own metrics: `throughput/`, `progress/`, `memory/`, `system/`, `time/`.
    pub system_metrics: Vec<MetricSummary>,
    /// Seconds of the whole run by their use, as they are shown: `startup`, `data`, `step`, the
    /// names of the program's own phases, `eval`, `checkpoint`, `other`, `down`, `lost`. Uses
    /// without time are left out. The seconds add up to the wall clock of the run. Empty if the
    /// run had no progress and no phase.
    #[serde(default, with = "ordered_object", skip_serializing_if = "Vec::is_empty")]
    pub ledger: Vec<(String, f64)>,
    /// Share of the ledger that moved the run forward, from 0 to 1: `step` and the program's own
    /// phases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goodput: Option<f64>,
    /// Seconds of phases on other threads than the training's. They are not in the ledger.
    #[serde(default, with = "ordered_object", skip_serializing_if = "Vec::is_empty")]
    pub other_threads: Vec<(String, f64)>,
}

impl LoggerSummary {
    /// Returns `true` if any metric was logged, by the user or by the system.
    #[must_use]
    pub fn has_metrics(&self) -> bool {
        !self.metrics.is_empty() || !self.system_metrics.is_empty()
    }
}

/// One metric of a [`LoggerSummary`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MetricSummary {
    /// Name of the metric as the user logged it.
    pub name: String,
    /// Statistics of the metric over the run.
    #[serde(flatten)]
    pub stats: Stats,
    /// Number of newest values that `mean` is over. `None` if `mean` is over the same values as
    /// `min` and `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_of: Option<u64>,
    /// The best value and its step, for a metric with a goal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Point>,
}

impl MetricSummary {
    /// Creates the summary of one metric.
    ///
    /// ```
    /// use logcore::{MetricSummary, Stats};
    ///
    /// let loss = MetricSummary::new("loss", Stats::empty());
    /// assert_eq!((&*loss.name, loss.stats.count), ("loss", 0));
    /// ```
    #[must_use]
    pub fn new(name: impl Into<String>, stats: Stats) -> Self {
        Self {
            name: name.into(),
            stats,
            mean_of: None,
            best: None,
        }
    }
}

/// The serde form of a duration: a number of seconds.
mod seconds {
    use super::*;

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

/// The serde form of pairs: an object whose members keep their order.
mod ordered_object {
    use serde::de::{MapAccess, Visitor};

    use super::*;

    type Pairs = Vec<(String, f64)>;

    pub(super) fn serialize<S: Serializer>(pairs: &Pairs, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(pairs.iter().map(|(name, seconds)| (name, seconds)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        struct PairsVisitor;

        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Pairs, A::Error> {
                let mut pairs = Pairs::new();
                while let Some(pair) = members.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }

        deserializer.deserialize_map(PairsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_and_summary_survive_a_round_trip_through_json() {
        let mut stats = Stats::empty();
        (stats.last, stats.max, stats.count) = (0.1, f64::INFINITY, 3);
        let summary = LoggerSummary {
            duration: Duration::from_millis(1500),
            last_step: Some(7),
            samples_per_sec: Some(1.0 / 3.0),
            mfu: Some(0.1),
            gpu_energy_kwh: Some(1.25),
            metrics: vec![MetricSummary {
                mean_of: Some(100),
                best: Some(Point::new(7, 0.1)),
                ..MetricSummary::new("loss", stats)
            }],
            ledger: vec![("step".to_owned(), 1.0), ("data".to_owned(), 0.5)],
            goodput: Some(2.0 / 3.0),
            ..LoggerSummary::default()
        };
        let text = serde_json::to_string(&(&LoggerEnd::killed(), &summary)).unwrap();
        let (end, again): (LoggerEnd, LoggerSummary) = serde_json::from_str(&text).unwrap();
        assert_eq!(end, LoggerEnd::killed());
        let stats = again.metrics[0].stats;
        assert!(stats.mean.is_nan() && stats.min.is_nan());
        assert_eq!((stats.last, stats.max, stats.count), (0.1, f64::INFINITY, 3));
        assert_eq!(
            (again.duration, again.samples_per_sec),
            (summary.duration, summary.samples_per_sec)
        );
        assert_eq!((again.mfu, again.gpu_energy_kwh), (Some(0.1), Some(1.25)));
        assert_eq!((&again.ledger, again.goodput), (&summary.ledger, summary.goodput));
        assert_eq!(again.metrics[0].best, summary.metrics[0].best);
        assert_eq!(again.metrics[0].mean_of, Some(100));
    }
}
