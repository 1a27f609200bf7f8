//! What callers ask of the writer besides delivering.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use log::LevelFilter;
use logcore::{Deadline, LogError, LoggerEnd, LoggerSummary, PendingDelivery, Sink, SinkBooks, serde_json};

use crate::caller::producer::Counters;
use crate::frame::body::{Echo, LoggerId};
use crate::frame::repeats::RepeatFolder;
use crate::pipeline::FolderNumber;
use crate::process::notice::print_notice;

/// A sink, under the name that it has in the config.
pub struct NamedSink {
    /// The name.
    pub name: String,
    /// It gets records of this level and graver.
    pub level: LevelFilter,
    /// The sink itself.
    pub sink: Box<dyn Sink>,
    /// Equal records in a row become one here; without it, the sink is given each.
    pub fold: Option<RepeatFolder>,
}

/// The end of a logger and the summary of its run, for its sinks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoggerOutcome {
    /// How the run ended.
    pub end: LoggerEnd,
    /// Metrics and counts of the run.
    pub summary: LoggerSummary,
}

impl LoggerOutcome {
    /// Returns an outcome without a summary.
    pub(crate) fn without_summary(end: LoggerEnd) -> Self {
        let summary = LoggerSummary::default();
        Self { end, summary }
    }

    /// Returns the outcome as the process that recovers the ring reads it.
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&(&self.end, &self.summary)).unwrap_or_default()
    }

    /// Reads an outcome that [`to_json`](Self::to_json) wrote.
    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let (end, summary) = serde_json::from_slice(json).ok()?;
        Some(Self { end, summary })
    }
}

pub(crate) enum Command {
    /// Opens a logger, or gives an open one new sinks.
    Open {
        id: LoggerId,
        name: String,
        propagate: bool,
        folder: Option<FolderNumber>,
        sinks: Vec<NamedSink>,
        counters: Arc<Counters>,
        /// By when the sinks that are replaced have to be finished.
        deadline: Deadline,
        reply: Reply<()>,
    },
    Level {
        id: LoggerId,
        sink: String,
        level: LevelFilter,
    },
    /// Adds a sink that every logger has.
    Share(NamedSink),
    /// Writes what was counted as repeated, as every command does.
    Unfold,
    Flush {
        id: LoggerId,
        deadline: Deadline,
        reply: Reply<Result<(), LogError>>,
    },
    Finish {
        id: LoggerId,
        outcome: Arc<LoggerOutcome>,
        deadline: Deadline,
        reply: Reply<Ended>,
    },
    /// Ends the sinks that every logger has.
    FinishShared {
        end: LoggerEnd,
        deadline: Deadline,
        reply: Reply<Vec<NamedRemainder>>,
    },
    /// Ends a logger's sinks that wait for others than this machine, and lets the rest go on.
    WindUp {
        id: LoggerId,
        outcome: Arc<LoggerOutcome>,
        deadline: Deadline,
        reply: Reply<Ended>,
    },
    /// Closes the ring, and ends the writer when all that was accepted until then is delivered.
    Close(Close),
}

/// The last work of the writer, for when everything is delivered.
pub(crate) struct Close {
    /// The loggers that end only then, with their outcomes.
    pub(crate) loggers: Vec<(LoggerId, Arc<LoggerOutcome>)>,
    pub(crate) deadline: Deadline,
    /// Has the end of each, and what is to be waited for of sinks that every logger had.
    pub(crate) reply: Reply<(Vec<Ended>, Vec<NamedRemainder>)>,
}

impl Command {
    /// What the next process has to know of it, if this one is killed.
    pub(crate) fn echo(&self) -> Echo {
        match self {
            Self::Flush { id, .. } => Echo::Flush(*id),
            Self::Finish { id, outcome, .. } => Echo::Finish(*id, outcome.end.exit_code, outcome.to_json()),
            Self::Level { id, sink, level } => Echo::Level(*id, sink.clone(), *level),
            // The set-up returns only when a checkpoint or a frame of the writer has the logger.
            Self::Open { .. } | Self::Share(_) | Self::FinishShared { .. } => Echo::Nothing,
            // The process that recovers this one says how it ended.
            Self::WindUp { .. } | Self::Close(_) => Echo::Nothing,
            // That there is a command is all that matters.
            Self::Unfold => Echo::Nothing,
        }
    }
}

/// What its sinks say when a logger has ended, by their names.
#[derive(Debug, Default)]
pub struct LoggerAccounts {
    /// Their accounts.
    pub books: BTreeMap<String, SinkBooks>,
    /// Where what they delivered is, for those that say so.
    pub places: BTreeMap<String, String>,
}

/// What the end of a logger leaves.
#[derive(Default)]
pub(crate) struct Ended {
    pub(crate) closing: LoggerAccounts,
    pub(crate) remainders: Vec<NamedRemainder>,
}

/// What is to be waited for after a sink has finished.
pub(crate) struct NamedRemainder {
    pub(crate) sink: String,
    pub(crate) label: String,
    pub(crate) wait: PendingDelivery,
    /// What the sink does not know of.
    pub(crate) besides: SinkBooks,
}

impl NamedRemainder {
    /// Waits for it; returns the sink's account as it is then.
    pub(crate) fn settle(self, deadline: Deadline) -> SinkBooks {
        let (mut books, result) = (self.wait)(deadline);
        books.add(&self.besides);
        if let Err(error) = result {
            print_notice(
                &format!("{} {}", self.label, error.reason()),
                &format!("{}: {error}", self.label),
            );
        }
        books
    }
}

/// Where the writer puts its answer.
pub(crate) struct Reply<T>(Arc<(Mutex<Option<T>>, Condvar)>);

impl<T> Reply<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new((Mutex::new(None), Condvar::new())))
    }

    pub(crate) fn send(&self, answer: T) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.0.1.notify_all();
    }

    pub(crate) fn wait(&self, deadline: Deadline) -> Option<T> {
        let mut answer = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while answer.is_none() && !deadline.has_passed() {
            answer = self
                .0
                .1
                .wait_timeout(answer, deadline.remaining())
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        answer.take()
    }
}

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
