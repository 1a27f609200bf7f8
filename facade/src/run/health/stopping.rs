//! The request to stop: its sources, and the step on which the ranks agree.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use logcore::{AlertLevel, LogConfig, StopReason};
use logcore_health::STOP_FILE;
use logcore_health::agreement::{self, StopAgreement};
use logcore_health::event::HealthKind;
use logcore_pipeline::print_notice;

use super::journal::Journal;
use super::rank_watch::RankWatch;
use super::watched_run::Look;
use crate::run::Run;

/// The end of the job in seconds since 1970, which SLURM sets within an allocation.
const SLURM_END: &str = "SLURM_JOB_END_TIME";

/// Time for which the agreement waits until the pace of all ranks is known, in a run that has just
/// begun.
const MOST_WAIT: Duration = Duration::from_secs(4);

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
            "" => end_of_job(),
            // An invalid text was refused at set-up.
            _ => config.stop_time().ok().flatten(),
        };
        Self {
            before,
            grace: config.grace_duration(),
        }
    }

    /// Returns `true` if the time is short: a checkpoint takes up to `checkpoint`.
    fn is_over(&self, now: SystemTime, checkpoint: Duration) -> bool {
        let needed = self.grace.saturating_add(checkpoint);
        self.before
            .is_some_and(|before| now.checked_add(needed).is_none_or(|then| then >= before))
    }
}

fn end_of_job() -> Option<SystemTime> {
    let seconds = std::env::var(SLURM_END).ok()?.trim().parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Watches for reasons to stop a run.
pub(super) struct Stopping {
    file: PathBuf,
    /// `true` once the request is in the journal.
    is_told: bool,
    /// The time since which the agreement waits for the pace of the ranks.
    waits_since: Option<Instant>,
}

impl Stopping {
    pub(super) fn new(run: &Run) -> Self {
        Self {
            file: run.dir().join(STOP_FILE),
            is_told: false,
            waits_since: None,
        }
    }

    pub(super) fn look(&mut self, look: &Look<'_>, ranks: &RankWatch, journal: &mut Journal) {
        let switch = look.run.stop();
        if switch.reason().is_none()
            && let Some(reason) = self.find_reason(look)
        {
            switch.request(reason);
        }
        match switch.open_request() {
            Some(reason) => self.agree(look, reason, ranks, journal),
            None if switch.needs_agreement() && !self.is_told => self.follow(look, journal),
            None => {}
        }
        if !switch.needs_agreement()
            && !self.is_told
            && let Some(reason) = switch.reason()
        {
            self.tell(look, &format!("the run is to stop, because of {reason}"), journal);
        }
    }

    /// Notes a request that came at the very end. Removes the file that has asked, so that the next
    /// attempt does not stop at once.
    pub(super) fn end(&mut self, run: &Run, step: Option<u64>, journal: &mut Journal) {
        if let Some(reason) = run.stop().heard_reason().filter(|_| !self.is_told) {
            let text = format!("the run has stopped, because of {reason}");
            let event = journal.event(HealthKind::Stop, AlertLevel::Warn, text, step);
            journal.append(&event);
        }
        let is_asked = run.stop().reason() == Some(StopReason::File);
        if is_asked && run.is_first_rank() && fs::symlink_metadata(&self.file).is_ok() {
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

    fn find_reason(&self, look: &Look<'_>) -> Option<StopReason> {
        if look.loggers.iter().any(|logger| logger.stop().is_requested()) {
            return Some(StopReason::Button);
        }
        // Only whether the name is there counts: its content may be a pipe.
        if look.run.is_open() && fs::symlink_metadata(&self.file).is_ok() {
            return Some(StopReason::File);
        }
        let times = look.run.stop_times();
        let is_over = times.is_over(SystemTime::now(), look.reading.longest_checkpoint);
        is_over.then_some(StopReason::Deadline)
    }

    /// Agrees with the other ranks on the step at which all stop.
    fn agree(&mut self, look: &Look<'_>, reason: StopReason, ranks: &RankWatch, journal: &mut Journal) {
        if !ranks.know_pace(look.step) && self.waits_since.get_or_insert_with(Instant::now).elapsed() < MOST_WAIT {
            // The step would be one that the fastest ranks have behind them when they hear of it.
            return;
        }
        let (dir, attempt, rank) = (look.run.dir(), look.run.info().attempt(), look.run.rank());
        let proposal = StopAgreement::new(rank, ranks.agreed_step(), reason.clone());
        match agreement::propose(dir, attempt, &proposal) {
            Ok(agreed) => self.apply(look, &agreed, journal),
            Err(error) => {
                let text = format!(
                    "rank {rank} stops at once, because of {reason}: cannot agree with the other ranks: {error}"
                );
                look.run.stop().stop_from(0, reason);
                self.tell(look, &text, journal);
            }
        }
    }

    /// Follows the request of another rank, if there is one.
    fn follow(&mut self, look: &Look<'_>, journal: &mut Journal) {
        match agreement::read(look.run.dir(), look.run.info().attempt()) {
            Ok(Some(agreed)) => self.apply(look, &agreed, journal),
            Ok(None) => {}
            Err(error) => {
                print_notice(
                    &format!("stop agreement {}", look.run.dir().display()),
                    &format!("cannot read at which step the ranks stop: {error}"),
                );
            }
        }
    }

    fn apply(&mut self, look: &Look<'_>, agreed: &StopAgreement, journal: &mut Journal) {
        let (rank, reason) = (look.run.rank(), &agreed.reason);
        let from = match (agreed.step, look.step) {
            (Some(step), own) if agreed.can_keep(own) => step,
            _ => 0,
        };
        let text = match (agreed.step, look.step) {
            (Some(step), _) if from > 0 => {
                format!(
                    "all ranks are to stop at step {step}, because of {reason}, as rank {} asks",
                    agreed.rank
                )
            }
            (Some(step), Some(own)) => {
                format!("rank {rank} is to stop at once, and not as agreed at step {step}: it is at step {own} already")
            }
            _ => format!("rank {rank} is to stop at once, because of {reason}: it has no step to agree on"),
        };
        look.run.stop().stop_from(from, reason.clone());
        self.tell(look, &text, journal);
    }

    fn tell(&mut self, look: &Look<'_>, text: &str, journal: &mut Journal) {
        self.is_told = true;
        let event = journal.event(HealthKind::Stop, AlertLevel::Warn, text, look.step);
        journal.tell(look.loggers, event);
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
}
