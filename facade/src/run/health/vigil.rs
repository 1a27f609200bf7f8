//! The watch over a run: what the rules find, stalls, slow ranks, and the step of a stop.

use std::sync::Arc;
use std::time::Duration;

use logcore::{FileRank, LogConfig, RunState};

use super::agreement::StopFollower;
use super::findings::FindingQueue;
use super::journal::Journal;
use super::rank_watch::RankWatch;
use super::stall::StallAlarm;
use crate::logger::inner::LoggerInner;
use crate::logger::metrics::Movement;
use crate::run::Run;
use crate::run::ledger::LedgerReading;

/// The settings of the watch over a run, from the config of its first logger, and the findings that
/// wait for it.
#[derive(Debug)]
pub(crate) struct RunHealth {
    /// Time without movement after which a stall is reported; `None` for never.
    pub(super) stall_after: Option<Duration>,
    /// The rank in the names of this process's files.
    pub(super) file_rank: FileRank,
    findings: FindingQueue,
}

impl RunHealth {
    pub(in crate::run) fn of(config: &LogConfig) -> Self {
        Self {
            // An invalid text was refused before.
            stall_after: config.stall_duration().ok().flatten(),
            file_rank: FileRank::from_config(config),
            findings: FindingQueue::default(),
        }
    }

    /// Returns what the rules have found.
    pub(crate) fn findings(&self) -> &FindingQueue {
        &self.findings
    }
}

/// Watches over a run.
pub(super) struct Vigil {
    run: Arc<Run>,
    /// How far the loggers had come at the last look.
    movement: Vec<(u64, Movement)>,
    journal: Journal,
    follower: StopFollower,
    stall: StallAlarm,
    ranks: RankWatch,
}

/// A moment of a run, for the parts that look at it.
pub(super) struct Look<'a> {
    pub(super) run: &'a Run,
    /// The open loggers, the oldest first.
    pub(super) loggers: &'a [Arc<LoggerInner>],
    /// The highest step of the loggers; `None` before this attempt has used one.
    pub(super) step: Option<u64>,
    /// `true` if a progress was updated or a step begun since the last look.
    pub(super) has_moved: bool,
    pub(super) reading: &'a LedgerReading,
}

impl Vigil {
    pub(super) fn new(run: &Arc<Run>) -> Self {
        Self {
            run: Arc::clone(run),
            movement: Vec::new(),
            journal: Journal::new(run),
            follower: StopFollower::default(),
            stall: StallAlarm::new(run),
            ranks: RankWatch::new(run),
        }
    }

    pub(super) fn add_logger(&mut self, logger: &LoggerInner) {
        self.journal.add_logger(logger);
    }

    /// Looks at the run, once a second.
    pub(super) fn tick(&mut self, loggers: &[Arc<LoggerInner>]) {
        self.journal.write_waiting();
        let has_moved = self.note_movement(loggers);
        let (run, reading) = (Arc::clone(&self.run), self.run.ledger().read(has_moved));
        if reading.long.is_none() {
            // An evaluation of an hour logs no loss of the training.
            run.health().findings().check_missing();
        }
        self.take_findings(loggers);
        self.attend_phases(loggers);
        let look = self.look(&run, loggers, has_moved, &reading);
        self.ranks.look(&look, &mut self.journal);
        self.follower.look(&look, &self.ranks, &mut self.journal);
        self.stall.look(&look, &self.ranks, &mut self.journal);
    }

    /// Takes what the rules have found.
    pub(super) fn take_findings(&mut self, loggers: &[Arc<LoggerInner>]) {
        let queue = self.run.health().findings();
        let findings = queue.take();
        let count = findings.len();
        self.journal.take_findings(loggers, findings);
        queue.note_told(count);
    }

    /// Takes the phases that took long, at their end.
    pub(super) fn attend_phases(&mut self, loggers: &[Arc<LoggerInner>]) {
        self.take_phases(loggers, newest_step(loggers));
    }

    fn take_phases(&mut self, loggers: &[Arc<LoggerInner>], step: Option<u64>) {
        for phase in self.run.ledger().take_long_phases() {
            self.journal.tell_phase(loggers, &phase, step);
        }
    }

    /// Follows a request to stop, between two looks.
    pub(super) fn attend_stop(&mut self, loggers: &[Arc<LoggerInner>]) {
        let (run, reading) = (Arc::clone(&self.run), self.run.ledger().read(false));
        let look = self.look(&run, loggers, false, &reading);
        self.follower.look(&look, &self.ranks, &mut self.journal);
    }

    pub(super) fn end(mut self, state: RunState, last_step: Option<u64>) {
        self.take_findings(&[]);
        self.take_phases(&[], last_step);
        self.follower.end(last_step, &mut self.journal);
        self.journal.end(state, last_step);
        self.ranks.end(last_step);
    }

    fn look<'a>(
        &self,
        run: &'a Run,
        loggers: &'a [Arc<LoggerInner>],
        has_moved: bool,
        reading: &'a LedgerReading,
    ) -> Look<'a> {
        Look {
            run,
            loggers,
            step: newest_step(loggers),
            has_moved,
            reading,
        }
    }

    /// Returns `true` if a logger has come further since the last look.
    fn note_movement(&mut self, loggers: &[Arc<LoggerInner>]) -> bool {
        let now: Vec<_> = loggers
            .iter()
            .map(|logger| (logger.age(), logger.metrics().movement()))
            .collect();
        let has_moved = now.iter().any(|(age, movement)| {
            let before = self.movement.iter().find(|(known, _)| known == age);
            before.map_or(Movement::default(), |(_, before)| *before) != *movement
        });
        self.movement = now;
        has_moved
    }
}

fn newest_step(loggers: &[Arc<LoggerInner>]) -> Option<u64> {
    loggers
        .iter()
        .filter_map(|logger| logger.metrics().movement().step)
        .max()
}
