use serde_json::Value;

use crate::{
    Deadline, LoggerEnd, LoggerSummary, MetricBatch, Notices, ProgressEvent, Record, ResumePoint, SinkBooks, SinkError,
};

/// Where things go: a terminal, a file, a server, a chat room.
///
/// ```
/// use logcore::{MetricBatch, Record, Sink, SinkError};
///
/// /// Counts what it is given.
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
/// A sink overrides what it cares about. It is called by one thread at a time and needs no locks; what it gets is
/// borrowed. The order of calls is:
///
/// ```text
/// start   then   (record | metrics | progress | config | message | deliver | flush)*   then   logger_ended   then   finish
/// ```
///
/// with no `logger_ended` if a new configuration replaces the sink and the run continues.
///
/// - What it logs itself while it is called goes nowhere: a sink can neither loop nor deadlock.
/// - **A sink that buffers must override [`flush`](Sink::flush) and [`finish`](Sink::finish)**, and should write its
///   buffer out in [`deliver`](Sink::deliver), or what it holds is seen late or never.
/// - An error costs the call it came from and nothing else: the other sinks get theirs, the sink is called again, the
///   user reads one line for each kind of trouble, and the books count it. A panic is such an error.
/// - A sink that may be slow (a network) is wrapped in [`Queued`](crate::Queued), so that it holds up no other.
pub trait Sink: Send {
    /// Whether the sink cares about this kind of call. Asked once; what it does not want is neither given nor counted.
    fn wants(&self, kind: EventKind) -> bool {
        let _ = kind;
        true
    }

    /// Takes up its work. What touches the world outside is made here and not when the sink is built, because a config may
    /// be built only to be tried. What a sink's own threads have to tell people goes to `notices`.
    ///
    /// # Errors
    ///
    /// If something is in the way. The sink is called all the same, and may yet find its way.
    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        let _ = notices;
        Ok(())
    }

    /// Takes a message.
    ///
    /// # Errors
    ///
    /// If the message is not, and will not be, delivered.
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        let _ = record;
        Ok(())
    }

    /// Takes the metrics of one call.
    ///
    /// # Errors
    ///
    /// If they are not, and will not be, delivered.
    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        let _ = batch;
        Ok(())
    }

    /// Takes the state of a progress.
    ///
    /// # Errors
    ///
    /// If it could not be shown.
    fn progress(&mut self, event: &ProgressEvent<'_>) -> Result<(), SinkError> {
        let _ = event;
        Ok(())
    }

    /// Takes hyper-parameters. They may come in several calls.
    ///
    /// # Errors
    ///
    /// If they are not, and will not be, delivered.
    fn config(&mut self, config: &Value) -> Result<(), SinkError> {
        let _ = config;
        Ok(())
    }

    /// Takes what was said to this sink alone, in a form that only it and who said it know.
    ///
    /// # Errors
    ///
    /// If it is not, and will not be, delivered.
    fn message(&mut self, message: &str) -> Result<(), SinkError> {
        let _ = message;
        Ok(())
    }

    /// Writes out what is buffered: there is nothing more to come for the moment, or a good portion has come.
    ///
    /// Called every few milliseconds while there is work, and each second while the last call failed.
    ///
    /// # Errors
    ///
    /// If some of it could not be written. It stays the sink's to keep and to try again.
    fn deliver(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Where the output stands, for a sink whose output outlives the process. Asked after [`deliver`](Sink::deliver).
    ///
    /// If the process is killed, the next one makes a sink of the last mark, through the third argument of
    /// [`register_sink!`](crate::register_sink), and gives it what came after the mark: each call once, whatever of it is in
    /// the output already. So a mark holds what the sink keeps in memory, and the sink that is made of it goes back to the
    /// place that it names, or leaves out what it finds written behind it. `None`: what a killed process had for this sink,
    /// and had not delivered, is not delivered later.
    fn resume_point(&mut self) -> Option<ResumePoint> {
        None
    }

    /// Delivers everything that was given so far, before `deadline`.
    ///
    /// # Errors
    ///
    /// If something is undelivered when it returns.
    fn flush(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        let _ = deadline;
        self.deliver()
    }

    /// Takes the end of the logger: how the run ended, and a summary of its metrics.
    ///
    /// Called once, just before [`finish`](Sink::finish), if the run has ended. A sink that all loggers share is called once,
    /// after the last logger: with the worst end of all loggers, and an empty summary. The logger of a killed process ends
    /// with [`LoggerEnd::killed`] and an empty summary when another process recovers it.
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

    /// Ends the sink: delivers everything and lets go of what it holds, before `deadline`. Nothing is called after it
    /// but [`pending_delivery`](Sink::pending_delivery) and [`books`](Sink::books).
    ///
    /// # Errors
    ///
    /// If something is undelivered when it returns.
    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        self.flush(deadline)
    }

    /// What is still to be waited for when the sink has finished, because others do it: a server that a thread of the
    /// sink's own delivers to. Whoever ends the logger does the waiting, so that no other sink has to.
    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        None
    }

    /// Whether what it is given goes to others than this machine, whose answers its end has to wait for. When a signal ends the
    /// process, such a sink is ended first, while the others still take what the program says.
    fn is_remote(&self) -> bool {
        false
    }

    /// Returns `true` if people read the output: then equal records in a row become one record that counts them, where the
    /// field `fold_repeats` of the config asks for it. Other sinks are given each record.
    fn folds_repeats(&self) -> bool {
        false
    }

    /// The sink's own account, if it keeps one. Without it, a call that returned `Ok` is counted as delivered.
    fn books(&self) -> Option<SinkBooks> {
        None
    }

    /// A name for the place where the output goes, such as the path of a file.
    ///
    /// A record that propagates to several loggers is given once to each destination. `None` is a place of its own.
    fn destination(&self) -> Option<String> {
        None
    }
}

/// A boxed sink is the sink in the box.
impl<S: Sink + ?Sized> Sink for Box<S> {
    fn wants(&self, kind: EventKind) -> bool {
        (**self).wants(kind)
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

/// Waits, until the deadline at most, and returns the sink's account as it then is, and what was not delivered.
pub type PendingDelivery = Box<dyn FnOnce(Deadline) -> (SinkBooks, Result<(), SinkError>) + Send>;

/// The kinds of calls that bring a sink something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// [`Sink::record`].
    Record,
    /// [`Sink::metrics`].
    Metrics,
    /// [`Sink::progress`].
    Progress,
    /// [`Sink::config`].
    Config,
}
