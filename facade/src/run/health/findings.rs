//! The findings of the rules, on their way from the writer's thread.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, SystemTime};

use logcore::escape::to_one_line;
use logcore::{AlertLevel, Deadline, RuleAnswer, StopReason, suppress_logging};
use logcore_health::event::{Event, HealthKind};
use logcore_health::rules::{Episode, EpisodeEnd, Finding, Incident, MissingWatch, write_incident};
use logcore_pipeline::{ForkMutex, print_notice};

use super::journal::{Journal, send_alert};
use crate::logger::inner::LoggerInner;

/// Time between two looks whether all findings have been told.
const TOLD_INTERVAL: Duration = Duration::from_millis(1);

/// The findings of all loggers of a run that wait for the thread `logcore-health`.
#[derive(Default)]
pub(crate) struct FindingQueue {
    waiting: ForkMutex<Vec<LoggerFinding>>,
    /// Number of findings that the thread has not told yet.
    untold: AtomicUsize,
    /// The watches for missing metrics, each with its logger.
    missing: ForkMutex<Vec<(Arc<str>, Weak<MissingWatch>)>>,
}

/// A finding in the values of a logger.
pub(super) struct LoggerFinding {
    logger: Arc<str>,
    finding: Finding,
}

impl FindingQueue {
    pub(crate) fn push(&self, logger: &Arc<str>, finding: Finding) {
        let logger = Arc::clone(logger);
        self.untold.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().push(LoggerFinding { logger, finding });
    }

    pub(crate) fn add_missing_watch(&self, logger: &Arc<str>, watch: &Arc<MissingWatch>) {
        self.missing.lock().push((Arc::clone(logger), Arc::downgrade(watch)));
    }

    /// Looks for missing metrics, once a second outside of phases that may be long.
    pub(super) fn check_missing(&self) {
        let mut watches = self.missing.lock();
        // The watch of a sink that has ended is gone.
        watches.retain(|(_, watch)| watch.strong_count() > 0);
        for (logger, watch) in watches.iter() {
            let findings = watch.upgrade().map(|watch| watch.check(SystemTime::now()));
            let findings = findings.unwrap_or_default().into_iter();
            self.untold.fetch_add(findings.len(), Ordering::Relaxed);
            self.waiting.lock().extend(findings.map(|finding| LoggerFinding {
                logger: Arc::clone(logger),
                finding,
            }));
        }
    }

    pub(super) fn take(&self) -> Vec<LoggerFinding> {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// Notes that so many findings have been told.
    pub(super) fn note_told(&self, count: usize) {
        self.untold.fetch_sub(count, Ordering::Release);
    }

    /// Waits until the thread has told all findings, or the deadline has passed.
    pub(crate) fn wait_until_told(&self, deadline: Deadline) {
        while self.untold.load(Ordering::Acquire) > 0 && !deadline.has_passed() {
            thread::sleep(TOLD_INTERVAL.min(deadline.remaining()));
        }
    }
}

impl Journal {
    /// Tells what the rules have found: lines, alerts and the request to stop first, which no disk
    /// holds up, then the files. An event names an incident only once its file is there.
    pub(super) fn take_findings(&mut self, loggers: &[Arc<LoggerInner>], findings: Vec<LoggerFinding>) {
        let mut events = Vec::new();
        for LoggerFinding { logger: name, finding } in &findings {
            let logger = loggers.iter().find(|open| *open.name() == **name).or(loggers.first());
            match finding {
                Finding::Began(episode) => events.push((self.tell_episode(logger, episode), Some(episode))),
                Finding::Ended(end) => events.push((self.tell_end(logger, end), None)),
                Finding::Incident(_) => {}
            }
        }
        for LoggerFinding { logger, finding } in &findings {
            if let Finding::Incident(incident) = finding {
                self.write_incident(logger, incident);
            }
        }
        for (event, episode) in events {
            self.append(event, episode.cloned());
        }
    }

    /// Logs the line of an episode, and does what its rule asks for; returns the event.
    fn tell_episode(&mut self, logger: Option<&Arc<LoggerInner>>, episode: &Episode) -> Event {
        let mut event = self.event(HealthKind::Rule, AlertLevel::Warn, episode.text(), episode.step);
        event.rule = Some(episode.rule.clone());
        if let Some(first) = episode.breaches.first() {
            (event.metric, event.value, event.usual) = (Some(first.metric.clone()), first.value, first.usual);
        }
        if episode.then != RuleAnswer::Warn
            && let Some(logger) = logger
        {
            send_alert(logger, &format!("Rule {}", to_one_line(&episode.rule)), &event);
        }
        self.log(logger, &event);
        if episode.then == RuleAnswer::Stop {
            self.run.stop().request(StopReason::Rule(episode.rule.clone()));
        }
        event
    }

    /// Logs the line of the end of an episode; returns the event.
    fn tell_end(&mut self, logger: Option<&Arc<LoggerInner>>, end: &EpisodeEnd) -> Event {
        let mut event = self.event(HealthKind::Rule, AlertLevel::Info, end.text(), end.step);
        event.rule = Some(end.rule.clone());
        if let Some(first) = end.metrics.first() {
            (event.metric, event.value) = (Some(first.metric.clone()), first.value);
        }
        self.log(logger, &event);
        event
    }

    fn write_incident(&self, logger: &str, incident: &Incident) {
        if !self.run.is_open() {
            return;
        }
        let lines = self.last_lines(Some(logger));
        let (dir, rank, attempt) = (self.run.dir(), self.run.rank(), self.run.info().attempt());
        if let Err(error) = suppress_logging(|| write_incident(dir, incident, &lines, rank, attempt)) {
            let dir = dir.display();
            print_notice(
                &format!("incidents {dir}"),
                &format!("cannot write an incident of the run in {dir}: {error}"),
            );
        }
    }
}

impl fmt::Debug for FindingQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FindingQueue").finish_non_exhaustive()
    }
}
