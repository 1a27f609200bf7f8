//! Reads the calls in a ring whose process may be alive, without disturbing the process.
//!
//! `copy` takes the frames out of the file, and proves that nobody has changed them meanwhile. This
//! module turns them into calls, as a recovery would, and gives them to no sink. `process` finds
//! the rings of a process.

mod copy;
mod process;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use log::Level;
use logcore::{MetricValue, ProgressEvent, serde_json};

use self::copy::RingCopy;
pub use self::process::rings_of_process;
use crate::frame::clock::from_nanos;
use crate::frame::decode::{
    decode_chunk, decode_config, decode_control, decode_message, decode_metrics, decode_progress, decode_record,
};
use crate::frame::deferred::{DeferredFormatter, is_deferred};
use crate::frame::types::{LoggerId, MessageTarget, MetricName, ReplayHint};
use crate::recovery::found_ring::open_to_read;
use crate::ring::file::is_ring_name;
use crate::ring::name_table::name_in;
use crate::ring::queue::FrameKind;
use crate::writer::checkpoint;

/// The newest calls in a ring, as a program outside its process has found them; see
/// [`read_live_ring`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RingSnapshot {
    /// The file of the ring.
    pub path: PathBuf,
    /// Id of the process that has made the ring, as that process counts.
    pub pid: u64,
    /// The calls, the newest last.
    pub calls: Vec<RingCall>,
    /// Number of calls that the writer has not noted as written, with those that are not in
    /// `calls`.
    pub unwritten: u64,
    /// Number of frames that callers have overwritten while they were read. They were written.
    pub overwritten: u64,
    /// Number of frames that callers had begun and not completed.
    pub unfinished: u64,
    /// Number of frames that cannot be read, such as long ones of which only a part is left.
    pub unreadable: u64,
}

/// A call in a ring.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RingCall {
    /// Time of the call.
    pub time: SystemTime,
    /// Name of the logger; `None` if the logger has ended, or the writer does not know it yet.
    pub logger: Option<String>,
    /// `true` if the writer has given the call to the sinks, and noted so. The next calls may be in
    /// some files, too.
    pub is_written: bool,
    /// The content of the call.
    pub content: RingContent,
}

/// The content of a [`RingCall`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RingContent {
    /// A line of text.
    Record {
        /// The level.
        level: Level,
        /// The target, unless the logger's name is the target.
        target: Option<String>,
        /// The message.
        message: String,
        /// The fields, as JSON has them.
        fields: Vec<(String, serde_json::Value)>,
    },
    /// The metrics of one call.
    Metrics {
        /// The step.
        step: u64,
        /// The metrics, by the names that sinks get.
        values: Vec<(String, MetricValue)>,
    },
    /// The state of a progress. The event has no logger and no description.
    Progress {
        /// Description of the work.
        description: String,
        /// The state.
        event: ProgressEvent<'static>,
    },
    /// Hyper-parameters, as JSON.
    Config(String),
    /// An alert, as JSON.
    Alert(String),
    /// The description of a media value, as JSON.
    Media(String),
    /// A message for one sink.
    Message {
        /// Name of the sink.
        sink: String,
        /// Length of the message in bytes.
        bytes: usize,
    },
}

/// Reads the newest calls in a ring, at most `most` of them. `path` is the ring or a pointer to it;
/// its process may be alive, stopped or dead.
///
/// The ring is only read: nothing is locked or written, and no thread of the process waits. A frame
/// counts if it was complete before it was copied, and unchanged afterwards. The calls are those
/// that the writer has not taken, and the older ones that no caller has overwritten yet. Takes
/// twice the memory of the ring.
///
/// # Errors
///
/// If the file cannot be read, is no regular file, or is no ring.
///
/// # Example: a process that reads its own ring
///
/// ```
/// # #[cfg(unix)] {
/// use logcore::{Deadline, log};
/// use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin, RingContent};
/// use std::time::Duration;
///
/// let folder = tempfile::tempdir()?;
/// let config = logcore::LogConfig { log_dir: folder.path().into(), ..Default::default() };
/// let pipeline = Pipeline::start_in(folder.path(), &config)?;
/// let producer = pipeline.producer("trainer");
/// let (_, sink) = logcore::testing::recording();
/// let sink = NamedSink::new("recording", log::LevelFilter::Info, Box::new(sink));
/// let soon = Deadline::after(Duration::from_secs(5));
/// producer.open(Propagation::None, None, vec![sink], soon).unwrap();
/// producer.record(RecordOrigin::Method, &log::Record::builder().args(format_args!("hello")).build());
///
/// let rings = logcore_pipeline::rings_in(folder.path())?;
/// let snapshot = logcore_pipeline::read_live_ring(&rings[0], 100)?;
/// assert_eq!(snapshot.pid, u64::from(std::process::id()));
/// let call = &snapshot.calls[0];
/// assert_eq!(call.logger.as_deref(), Some("trainer"));
/// assert!(matches!(&call.content, RingContent::Record { message, .. } if message == "hello"));
/// # pipeline.end(soon).unwrap();
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_live_ring(path: &Path, most: usize) -> io::Result<RingSnapshot> {
    let ring = open_to_read(path).map_err(io::Error::other)?;
    let copy = RingCopy::take(&ring)?;
    let saved = checkpoint::read(&copy.checkpoint, copy.is_older);
    let loggers = saved.into_iter().flat_map(|checkpoint| checkpoint.loggers);
    let mut reading = SnapshotReading {
        snapshot: RingSnapshot {
            path: ring.path,
            pid: copy.pid,
            calls: Vec::new(),
            unwritten: 0,
            overwritten: copy.overwritten,
            unfinished: copy.unfinished,
            unreadable: 0,
        },
        names: &copy.names,
        loggers: loggers.map(|logger| (logger.id, logger.name)).collect(),
        long: HashMap::new(),
        deferred: DeferredFormatter::default(),
        calls: VecDeque::new(),
        most,
    };
    // A logger may be announced behind its first calls.
    for (frame, body) in copy.frames() {
        reading.note_opened(frame.kind, body);
    }
    for (frame, body) in copy.frames() {
        reading.add(frame.kind, body, frame.position < copy.position);
    }
    Ok(reading.end())
}

/// Returns the paths of the rings in a folder, and of the pointers to rings elsewhere, ordered by
/// name. `folder` is the folder of a run.
///
/// # Errors
///
/// If the folder cannot be read.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// assert!(logcore_pipeline::rings_in(folder.path())?.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn rings_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut rings = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_ring_name) {
            rings.push(entry.path());
        }
    }
    rings.sort();
    Ok(rings)
}

/// A snapshot that is being made of frames.
struct SnapshotReading<'c> {
    snapshot: RingSnapshot,
    /// The name table.
    names: &'c [u8],
    loggers: BTreeMap<LoggerId, String>,
    /// The long frames that are not complete yet, from their first chunks on.
    long: HashMap<u64, Vec<u8>>,
    deferred: DeferredFormatter,
    calls: VecDeque<RingCall>,
    most: usize,
}

impl SnapshotReading<'_> {
    fn note_opened(&mut self, kind: FrameKind, body: &[u8]) {
        if kind == FrameKind::Control
            && let Some((_, ReplayHint::Opened(entry))) = decode_control(body)
            && let Some(logger) = checkpoint::read_entry(&entry)
        {
            self.loggers.insert(logger.id, logger.name);
        }
    }

    fn add(&mut self, kind: FrameKind, body: &[u8], is_written: bool) {
        match kind {
            FrameKind::Padding | FrameKind::Control => {}
            FrameKind::Chunk => self.add_chunk(body, is_written),
            _ => match self.call(kind, body, is_written) {
                Some(call) => self.push(call),
                None => self.snapshot.unreadable += 1,
            },
        }
    }

    /// Adds a chunk of a long frame. Without the first chunk the others could be taken for a frame
    /// that a text imitates.
    fn add_chunk(&mut self, body: &[u8], is_written: bool) {
        let Some(chunk) = decode_chunk(body) else {
            self.snapshot.unreadable += 1;
            return;
        };
        let long = match chunk.is_first {
            true => self.long.entry(chunk.number).insert_entry(Vec::new()).into_mut(),
            false => match self.long.get_mut(&chunk.number) {
                Some(long) => long,
                None => {
                    self.snapshot.unreadable += u64::from(chunk.is_last);
                    return;
                }
            },
        };
        long.extend_from_slice(chunk.bytes);
        if chunk.is_last {
            let body = self.long.remove(&chunk.number).unwrap_or_default();
            let kind = chunk.kind.unwrap_or(FrameKind::Padding);
            self.add(kind, &body, is_written);
        }
    }

    fn push(&mut self, call: RingCall) {
        self.snapshot.unwritten += u64::from(!call.is_written);
        if self.calls.len() == self.most {
            self.calls.pop_front();
        }
        if self.most > 0 {
            self.calls.push_back(call);
        }
    }

    fn call(&mut self, kind: FrameKind, body: &[u8], is_written: bool) -> Option<RingCall> {
        let (time, logger, content) = match kind {
            FrameKind::Record => {
                let body = match is_deferred(body) {
                    false => body,
                    true => self.deferred.format(body)?,
                };
                let (frame, fields) = decode_record(body)?;
                let fields = fields.unwrap_or_default().into_iter();
                let fields = fields.map(|(name, value)| Some((name.to_owned(), serde_json::to_value(value).ok()?)));
                let content = RingContent::Record {
                    level: frame.level,
                    target: Some(frame.target)
                        .filter(|target| !target.is_empty())
                        .map(str::to_owned),
                    message: frame.message.text.to_owned(),
                    fields: fields.collect::<Option<_>>()?,
                };
                (frame.time, frame.logger, content)
            }
            FrameKind::Metrics => {
                let frame = decode_metrics(body)?;
                let values = frame.values().map(|(name, value)| {
                    let name = match name {
                        MetricName::Id(id) => name_in(self.names, id)?,
                        MetricName::Text(text) => text,
                    };
                    Some((name.to_owned(), value))
                });
                let values = values.collect::<Option<_>>()?;
                let step = frame.step;
                (frame.time, frame.logger, RingContent::Metrics { step, values })
            }
            FrameKind::Progress => {
                let (logger, event) = decode_progress(body)?;
                let content = RingContent::Progress {
                    description: event.description.to_owned(),
                    event: event.with_texts("", ""),
                };
                (event.time, logger, content)
            }
            FrameKind::Config => {
                let (logger, json) = decode_config(body)?;
                (logged_at(body)?, logger, RingContent::Config(json.to_owned()))
            }
            FrameKind::Message => {
                let frame = decode_message(body)?;
                let content = match frame.target {
                    MessageTarget::Alerts => RingContent::Alert(frame.text.to_owned()),
                    MessageTarget::Media => RingContent::Media(frame.text.to_owned()),
                    MessageTarget::Sink(sink) => RingContent::Message {
                        sink: sink.to_owned(),
                        bytes: frame.text.len(),
                    },
                };
                (frame.time, frame.logger, content)
            }
            FrameKind::Padding | FrameKind::Control | FrameKind::Chunk => return None,
        };
        Some(RingCall {
            time,
            logger: self.loggers.get(&logger).cloned(),
            is_written,
            content,
        })
    }

    fn end(mut self) -> RingSnapshot {
        self.snapshot.calls = self.calls.into();
        self.snapshot
    }
}

/// Returns the time at the beginning of a frame.
fn logged_at(body: &[u8]) -> Option<SystemTime> {
    body.first_chunk().map(|time| from_nanos(i64::from_le_bytes(*time)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode::{encode_chunk, encode_record};
    use crate::frame::types::{ChunkPlace, RecordOrigin};

    fn reading() -> SnapshotReading<'static> {
        SnapshotReading {
            snapshot: RingSnapshot {
                path: PathBuf::new(),
                pid: 1,
                calls: Vec::new(),
                unwritten: 0,
                overwritten: 0,
                unfinished: 0,
                unreadable: 0,
            },
            names: &[],
            loggers: BTreeMap::new(),
            long: HashMap::new(),
            deferred: DeferredFormatter::default(),
            calls: VecDeque::new(),
            most: 2,
        }
    }

    fn record(message: &str) -> Vec<u8> {
        let mut body = Vec::new();
        encode_record(
            &mut body,
            LoggerId(7),
            RecordOrigin::Method.into(),
            &log::Record::builder().args(format_args!("{message}")).build(),
        );
        body
    }

    fn chunk(place: ChunkPlace, bytes: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        encode_chunk(&mut body, 5, FrameKind::Record, place, bytes);
        body
    }

    fn messages(snapshot: &RingSnapshot) -> Vec<&str> {
        let message = |call| match call {
            &RingCall {
                content: RingContent::Record { ref message, .. },
                ..
            } => Some(message.as_str()),
            _ => None,
        };
        snapshot.calls.iter().filter_map(message).collect()
    }

    #[test]
    fn the_end_of_a_long_frame_is_not_taken_for_a_frame() {
        let imitation = record("an imitation");
        let (first, last) = (
            chunk(ChunkPlace::First, &record("long ")),
            chunk(ChunkPlace::Last, &imitation),
        );
        let mut without_first = reading();
        without_first.add(FrameKind::Chunk, &last, false);
        let snapshot = without_first.end();
        assert!(messages(&snapshot).is_empty());
        assert_eq!(snapshot.unreadable, 1);

        let (head, tail) = imitation.split_at(9);
        let mut whole = reading();
        whole.add(FrameKind::Chunk, &chunk(ChunkPlace::First, head), false);
        whole.add(FrameKind::Chunk, &chunk(ChunkPlace::Last, tail), false);
        assert_eq!(messages(&whole.end()), ["an imitation"]);

        // Only the first chunk is there yet.
        let mut begun = reading();
        begun.add(FrameKind::Chunk, &first, false);
        assert!(messages(&begun.end()).is_empty());
    }

    #[test]
    fn the_newest_calls_are_kept_and_all_are_counted() {
        let mut reading = reading();
        for (message, is_written) in [("one", true), ("two", false), ("three", false), ("four", false)] {
            reading.add(FrameKind::Record, &record(message), is_written);
        }
        let snapshot = reading.end();
        assert_eq!(messages(&snapshot), ["three", "four"]);
        assert_eq!(snapshot.unwritten, 3);
        // Nobody knows the logger.
        assert_eq!(snapshot.calls[0].logger, None);
    }
}
