//! The end of a logger: its last values are told, its calls are refused, and its report is made.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[cfg(feature = "health")]
use logcore::is_logging_suppressed;
use logcore::sync::lock;
use logcore::{Deadline, LogConfig, Ranks, RunEnd};
use logcore_pipeline::{LoggerAccounts, LoggerOutcome, Pipeline, Producer, print_notice};

use crate::logger::filter::RecordFilter;
use crate::logger::inner::LoggerInner;
use crate::logger::report::{FinishReport, last_panic};
use crate::logger::sinks::RULES;
use crate::logger::summary::{ClosingPart, SummarySection};
use crate::logger::terminal::{self, SummaryPrinter};

impl LoggerInner {
    /// Limits every wait of the logger, because the logger is about to end; returns the deadline.
    pub(crate) fn limit_waiting(&self) -> Deadline {
        let deadline = Deadline::after(self.settings().config.finish_duration());
        let deadline = self.producer().set_end_deadline(deadline);
        terminal::limit_waiting(deadline);
        deadline
    }

    /// Ends the logger; a second call returns the report of the first.
    pub(crate) fn finish(&self) -> FinishReport {
        let mut report = lock(self.report.get());
        if let Some(report) = &*report {
            return report.clone();
        }
        let ending = self.begin_end();
        #[cfg(feature = "health")]
        Self::await_findings([self], ending.deadline);
        self.close();
        let accounts = self.producer().finish(Arc::clone(&ending.outcome), ending.deadline);
        report.insert(self.complete_end(ending, accounts)).clone()
    }

    /// Ends the remote sinks; the logger continues with the others.
    pub(crate) fn end_remote_sinks(&self, deadline: Deadline) {
        let (outcome, _) = self.current_outcome();
        if let Err(error) = self.producer().end_remote_sinks(outcome, deadline) {
            print_notice(
                &format!("end remote sinks {}", self.name()),
                &format!("logger `{}`: {error}", self.name()),
            );
        }
    }

    /// Ends loggers of a process that ends: they take every call up to one moment, and no later
    /// call returns. Returns their reports.
    pub(crate) fn close_all(loggers: &[Arc<Self>], pipeline: &mut Pipeline, deadline: Deadline) -> Vec<FinishReport> {
        let endings: Vec<LoggerEnding> = loggers.iter().map(|logger| logger.begin_end()).collect();
        #[cfg(feature = "health")]
        Self::await_findings(loggers.iter().map(|logger| &**logger), deadline);
        let producers = loggers.iter().zip(&endings);
        let producers: Vec<(&Producer, Arc<LoggerOutcome>)> = producers
            .map(|(logger, ending)| (logger.producer(), Arc::clone(&ending.outcome)))
            .collect();
        let (mut closed, problem) = match pipeline.close(&producers, deadline) {
            Ok(closed) => (closed.into_iter(), None),
            Err(error) => (Vec::new().into_iter(), Some(error.to_string())),
        };
        let reports = loggers.iter().zip(endings).map(|(logger, ending)| {
            let accounts = closed.next().ok_or_else(|| problem.clone().unwrap_or_default());
            let report = logger.complete_end(ending, accounts);
            lock(logger.report.get()).get_or_insert(report).clone()
        });
        reports.collect()
    }

    /// Waits until the rules have seen the values of loggers that are about to end, and what they
    /// find is told: a program that meets a NaN often ends at once.
    #[cfg(feature = "health")]
    fn await_findings<'a>(loggers: impl IntoIterator<Item = &'a Self>, deadline: Deadline) {
        // A sink that hangs must leave time for the end.
        let deadline = Deadline::after(deadline.remaining() / 4);
        for logger in loggers {
            let has_values = logger.metrics.last_step().is_some();
            let Some(run) = logger.settings().run.filter(|_| has_values) else {
                continue;
            };
            if logger.producer().is_inherited() || is_logging_suppressed() {
                // The parent tells, or this is the writer, which would wait for itself.
                continue;
            }
            if logger.producer().wait_until_delivered(deadline) && !run.bell().look_without_thread() {
                run.health().findings().wait_until_told(deadline);
            }
        }
    }

    fn begin_end(&self) -> LoggerEnding {
        if let Some(thread) = lock(self.probe_thread.get()).take() {
            thread.end();
        }
        let config = self.settings().config;
        let deadline = self.limit_waiting();
        self.metrics.finish_all_progress();
        #[cfg(feature = "tracing")]
        self.metrics.log_span_times();
        self.report_dropped();
        if std::thread::panicking() {
            // A panic drops the logger, so the run has failed even if nobody set an exit code.
            self.outcome.cut_short(last_panic(), 1);
        }
        let (outcome, sparklines) = self.current_outcome();
        // Of several ranks, only the first prints the closing summary.
        let is_summarized = config.finish_summary && Ranks::from_config(&config).is_first();
        LoggerEnding {
            outcome,
            sparklines,
            deadline,
            is_summarized,
            printer: SummaryPrinter::new(&config).filter(|_| is_summarized),
            config,
        }
    }

    fn complete_end(&self, ending: LoggerEnding, accounts: Result<LoggerAccounts, impl Display>) -> FinishReport {
        let (accounts, problem) = match accounts {
            Ok(accounts) => (accounts, None),
            Err(error) => (LoggerAccounts::default(), Some(self.redact(&error.to_string()))),
        };
        let (mut books, mut places) = (accounts.books, accounts.destinations);
        books.remove(RULES);
        places.remove(RULES);
        let report = FinishReport {
            logger: self.name().to_owned(),
            end: ending.outcome.end.run_end.clone(),
            exit_code: ending.outcome.end.exit_code,
            sinks: books,
            places,
            problem,
        };
        if ending.is_summarized {
            let section = SummarySection {
                summary: ending.outcome.summary.clone(),
                sparklines: ending.sparklines,
                window: ending.config.metrics_window,
                report: report.clone(),
            };
            *lock(self.closing.get()) = Some(ClosingPart {
                section,
                printer: ending.printer,
            });
        }
        let losses = report.losses();
        if !losses.is_empty() {
            print_notice(
                &format!("losses of {}", self.name()),
                &format!("logger `{}`: {losses}", self.name()),
            );
        }
        report
    }

    /// Takes the logger's part of the closing summary, once the logger has ended.
    pub(crate) fn take_closing_part(&self) -> Option<ClosingPart> {
        lock(self.closing.get()).take()
    }

    /// Refuses calls from now on. The level stays, so that only calls that the logger would have
    /// taken are counted.
    fn close(&self) {
        self.filter.store(Arc::new(RecordFilter::closed(self.name())));
        self.is_filtered.store(true, Ordering::Release);
        self.foreign_level.store(0, Ordering::Relaxed);
        self.gate.close();
    }

    /// Returns the end of the run as it stands now with its summary, and the sparklines of its
    /// metrics.
    fn current_outcome(&self) -> (Arc<LoggerOutcome>, Vec<String>) {
        let mut outcome = LoggerOutcome::default();
        outcome.end = self.outcome.end(|text| self.redact(text));
        if outcome.end.run_end == RunEnd::Finished
            && let Some(reason) = self.settings().run.and_then(|run| run.stop().heard_reason())
        {
            outcome.end.run_end = RunEnd::Stopped { reason };
        }
        if self.producer().is_inherited() {
            // A forked child shares the run of its parent, and the summary is the parent's.
            return (Arc::new(outcome), Vec::new());
        }
        outcome.summary = self.outcome.summary();
        let sparklines = self.metrics.summarize(&mut outcome.summary);
        (Arc::new(outcome), sparklines)
    }
}

/// The end of a logger between its beginning and its completion.
struct LoggerEnding {
    outcome: Arc<LoggerOutcome>,
    sparklines: Vec<String>,
    config: Arc<LogConfig>,
    deadline: Deadline,
    /// `true` if the logger has a part in the closing summary.
    is_summarized: bool,
    printer: Option<SummaryPrinter>,
}
