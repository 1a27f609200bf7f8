//! The outcome of a run: exit code, cause of its end, and counts of warnings and errors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Instant;

use logcore::log::Level;
use logcore::sync::lock;
use logcore::{LoggerEnd, LoggerSummary, PerProcess, RunEnd};

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
