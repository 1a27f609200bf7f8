//! A run that is watched: its record for readers, and a look at it each second.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use logcore::{RunState, suppress_logging};

use super::journal::Journal;
use super::rank_watch::RankWatch;
use super::stall::StallAlarm;
use super::stopping::Stopping;
use crate::logger::inner::LoggerInner;
use crate::logger::metrics::Movement;
use crate::run::Run;
use crate::run::ledger::LedgerReading;
use crate::run::record::RunRecord;

/// Time between two signs of life. Readers take a process for a live one within a minute of each.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Time until the second sign of life.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Least time between two signs of life: a program may save many times a second.
const LEAST_PAUSE: Duration = Duration::from_millis(50);

/// One run, as the thread `logcore-health` has it.
pub(super) struct WatchedRun {
    run: Arc<Run>,
    /// `None` as long as the run has no folder.
    record: Option<Box<RunRecord>>,
    loggers: Vec<Weak<LoggerInner>>,
    /// Time of the last sign of life.
    heard: Instant,
    /// Time until the next sign of life, which doubles at first: an attempt that is killed early
    /// loses little of its ledger.
    pause: Duration,
    /// The newest checkpoint that is in `run.json`, in seconds since 1970.
    checkpoint: Option<f64>,
    /// How far the loggers had come at the last look.
    movement: Vec<(u64, Movement)>,
    journal: Journal,
    stopping: Stopping,
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

impl WatchedRun {
    pub(super) fn new(run: Arc<Run>, record: Option<Box<RunRecord>>) -> Self {
        Self {
            record,
            loggers: Vec::new(),
            heard: Instant::now(),
            pause: FIRST_PAUSE,
            checkpoint: None,
            movement: Vec::new(),
            journal: Journal::new(&run),
            stopping: Stopping::new(&run),
            stall: StallAlarm::new(&run),
            ranks: RankWatch::new(&run),
            run,
        }
    }

    pub(super) fn is_of(&self, run: &Arc<Run>) -> bool {
        Arc::ptr_eq(&self.run, run)
    }

    pub(super) fn set_record(&mut self, record: Option<Box<RunRecord>>) {
        self.record = record.or(self.record.take());
    }

    pub(super) fn add_logger(&mut self, logger: &Arc<LoggerInner>) {
        if let Some(record) = &mut self.record {
            record.add_logger(logger.name());
        }
        self.journal.add_logger(logger);
        self.loggers.push(Arc::downgrade(logger));
    }

    /// Returns `true` if nothing of `run.json` is still being collected.
    pub(super) fn has_facts(&self) -> bool {
        self.record
            .as_ref()
            .is_none_or(|record| record.info().facts().is_some())
    }

    /// Gives a sign of life when one is due, and writes `run.json` if it has changed.
    pub(super) fn save(&mut self) {
        if self.heard.elapsed() >= self.pause {
            self.pause = (self.pause * 2).min(HEARTBEAT);
            return self.hear();
        }
        let Some(record) = &mut self.record else { return };
        suppress_logging(|| {
            record.hold();
            record.write();
        });
    }

    /// Gives a sign of life, with the use of the time so far.
    fn hear(&mut self) {
        self.heard = Instant::now();
        if let Some(record) = &mut self.record {
            let steps = self
                .loggers
                .iter()
                .filter_map(|logger| logger.upgrade()?.metrics().last_step());
            record.note_progress(steps.max());
            record.touch();
        }
        self.save();
    }

    /// Looks at the run, once a second.
    pub(super) fn tick(&mut self) {
        self.run.findings().check_missing();
        self.take_findings();
        let loggers = self.open_loggers();
        let has_moved = self.note_movement(&loggers);
        let (run, reading) = (Arc::clone(&self.run), self.run.ledger().read(has_moved));
        let look = self.look(&run, &loggers, has_moved, &reading);
        self.ranks.look(&look, &mut self.journal);
        self.stopping.look(&look, &self.ranks, &mut self.journal);
        self.stall.look(&look, &self.ranks, &mut self.journal);
    }

    /// Looks at what has been found, asked and saved since the last look.
    pub(super) fn attend(&mut self) {
        self.take_findings();
        let checkpoint = self.run.ledger().checkpoints().last().map(|mark| mark.time);
        if checkpoint > self.checkpoint && self.heard.elapsed() >= LEAST_PAUSE {
            self.checkpoint = checkpoint;
            self.hear();
        }
        if self.run.stop().reason().is_some() {
            self.attend_stop();
        }
    }

    fn attend_stop(&mut self) {
        let loggers = self.open_loggers();
        let (run, reading) = (Arc::clone(&self.run), self.run.ledger().read(false));
        let look = self.look(&run, &loggers, false, &reading);
        self.stopping.look(&look, &self.ranks, &mut self.journal);
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
            step: loggers
                .iter()
                .filter_map(|logger| logger.metrics().movement().step)
                .max(),
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

    /// Takes what the rules have found.
    pub(super) fn take_findings(&mut self) {
        let findings = self.run.findings().take();
        if !findings.is_empty() {
            let loggers = self.open_loggers();
            self.journal.take_findings(&loggers, findings);
        }
    }

    pub(super) fn end(mut self, state: RunState, exit_code: i32, last_step: Option<u64>) {
        self.take_findings();
        self.stopping.end(&self.run, last_step, &mut self.journal);
        self.journal.end(state, last_step);
        self.ranks.end(last_step);
        if let Some(mut record) = self.record {
            record.note_progress(last_step);
            record.end(state, exit_code);
        }
    }

    fn open_loggers(&mut self) -> Vec<Arc<LoggerInner>> {
        self.loggers.retain(|logger| logger.strong_count() > 0);
        let loggers = self.loggers.iter().filter_map(Weak::upgrade);
        loggers.filter(|logger| logger.is_open()).collect()
    }
}
