//! The trait that every output implements.

use serde_json::Value;

use crate::{
    Alert, Deadline, LoggerEnd, LoggerSummary, MediaItem, MetricBatch, Notices, ProgressEvent, Record, ResumePoint,
    SinkBooks, SinkError,
};

/// An output of a logger: a terminal, a file, a server, a chat room.
///
/// A sink implements the methods for the calls that it cares about; every method has a default.
/// Register the sink with [`register_sink!`](crate::register_sink), so that a config can switch it
/// on, or pass a value to `LogManager::add_sink` of `logcore-facade`.
///
/// ```
/// use logcore::{MetricBatch, Record, Sink, SinkError};
///
/// /// Counts records and values.
/// #[derive(Default)]
/// struct Counter { records: u64, values: u64 }
///
/// impl Sink for Counter {
///     fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
///         self.records += 1;
///         Ok(())
///     }
///     fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
///         self.values += batch.iter().len() as u64;
///         Ok(())
///     }
/// }
///
/// let mut counter = Counter::default();
/// counter.record(&Record::new(logcore::log::Level::Info, "trainer", "hello")).unwrap();
/// assert_eq!(counter.records, 1);
/// ```
///
/// # Contract
///
/// The writer thread calls one method at a time, so a sink needs no locks. Arguments are borrowed
/// for the call; a sink that keeps them copies them, for instance into an
/// [`OwnedRecord`](crate::OwnedRecord). The order of calls is:
///
/// ```text
/// start
/// (record | metrics | progress | config | alert | media | message | deliver | flush)*
/// logger_ended
/// finish
/// ```
///
/// The writer skips `logger_ended` when a new configuration replaces the sink and the run
/// continues.
///
/// - The logger drops records that a sink logs during a call. A sink therefore cannot loop or
///   deadlock.
/// - **A sink that buffers must override [`flush`](Sink::flush) and [`finish`](Sink::finish)**, and
///   should write its buffer in [`deliver`](Sink::deliver). Otherwise its data appears late or
///   never.
/// - An error affects only the call that returned it. The other sinks receive the same call, the
///   sink receives the next one. The terminal shows one line for each [reason](SinkError::reason),
///   and the books count the error. A panic counts as an error.
/// - Wrap a sink that may be slow, such as a network client, in [`Queued`](crate::Queued).
///   Otherwise it delays all other sinks.
///
/// # Example: a sink that buffers
///
/// ```
/// use logcore::{Deadline, Record, Sink, SinkError};
/// use std::io::Write;
///
/// struct Lines<W> { buffer: String, output: W }
///
/// impl<W: Write + Send> Sink for Lines<W> {
///     fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
///         self.buffer += &format!("{:?}\n", record.message());
///         Ok(())
///     }
///     fn deliver(&mut self) -> Result<(), SinkError> {
///         self.output.write_all(self.buffer.as_bytes())?;
///         self.buffer.clear();
///         Ok(())
///     }
///     fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
///         self.deliver()?;
///         Ok(self.output.flush()?)
///     }
///     // `finish` calls `flush` by default.
/// }
///
/// let mut sink = Lines { buffer: String::new(), output: Vec::new() };
/// sink.record(&Record::new(logcore::log::Level::Info, "trainer", "hello")).unwrap();
/// sink.finish(Deadline::after(std::time::Duration::from_secs(1))).unwrap();
/// assert_eq!(sink.output, b"\"hello\"\n");
/// ```
pub trait Sink: Send {
    /// Returns `true` if the sink wants calls of this kind. Asked once, before the first call.
    ///
    /// The writer neither makes nor counts calls that the sink does not want.
    fn wants(&self, kind: EventKind) -> bool {
        let _ = kind;
        true
    }

    /// Returns `true` if the sink uses the [place](Record::place) of a record in the program. Asked
    /// once, before the first call. A place makes each call a little dearer, so records have one
    /// only if some sink of the process uses it.
    fn wants_places(&self) -> bool {
        false
    }

    /// Starts the sink. Open files and connections here and not in the constructor: a config may be
    /// built only to validate it.
    ///
    /// Threads of the sink report problems to the user through `notices`.
    ///
    /// # Errors
    ///
    /// If start-up failed. The sink still receives calls and may recover.
    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        let _ = notices;
        Ok(())
    }

    /// Takes a record.
    ///
    /// # Errors
    ///
    /// If the sink drops the record.
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        let _ = record;
        Ok(())
    }

    /// Takes the metrics of one `log_metrics` call.
    ///
    /// # Errors
    ///
    /// If the sink drops the metrics.
    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        let _ = batch;
        Ok(())
    }

    /// Takes the state of a progress.
    ///
    /// # Errors
    ///
    /// If the sink could not show the state.
    fn progress(&mut self, event: &ProgressEvent<'_>) -> Result<(), SinkError> {
        let _ = event;
        Ok(())
    }

    /// Takes hyper-parameters. A run may log hyper-parameters in several calls.
    ///
    /// # Errors
    ///
    /// If the sink drops the hyper-parameters.
    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        let _ = config;
        Ok(())
    }

    /// Takes an alert, which people shall see who do not look at the run.
    ///
    /// An alert that no sink wants becomes a line of the log. So a sink that has no use for alerts
    /// returns `false` for [`EventKind::Alert`] in [`wants`](Sink::wants).
    ///
    /// ```
    /// use logcore::{Alert, AlertLevel, Sink, SinkError};
    ///
    /// #[derive(Default)]
    /// struct Pager { messages: Vec<String> }
    ///
    /// impl Sink for Pager {
    ///     fn alert(&mut self, alert: &Alert) -> Result<(), SinkError> {
    ///         self.messages.push(format!("{}: {}", alert.level, alert.title));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut pager = Pager::default();
    /// pager.alert(&Alert::new("loss is NaN", "", AlertLevel::Warn)).unwrap();
    /// assert_eq!(pager.messages, ["WARN: loss is NaN"]);
    /// ```
    ///
    /// # Errors
    ///
    /// If the sink drops the alert.
    fn alert(&mut self, alert: &Alert) -> Result<(), SinkError> {
        let _ = alert;
        Ok(())
    }

    /// Takes a media value: an image, a histogram, a table, a page, a text or a file. Its file lies
    /// beneath the folder of the run already, and stays as it is.
    ///
    /// ```
    /// use logcore::{MediaContent, MediaDescription, MediaItem, Sink, SinkError};
    /// use std::time::SystemTime;
    ///
    /// #[derive(Default)]
    /// struct Sizes(Vec<(u64, u64)>);
    ///
    /// impl Sink for Sizes {
    ///     fn media(&mut self, item: &MediaItem<'_>) -> Result<(), SinkError> {
    ///         if let MediaContent::Image { width, height, .. } = item.content() {
    ///             self.0.push((*width, *height));
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let content = MediaContent::Image { format: "png".into(), width: 4, height: 3 };
    /// let description = MediaDescription::new("sample", 12, content);
    /// let mut sizes = Sizes::default();
    /// sizes.media(&MediaItem::new(SystemTime::now(), "trainer", &description))?;
    /// assert_eq!(sizes.0, [(4, 3)]);
    /// # Ok::<(), SinkError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the sink drops the value.
    fn media(&mut self, item: &MediaItem<'_>) -> Result<(), SinkError> {
        let _ = item;
        Ok(())
    }

    /// Takes a message that is addressed to this sink alone. The sink and the sender agree on the
    /// format.
    ///
    /// # Errors
    ///
    /// If the sink drops the message.
    fn message(&mut self, message: &str) -> Result<(), SinkError> {
        let _ = message;
        Ok(())
    }

    /// Writes buffered data. The writer calls this method when no more calls are waiting, or after
    /// a large batch.
    ///
    /// While there is work, calls are a few milliseconds apart; after an error the writer retries
    /// once a second.
    ///
    /// # Errors
    ///
    /// If some data could not be written. The sink must keep the data and retry.
    fn deliver(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Returns the position in the output, if the output outlives the process. Asked after
    /// [`deliver`](Sink::deliver).
    ///
    /// If the process is killed, the next process builds a sink from the last resume point, through
    /// the third argument of [`register_sink!`](crate::register_sink). The new sink receives every
    /// call after the resume point once, even if the output already holds part of it. So a resume
    /// point must hold the data that the sink keeps in memory. The new sink truncates its output to
    /// the resume point, or skips what it finds after it.
    ///
    /// `None`: calls that a killed process has not delivered to this sink are lost.
    fn resume_point(&mut self) -> Option<ResumePoint> {
        None
    }

    /// Delivers everything received so far, before `deadline`.
    ///
    /// # Errors
    ///
    /// If some data is undelivered when the method returns.
    fn flush(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        let _ = deadline;
        self.deliver()
    }

    /// Takes the end of the logger: the cause of the end, and a summary of the metrics.
    ///
    /// Called once, just before [`finish`](Sink::finish), if the run has ended. A sink that all
    /// loggers share gets one call after the last logger, with the worst end of all loggers and an
    /// empty summary. After a kill, the process that recovers the logger calls the method with
    /// [`LoggerEnd::killed`] and an empty summary.
    ///
    /// ```
    /// use logcore::{LoggerEnd, LoggerSummary, Sink};
    ///
    /// #[derive(Default)]
    /// struct Pager { message: Option<String> }
    ///
    /// impl Sink for Pager {
    ///     fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
    ///         if end.exit_code != 0 {
    ///             self.message = Some(format!("{} after {:?}", end.run_end, summary.duration));
    ///         }
    ///     }
    /// }
    ///
    /// let mut pager = Pager::default();
    /// pager.logger_ended(&LoggerEnd::from_exit_code(3), &LoggerSummary::default());
    /// assert_eq!(pager.message.unwrap(), "failed with exit code 3 after 0ns");
    /// ```
    fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        let _ = (end, summary);
    }

    /// Delivers everything and releases all resources, before `deadline`.
    ///
    /// Only [`pending_delivery`](Sink::pending_delivery) and [`books`](Sink::books) are called
    /// afterwards.
    ///
    /// # Errors
    ///
    /// If some data is undelivered when the method returns.
    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        self.flush(deadline)
    }

    /// Returns the work that continues on a thread of the sink after [`finish`](Sink::finish), such
    /// as an upload.
    ///
    /// The thread that ends the logger waits for this work, so that no other sink has to wait.
    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        None
    }

    /// Returns `true` if the sink delivers to another machine and its end waits for answers.
    ///
    /// When a signal ends the process, remote sinks end first, while the others still take records.
    fn is_remote(&self) -> bool {
        false
    }

    /// Returns `true` if people read the output. With `fold_repeats` in the config, the sink then
    /// receives one record that counts the repetitions instead of each repeated record.
    fn folds_repeats(&self) -> bool {
        false
    }

    /// Returns the sink's own books, if it keeps them. Otherwise the writer counts each call that
    /// returned `Ok` as delivered.
    fn books(&self) -> Option<SinkBooks> {
        None
    }

    /// Returns a name for the destination, such as the path of a file.
    ///
    /// The writer asks before [`start`](Self::start), and again for each report.
    ///
    /// A record that propagates to several loggers is delivered once to each destination. `None`:
    /// the destination of this sink is like no other.
    fn destination(&self) -> Option<String> {
        None
    }
}

/// Forwards every call to the sink in the box.
impl<S: Sink + ?Sized> Sink for Box<S> {
    fn wants(&self, kind: EventKind) -> bool {
        (**self).wants(kind)
    }

    fn wants_places(&self) -> bool {
        (**self).wants_places()
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        (**self).start(notices)
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        (**self).record(record)
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        (**self).metrics(batch)
    }

    fn progress(&mut self, event: &ProgressEvent<'_>) -> Result<(), SinkError> {
        (**self).progress(event)
    }

    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        (**self).config(config)
    }

    fn alert(&mut self, alert: &Alert) -> Result<(), SinkError> {
        (**self).alert(alert)
    }

    fn media(&mut self, item: &MediaItem<'_>) -> Result<(), SinkError> {
        (**self).media(item)
    }

    fn message(&mut self, message: &str) -> Result<(), SinkError> {
        (**self).message(message)
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        (**self).deliver()
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        (**self).resume_point()
    }

    fn flush(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        (**self).flush(deadline)
    }

    fn logger_ended(&mut self, end: &LoggerEnd, summary: &LoggerSummary) {
        (**self).logger_ended(end, summary);
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        (**self).finish(deadline)
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        (**self).pending_delivery()
    }

    fn is_remote(&self) -> bool {
        (**self).is_remote()
    }

    fn folds_repeats(&self) -> bool {
        (**self).folds_repeats()
    }

    fn books(&self) -> Option<SinkBooks> {
        (**self).books()
    }

    fn destination(&self) -> Option<String> {
        (**self).destination()
    }
}

/// A function that waits for the rest of a delivery, at most until the deadline.
///
/// Returns the books of the sink after the wait, and an error if some data is still undelivered.
/// See [`Sink::pending_delivery`].
///
/// ```
/// use logcore::{Deadline, PendingDelivery, Sink, SinkBooks};
/// use std::thread::JoinHandle;
/// use std::time::Duration;
///
/// struct Uploader { upload: Option<JoinHandle<SinkBooks>> }
///
/// impl Sink for Uploader {
///     fn pending_delivery(&mut self) -> Option<PendingDelivery> {
///         let upload = self.upload.take()?;
///         // A real sink stops to wait at the deadline.
///         Some(Box::new(|_: Deadline| (upload.join().unwrap_or_default(), Ok(()))))
///     }
/// }
///
/// let mut sink = Uploader { upload: Some(std::thread::spawn(SinkBooks::default)) };
/// let wait = sink.pending_delivery().unwrap();
/// let (books, result) = wait(Deadline::after(Duration::from_secs(5)));
/// assert!(books.balanced() && result.is_ok());
/// ```
pub type PendingDelivery = Box<dyn FnOnce(Deadline) -> (SinkBooks, Result<(), SinkError>) + Send>;

/// The kinds of calls that bring data to a sink; see [`Sink::wants`].
///
/// ```
/// use logcore::{EventKind, Sink};
///
/// struct MetricsOnly;
/// impl Sink for MetricsOnly {
///     fn wants(&self, kind: EventKind) -> bool { kind == EventKind::Metrics }
/// }
/// assert!(!MetricsOnly.wants(EventKind::Record));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// A call of [`Sink::record`].
    Record,
    /// A call of [`Sink::metrics`].
    Metrics,
    /// A call of [`Sink::progress`].
    Progress,
    /// A call of [`Sink::config`].
    Config,
    /// A call of [`Sink::alert`].
    Alert,
    /// A call of [`Sink::media`].
    Media,
}
