//! A pipeline: its start, its loggers and shared sinks, and its end.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;

use log::LevelFilter;
use logcore::{
    Deadline, FileRank, LogConfig, LogError, LoggerEnd, OnFull, RingPlace, Sink, hide_caught_panics_from_hook,
    suppress_logging,
};

use crate::caller::command::{
    CloseRequest, ClosedAccounts, Command, CommandReply, LoggerAccounts, LoggerOutcome, NamedSink,
};
use crate::caller::pipeline_state::PipelineState;
use crate::caller::producer::{Producer, add_places};
use crate::frame::types::LoggerId;
use crate::process::block_write_signals;
use crate::process::exit::report_at_unload;
use crate::process::fork::{InheritedByChildren, close_in_children, watch_forks};
use crate::process::notice::print_notice;
use crate::ring::file::{FolderNumber, RingFile, RingRequest};
use crate::ring::layout::RingSizes;
use crate::ring::queue::Ring;
use crate::ring::reader::RingReader;
use crate::writer::thread::Writer;

/// A ring and its writer.
///
/// # Example: one logger with one sink
///
/// ```
/// use logcore::{Deadline, log};
/// use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
/// use std::time::Duration;
///
/// let pipeline = Pipeline::start(1 << 20)?;
/// let producer = pipeline.producer("trainer");
/// let (handle, sink) = logcore::testing::recording();
/// let sink = NamedSink::new("recording", log::LevelFilter::Info, Box::new(sink));
/// let soon = Deadline::after(Duration::from_secs(5));
/// producer.open(Propagation::None, None, vec![sink], soon).unwrap();
///
/// producer.record(RecordOrigin::Method, &log::Record::builder().args(format_args!("hello")).build());
/// producer.flush(soon).unwrap();
/// assert_eq!(handle.calls(), ["record INFO trainer hello", "flush"]);
/// pipeline.end(soon).unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Pipeline {
    state: Arc<PipelineState>,
    /// The file of the ring, if the ring outlives the process.
    file: Option<RingFile>,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("ring_bytes", &self.state.ring.capacity())
            .field("outlives_process", &self.file.is_some())
            .finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Starts the writer over a ring of `ring_bytes` bytes in plain memory, rounded up to a power
    /// of two.
    ///
    /// # Errors
    ///
    /// If the system has no thread for the writer, or no memory even for a small ring.
    ///
    /// ```
    /// use logcore::Deadline;
    /// use logcore_pipeline::Pipeline;
    /// use std::time::Duration;
    ///
    /// let pipeline = Pipeline::start(1 << 20)?;
    /// pipeline.end(Deadline::after(Duration::from_secs(5))).unwrap();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn start(ring_bytes: usize) -> io::Result<Self> {
        Self::start_plain(ring_bytes, None)
    }

    /// Starts the writer over a ring that the next process finds in the log directory of `config`,
    /// if this process is killed. The log directory is the folder of a run: `root` itself, or a
    /// folder in `root`, and then an entry in the root leads to the ring. If the ring cannot be
    /// there, a notice reports it, and the ring is in plain memory.
    ///
    /// # Errors
    ///
    /// If the system has no thread for the writer, or no memory even for a small ring.
    ///
    /// ```
    /// use logcore::{Deadline, LogConfig};
    /// use logcore_pipeline::Pipeline;
    /// use std::time::Duration;
    ///
    /// let folder = tempfile::tempdir()?;
    /// let config = LogConfig { log_dir: folder.path().into(), ..LogConfig::default() };
    /// let pipeline = Pipeline::start_in(folder.path(), &config)?;
    /// # #[cfg(target_os = "linux")]
    /// assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    /// pipeline.end(Deadline::after(Duration::from_secs(5))).unwrap();
    /// assert_eq!(std::fs::read_dir(folder.path())?.count(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn start_in(root: &Path, config: &LogConfig) -> io::Result<Self> {
        Self::start_mapped(root, config, config.ring_bytes, None)
    }

    /// In a child of a fork: starts a pipeline that replaces the pipeline of `producer`, whose
    /// writer is gone with the parent. With a root and a config, the ring outlives the process, and
    /// is found as that of [`Pipeline::start_in`].
    ///
    /// # Errors
    ///
    /// If the system has no thread for the writer, or no memory even for a small ring.
    pub fn start_replacing(producer: &Producer, place: Option<(&Path, &LogConfig)>) -> io::Result<Self> {
        let predecessor = producer.state();
        // The numbers of names are offsets in a table of this size.
        let ring_bytes = predecessor.ring.capacity() as usize;
        let started = match place {
            Some((root, config)) => Self::start_mapped(root, config, ring_bytes, Some(predecessor)),
            None => Self::start_plain(ring_bytes, Some(predecessor)),
        }?;
        predecessor.set_successor(&started.state);
        Ok(started)
    }

    fn start_plain(ring_bytes: usize, predecessor: Option<&PipelineState>) -> io::Result<Self> {
        let mut bytes = ring_bytes;
        let (ring, reader) = loop {
            match RingReader::plain(bytes) {
                Ok(created) => break created,
                Err(error) if bytes / 2 < MIN_RING_BYTES => return Err(error),
                Err(_) => bytes /= 2,
            }
        };
        if bytes < ring_bytes {
            print_notice(
                "small ring",
                &format!("the ring has {bytes} bytes instead of {ring_bytes}: the process may have no more memory"),
            );
        }
        Self::start_writer(ring, reader, None, predecessor)
    }

    fn start_mapped(
        root: &Path,
        config: &LogConfig,
        ring_bytes: usize,
        predecessor: Option<&PipelineState>,
    ) -> io::Result<Self> {
        let folder = &config.log_dir;
        if config.ring_place == RingPlace::Memory {
            return Self::start_plain(ring_bytes, predecessor);
        }
        let sizes = RingSizes::for_capacity(ring_bytes);
        let request = RingRequest {
            place: config.ring_place,
            never_waits: config.on_full == OnFull::Drop,
            rank: FileRank::from_config(config),
        };
        match RingFile::create(root, folder, sizes, request) {
            Ok((file, region)) => {
                let (ring, reader) = RingReader::in_region(region, sizes);
                Self::start_writer(ring, reader, Some(file), predecessor)
            }
            Err(error) => {
                print_notice(
                    "ring in memory",
                    &format!(
                        "cannot put the ring into {}: {error}. The ring is in plain memory: if this process is killed, \
                         its last milliseconds are lost",
                        folder.display()
                    ),
                );
                Self::start_plain(ring_bytes, predecessor)
            }
        }
    }

    fn start_writer(
        ring: Arc<Ring>,
        reader: RingReader,
        file: Option<RingFile>,
        predecessor: Option<&PipelineState>,
    ) -> io::Result<Self> {
        watch_forks();
        report_at_unload();
        hide_caught_panics_from_hook();
        let state = Arc::new(match predecessor {
            Some(predecessor) => PipelineState::replacing(predecessor, ring),
            None => PipelineState::new(ring),
        });
        let inherited: Weak<PipelineState> = Arc::downgrade(&state);
        close_in_children(inherited as Weak<dyn InheritedByChildren>);
        let names = file.as_ref().map(|file| Arc::clone(file.names()));
        let writer = Writer::new(Arc::clone(&state), reader, names);
        thread::Builder::new()
            .name("logcore-writer".to_owned())
            .spawn(move || {
                block_write_signals();
                suppress_logging(|| writer.run());
            })?;
        Ok(Self { state, file })
    }

    /// Lets the next process that logs into `root` find the ring from `folder`, which is the root
    /// or lies in it. Returns the number of the folder, with which loggers that write there are
    /// [opened](Producer::open). Without a number, their frames in the ring are lost if the process
    /// is killed.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let mut pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// // A ring in plain memory dies with the process.
    /// let folder = tempfile::tempdir()?;
    /// assert_eq!(pipeline.link_from(folder.path(), folder.path()), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn link_from(&self, root: &Path, folder: &Path) -> Option<FolderNumber> {
        let Some(file) = &self.file else {
            print_notice(
                "ring in memory",
                &format!(
                    "the ring is in plain memory, as the first logger of this process required: if the process is \
                     killed, the last milliseconds of the log in {} are lost",
                    folder.display()
                ),
            );
            return None;
        };
        let number = file.link_from(root, folder).inspect_err(|error| {
            print_notice(
                "ring not named",
                &format!("cannot write the name of the ring into {}: {error}", folder.display()),
            );
        });
        number.ok().map(FolderNumber)
    }

    /// Returns the path of the ring; `None` for a ring in plain memory.
    #[must_use]
    pub fn ring_path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.names().path())
    }

    /// Returns the access to the ring for one more logger, which has no sinks until it is
    /// [opened](Producer::open).
    #[must_use]
    pub fn producer(&self, logger: &str) -> Producer {
        Producer::new(Arc::clone(&self.state), LoggerId::next(), logger)
    }

    /// Gives an [unconnected](Producer::unconnected) producer this pipeline.
    pub fn connect(&self, producer: &Producer) {
        producer.state().set_successor(&self.state);
    }

    /// Adds a sink that every logger has, now and later.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let mut pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// let (shared, sink) = logcore::testing::recording();
    /// pipeline.share("shared", Box::new(sink), soon);
    /// producer.record(RecordOrigin::Method, &log::Record::builder().args(format_args!("hello")).build());
    /// producer.flush(soon).unwrap();
    /// assert_eq!(shared.calls()[0], "record INFO trainer hello");
    ///
    /// pipeline.finish_shared(logcore::LoggerEnd::default(), soon).unwrap();
    /// assert_eq!(shared.calls()[2..], ["logger_ended 0", "finish"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn share(&self, name: &str, sink: Box<dyn Sink>, deadline: Deadline) {
        let sink = NamedSink::new(name, LevelFilter::Trace, sink);
        if sink.sink.wants_places() {
            add_places();
        }
        let _ = self.state.send(Command::Share(sink), deadline);
    }

    /// Ends the sinks that every logger has. They learn of this `end`.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] past the deadline.
    pub fn finish_shared(&self, end: LoggerEnd, deadline: Deadline) -> Result<(), LogError> {
        let reply = CommandReply::new();
        let command = Command::FinishShared {
            end,
            deadline,
            reply: reply.clone(),
        };
        for account in self.state.ask("finish", command, &reply, deadline)? {
            account.settle(deadline);
        }
        Ok(())
    }

    /// Ends the writer when everything is delivered, and removes the ring. In a child of a fork,
    /// whose parent has the pipeline, nothing happens.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] past the deadline. Then the ring stays, and the next process delivers
    /// it.
    pub fn end(mut self, deadline: Deadline) -> Result<(), LogError> {
        self.close(&[], deadline).map(drop)
    }

    /// Ends these loggers and the writer at the end of the process: the ring is closed for all
    /// loggers at one moment, and the loggers end with their outcomes when everything before that
    /// is delivered. Later calls find the ring closed. The ring is removed when the pipeline is
    /// dropped: a process that is killed before that leaves the ring, by which the next process
    /// finds the run.
    ///
    /// # Errors
    ///
    /// As for [`Pipeline::end`].
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let mut pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// use logcore::LoggerEnd;
    /// use logcore_pipeline::LoggerOutcome;
    /// use std::sync::Arc;
    ///
    /// let outcome = LoggerOutcome { end: LoggerEnd::from_exit_code(3), ..LoggerOutcome::default() };
    /// let accounts = pipeline.close(&[(&producer, Arc::new(outcome))], soon).unwrap();
    /// assert!(accounts[0].books["recording"].balanced());
    /// assert_eq!(handle.calls(), ["logger_ended 3", "finish"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn close(
        &mut self,
        loggers: &[(&Producer, Arc<LoggerOutcome>)],
        deadline: Deadline,
    ) -> Result<Vec<LoggerAccounts>, LogError> {
        if self.state.is_inherited() {
            return Ok(loggers.iter().map(|_| LoggerAccounts::default()).collect());
        }
        let reply = CommandReply::new();
        let command = Command::Close(CloseRequest {
            loggers: loggers
                .iter()
                .map(|(producer, outcome)| (producer.id(), Arc::clone(outcome)))
                .collect(),
            deadline,
            reply: reply.clone(),
        });
        let closed = self.state.ask("finish", command, &reply, deadline);
        if closed.is_err() {
            std::mem::forget(self.file.take());
        }
        let ClosedAccounts {
            loggers: accounts,
            shared_sinks,
        } = closed?;
        for account in shared_sinks {
            account.settle(deadline);
        }
        let loggers = loggers.iter().map(|(producer, _)| producer);
        let settled = accounts.into_iter().zip(loggers);
        Ok(settled
            .map(|(accounts, producer)| producer.settle(accounts, deadline))
            .collect())
    }
}

/// A ring has at least this many bytes, if the system has them. A config allows no smaller ring.
const MIN_RING_BYTES: usize = 4096;
