use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use log::LevelFilter;
use logcore::{
    Deadline, FileRank, LogConfig, LogError, LoggerEnd, OnFull, RingPlace, Sink, hide_caught_panics_from_hook,
    suppress_logging,
};

use crate::caller::command::{Close, Command, LoggerAccounts, LoggerOutcome, NamedSink, Reply};
use crate::caller::producer::{Producer, ask};
use crate::caller::shared::Shared;
use crate::frame::body::LoggerId;
use crate::process::fork;
use crate::process::notice::print_notice;
use crate::process::write_signals::shield_writes;
use crate::ring::file::{RingFile, Wish};
use crate::ring::queue::{Reader, Ring, Sizes};
use crate::writer::thread::Writer;

/// The ring and its writer.
///
/// ```
/// use logcore::{Deadline, log};
/// use logcore_pipeline::{NamedSink, Pipeline, RecordOrigin};
/// use std::time::Duration;
///
/// let pipeline = Pipeline::start(1 << 20)?;
/// let producer = pipeline.producer("trainer");
/// let (handle, sink) = logcore::testing::recording();
/// let sinks = vec![NamedSink { name: "recording".into(), level: log::LevelFilter::Info, sink: Box::new(sink), fold: None }];
/// let soon = Deadline::after(Duration::from_secs(5));
/// producer.open(false, None, sinks, soon).unwrap();
///
/// producer.record(RecordOrigin::Method, &log::Record::builder().args(format_args!("hello")).build());
/// producer.flush(soon).unwrap();
/// assert_eq!(handle.calls(), ["record INFO trainer hello", "flush"]);
/// pipeline.end(soon).unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Pipeline {
    shared: Arc<Shared>,
    /// Where the ring lies, if it outlives the process.
    file: Option<RingFile>,
}

impl Pipeline {
    /// Starts the writer over a ring of `ring_bytes` bytes in plain memory, rounded up to a power of two.
    ///
    /// # Errors
    ///
    /// If the system has no thread for the writer, or no memory even for a small ring.
    pub fn start(ring_bytes: usize) -> io::Result<Self> {
        Self::start_plain(ring_bytes, None)
    }

    /// The same over a ring that the next process finds in the log directory of `config`, should this one be killed. Where that
    /// cannot be, one line says so, and the ring lies in plain memory.
    ///
    /// # Errors
    ///
    /// If the system has no thread for the writer, or no memory even for a small ring.
    pub fn start_in(config: &LogConfig) -> io::Result<Self> {
        Self::start_mapped(config, config.ring_bytes, None)
    }

    /// In a child of a fork: takes the place of the pipeline that the loggers have from its parent, which is gone; in the log directory
    /// of `config`, if what is in the ring shall outlive the process.
    ///
    /// # Errors
    ///
    /// If the system has no thread for the writer, or no memory even for a small ring.
    pub fn start_in_place_of(producer: &Producer, config: Option<&LogConfig>) -> io::Result<Self> {
        let gone = producer.shared();
        // The numbers of names are places in a dictionary of this size.
        let ring_bytes = gone.ring.capacity() as usize;
        let started = match config {
            Some(config) => Self::start_mapped(config, ring_bytes, Some(gone)),
            None => Self::start_plain(ring_bytes, Some(gone)),
        }?;
        gone.leave_to(&started.shared);
        Ok(started)
    }

    fn start_plain(ring_bytes: usize, gone: Option<&Shared>) -> io::Result<Self> {
        let mut bytes = ring_bytes;
        let (ring, reader) = loop {
            match Ring::plain(bytes) {
                Ok(made) => break made,
                Err(error) if bytes / 2 < SMALLEST => return Err(error),
                Err(_) => bytes /= 2,
            }
        };
        if bytes < ring_bytes {
            print_notice(
                "small ring",
                &format!(
                    "the ring has {bytes} bytes instead of {ring_bytes}, since the process may have no more memory"
                ),
            );
        }
        Self::over(ring, reader, None, gone)
    }

    fn start_mapped(config: &LogConfig, ring_bytes: usize, gone: Option<&Shared>) -> io::Result<Self> {
        let folder = &config.log_dir;
        if config.ring_place == RingPlace::Memory {
            return Self::start_plain(ring_bytes, gone);
        }
        let sizes = Sizes::of(ring_bytes);
        let wish = Wish {
            place: config.ring_place,
            never_waits: config.on_full == OnFull::Drop,
            rank: FileRank::from_config(config),
        };
        match RingFile::create(folder, sizes, wish) {
            Ok((file, region)) => {
                let (ring, reader) = Ring::new(region, sizes);
                Self::over(ring, reader, Some(file), gone)
            }
            Err(error) => {
                print_notice(
                    "ring in memory",
                    &format!(
                        "the ring lies in plain memory, since {} does not take it ({error}): should this process be killed, \
                         its last milliseconds are lost",
                        folder.display()
                    ),
                );
                Self::start_plain(ring_bytes, gone)
            }
        }
    }

    /// Lets the next process that logs into `folder` find the ring from there, too. Returns the folder's number, by which
    /// loggers that write there are [opened](Producer::open); without it, what they have in the ring dies with the process.
    pub fn point_from(&self, folder: &Path) -> Option<FolderNumber> {
        let Some(file) = &self.file else {
            print_notice(
                "ring in memory",
                &format!(
                    "the ring lies in plain memory, where the first logger of this process has put it: should the process be \
                     killed, the last milliseconds of what goes to {} are lost",
                    folder.display()
                ),
            );
            return None;
        };
        let number = file.point_from(folder).inspect_err(|error| {
            print_notice(
                "ring not named",
                &format!("{} has no place for the name of the ring: {error}", folder.display()),
            );
        });
        number.ok().map(FolderNumber)
    }

    /// The way into the ring for one more logger, which has no sinks until it is opened.
    pub fn producer(&self, logger: &str) -> Producer {
        // A logger that a child of a fork has from its parent keeps its number there, whatever the child sets up besides.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = LoggerId(NEXT.fetch_add(1, Ordering::Relaxed));
        Producer::new(Arc::clone(&self.shared), id, logger)
    }

    /// Adds a sink that every logger has, those to come included.
    pub fn share(&self, name: &str, sink: Box<dyn Sink>, deadline: Deadline) {
        let sink = NamedSink {
            name: name.to_owned(),
            level: LevelFilter::Trace,
            sink,
            fold: None,
        };
        let _ = self.shared.send(Command::Share(sink), deadline);
    }

    /// Ends the sinks that every logger has, which learn of this `end`.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] past the deadline.
    pub fn finish_shared(&self, end: LoggerEnd, deadline: Deadline) -> Result<(), LogError> {
        let reply = Reply::new();
        let command = Command::FinishShared {
            end,
            deadline,
            reply: reply.clone(),
        };
        for remainder in ask(&self.shared, "finish", command, &reply, deadline)? {
            remainder.settle(deadline);
        }
        Ok(())
    }

    /// Ends the writer when it has delivered everything, and takes the ring away. In a child of a fork that has it from its parent,
    /// nothing happens.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] past the deadline. The ring then stays where it is, and the next process delivers it.
    pub fn end(self, deadline: Deadline) -> Result<(), LogError> {
        self.close(&[], deadline).map(drop)
    }

    /// The same at the end of the process: these loggers take everything until the ring is closed for all of them at one moment, and
    /// end behind that with their outcomes. A later call to one of them finds the ring closed.
    ///
    /// # Errors
    ///
    /// As for [`Pipeline::end`].
    pub fn close(
        mut self,
        loggers: &[(&Producer, Arc<LoggerOutcome>)],
        deadline: Deadline,
    ) -> Result<Vec<LoggerAccounts>, LogError> {
        let file = self.file.take();
        if self.shared.is_inherited() {
            return Ok(loggers.iter().map(|_| LoggerAccounts::default()).collect());
        }
        let reply = Reply::new();
        let command = Command::Close(Close {
            loggers: loggers
                .iter()
                .map(|(producer, outcome)| (producer.id(), Arc::clone(outcome)))
                .collect(),
            deadline,
            reply: reply.clone(),
        });
        let ended = ask(&self.shared, "finish", command, &reply, deadline);
        match ended {
            Ok(_) => drop(file),
            Err(_) => std::mem::forget(file),
        }
        let (ended, remainders) = ended?;
        for remainder in remainders {
            remainder.settle(deadline);
        }
        let settle = |(ended, (producer, _)): (_, &(&Producer, Arc<LoggerOutcome>))| producer.settle(ended, deadline);
        Ok(ended.into_iter().zip(loggers).map(settle).collect())
    }

    fn over(ring: Arc<Ring>, reader: Reader, file: Option<RingFile>, gone: Option<&Shared>) -> io::Result<Self> {
        fork::watch();
        hide_caught_panics_from_hook();
        let shared = Arc::new(match gone {
            Some(gone) => Shared::in_place_of(gone, ring),
            None => Shared::new(ring),
        });
        fork::shut_in_children(&shared);
        let names = file.as_ref().map(|file| Arc::clone(file.names()));
        let writer = Writer::new(Arc::clone(&shared), reader, names);
        thread::Builder::new()
            .name("logcore-writer".to_owned())
            .spawn(move || {
                shield_writes();
                suppress_logging(|| writer.run());
            })?;
        Ok(Self { shared, file })
    }
}

/// Which of the log directories that hold a name of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderNumber(pub(crate) u32);

/// A ring has this many bytes at least, if the system gives them; the smallest that a config allows.
const SMALLEST: usize = 4096;
