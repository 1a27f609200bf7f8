//! A run that is watched: its record for readers, and a look at it each second.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use logcore::{RunState, suppress_logging};

use super::stopping::Stopping;
#[cfg(feature = "health")]
use super::vigil::Vigil;
use crate::logger::inner::LoggerInner;
use crate::run::Run;
use crate::run::record::RunRecord;

/// Time between two signs of life. Readers take a process for a live one within a minute of each.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Time until the second sign of life.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Least time between two signs of life: a program may save many times a second. The first pauses
/// after the first update begin with it.
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
    /// `true` once the end of `startup` is in `run.json`.
    has_update: bool,
    /// The newest checkpoint that is in `run.json`, in seconds since 1970.
    checkpoint: Option<f64>,
    stopping: Stopping,
    #[cfg(feature = "health")]
    vigil: Vigil,
}

impl WatchedRun {
    pub(super) fn new(run: Arc<Run>, record: Option<Box<RunRecord>>) -> Self {
        Self {
            record,
            loggers: Vec::new(),
            heard: Instant::now(),
            pause: FIRST_PAUSE,
            has_update: false,
            checkpoint: None,
            stopping: Stopping::new(&run),
            #[cfg(feature = "health")]
            vigil: Vigil::new(&run),
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
        #[cfg(feature = "health")]
        self.vigil.add_logger(logger);
        self.loggers.push(Arc::downgrade(logger));
        if self.loggers.len() == 1 {
            self.attend();
        }
    }

    /// Returns `true` if `run.json` is to be saved within a second: facts are still being
    /// collected, or the steps have just begun.
    pub(super) fn saves_soon(&self) -> bool {
        let has_facts = |record: &RunRecord| record.info().facts().is_some();
        self.record
            .as_ref()
            .is_some_and(|record| !has_facts(record) || self.pause < FIRST_PAUSE)
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
        if self.loggers.is_empty() {
            return;
        }
        let loggers = self.open_loggers();
        self.stopping.look(&self.run, &loggers);
        #[cfg(feature = "health")]
        self.vigil.tick(&loggers);
    }

    /// Looks at what has been found, asked and saved since the last look. Before the first logger
    /// has joined, what is found in its values waits: no other logger could tell it.
    pub(super) fn attend(&mut self) {
        if self.loggers.is_empty() {
            return;
        }
        if !self.has_update && self.run.ledger().has_update() {
            self.has_update = true;
            self.pause = LEAST_PAUSE;
            self.hear();
        }
        let checkpoint = self.run.ledger().newest_checkpoint();
        if checkpoint > self.checkpoint && self.heard.elapsed() >= LEAST_PAUSE {
            self.checkpoint = checkpoint;
            self.hear();
        }
        #[cfg(feature = "health")]
        {
            let loggers = self.open_loggers();
            self.vigil.take_findings(&loggers);
            self.vigil.attend_phases(&loggers);
            if self.run.stop().reason().is_some() {
                self.vigil.attend_stop(&loggers);
            }
        }
    }

    pub(super) fn end(self, state: RunState, exit_code: i32, last_step: Option<u64>) {
        #[cfg(feature = "health")]
        self.vigil.end(state, last_step);
        self.stopping.end(&self.run);
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
