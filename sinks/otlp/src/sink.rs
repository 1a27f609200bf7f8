//! The sink `otlp`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use logcore::log::{Level, LevelFilter};
use logcore::sync::lock;
use logcore::{
    BuildContext, ConfigError, Deadline, EventKind, FileRank, MetricBatch, Notices, PendingDelivery, Record,
    ResumePoint, Sink, SinkBooks, SinkError,
};
use logcore_delivery::{DeliveryControl, SpoolBooks};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::gauge_sender::{GaugeCounts, GaugeSender};
use crate::gauges::Gauges;
use crate::log_record::convert;
use crate::log_sender::LogSender;
use crate::resource::{self, Attributes};
use crate::settings::{Endpoint, OtlpOptions, OtlpSettings};
use crate::spool::{NoRoom, Spool};

/// The folder of the spools, in that of the run.
const FOLDER: &str = "otlp";
/// The greatest number of spools of a logger and rank. Each resume while an earlier sender still
/// waits for the receiver needs one more.
const MOST_SPOOLS: u32 = 9;
/// Reason of records without a spool.
const NOT_OPEN: &str = "spool not open";
/// Time before a spool that could not be opened is opened again.
const REOPEN: Duration = Duration::from_secs(10);
/// Time for the records of a killed process, which a thread of the next process sends.
const TIME_AFTER_KILL: Duration = Duration::from_secs(600);
/// Time for which a start waits for them, so that a program that ends soon sends them, too.
const WAIT_AFTER_KILL: Duration = Duration::from_secs(1);

/// Sends records and metrics over OTLP.
///
/// The registry creates this sink under the name `otlp`. For that, the program has to link this
/// crate.
///
/// ```
/// use logcore_otlp as _;
///
/// assert!(logcore::registry::sink_names().unwrap().contains(&"otlp"));
/// assert!(logcore::registry::can_recover("otlp"));
/// ```
pub struct OtlpSink {
    logs: Option<Logs>,
    metrics: Option<Metrics>,
    /// The step of the newest metrics.
    step: Option<u64>,
}

/// The records.
struct Logs {
    /// `None` if the process that recovers the run has another receiver.
    endpoint: Option<Endpoint>,
    /// Tells whether a later process has the same receiver.
    fingerprint: String,
    attributes: Attributes,
    /// The most verbose level.
    level: u8,
    run_dir: PathBuf,
    /// The spool, relative to the folder of the run.
    path: PathBuf,
    longest: u64,
    /// `None` before the start, and while it cannot be opened.
    spool: Option<Arc<Mutex<Spool>>>,
    /// Further spools of earlier attempts, until the thread has them.
    left: Vec<Mutex<Spool>>,
    /// After a failure, the spool is not opened again before this time.
    opens_at: Option<Instant>,
    control: Arc<DeliveryControl>,
    books: SpoolBooks,
    /// Number of calls that wait for the disk.
    unwritten: u64,
    is_sending: bool,
    is_recovered: bool,
}

/// The metrics.
struct Metrics {
    endpoint: Endpoint,
    attributes: Attributes,
    period: Duration,
    gauges: Arc<Gauges>,
    counts: Arc<GaugeCounts>,
    control: Arc<DeliveryControl>,
    accepted: u64,
    is_sending: bool,
}

/// State from which another process continues the spool.
#[derive(Serialize, Deserialize)]
struct OtlpResumeState {
    path: PathBuf,
    position: u64,
    receiver: String,
    attributes: Attributes,
    level: u8,
    longest: u64,
    step: Option<u64>,
}

impl OtlpSink {
    fn build(options: OtlpOptions, context: &BuildContext<'_>) -> Result<Self, ConfigError> {
        let variables = |name: &str| std::env::var(name).ok();
        let settings = options.resolve(&variables)?;
        let attributes = resource::describe(context, &settings.resource, &variables);
        Ok(Self {
            logs: Logs::new(&settings, &attributes, context),
            metrics: settings.metrics.map(|endpoint| Metrics {
                endpoint,
                attributes,
                period: settings.period,
                gauges: Arc::new(Gauges::new(settings.names, settings.has_min_max)),
                counts: Arc::default(),
                control: Arc::new(DeliveryControl::new(NAME, None).keeping("the newest metrics wait")),
                accepted: 0,
                is_sending: false,
            }),
            step: None,
        })
    }

    /// Continues the spool of a killed process.
    fn recover(state: OtlpResumeState, context: &BuildContext<'_>) -> Result<Self, SinkError> {
        context.resolve_beneath(&state.path)?;
        let run_dir = context.log_dir();
        let spool = Spool::recover(run_dir, &state.path, state.position, state.longest)?;
        let control = new_control();
        control.set_position(logcore_delivery::DeliveryPosition {
            reached: spool.sent(),
            missing: 0,
        });
        let mut books = SpoolBooks::default();
        books.mark(state.position, 0);
        Ok(Self {
            logs: Some(Logs {
                endpoint: endpoint_of_start(context).filter(|found| found.fingerprint() == state.receiver),
                fingerprint: state.receiver,
                attributes: state.attributes,
                level: state.level,
                run_dir: run_dir.to_owned(),
                path: state.path,
                longest: state.longest,
                spool: Some(Arc::new(Mutex::new(spool))),
                left: Vec::new(),
                opens_at: None,
                control,
                books,
                unwritten: 0,
                is_sending: false,
                is_recovered: true,
            }),
            metrics: None,
            step: state.step,
        })
    }
}

/// The destination in notices.
const NAME: &str = "OpenTelemetry";

fn new_control() -> Arc<DeliveryControl> {
    Arc::new(DeliveryControl::new(NAME, None).keeping("its records are kept on disk"))
}

impl Logs {
    fn new(settings: &OtlpSettings, attributes: &Attributes, context: &BuildContext<'_>) -> Option<Self> {
        let endpoint = settings.logs.clone()?;
        Some(Self {
            fingerprint: endpoint.fingerprint(),
            endpoint: Some(endpoint),
            attributes: attributes.clone(),
            level: verbosity(settings.level),
            run_dir: context.log_dir().to_owned(),
            path: spool_path(context),
            longest: settings.spool_bytes,
            spool: None,
            left: Vec::new(),
            opens_at: None,
            control: new_control(),
            books: SpoolBooks::default(),
            unwritten: 0,
            is_sending: false,
            is_recovered: false,
        })
    }

    /// Opens the spool, once.
    fn open(&mut self) -> Result<Arc<Mutex<Spool>>, SinkError> {
        if let Some(spool) = &self.spool {
            return Ok(Arc::clone(spool));
        }
        let doing = format!("open the spool {}", self.run_dir.join(&self.path).display());
        if self.opens_at.is_some_and(|at| Instant::now() < at) {
            return Err(SinkError::new("an earlier try has failed")
                .doing(doing)
                .with_reason(NOT_OPEN));
        }
        let usual = self.path.clone();
        let opened = self
            .open_free_spool(&usual)
            .map_err(|error| SinkError::from(error).doing(doing).with_reason(NOT_OPEN));
        let spool = opened.inspect_err(|_| self.opens_at = Some(Instant::now() + REOPEN))?;
        self.open_left_spools(&usual);
        let has_left = spool.sent() < spool.written() || !self.left.is_empty();
        let spool = Arc::new(Mutex::new(spool));
        self.spool = Some(Arc::clone(&spool));
        if has_left {
            self.start_sending()?;
        }
        Ok(spool)
    }

    /// Opens the usual spool, or another one if another process or an earlier sink still has it.
    fn open_free_spool(&mut self, usual: &Path) -> io::Result<Spool> {
        for path in possible_paths(usual) {
            match Spool::open(&self.run_dir, &path, self.longest) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
                Ok(spool) => {
                    self.path = path;
                    return Ok(spool);
                }
                error => return error,
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Opens the spools of earlier attempts that found the usual one busy.
    fn open_left_spools(&mut self, usual: &Path) {
        for path in possible_paths(usual).filter(|path| *path != self.path) {
            match Spool::open_left(&self.run_dir, &path) {
                Ok(left) => self.left.extend(left.map(Mutex::new)),
                Err(error) => {
                    let place = self.run_dir.join(&path);
                    let text = format!(
                        "{NAME}: cannot open a spool of records: {error}; they are in {}",
                        place.display()
                    );
                    self.control.print_notice("left records", &text);
                }
            }
        }
    }

    fn take(&mut self, record: &Record<'_>, step: Option<u64>) -> Result<(), SinkError> {
        self.books.accept();
        let pushed = self
            .open()
            .map(|spool| lock(&spool).push(&convert(record, step).encode_to_vec()));
        match pushed {
            Ok(Ok(())) => {
                self.books.spool();
                self.unwritten += 1;
                Ok(())
            }
            Ok(Err(no_room)) => {
                let (reason, text) = match no_room {
                    NoRoom::SpoolFull => ("spool full", "the spool of records that wait for the receiver is full"),
                    NoRoom::DiskFull => ("disk full", "the spool cannot be written"),
                };
                self.books.reject(reason);
                Err(SinkError::new(text).with_reason(reason))
            }
            Err(error) => {
                self.books.reject(error.reason());
                Err(error)
            }
        }
    }

    fn write_out(&mut self) -> Result<(), SinkError> {
        let Some(spool) = self.spool.clone() else { return Ok(()) };
        let (written, position) = {
            let mut spool = lock(&spool);
            (spool.write_out(), spool.written())
        };
        if let Err(error) = written {
            return Err(SinkError::from(error).doing("write to the spool of records"));
        }
        if std::mem::take(&mut self.unwritten) > 0 {
            self.books.mark(position, 0);
            if !self.is_recovered {
                self.start_sending()?;
            }
        }
        Ok(())
    }

    /// Starts the thread, once.
    fn start_sending(&mut self) -> Result<(), SinkError> {
        let (Some(endpoint), Some(spool)) = (&self.endpoint, &self.spool) else {
            return Ok(());
        };
        if !self.is_sending {
            let sender = LogSender {
                spool: Arc::clone(spool),
                left: std::mem::take(&mut self.left),
                control: Arc::clone(&self.control),
                endpoint: endpoint.clone(),
                resource: resource::with_attributes(&self.attributes),
            };
            sender.start()?;
            self.is_sending = true;
        }
        Ok(())
    }

    fn resume_point(&self, step: Option<u64>) -> Option<ResumePoint> {
        let (position, is_written) = match &self.spool {
            Some(spool) => {
                let spool = lock(spool);
                (spool.written(), spool.end() == spool.written())
            }
            None => return None,
        };
        let point = ResumePoint::new(&OtlpResumeState {
            path: self.path.clone(),
            position,
            receiver: self.fingerprint.clone(),
            attributes: self.attributes.clone(),
            level: self.level,
            longest: self.longest,
            step,
        })?;
        Some(if is_written { point } else { point.incomplete() })
    }

    fn books(&self) -> SinkBooks {
        count(&self.books, &self.control)
    }
}

impl Metrics {
    fn take(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        if !self.gauges.take(batch) {
            return Ok(());
        }
        self.accepted += 1;
        if !self.is_sending {
            let sender = GaugeSender {
                gauges: Arc::clone(&self.gauges),
                counts: Arc::clone(&self.counts),
                control: Arc::clone(&self.control),
                endpoint: self.endpoint.clone(),
                resource: resource::with_attributes(&self.attributes),
                period: self.period,
            };
            sender.start()?;
            self.is_sending = true;
        }
        Ok(())
    }
}

/// Returns the books of the metrics. Until an export, calls are in memory.
fn count_metrics(accepted: u64, counts: &GaugeCounts, has_ended: bool) -> SinkBooks {
    let mut books = SinkBooks::default();
    books.accepted = accepted;
    books.delivered = counts.delivered.load(Ordering::Relaxed);
    let refused = counts.refused.load(Ordering::Relaxed);
    books.drop_for("refused by the server", refused);
    let left = accepted.saturating_sub(books.delivered + refused);
    match has_ended {
        true => books.drop_for("metrics not sent", left),
        false => books.spooled = left,
    }
    books
}

/// Returns the books of the records as far as the delivery has come.
fn count(books: &SpoolBooks, control: &DeliveryControl) -> SinkBooks {
    let mut counted = books.clone().delivered_to(control.position());
    control.book_dropped(&mut counted);
    counted
}

impl Sink for OtlpSink {
    fn wants_places(&self) -> bool {
        self.logs.is_some()
    }

    fn wants(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Record => self.logs.is_some(),
            // Records have the step of the newest metrics.
            EventKind::Metrics => true,
            _ => false,
        }
    }

    fn start(&mut self, notices: &Notices) -> Result<(), SinkError> {
        if let Some(metrics) = &self.metrics {
            metrics.control.set_notices(notices.clone());
        }
        let Some(logs) = &mut self.logs else { return Ok(()) };
        logs.control.set_notices(notices.clone());
        logs.open().map(drop)
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        let step = self.step;
        match &mut self.logs {
            Some(logs) if record.level() as u8 <= logs.level => logs.take(record, step),
            _ => Ok(()),
        }
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        self.step = Some(batch.step());
        self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.take(batch))
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        self.logs.as_mut().map_or(Ok(()), Logs::write_out)
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        self.logs.as_ref()?.resume_point(self.step)
    }

    /// Writes the spool, and sends soon. The receiver gets the records later.
    fn flush(&mut self, _: Deadline) -> Result<(), SinkError> {
        self.deliver()?;
        if let Some(logs) = &self.logs {
            logs.control.request_flush();
        }
        if let Some(metrics) = &self.metrics {
            metrics.control.request_flush();
        }
        Ok(())
    }

    fn finish(&mut self, deadline: Deadline) -> Result<(), SinkError> {
        if let Some(metrics) = &self.metrics {
            metrics.control.run_ended(deadline);
        }
        let Some(logs) = &mut self.logs else { return Ok(()) };
        let written = logs.write_out();
        if let Err(error) = &written {
            logs.books.drop_unwritten(error.reason());
        }
        match logs.is_recovered {
            true => {
                logs.control.run_ended(Deadline::after(TIME_AFTER_KILL));
                logs.start_sending()?;
                if logs.is_sending {
                    logs.control.wait_until_finished(Deadline::after(WAIT_AFTER_KILL));
                }
            }
            false => logs.control.run_ended(deadline),
        }
        written
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        let logs = self.logs.as_ref().filter(|logs| logs.is_sending);
        let logs = logs.map(|logs| {
            (
                logs.books.clone(),
                Arc::clone(&logs.control),
                logs.run_dir.join(&logs.path),
            )
        });
        let metrics = self.metrics.as_ref().filter(|metrics| metrics.is_sending);
        let metrics = metrics.map(|metrics| {
            (
                metrics.accepted,
                Arc::clone(&metrics.counts),
                Arc::clone(&metrics.control),
            )
        });
        if logs.is_none() && metrics.is_none() {
            return None;
        }
        Some(Box::new(move |deadline| {
            let mut books = SinkBooks::default();
            let mut result = Ok(());
            if let Some((of_logs, control, path)) = logs {
                control.wait_until_finished(deadline);
                let counted = count(&of_logs, &control);
                if counted.spooled > 0 {
                    result = Err(left_on_disk(counted.spooled, &control, &path));
                }
                books.add(&counted);
            }
            if let Some((accepted, counts, control)) = metrics {
                control.wait_until_finished(deadline);
                books.add(&count_metrics(accepted, &counts, true));
            }
            (books, result)
        }))
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn books(&self) -> Option<SinkBooks> {
        let mut books = self.logs.as_ref().map(Logs::books).unwrap_or_default();
        if let Some(metrics) = &self.metrics {
            books.add(&count_metrics(metrics.accepted, &metrics.counts, false));
        }
        Some(books)
    }
}

impl fmt::Debug for OtlpSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpSink")
            .field("logs", &self.logs.as_ref().map(|logs| &logs.path))
            .field("has_metrics", &self.metrics.is_some())
            .finish_non_exhaustive()
    }
}

/// Describes records that no receiver has.
fn left_on_disk(count: u64, control: &DeliveryControl, path: &Path) -> SinkError {
    let cause = control.current_error();
    let cause = cause.map_or_else(|| "no time was left".to_owned(), |error| error.to_string());
    let text = format!(
        "{count} records are only on disk: {cause}; they are in {}",
        path.display()
    );
    SinkError::new(text).with_reason("not sent")
}

/// Returns the receiver of records in the config of this start.
fn endpoint_of_start(context: &BuildContext<'_>) -> Option<Endpoint> {
    let options = match context.config().sinks.get("otlp")? {
        serde_json::Value::Bool(true) => serde_json::json!({}),
        options => options.clone(),
    };
    let options: OtlpOptions = serde_json::from_value(options).ok()?;
    options.resolve(&|name| std::env::var(name).ok()).ok()?.logs
}

/// Returns the path of a logger's spool: `otlp/logs.spool`, with the logger's name for each but the
/// first of a run, and with the rank for each but the first.
fn spool_path(context: &BuildContext<'_>) -> PathBuf {
    let mut name = String::from("logs");
    if context.logger() != context.run().name() {
        name.push('.');
        for byte in context.logger().bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(byte)),
                // No two loggers have one name.
                other => name.push_str(&format!("%{other:02x}")),
            }
        }
    }
    let file = FileRank::from_config(context.config()).file_name(&format!("{name}.spool"));
    Path::new(FOLDER).join(file)
}

/// Returns the paths that a spool may have: `otlp/logs.spool`, `otlp/logs~2.spool` and so on. No
/// name of a logger has a tilde.
fn possible_paths(usual: &Path) -> impl Iterator<Item = PathBuf> {
    let stem = usual.file_stem().unwrap_or_default().to_string_lossy();
    let further = (2..=MOST_SPOOLS).map(move |number| usual.with_file_name(format!("{stem}~{number}.spool")));
    std::iter::once(usual.to_owned()).chain(further)
}

/// Returns the number of a level: that of `ERROR` is 1, that of `TRACE` 5.
fn verbosity(level: LevelFilter) -> u8 {
    level.to_level().map_or(0, |level: Level| level as u8)
}

logcore::register_sink!("otlp", OtlpSink::build, OtlpSink::recover);
