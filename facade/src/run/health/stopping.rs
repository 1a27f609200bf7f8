//! The reasons to stop a run: a button, the file `STOP`, the end of the job.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logcore::{LogConfig, RunManifest, StopReason};
use logcore_pipeline::print_notice;

use crate::logger::inner::LoggerInner;
use crate::run::Run;

/// The end of the job in seconds since 1970, which SLURM sets within an allocation.
const SLURM_END: &str = "SLURM_JOB_END_TIME";

/// The times that decide about the end of a run, from the config of its first logger.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::run) struct StopTimes {
    /// The moment at which the run has to be over.
    before: Option<SystemTime>,
    grace: Duration,
}

impl StopTimes {
    pub(in crate::run) fn of(config: &LogConfig) -> Self {
        let before = match config.stop_before.trim() {
            "" => std::env::var(SLURM_END)
                .ok()
                .and_then(|end| end_of_job(&end, SystemTime::now())),
            // An invalid text was refused at set-up.
            _ => config.stop_time().ok().flatten(),
        };
        Self {
            before,
            grace: config.grace_duration(),
        }
    }

    /// Returns the time that the program has for its end.
    #[cfg(feature = "health")]
    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    /// Returns `true` if the time is short: a checkpoint takes up to `checkpoint`.
    fn is_over(&self, now: SystemTime, checkpoint: Duration) -> bool {
        let needed = self.grace.saturating_add(checkpoint);
        self.before
            .is_some_and(|before| now.checked_add(needed).is_none_or(|then| then >= before))
    }
}

/// Returns the end of the job, if it is to come: a job that was given more time, and a shell that
/// has outlived its job, keep the variable as it was.
fn end_of_job(end: &str, now: SystemTime) -> Option<SystemTime> {
    let end = UNIX_EPOCH.checked_add(Duration::from_secs(end.trim().parse().ok()?))?;
    if end <= now {
        print_notice(
            "end of the job",
            &format!("the run goes on after the time in {SLURM_END}, which is over; `stop_before` sets another one"),
        );
        return None;
    }
    Some(end)
}

/// Watches for reasons to stop a run.
pub(super) struct Stopping {
    file: PathBuf,
}

impl Stopping {
    pub(super) fn new(run: &Run) -> Self {
        Self {
            file: run.dir().join(RunManifest::STOP_FILE),
        }
    }

    /// Asks the run to stop, if there is a reason.
    pub(super) fn look(&self, run: &Run, loggers: &[Arc<LoggerInner>]) {
        if run.stop().reason().is_none()
            && let Some(reason) = self.find_reason(run, loggers)
        {
            run.stop().request(reason);
        }
    }

    /// Removes the file that asks, whatever the reason was, so that the next attempt does not stop
    /// at once.
    pub(super) fn end(&self, run: &Run) {
        let is_there = run.is_open() && fs::symlink_metadata(&self.file).is_ok();
        if is_there && run.is_first_rank() {
            let removed = fs::remove_file(&self.file).or_else(|_| fs::remove_dir(&self.file));
            if let Err(error) = removed {
                let file = self.file.display();
                print_notice(
                    &format!("stop file {file}"),
                    &format!("cannot remove {file}: {error}; the next attempt stops at once while the file is there"),
                );
            }
        }
    }

    fn find_reason(&self, run: &Run, loggers: &[Arc<LoggerInner>]) -> Option<StopReason> {
        if loggers.iter().any(|logger| logger.stop().is_requested()) {
            return Some(StopReason::Button);
        }
        // Only whether the name is there counts: its content may be a pipe.
        if run.is_open() && fs::symlink_metadata(&self.file).is_ok() {
            return Some(StopReason::File);
        }
        let is_over = run
            .stop_times()
            .is_over(SystemTime::now(), run.ledger().longest_checkpoint());
        is_over.then_some(StopReason::Deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_comes_before_the_end_of_the_job_by_grace_and_checkpoint() {
        let end = UNIX_EPOCH + Duration::from_secs(1_000);
        let times = StopTimes {
            before: Some(end),
            grace: Duration::from_secs(30),
        };
        let checkpoint = Duration::from_secs(20);
        assert!(!times.is_over(end - Duration::from_secs(51), checkpoint));
        assert!(times.is_over(end - Duration::from_secs(50), checkpoint));
        assert!(!StopTimes::default().is_over(end, checkpoint));
    }

    #[test]
    fn an_end_of_the_job_that_is_over_stops_nothing() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(end_of_job(" 1001\n", now), Some(now + Duration::from_secs(1)));
        for end in ["1000", "0", "-1", "soon", "", "99999999999999999999"] {
            assert_eq!(end_of_job(end, now), None, "{end}");
        }
    }
}
