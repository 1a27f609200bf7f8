//! The outcome of a run and the report of a logger's end: exit code, cause, and the account of each
//! sink.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Instant;

use logcore::log::Level;
use logcore::sync::lock;
use logcore::{LoggerEnd, LoggerSummary, PerProcess, RunEnd, SinkBooks};
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

    /// Returns the end of the logger.
    pub(crate) fn logger_end(&self) -> LoggerEnd {
        LoggerEnd::new(self.exit_code, self.end.clone())
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

/// The outcome of one logger's run, as far as it is known.
pub(crate) struct RunOutcome {
    exit_code: AtomicI32,
    /// The cause, if something else than the logger's own end has ended the run.
    cause: PerProcess<Mutex<Option<RunEnd>>>,
    opened: Instant,
    warnings: AtomicU64,
    errors: AtomicU64,
}

impl RunOutcome {
    pub(crate) fn new() -> Self {
        Self {
            exit_code: AtomicI32::new(0),
            cause: PerProcess::default(),
            opened: Instant::now(),
            warnings: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn count_record(&self, level: Level) {
        match level {
            Level::Error => drop(self.errors.fetch_add(1, Ordering::Relaxed)),
            Level::Warn => drop(self.warnings.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    pub(crate) fn set_exit_code(&self, code: i32) {
        self.exit_code.store(code, Ordering::Relaxed);
    }

    /// Notes that the run ends now, and the exit code of the process. An exit code that was set
    /// before stays.
    pub(crate) fn cut_short(&self, cause: Option<RunEnd>, exit_code: i32) {
        let _ = self
            .exit_code
            .compare_exchange(0, exit_code, Ordering::Relaxed, Ordering::Relaxed);
        *lock(self.cause.get()) = cause;
    }

    /// Returns the end of the run as it stands now. `redact` hides secrets in the message of a
    /// panic.
    pub(crate) fn end(&self, redact: impl FnOnce(&str) -> String) -> LoggerEnd {
        let exit_code = self.exit_code.load(Ordering::Relaxed);
        match &*lock(self.cause.get()) {
            Some(RunEnd::Panicked { message }) => {
                let message = redact(message);
                LoggerEnd::new(exit_code, RunEnd::Panicked { message })
            }
            Some(cause) => LoggerEnd::new(exit_code, cause.clone()),
            None => LoggerEnd::from_exit_code(exit_code),
        }
    }

    /// Returns a summary with the duration and the counts of the run.
    pub(crate) fn summary(&self) -> LoggerSummary {
        let mut summary = LoggerSummary::default();
        summary.duration = self.opened.elapsed();
        summary.warnings = self.warnings.load(Ordering::Relaxed);
        summary.errors = self.errors.load(Ordering::Relaxed);
        summary
    }
}

/// Message and location of the last panic of this process.
static LAST_PANIC: PerProcess<Mutex<Option<String>>> = PerProcess::new(|_| Mutex::default());

pub(crate) fn note_panic(message: String) {
    *lock(LAST_PANIC.get()) = Some(message);
}

/// Returns the end of a run that the last panic of this process has ended.
pub(crate) fn last_panic() -> Option<RunEnd> {
    let message = lock(LAST_PANIC.get()).clone()?;
    Some(RunEnd::Panicked { message })
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
