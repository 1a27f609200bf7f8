//! The findings of the rules, on their way from the writer's thread.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, SystemTime};

use logcore::escape::to_one_line;
use logcore::{AlertLevel, Deadline, MetricValue, RuleAnswer, StopReason, suppress_logging};
use logcore_health::event::{Event, HealthKind};
use logcore_health::rules::{Episode, Finding, Incident, MissingWatch, incident_file_name, write_incident};
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

    /// Looks for missing metrics, once a second.
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
    /// Tells what the rules have found.
    pub(super) fn take_findings(&mut self, loggers: &[Arc<LoggerInner>], findings: Vec<LoggerFinding>) {
        for LoggerFinding { logger: name, finding } in findings {
            let logger = loggers.iter().find(|open| *open.name() == *name).or(loggers.first());
            match finding {
                Finding::Began(episode) => self.tell_episode(logger, &episode),
                Finding::Ended(end) => {
                    let event = self.event(HealthKind::Rule, AlertLevel::Info, end.text(), end.step);
                    let first = end.metrics.first();
                    self.tell_of_rule(
                        logger,
                        event,
                        &end.rule,
                        first.map(|first| (&first.metric, first.value)),
                    );
                }
                Finding::Incident(incident) => self.write_incident(&name, &incident),
            }
        }
    }

    fn tell_episode(&mut self, logger: Option<&Arc<LoggerInner>>, episode: &Episode) {
        let mut event = self.event(HealthKind::Rule, AlertLevel::Warn, episode.text(), episode.step);
        let first = episode.breaches.first();
        event.usual = first.and_then(|first| first.usual);
        let attempt = self.run.info().attempt();
        let name = incident_file_name(episode.step, &episode.rule, self.run.rank(), attempt);
        event.incident = Some(name);
        if episode.then != RuleAnswer::Warn
            && let Some(logger) = logger
        {
            send_alert(logger, &format!("Rule {}", to_one_line(&episode.rule)), &event);
        }
        self.tell_of_rule(
            logger,
            event,
            &episode.rule,
            first.map(|first| (&first.metric, first.value)),
        );
        if episode.then == RuleAnswer::Stop {
            self.run.stop().request(StopReason::Rule(episode.rule.clone()));
        }
    }

    fn tell_of_rule(
        &mut self,
        logger: Option<&Arc<LoggerInner>>,
        mut event: Event,
        rule: &str,
        metric: Option<(&String, Option<MetricValue>)>,
    ) {
        event.rule = Some(rule.to_owned());
        if let Some((name, value)) = metric {
            (event.metric, event.value) = (Some(name.clone()), value);
        }
        self.log(logger, &event);
        self.append(&event);
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
