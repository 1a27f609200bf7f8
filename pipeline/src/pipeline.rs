use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use log::LevelFilter;
use logcore::{Deadline, LogError, Sink, quiet};

use crate::command::{Command, NamedSink, Reply};
use crate::frame::LoggerId;
use crate::port::{Port, ask};
use crate::ring::Ring;
use crate::shared::Shared;
use crate::writer::Writer;

/// The ring and its writer. A process has one; it lives as long as the process.
///
/// ```
/// use logcore::{Deadline, log};
/// use logcore_pipeline::{NamedSink, Pipeline, Route};
/// use std::time::Duration;
///
/// let pipeline = Pipeline::start(1 << 20)?;
/// let port = pipeline.port("trainer");
/// let (handle, sink) = logcore::testing::recording();
/// let sinks = vec![NamedSink { name: "recording".into(), level: log::LevelFilter::Info, sink: Box::new(sink) }];
/// let soon = Deadline::after(Duration::from_secs(5));
/// port.open(false, sinks, soon).unwrap();
///
/// port.record(Route::Method, &log::Record::builder().args(format_args!("hello")).build());
/// port.flush(soon).unwrap();
/// assert_eq!(handle.calls(), ["record INFO trainer hello", "flush"]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Pipeline {
    shared: Arc<Shared>,
    next_logger: AtomicU32,
}

impl Pipeline {
    /// Starts the writer over a ring of `ring_bytes` bytes, rounded up to a power of two.
    ///
    /// # Errors
    ///
    /// If the system has no thread for the writer.
    pub fn start(ring_bytes: usize) -> io::Result<Self> {
        let (ring, reader) = Ring::new(ring_bytes);
        let shared = Arc::new(Shared::new(ring));
        let writer = Writer::new(Arc::clone(&shared), reader);
        let thread = thread::Builder::new()
            .name("logcore-writer".to_owned())
            .spawn(move || quiet(|| writer.run()))?;
        shared.set_writer(thread.thread().clone());
        Ok(Self {
            shared,
            next_logger: AtomicU32::new(0),
        })
    }

    /// The way into the ring for one more logger, which has no sinks until it is opened.
    pub fn port(&self, logger: &str) -> Port {
        let id = LoggerId(self.next_logger.fetch_add(1, Ordering::Relaxed));
        Port::new(Arc::clone(&self.shared), id, logger)
    }

    /// Adds a sink that every logger has, those to come included.
    pub fn share(&self, name: &str, sink: Box<dyn Sink>, deadline: Deadline) {
        let sink = NamedSink {
            name: name.to_owned(),
            level: LevelFilter::Trace,
            sink,
        };
        let _ = self.shared.send(Command::Share(sink), deadline);
    }

    /// Ends the sinks that every logger has.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] past the deadline.
    pub fn finish_shared(&self, exit_code: i32, deadline: Deadline) -> Result<(), LogError> {
        let reply = Reply::new();
        let command = Command::FinishShared {
            exit_code,
            deadline,
            reply: reply.clone(),
        };
        ask(&self.shared, "finish", command, &reply, deadline)
    }
}
