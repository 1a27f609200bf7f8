//! A logger's access to the ring.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use log::{Level, LevelFilter};
use logcore::sync::lock;
use logcore::{Alert, Deadline, LogError, MetricValue, OnFull, ProgressEvent, SinkBooks, is_logging_suppressed};

use super::command::{Command, CommandReply, LoggerAccounts, LoggerOutcome, NamedSink, Propagation, SinkAccount};
use super::counters::{DropCounters, RING_FULL};
use super::pipeline_state::{NoRoom, ORPHANED, PipelineState, WaitPolicy};
use crate::frame::buffer::with_buffer;
use crate::frame::deferred::{DeferredArgument, DeferredMessage, are_deferrable, encode_deferred};
use crate::frame::encode::{
    add_place, encode_config, encode_message, encode_metric, encode_metrics, encode_progress, encode_record,
};
use crate::frame::rewrite::rewrite_record;
use crate::frame::types::{LoggerId, MessageTarget, MetricName, RecordArrival};
use crate::process::late_calls::count_call_after_end;
use crate::process::notice::post_notice;
use crate::process::{exit, wait_for_process_end};
use crate::ring::file::FolderNumber;
use crate::ring::name_table::NameId;
use crate::ring::queue::{FrameKind, Ring};

/// `true` if records have their places in the program, because some sink of the process uses them.
static HAS_PLACES: AtomicBool = AtomicBool::new(false);

/// Gives all records of the process from now on their places.
pub(crate) fn add_places() {
    HAS_PLACES.store(true, Ordering::Relaxed);
}

#[inline]
fn add_place_if_used(body: &mut Vec<u8>, record: &log::Record<'_>) {
    if HAS_PLACES.load(Ordering::Relaxed) {
        add_place(body, record);
    }
}

/// A logger's access to the ring: encodes the arguments of a call, pushes a frame, and returns.
///
/// Calls on the writer's thread, or on the thread of a sink (see [`logcore::suppress_logging`]),
/// have no effect.
///
/// # Example: a record and a metric
///
/// ```
/// use logcore::{Deadline, MetricValue, log};
/// use logcore_pipeline::{MetricName, NamedSink, Pipeline, Propagation, RecordOrigin};
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
/// let loss = producer.intern("loss").unwrap();
/// producer.metric(7, loss, MetricValue::Float(0.5));
/// producer.metrics(8, [(MetricName::Text("lr"), MetricValue::Float(0.1))].into_iter());
/// producer.flush(soon).unwrap();
/// assert_eq!(
///     handle.calls(),
///     [
///         "record INFO trainer hello",
///         "metrics trainer 7 loss=Float(0.5)",
///         "metrics trainer 8 lr=Float(0.1)",
///         "flush"
///     ]
/// );
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Producer {
    state: Arc<PipelineState>,
    id: LoggerId,
    logger: String,
    /// `true` if a call is dropped instead of waiting for room.
    drops: AtomicBool,
    /// The logger ends: no call waits for room beyond this.
    end_deadline: OnceLock<Deadline>,
    error_wait_ms: AtomicU64,
    counters: Arc<DropCounters>,
    /// The position of delivery when the wait for an error timed out. No further error waits until
    /// the position changes.
    stalled_at: AtomicU64,
    /// The books of sinks that ended before the logger.
    ended_early: Mutex<BTreeMap<String, SinkBooks>>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("logger", &self.logger)
            .finish_non_exhaustive()
    }
}

impl Producer {
    pub(crate) fn new(state: Arc<PipelineState>, id: LoggerId, logger: &str) -> Self {
        Self {
            state,
            id,
            logger: logger.to_owned(),
            drops: AtomicBool::new(false),
            end_deadline: OnceLock::new(),
            error_wait_ms: AtomicU64::new(5000),
            counters: Arc::default(),
            stalled_at: AtomicU64::new(u64::MAX),
            ended_early: Mutex::default(),
        }
    }

    /// Creates a producer without a pipeline, for a logger that could not be opened. It drops and
    /// counts all calls.
    ///
    /// ```
    /// use logcore::Deadline;
    /// use logcore_pipeline::Producer;
    ///
    /// let producer = Producer::disconnected("trainer");
    /// producer.config("{}");
    /// assert!(producer.flush(Deadline::after(std::time::Duration::ZERO)).is_err());
    /// ```
    #[must_use]
    pub fn disconnected(logger: &str) -> Self {
        exit::report_at_unload();
        let state = PipelineState::new(Ring::disconnected());
        state.delivered.end();
        state.ring.close();
        let producer = Self::new(Arc::new(state), LoggerId(0), logger);
        producer.drops.store(true, Ordering::Relaxed);
        producer
    }

    /// Creates a producer for a logger that has no pipeline yet. Until it is
    /// [connected](crate::Pipeline::connect), all calls are dropped without a word.
    ///
    /// ```
    /// use logcore::{Deadline, log};
    /// use logcore_pipeline::{NamedSink, Pipeline, Producer, Propagation, RecordOrigin};
    /// use std::time::Duration;
    ///
    /// let producer = Producer::unconnected("library");
    /// let soon = Deadline::after(Duration::from_secs(5));
    /// let hello = log::Record::builder().args(format_args!("hello")).build();
    /// producer.record(RecordOrigin::Method, &hello);
    /// producer.flush(soon).unwrap();
    ///
    /// let pipeline = Pipeline::start(1 << 20)?;
    /// let (handle, sink) = logcore::testing::recording();
    /// pipeline.connect(&producer);
    /// let sink = NamedSink::new("recording", log::LevelFilter::Info, Box::new(sink));
    /// producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// producer.record(RecordOrigin::Method, &hello);
    /// producer.flush(soon).unwrap();
    /// assert_eq!(handle.calls(), ["record INFO library hello", "flush"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn unconnected(logger: &str) -> Self {
        Self::new(Arc::new(PipelineState::unconnected()), LoggerId::next(), logger)
    }

    /// Sets what happens when the ring is full, and how long a record of level ERROR waits for its
    /// delivery.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// use logcore::OnFull;
    /// use std::time::Duration;
    ///
    /// // Never wait: neither for room in the ring, nor for the delivery of an error.
    /// producer.set_policy(OnFull::Drop, Duration::ZERO);
    /// producer.record(RecordOrigin::Method, &log::Record::builder().args(format_args!("hello")).build());
    /// producer.flush(soon).unwrap();
    /// assert_eq!(handle.calls()[0], "record INFO trainer hello");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_policy(&self, on_full: OnFull, error_wait: Duration) {
        self.drops.store(on_full == OnFull::Drop, Ordering::Relaxed);
        let millis = u64::try_from(error_wait.as_millis()).unwrap_or(u64::MAX);
        self.error_wait_ms.store(millis, Ordering::Relaxed);
    }

    /// Announces the end of the logger: from now on no call waits for room beyond `deadline`. Only
    /// the first deadline counts; returns that one.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// use std::time::Duration;
    ///
    /// let later = Deadline::after(Duration::from_secs(60));
    /// producer.set_end_deadline(soon);
    /// assert!(producer.set_end_deadline(later).remaining() < Duration::from_secs(10));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_end_deadline(&self, deadline: Deadline) -> Deadline {
        *self.end_deadline.get_or_init(|| deadline)
    }

    /// Gives sinks to the logger. The sinks that it had are finished first.
    ///
    /// With [`Propagation::ToParents`], records also go to the sinks of the logger's parents.
    /// `folder` is the log directory of the sinks, in case another process has to recover them.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] if the writer does not open the logger before the deadline.
    pub fn open(
        &self,
        propagation: Propagation,
        folder: Option<FolderNumber>,
        sinks: Vec<NamedSink>,
        deadline: Deadline,
    ) -> Result<(), LogError> {
        if sinks.iter().any(|named| named.sink.wants_places()) {
            add_places();
        }
        let reply = CommandReply::new();
        let command = Command::Open {
            id: self.id,
            name: self.logger.clone(),
            propagate: propagation == Propagation::ToParents,
            folder,
            sinks,
            counters: Arc::clone(&self.counters),
            deadline,
            reply: reply.clone(),
        };
        self.state().ask("setup", command, &reply, deadline)
    }

    /// Changes the minimum level of one sink, for all further records.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// producer.set_level("recording", log::LevelFilter::Warn, soon);
    /// producer.record(RecordOrigin::Method, &log::Record::builder().args(format_args!("hello")).build());
    /// producer.flush(soon).unwrap();
    /// assert_eq!(handle.calls(), ["flush"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn set_level(&self, sink: &str, level: LevelFilter, deadline: Deadline) {
        let command = Command::SetLevel {
            id: self.id,
            sink: sink.to_owned(),
            level,
        };
        let _ = self.state().send(command, deadline);
    }

    /// Pushes a record. A record of level ERROR is delivered when the call returns, if delivery is
    /// possible.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// producer.record(
    ///     RecordOrigin::Method,
    ///     &log::Record::builder().level(log::Level::Error).args(format_args!("loss is {}", f64::NAN)).build(),
    /// );
    /// assert_eq!(handle.calls(), ["record ERROR trainer loss is NaN"]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn record(&self, arrival: impl Into<RecordArrival>, record: &log::Record<'_>) {
        self.record_as(arrival.into(), record);
    }

    /// Pushes a record, with the message and the texts of its fields replaced by the results of
    /// `rewrite`. Names stay.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// producer.record_rewritten(
    ///     RecordOrigin::Method,
    ///     &log::Record::builder().args(format_args!("token hf_123")).build(),
    ///     &|text| text.replace("hf_123", "***").into(),
    /// );
    /// producer.flush(soon).unwrap();
    /// assert_eq!(handle.calls()[0], "record INFO trainer token ***");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn record_rewritten(
        &self,
        arrival: impl Into<RecordArrival>,
        record: &log::Record<'_>,
        rewrite: &dyn for<'t> Fn(&'t str) -> Cow<'t, str>,
    ) {
        self.record_rewritten_as(arrival.into(), record, rewrite);
    }

    /// Pushes a record whose message, a formatted `message` with these arguments, the writer
    /// formats. The caller formats
    ///
    /// - a record of level ERROR, which is delivered when the call returns,
    /// - if an argument is of another type than a frame can hold, or a text of more than 256 bytes,
    /// - while more than a quarter of the ring is in use: then the writer has enough to do.
    ///
    /// The delivered text is the same.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// use logcore_pipeline::{DeferredArgument, DeferredMessage, DeferredType};
    ///
    /// let loss = 0.125_f64;
    /// let message = DeferredMessage::new("loss {:.2}", 1).unwrap();
    /// let arguments = [DeferredArgument::Bits(DeferredType::F64, loss.to_bits())];
    /// producer.record_deferred(
    ///     RecordOrigin::Method,
    ///     &log::Record::builder().args(format_args!("loss {:.2}", loss)).build(),
    ///     message,
    ///     &arguments,
    /// );
    /// producer.flush(soon).unwrap();
    /// assert_eq!(handle.calls()[0], "record INFO trainer loss 0.12");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn record_deferred(
        &self,
        arrival: impl Into<RecordArrival>,
        record: &log::Record<'_>,
        message: DeferredMessage,
        arguments: &[DeferredArgument<'_>],
    ) {
        self.record_deferred_as(arrival.into(), record, message, arguments);
    }

    /// Returns `true` if more than half of the ring is in use, so that a call may soon have to
    /// wait.
    ///
    /// ```
    /// # let pipeline = logcore_pipeline::Pipeline::start(1 << 20)?;
    /// assert!(!pipeline.producer("trainer").is_congested());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn is_congested(&self) -> bool {
        let ring = &self.state().ring;
        ring.used() > ring.capacity() / 2
    }

    /// Counts a record that the logger's rate limit has dropped.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// use logcore_pipeline::OVER_LIMIT;
    ///
    /// producer.count_over_limit(log::Level::Info);
    /// let accounts = producer.finish(Default::default(), soon).unwrap();
    /// assert_eq!(accounts.books["recording"].dropped[OVER_LIMIT], 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn count_over_limit(&self, level: Level) {
        self.counters.over_limit[level as usize].fetch_add(1, Ordering::Relaxed);
    }

    // These are not generic, so that they are compiled in this crate, together with all that
    // they inline: measured, 70 instructions a call.
    fn record_as(&self, arrival: RecordArrival, record: &log::Record<'_>) {
        self.push_record(record, |body| {
            encode_record(body, self.id, arrival, record);
            add_place_if_used(body, record);
        });
    }

    fn record_rewritten_as(
        &self,
        arrival: RecordArrival,
        record: &log::Record<'_>,
        rewrite: &dyn for<'t> Fn(&'t str) -> Cow<'t, str>,
    ) {
        self.push_record(record, |body| {
            encode_record(body, self.id, arrival, record);
            add_place_if_used(body, record);
            rewrite_record(body, rewrite);
        });
    }

    fn record_deferred_as(
        &self,
        arrival: RecordArrival,
        record: &log::Record<'_>,
        message: DeferredMessage,
        arguments: &[DeferredArgument<'_>],
    ) {
        let ring = &self.state().ring;
        if record.level() == Level::Error || ring.used() > ring.capacity() / 4 || !are_deferrable(arguments) {
            return self.record_as(arrival, record);
        }
        self.push_record(record, |body| {
            encode_deferred(body, self.id, arrival, record, message, arguments);
            add_place_if_used(body, record);
        });
    }

    #[inline]
    fn push_record(&self, record: &log::Record<'_>, encode: impl FnOnce(&mut Vec<u8>)) {
        if is_logging_suppressed() {
            return;
        }
        let pushed = with_buffer(|body| {
            encode(body);
            self.state.push(FrameKind::Record, body, self.wait_policy())
        });
        match pushed {
            Ok(end) if record.level() == Level::Error => self.wait_for_delivery(end),
            Ok(_) => {}
            Err(NoRoom) => self.count_dropped(&self.counters.records[record.level() as usize]),
        }
    }

    /// Pushes the metrics of one call.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// use logcore::MetricValue;
    /// use logcore_pipeline::MetricName;
    ///
    /// let values = [
    ///     (MetricName::Text("loss"), MetricValue::Float(0.5)),
    ///     (MetricName::Text("epoch"), MetricValue::Int(3)),
    /// ];
    /// producer.metrics(7, values.into_iter());
    /// producer.flush(soon).unwrap();
    /// assert_eq!(handle.calls()[0], "metrics trainer 7 loss=Float(0.5) epoch=Int(3)");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn metrics<'a>(&self, step: u64, values: impl Iterator<Item = (MetricName<'a>, MetricValue)>) {
        if is_logging_suppressed() {
            return;
        }
        let pushed = with_buffer(|body| {
            encode_metrics(body, self.id, step, values);
            self.state.push(FrameKind::Metrics, body, self.wait_policy())
        });
        if pushed.is_err() {
            self.count_dropped(&self.counters.metrics);
        }
    }

    /// Pushes one metric.
    pub fn metric(&self, step: u64, name: NameId, value: MetricValue) {
        if is_logging_suppressed() {
            return;
        }
        let body = encode_metric(self.id, step, name, value);
        if self.state.push(FrameKind::Metrics, &body, self.wait_policy()).is_err() {
            self.count_dropped(&self.counters.metrics);
        }
    }

    /// Pushes the state of a progress bar that must not be skipped: its first or its last.
    pub fn progress(&self, event: &ProgressEvent<'_>) {
        self.push_progress(event, self.wait_policy());
    }

    /// Pushes an intermediate state of a progress bar, unless the ring is full.
    pub fn progress_if_room(&self, event: &ProgressEvent<'_>) {
        self.push_progress(event, WaitPolicy::Never);
    }

    fn push_progress(&self, event: &ProgressEvent<'_>, wait: WaitPolicy) {
        if is_logging_suppressed() {
            return;
        }
        let _ = with_buffer(|body| {
            encode_progress(body, self.id, event);
            self.state.push(FrameKind::Progress, body, wait)
        });
    }

    /// Pushes hyper-parameters, as JSON.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// producer.config(r#"{"lr": 0.1}"#);
    /// producer.flush(soon).unwrap();
    /// assert_eq!(handle.calls()[0], r#"config {"lr":0.1}"#);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn config(&self, json: &str) {
        if is_logging_suppressed() {
            return;
        }
        let pushed = with_buffer(|body| {
            encode_config(body, self.id, json);
            self.state.push(FrameKind::Config, body, self.wait_policy())
        });
        if pushed.is_err() {
            self.count_dropped(&self.counters.configs);
        }
    }

    /// Pushes the description of a media value, as JSON, for all sinks of the logger.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// use logcore::{MediaContent, MediaDescription, serde_json};
    ///
    /// let description = MediaDescription::new("note", 3, MediaContent::Text);
    /// producer.media(&serde_json::to_string(&description).unwrap());
    /// producer.flush(soon).unwrap();
    /// assert_eq!(handle.calls()[0], "media trainer note 3 text");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn media(&self, json: &str) {
        self.push_message(MessageTarget::Media, json, &self.counters.media);
    }

    /// Pushes a message for one of the logger's sinks.
    ///
    /// ```
    /// use logcore::{Deadline, Sink, SinkError, log};
    /// use logcore_pipeline::{NamedSink, Pipeline, Propagation};
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// struct Tags(mpsc::Sender<String>);
    ///
    /// impl Sink for Tags {
    ///     fn message(&mut self, message: &str) -> Result<(), SinkError> {
    ///         self.0.send(message.to_owned()).map_err(SinkError::new)
    ///     }
    /// }
    ///
    /// let pipeline = Pipeline::start(1 << 20)?;
    /// let producer = pipeline.producer("trainer");
    /// let (sender, tags) = mpsc::channel();
    /// let sink = NamedSink::new("tags", log::LevelFilter::Info, Box::new(Tags(sender)));
    /// producer.open(Propagation::None, None, vec![sink], Deadline::after(Duration::from_secs(5))).unwrap();
    ///
    /// producer.message("tags", "baseline");
    /// assert_eq!(tags.recv().unwrap(), "baseline");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn message(&self, sink: &str, message: &str) {
        self.push_message(MessageTarget::Sink(sink), message, &self.counters.messages);
    }

    fn push_message(&self, target: MessageTarget<'_>, text: &str, dropped: &AtomicU64) {
        if is_logging_suppressed() {
            return;
        }
        let pushed = with_buffer(|body| {
            encode_message(body, self.id, target, text);
            self.state.push(FrameKind::Message, body, self.wait_policy())
        });
        if pushed.is_err() {
            self.count_dropped(dropped);
        }
    }

    /// Pushes an alert for the sinks of the logger that take alerts.
    ///
    /// ```
    /// use logcore::testing::recording;
    /// use logcore::{Alert, AlertLevel, Deadline, log};
    /// use logcore_pipeline::{NamedSink, Pipeline, Propagation};
    /// use std::time::Duration;
    ///
    /// let pipeline = Pipeline::start(1 << 20)?;
    /// let producer = pipeline.producer("trainer");
    /// let (calls, sink) = recording();
    /// let sink = NamedSink::new("pager", log::LevelFilter::Info, Box::new(sink));
    /// let soon = || Deadline::after(Duration::from_secs(5));
    /// producer.open(Propagation::None, None, vec![sink], soon()).unwrap();
    ///
    /// producer.alert(&Alert::new("loss is NaN", "", AlertLevel::Error));
    /// producer.flush(soon()).unwrap();
    /// assert_eq!(calls.calls()[0], "alert ERROR loss is NaN");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn alert(&self, alert: &Alert) {
        // Texts and numbers have a JSON form, so this never fails.
        if let Ok(json) = serde_json::to_string(alert) {
            self.push_message(MessageTarget::Alerts, &json, &self.counters.messages);
        }
    }

    /// Returns the number under which the name of a metric travels; `None` if the table of names is
    /// full.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// let loss = producer.intern("loss").unwrap();
    /// assert_eq!(producer.intern("loss"), Some(loss));
    /// assert_ne!(producer.intern("lr"), Some(loss));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn intern(&self, name: &str) -> Option<NameId> {
        let state = self.state();
        // Two processes that add names would overwrite each other's.
        if state.is_inherited() || state.is_unconnected() {
            return None;
        }
        state.names.intern(name)
    }

    /// Returns `true` if the logger has no pipeline yet.
    #[must_use]
    pub fn is_unconnected(&self) -> bool {
        self.state().is_unconnected()
    }

    /// Returns `true` if the writer belongs to another process, from which this one was forked.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.state().is_inherited()
    }

    /// Returns the id of the process that has the writer, or had it.
    ///
    /// ```
    /// # use logcore::{Deadline, log};
    /// # use logcore_pipeline::{NamedSink, Pipeline, Propagation, RecordOrigin};
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// # let (handle, sink) = logcore::testing::recording();
    /// # let level = log::LevelFilter::Trace;
    /// # let sink = NamedSink::new("recording", level, Box::new(sink));
    /// # let soon = Deadline::after(std::time::Duration::from_secs(5));
    /// # producer.open(Propagation::None, None, vec![sink], soon).unwrap();
    /// assert_eq!(producer.writer_pid(), u64::from(std::process::id()));
    /// assert!(!producer.is_inherited());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn writer_pid(&self) -> u64 {
        self.state().ring.pid()
    }

    pub(crate) fn id(&self) -> LoggerId {
        self.id
    }

    pub(crate) fn state(&self) -> &Arc<PipelineState> {
        self.state.current()
    }

    /// Waits until everything pushed before is delivered.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] past the deadline, [`LogError::Sink`] if a sink cannot deliver.
    pub fn flush(&self, deadline: Deadline) -> Result<(), LogError> {
        if is_logging_suppressed() {
            // The writer's own thread would wait for itself.
            return Ok(());
        }
        if self.state().is_unconnected() {
            return Ok(());
        }
        if self.is_inherited() && !self.wait_for_parent("flush", deadline)? {
            return Ok(());
        }
        let reply = CommandReply::new();
        let command = Command::Flush {
            id: self.id,
            deadline,
            reply: reply.clone(),
        };
        self.state().ask("flush", command, &reply, deadline)?
    }

    /// Waits until the sinks have delivered everything pushed before, without a flush: a sink that
    /// sends to another machine may still have it. Returns `false` past the deadline. In a child of
    /// a fork, whose parent has the sinks, there is no wait.
    ///
    /// ```
    /// # use logcore::Deadline;
    /// # use logcore_pipeline::Pipeline;
    /// # use std::time::Duration;
    /// # let pipeline = Pipeline::start(1 << 20)?;
    /// # let producer = pipeline.producer("trainer");
    /// assert!(producer.wait_until_delivered(Deadline::after(Duration::from_secs(5))));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn wait_until_delivered(&self, deadline: Deadline) -> bool {
        let state = self.state();
        if is_logging_suppressed() || state.is_unconnected() || state.is_inherited() {
            return true;
        }
        let end = state.ring.tail();
        state.wake();
        state
            .delivered
            .wait_while(|| state.delivered.position() < end, deadline)
    }

    /// Ends the logger: its sinks deliver, and are dropped. In a child of a fork, the parent ends
    /// the logger, and the child waits until everything it has pushed is released.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] past the deadline, [`LogError::Sink`] if the writer is gone with the
    /// parent.
    pub fn finish(&self, outcome: Arc<LoggerOutcome>, deadline: Deadline) -> Result<LoggerAccounts, LogError> {
        let reply = CommandReply::new();
        let command = Command::Finish {
            id: self.id,
            outcome,
            deadline,
            reply: reply.clone(),
        };
        if is_logging_suppressed() {
            let _ = self.state().send(command, Deadline::after(Duration::ZERO));
            return Ok(LoggerAccounts::default());
        }
        if self.state().is_unconnected() {
            return Ok(LoggerAccounts::default());
        }
        if self.is_inherited() && !self.wait_for_parent("finish", deadline)? {
            return Ok(LoggerAccounts::default());
        }
        let accounts = self.state().ask("finish", command, &reply, deadline)?;
        Ok(self.settle(accounts, deadline))
    }

    /// Ends those of the logger's sinks that deliver to other machines. The other sinks still
    /// receive all calls.
    ///
    /// # Errors
    ///
    /// [`LogError::Timeout`] past the deadline.
    pub fn end_remote_sinks(&self, outcome: Arc<LoggerOutcome>, deadline: Deadline) -> Result<(), LogError> {
        let reply = CommandReply::new();
        let command = Command::EndRemoteSinks {
            id: self.id,
            outcome,
            deadline,
            reply: reply.clone(),
        };
        let accounts = self.state().ask("finish", command, &reply, deadline)?;
        *lock(&self.ended_early) = self.settle(accounts, deadline).books;
        Ok(())
    }

    /// Waits for the pending deliveries of sinks, and completes their accounts.
    pub(crate) fn settle(&self, accounts: Vec<SinkAccount>, deadline: Deadline) -> LoggerAccounts {
        let mut settled = LoggerAccounts::settle(accounts, deadline);
        for (sink, books) in std::mem::take(&mut *lock(&self.ended_early)) {
            settled.books.entry(sink).or_default().add(&books);
        }
        settled
    }

    /// In a child of a fork: waits until the parent's writer has taken everything that this process
    /// has pushed. Returns `true` if that writer is gone, and this process has a writer of its own
    /// instead.
    fn wait_for_parent(&self, call: &'static str, deadline: Deadline) -> Result<bool, LogError> {
        let state = self.state();
        let released = state.wait_for_release(call, deadline);
        if released.is_err() && state.is_orphaned() {
            state.take_over();
        }
        match self.is_inherited() {
            true => released.map(|()| false),
            false => Ok(true),
        }
    }

    fn wait_policy(&self) -> WaitPolicy {
        match self.end_deadline.get() {
            _ if self.drops.load(Ordering::Relaxed) => WaitPolicy::Never,
            Some(deadline) => WaitPolicy::Until(*deadline),
            None => WaitPolicy::Forever,
        }
    }

    fn wait_for_delivery(&self, end: u64) {
        let state = self.state();
        if state.is_inherited() || self.drops.load(Ordering::Relaxed) {
            return state.wake();
        }
        let delivered = &state.delivered;
        if self.stalled_at.load(Ordering::Relaxed) == delivered.position() {
            return;
        }
        state.wake();
        let wait = Duration::from_millis(self.error_wait_ms.load(Ordering::Relaxed));
        let deadline = match self.end_deadline.get() {
            Some(end) => Deadline::after(wait.min(end.remaining())),
            None => Deadline::after(wait),
        };
        let stalled_at = match delivered.wait_while(|| delivered.position() < end, deadline) {
            true => u64::MAX,
            false => delivered.position(),
        };
        if stalled_at != u64::MAX {
            let sink = state.busy_sink().unwrap_or_else(|| "a sink".to_owned());
            post_notice(
                &format!("error of {} waits", self.logger),
                &format!(
                    "an error of logger `{}` is not delivered yet, and its call does not wait longer: \
                     {sink} is slow or hangs",
                    self.logger
                ),
            );
        }
        self.stalled_at.store(stalled_at, Ordering::Relaxed);
    }

    #[cold]
    fn count_dropped(&self, counter: &AtomicU64) {
        if self.state().is_unconnected() {
            return;
        }
        if !self.drops.load(Ordering::Relaxed) {
            // If a signal ends the process, a call must not return without its data in the ring.
            wait_for_process_end();
        }
        let state = self.state();
        if state.is_orphaned() {
            counter.fetch_add(1, Ordering::Relaxed);
            let text = format!("logger `{}` drops calls: {}", self.logger, state.orphaned_error());
            post_notice(&format!("{} {ORPHANED}", self.logger), &text);
            return;
        }
        if state.ring.is_closed() {
            wait_for_process_end();
            return count_call_after_end(&self.logger);
        }
        counter.fetch_add(1, Ordering::Relaxed);
        let advice = match self.drops.load(Ordering::Relaxed) {
            true => "(`on_full = \"wait\"` would wait, a larger `ring_bytes` helps with bursts)",
            false => "and the deadline of its end has passed",
        };
        let text = format!(
            "logger `{}` drops calls: the ring is full {advice}. They are counted as `{RING_FULL}`",
            self.logger
        );
        post_notice(&format!("dropping {}", self.logger), &text);
    }
}
