//! The commands that callers send to the writer, and its answers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex};

use log::LevelFilter;
use logcore::sync::{lock, wait_timeout};
use logcore::{Deadline, LoggerEnd, LoggerSummary, PendingDelivery, Sink, SinkBooks, serde_json};

use super::counters::DropCounters;
use crate::frame::repeats::RepeatFolder;
#[cfg(doc)]
use crate::frame::types::LevelRule;
use crate::frame::types::{LoggerId, ReplayHint};
use crate::process::notice::print_notice;
use crate::ring::file::FolderNumber;

/// A sink, with the name that it has in the config. See [`Pipeline`](crate::Pipeline) for an
/// example.
pub struct NamedSink {
    /// The name.
    pub name: String,
    /// Minimum level of the records that the sink receives.
    pub level: LevelFilter,
    /// The level for records of the rule [`LevelRule::Directed`]; `level` = off keeps them out,
    /// too.
    pub directed_level: LevelFilter,
    /// The level for records of the rule [`LevelRule::Foreign`], if `level` admits them.
    pub foreign_level: LevelFilter,
    /// The sink itself.
    pub sink: Box<dyn Sink>,
    /// Folds equal records in a row into one; without it, the sink receives each record.
    pub repeat_folder: Option<RepeatFolder>,
}

impl NamedSink {
    /// Creates a sink that takes all directed records, and no foreign ones.
    #[must_use]
    pub fn new(name: impl Into<String>, level: LevelFilter, sink: Box<dyn Sink>) -> Self {
        Self {
            name: name.into(),
            level,
            directed_level: LevelFilter::Trace,
            foreign_level: LevelFilter::Off,
            sink,
            repeat_folder: None,
        }
    }
}

impl fmt::Debug for NamedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, level, .. } = self;
        f.debug_struct("NamedSink")
            .field("name", name)
            .field("level", level)
            .finish_non_exhaustive()
    }
}

/// The end of a logger and the summary of its run, for its sinks.
///
/// ```
/// use logcore::LoggerEnd;
/// use logcore_pipeline::LoggerOutcome;
///
/// let outcome = LoggerOutcome { end: LoggerEnd::from_exit_code(3), ..LoggerOutcome::default() };
/// assert_eq!(outcome.end.exit_code, 3);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoggerOutcome {
    /// The end of the run, such as its exit code.
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

/// The accounts of a logger's sinks when the logger has ended, by the names of the sinks.
///
/// ```
/// use logcore::{Deadline, log};
/// use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let pipeline = Pipeline::start(1 << 20)?;
/// let producer = pipeline.producer("trainer");
/// let sink = NamedSink::new("recording", log::LevelFilter::Info, Box::new(logcore::testing::recording().1));
/// let soon = Deadline::after(Duration::from_secs(5));
/// producer.open(Propagation::None, None, vec![sink], soon).unwrap();
/// producer.record(RecordOrigin::Method, &log::Record::builder().args(format_args!("hello")).build());
///
/// let accounts = producer.finish(Arc::default(), soon).unwrap();
/// assert_eq!(accounts.books["recording"].delivered, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct LoggerAccounts {
    /// The numbers of calls that each sink accepted, delivered and dropped.
    pub books: BTreeMap<String, SinkBooks>,
    /// The destinations of the sinks that have one, such as a path.
    pub destinations: BTreeMap<String, String>,
}

impl LoggerAccounts {
    /// Waits for the pending deliveries of sinks, and collects the accounts.
    pub(crate) fn settle(accounts: Vec<SinkAccount>, deadline: Deadline) -> Self {
        let mut settled = Self::default();
        for mut account in accounts {
            let sink = std::mem::take(&mut account.sink);
            if let Some(destination) = account.destination.take() {
                settled.destinations.insert(sink.clone(), destination);
            }
            settled.books.entry(sink).or_default().add(&account.settle(deadline));
        }
        settled
    }
}

/// The account of one sink that has finished.
#[derive(Default)]
pub(crate) struct SinkAccount {
    pub(crate) sink: String,
    pub(crate) label: String,
    pub(crate) destination: Option<String>,
    /// The books of the sink.
    pub(crate) books: SinkBooks,
    /// Calls that were meant for the sink and never reached it.
    pub(crate) unseen: SinkBooks,
    /// A delivery that continues after `finish`. It returns the books of the sink at its end.
    pub(crate) pending: Option<PendingDelivery>,
}

impl SinkAccount {
    /// Waits for the pending delivery, and returns the final books.
    pub(crate) fn settle(self, deadline: Deadline) -> SinkBooks {
        let mut books = self.books;
        if let Some(wait) = self.pending {
            let result;
            (books, result) = wait(deadline);
            if let Err(error) = result {
                print_notice(
                    &format!("{} {}", self.label, error.reason()),
                    &format!("{}: {error}", self.label),
                );
            }
        }
        books.add(&self.unseen);
        books
    }
}

/// The loggers whose sinks receive the records of a logger.
///
/// ```
/// use logcore::{Deadline, log};
/// use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
/// use std::time::Duration;
///
/// let pipeline = Pipeline::start(1 << 20)?;
/// let soon = Deadline::after(Duration::from_secs(5));
/// let (parent, child) = (pipeline.producer("trainer"), pipeline.producer("trainer.data"));
/// let (handle, sink) = logcore::testing::recording();
/// let level = log::LevelFilter::Info;
/// let sink = NamedSink::new("recording", level, Box::new(sink));
/// parent.open(Propagation::None, None, vec![sink], soon).unwrap();
/// child.open(Propagation::ToParents, None, vec![], soon).unwrap();
///
/// child.record(RecordOrigin::Method, &log::Record::builder().args(format_args!("hello")).build());
/// child.flush(soon).unwrap();
/// assert_eq!(handle.calls()[0], "record INFO trainer.data hello");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Only the logger itself.
    None,
    /// The logger, and its parents: `trainer` is the parent of `trainer.data`.
    ToParents,
}

/// A command to the writer.
pub(crate) enum Command {
    /// Opens a logger, or gives new sinks to an open one.
    Open {
        id: LoggerId,
        name: String,
        propagate: bool,
        folder: Option<FolderNumber>,
        sinks: Vec<NamedSink>,
        counters: Arc<DropCounters>,
        /// The replaced sinks have to be finished by then.
        deadline: Deadline,
        reply: CommandReply<()>,
    },
    SetLevel {
        id: LoggerId,
        sink: String,
        level: LevelFilter,
    },
    /// Adds a sink that every logger has.
    Share(NamedSink),
    /// Writes the counts of repeated records, as every command does.
    WriteRepeats,
    Flush {
        id: LoggerId,
        deadline: Deadline,
        reply: CommandReply<Result<(), logcore::LogError>>,
    },
    Finish {
        id: LoggerId,
        outcome: Arc<LoggerOutcome>,
        deadline: Deadline,
        reply: CommandReply<Vec<SinkAccount>>,
    },
    /// Ends the sinks that every logger has.
    FinishShared {
        end: LoggerEnd,
        deadline: Deadline,
        reply: CommandReply<Vec<SinkAccount>>,
    },
    /// Ends the sinks of a logger that deliver to other machines. The other sinks continue.
    EndRemoteSinks {
        id: LoggerId,
        outcome: Arc<LoggerOutcome>,
        deadline: Deadline,
        reply: CommandReply<Vec<SinkAccount>>,
    },
    /// Closes the ring, and ends the writer when all calls that were accepted until then are
    /// delivered.
    Close(CloseRequest),
}

/// The last command, which the writer executes when everything is delivered.
pub(crate) struct CloseRequest {
    /// The loggers that end only then, with their outcomes.
    pub(crate) loggers: Vec<(LoggerId, Arc<LoggerOutcome>)>,
    pub(crate) deadline: Deadline,
    pub(crate) reply: CommandReply<ClosedAccounts>,
}

/// The accounts at the end of the writer.
#[derive(Default)]
pub(crate) struct ClosedAccounts {
    /// The accounts of each logger, in the order of the request.
    pub(crate) loggers: Vec<Vec<SinkAccount>>,
    /// The accounts of the sinks that every logger had.
    pub(crate) shared_sinks: Vec<SinkAccount>,
}

impl Command {
    /// Returns what the next process has to know of the command if this process is killed.
    pub(crate) fn replay_hint(&self) -> ReplayHint {
        match self {
            Self::Flush { id, .. } => ReplayHint::Flush(*id),
            Self::Finish { id, outcome, .. } => ReplayHint::Finish(*id, outcome.end.exit_code, outcome.to_json()),
            Self::SetLevel { id, sink, level } => ReplayHint::SetLevel(*id, sink.clone(), *level),
            // `open` returns only when a checkpoint or a frame of the writer contains the logger.
            Self::Open { .. } | Self::Share(_) | Self::FinishShared { .. } => ReplayHint::None,
            // The process that recovers the ring decides how the run ended.
            Self::EndRemoteSinks { .. } | Self::Close(_) => ReplayHint::None,
            // Every command has this effect.
            Self::WriteRepeats => ReplayHint::None,
        }
    }
}

/// The place for the writer's answer to a command.
pub(crate) struct CommandReply<T>(Arc<(Mutex<Option<T>>, Condvar)>);

impl<T> CommandReply<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new((Mutex::new(None), Condvar::new())))
    }

    pub(crate) fn send(&self, answer: T) {
        *lock(&self.0.0) = Some(answer);
        self.0.1.notify_all();
    }

    /// Waits for the answer; `None` if it does not come before the deadline.
    pub(crate) fn wait(&self, deadline: Deadline) -> Option<T> {
        let mut answer = lock(&self.0.0);
        while answer.is_none() && !deadline.has_passed() {
            answer = wait_timeout(&self.0.1, answer, deadline.remaining());
        }
        answer.take()
    }
}

impl<T> Clone for CommandReply<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
