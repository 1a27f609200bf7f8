//! The values that frames carry.

use std::sync::atomic::{AtomicU32, Ordering};

use log::LevelFilter;

use crate::ring::name_table::NameId;

/// The receivers of a message. The word of a frame has room for eight kinds of frames, so that
/// alerts and media values are messages, whose texts are JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageTarget<'a> {
    /// The sink of this name.
    Sink(&'a str),
    /// All sinks of the logger that take alerts.
    Alerts,
    /// All sinks of the logger that take media.
    Media,
}

/// Stand in the place of a sink's name. No sink has such a name, because a config could not hold
/// it.
const ALERTS: &str = "\0alerts";
const MEDIA: &str = "\0media";

impl<'a> MessageTarget<'a> {
    /// Returns the name that the frame holds.
    pub(crate) fn name(self) -> &'a str {
        match self {
            Self::Sink(name) => name,
            Self::Alerts => ALERTS,
            Self::Media => MEDIA,
        }
    }

    pub(crate) fn from_name(name: &'a str) -> Self {
        match name {
            ALERTS => Self::Alerts,
            MEDIA => Self::Media,
            name => Self::Sink(name),
        }
    }
}

/// The place of a chunk in its long body, as a byte of the frame. A long body has several chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ChunkPlace {
    Middle = 0,
    Last = 1,
    First = 2,
}

/// The logger of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LoggerId(pub(crate) u32);

impl LoggerId {
    /// Returns a number that no other logger of this process has. A logger that a child of a fork
    /// has from its parent keeps its number there.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// How a record arrived at its logger, and the levels that it has to pass there; see
/// [`Producer::record`](crate::Producer::record).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordArrival {
    /// The way by which the record reached the logger.
    pub origin: RecordOrigin,
    /// The levels of the sinks that decide.
    pub rule: LevelRule,
}

impl From<RecordOrigin> for RecordArrival {
    fn from(origin: RecordOrigin) -> Self {
        Self {
            origin,
            rule: LevelRule::Usual,
        }
    }
}

/// The levels that decide which sinks receive a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelRule {
    /// The level of each sink.
    Usual,
    /// A directive names the target of the record: all sinks that are not off receive it, up to
    /// their [`directed_level`](crate::NamedSink::directed_level).
    Directed,
    /// The record is of a foreign target, and too verbose for most sinks: only those receive it
    /// whose [`foreign_level`](crate::NamedSink::foreign_level) and level admit it.
    Foreign,
}

/// The way by which a record reached its logger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOrigin {
    /// A method of the logger: the target is the logger's name.
    Method,
    /// A `log` macro with the argument `logger:`.
    Addressed,
    /// A `log` macro without this argument. Its target leads to the logger.
    Facade,
}

/// The name of a metric in a frame; see [`Producer::metrics`](crate::Producer::metrics).
#[derive(Debug, Clone, Copy)]
pub enum MetricName<'a> {
    /// The number of an [interned](crate::Producer::intern) name.
    Id(NameId),
    /// The name itself, for a name that the table has no room for.
    Text(&'a str),
}

/// A command as the next process sees it: enough to repeat its effect on the files, if this process
/// is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplayHint {
    /// Nothing to repeat. The position in the order of frames still matters: repeated records are
    /// written there.
    None,
    Flush(LoggerId),
    /// A logger ended: its exit code, and its outcome as JSON.
    Finish(LoggerId, i32, Vec<u8>),
    SetLevel(LoggerId, String, LevelFilter),
    /// A logger was opened. The bytes are its entry in a checkpoint.
    Opened(Vec<u8>),
}
