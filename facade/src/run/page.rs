//! The page of a run, `report.html` in its folder, which rank 0 writes when the run has ended.

#[cfg(feature = "report")]
mod writing {
    use std::io::{self, BufWriter};
    use std::path::{Path, PathBuf};
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::thread;
    use std::time::Duration;

    use logcore::files::Replacement;
    use logcore::{Deadline, RunInfo, suppress_logging};
    use logcore_pipeline::{block_write_signals, print_notice};
    use logcore_runs::StoredRun;
    use logcore_runs::report::{ReportError, write_report};

    /// Name of the file.
    const FILE: &str = "report.html";

    /// Most time that the end of a run waits for its page. A run of a million rows takes less.
    const MOST_TIME: Duration = Duration::from_secs(10);

    /// Least time, also behind the deadline: a healthy disk takes the page of a short run within
    /// it.
    const LEAST_TIME: Duration = Duration::from_millis(200);

    /// Writes the page of a run that has ended. Returns the path, or `None` if there is no page,
    /// which a notice tells.
    ///
    /// A thread of its own reads and writes: a frozen disk must not stop the thread that ends the
    /// run.
    pub(in crate::run) fn write(run: &RunInfo, deadline: Deadline) -> Option<PathBuf> {
        let path = run.dir().join(FILE);
        let (info, target) = (run.clone(), path.clone());
        let (sender, written) = channel();
        let started = thread::Builder::new().name("logcore-report".to_owned()).spawn(move || {
            block_write_signals();
            // The receiver is gone if the page took too long.
            let _ = sender.send(suppress_logging(|| write_page(&info, &target)));
        });
        let limit = deadline.remaining().clamp(LEAST_TIME, MOST_TIME);
        let problem = match started.map(|_| written.recv_timeout(limit)) {
            Ok(Ok(Ok(()))) => return Some(path),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(RecvTimeoutError::Timeout)) => format!("it takes longer than {:.1} s", limit.as_secs_f64()),
            Ok(Err(RecvTimeoutError::Disconnected)) => "its thread panicked".to_owned(),
            Err(error) => format!("cannot start a thread: {error}"),
        };
        let (shown, dir) = (path.display(), run.dir().display());
        print_notice(
            &format!("page {shown}"),
            &format!("cannot write {shown}: {problem}. `logcore report {dir} -o FILE` writes the page later"),
        );
        None
    }

    fn write_page(run: &RunInfo, path: &Path) -> io::Result<()> {
        let stored = StoredRun::open(run.dir()).map_err(io::Error::other)?;
        if stored.manifest.id != run.id() {
            // Two flat runs in one folder.
            return Err(io::Error::other("the folder is that of a later run"));
        }
        let mut page = BufWriter::new(Replacement::begin(path)?);
        write_report(&[stored], &mut page).map_err(|error| match error {
            ReportError::Unwritable { error } => error,
            error => io::Error::other(error),
        })?;
        page.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
    }
}

use logcore::{ConfigError, LogConfig};

#[cfg(feature = "report")]
pub(super) use self::writing::write;

/// Writes nothing, because [`check`] has refused every config that asks for a page.
#[cfg(not(feature = "report"))]
pub(super) fn write(_: &logcore::RunInfo, _: logcore::Deadline) -> Option<std::path::PathBuf> {
    None
}

/// Refuses a config that asks for a page in a build that writes none.
pub(super) fn check(config: &LogConfig) -> Result<(), ConfigError> {
    if !config.report || cfg!(feature = "report") {
        return Ok(());
    }
    Err(ConfigError::new(
        "report",
        true,
        "switch on the Cargo feature `report` of logcore-facade, or leave it off; the program `logcore` writes the page \
         of any run, by `logcore report`",
    ))
}
