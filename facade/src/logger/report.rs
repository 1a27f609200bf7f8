//! The report of a logger's end: the account of each sink.

use std::collections::BTreeMap;

use logcore::{RunEnd, SinkBooks};
use logcore_pipeline::OVER_LIMIT;
use serde::Serialize;

/// The result of [`UnifiedLogger::finish`](crate::UnifiedLogger::finish): how the run ended, and
/// what each sink delivered.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
/// use facade::RunEnd;
///
/// let logger = facade::setup_logging(config)?;
/// logger.info("one line");
/// let report = logger.finish();
/// assert_eq!((report.end.clone(), report.exit_code), (RunEnd::Finished, 0));
/// assert!(report.all_delivered());
/// # Ok::<(), facade::LogError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FinishReport {
    /// Name of the logger.
    pub logger: String,
    /// How the run ended.
    pub end: RunEnd,
    /// The code given to `set_exit_code`, else the exit code of the process as far as it is known.
    /// 0 means success.
    pub exit_code: i32,
    /// The account of each sink, by the sink's name in the config.
    pub sinks: BTreeMap<String, SinkBooks>,
    /// The destination of each sink that has a named one: path of a file or folder, or `stdout`.
    pub places: BTreeMap<String, String>,
    /// The reason why the accounts are incomplete, if the deadline passed before every sink had
    /// ended.
    pub problem: Option<String>,
}

impl FinishReport {
    /// Returns the account of one sink.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let logger = facade::setup_logging(config)?;
    /// logger.info("one line");
    /// let report = logger.finish();
    /// # #[cfg(feature = "file")]
    /// assert_eq!(report.sink("file").unwrap().delivered, 1);
    /// assert!(report.sink("carrier pigeon").is_none());
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn sink(&self, name: &str) -> Option<&SinkBooks> {
        self.sinks.get(name)
    }

    /// Returns `true` if every sink delivered everything that it accepted.
    ///
    /// ```
    /// assert!(facade::FinishReport::default().all_delivered());
    /// ```
    #[must_use]
    pub fn all_delivered(&self) -> bool {
        self.problem.is_none() && self.sinks.values().all(|books| books.accepted == books.delivered)
    }

    /// Returns the report of a `finish` that a sink called: waiting for the sink's own thread would
    /// never end.
    pub(crate) fn from_within_sink(logger: &str) -> Self {
        Self {
            logger: logger.to_owned(),
            problem: Some("finish was called from within a sink; the logger is still open".to_owned()),
            ..Self::default()
        }
    }

    /// Describes what was not delivered; empty if everything was.
    pub(crate) fn losses(&self) -> String {
        let mut parts: Vec<String> = self.problem.iter().cloned().collect();
        for (name, books) in &self.sinks {
            // Spooled calls are not lost. Records over a rate limit have been reported already.
            for (reason, count) in books.dropped.iter().filter(|(reason, _)| *reason != OVER_LIMIT) {
                parts.push(format!("sink `{name}` lost {count} ({reason})"));
            }
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_over_a_rate_limit_are_no_loss() {
        let mut books = SinkBooks::default();
        books.drop_for(OVER_LIMIT, 7);
        books.drop_for("disk full", 12);
        let report = FinishReport {
            sinks: [("file".to_owned(), books)].into(),
            ..FinishReport::default()
        };
        assert_eq!(report.losses(), "sink `file` lost 12 (disk full)");
    }
}
