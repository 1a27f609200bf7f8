//! Weights & Biases: the calls that only a W&B run takes, through
//! [`UnifiedLogger::wandb`](crate::UnifiedLogger::wandb), and the delivery of runs that are only on
//! disk.

use std::fmt;
use std::path::{Path, PathBuf};

use logcore::log::Level;
pub use logcore::{AlertLevel, Histogram, Html, Image, Media, MediaError, Table};
use logcore::{JsonCapture, Notices, redacted};
use logcore_pipeline::print_notice;
pub use logcore_wandb::{
    Artifact, LogPart, LoggedRun, MetricDefinition, SavePolicy, ServerAnswer, ServerCheck, SyncError, SyncOptions,
    SyncReport, Synced, find_logs, read_log,
};
use logcore_wandb::{MessageText, RunHandle};
use serde_json::Value;

use crate::api::recovery::recover_and_print;
use crate::logger::inner::LoggerInner;
use crate::logger::media::log_media;

/// Delivers the log of a run to the server. Repeating is harmless: nothing is sent twice.
/// `progress` gets the number of bytes read so far, and the size of the log.
///
/// If a killed process has left calls for the log in its ring, they are added first, with the end
/// of the run.
///
/// Before anything is sent, a line says where the log goes; further lines name what is left out of
/// it. The lines go to stderr unless `options` have [`notices`](SyncOptions::notices). A folder
/// from somebody else can be synced safely: nothing outside of it is read or written, and no
/// settings file in it chooses the server that gets your key.
///
/// ```
/// use facade::wandb::{SyncError, SyncOptions, sync};
/// use std::path::Path;
///
/// let log = Path::new("wandb/offline-run-20260101_000000-abc/run-abc.wandb");
/// let report = sync(log, &SyncOptions::default(), |read, size| println!("{read} of {size} bytes"));
/// assert!(matches!(report, Err(SyncError::Unreadable(_))), "there is no such file");
/// ```
///
/// # Errors
///
/// If not everything was delivered.
pub fn sync(log: &Path, options: &SyncOptions, progress: impl FnMut(u64, u64) + Send) -> Result<SyncReport, SyncError> {
    let whole = log.canonicalize().unwrap_or_default();
    // `<log_dir>/wandb/<run>/<log>`
    if let Some(log_dir) = whole.ancestors().nth(3) {
        recover_and_print(log_dir);
    }
    let mut options = options.clone();
    options
        .notices
        .get_or_insert_with(|| Notices::new(|kind, line| _ = print_notice(kind, line)));
    logcore_wandb::sync(log, &options, progress)
}

/// The W&B run of a logger.
///
/// Malformed values are skipped with a warning in the log. Without a run (`enable_wandb` is off, or
/// the mode is `disabled`) the calls do nothing.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use facade::wandb::{Histogram, Image, MetricDefinition, Table};
/// use facade::{LogConfig, setup_logging};
/// use serde_json::json;
///
/// let config = LogConfig {
///     enable_wandb: true,
///     sinks: [("wandb".into(), json!({"mode": "offline"}))].into(),
///     ..LogConfig::default()
/// };
/// # let config = LogConfig { log_dir: folder.path().into(), enable_console: false, ..config };
/// let logger = setup_logging(config)?;
/// let wandb = logger.wandb();
/// wandb.define_metric(MetricDefinition::new("loss").summary(["min", "last"]));
/// wandb.log_image("sample", Image::rgb(1, 1, [255, 0, 0]), None);
/// wandb.log_histogram("grad", Histogram::of([0.1, 0.2, 0.2], 64), 0);
/// wandb.log_table("errors", Table::new(["id", "text"]).row([json!(1), json!("x")]), 0);
/// wandb.set_summary("best", json!(0.91));
/// let run = wandb.folder().unwrap();
/// logger.finish();
/// assert!(run.join("files/media/images").is_dir());
/// # Ok::<(), facade::LogError>(())
/// ```
#[must_use]
pub struct Wandb<'a> {
    logger: &'a LoggerInner,
    run: Option<RunHandle>,
}

impl<'a> Wandb<'a> {
    pub(crate) fn new(logger: &'a LoggerInner) -> Self {
        Self {
            logger,
            run: RunHandle::of(logger.name()),
        }
    }

    /// Defines how W&B shows a metric. The name is that of the logged metric, or that shown by W&B.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// use facade::wandb::MetricDefinition;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// wandb.define_metric(MetricDefinition::new("val/*").step_metric("epoch"));
    /// wandb.define_metric(MetricDefinition::new("loss").summary(["min", "max", "last"]));
    /// logger.log_metrics(facade::metrics! { "epoch" => 1, "val/loss" => 0.5, "loss" => 0.4 });
    /// assert_eq!(logger.finish().sink("wandb").unwrap().dropped_total(), 0);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn define_metric(&self, definition: MetricDefinition) {
        let definition = {
            let table = self.logger.metrics().table();
            let names = table.names();
            definition.map_names(|name| names.possible_names(name), |name| names.likely_name(name))
        };
        self.send("define_metric", |run| run.definition(definition));
    }

    /// Sets a value of the run's summary, which replaces the value from the rows.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// wandb.set_summary("best_accuracy", 0.91);
    /// assert_eq!(logger.finish().sink("wandb").unwrap().dropped_total(), 0);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn set_summary(&self, key: &str, value: impl Into<Value>) {
        // As in `log_config`, values that are nested too deep are cut, and secrets are hidden.
        let value = JsonCapture::new(&value.into()).value.unwrap_or_default();
        let value = self.logger.redact_value(redacted(&value));
        self.send("set_summary", |run| run.summary(key, value));
    }

    /// Logs an image at a step; `None` is the current step. The same as
    /// [`UnifiedLogger::log_image`](crate::UnifiedLogger::log_image), for a logger with a run.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// use facade::wandb::Image;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// wandb.log_image("sample", Image::rgb(1, 1, [255, 0, 0]).caption("epoch 1"), None);
    /// let run = wandb.folder().unwrap();
    /// logger.finish();
    /// assert_eq!(std::fs::read_dir(run.join("files/media/images")).unwrap().count(), 1);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_image(&self, key: &str, image: Image, step: impl Into<Option<u64>>) {
        self.log("log_image", key, image, step.into());
    }

    /// Logs a histogram at a step; `None` is the current step. The same as
    /// [`UnifiedLogger::log_histogram`](crate::UnifiedLogger::log_histogram), for a logger with a
    /// run.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// use facade::wandb::Histogram;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// wandb.log_histogram("gradients", Histogram::of([0.1, 0.2, 0.2], 64), 0);
    /// assert_eq!(logger.finish().sink("wandb").unwrap().dropped_total(), 0);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_histogram(&self, key: &str, histogram: Histogram, step: impl Into<Option<u64>>) {
        self.log("log_histogram", key, histogram, step.into());
    }

    /// Logs a table at a step; `None` is the current step. The same as
    /// [`UnifiedLogger::log_table`](crate::UnifiedLogger::log_table), for a logger with a run.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// use facade::wandb::Table;
    /// use serde_json::json;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// wandb.log_table("errors", Table::new(["id", "text"]).row([json!(1), json!("x")]), None);
    /// let run = wandb.folder().unwrap();
    /// logger.finish();
    /// assert!(run.join("files/media/table").is_dir());
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_table(&self, key: &str, table: Table, step: impl Into<Option<u64>>) {
        self.log("log_table", key, table, step.into());
    }

    /// Logs an HTML page at a step; `None` is the current step. The same as
    /// [`UnifiedLogger::log_html`](crate::UnifiedLogger::log_html), for a logger with a run.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// wandb.log_html("note", "<b>bold</b>", None);
    /// let run = wandb.folder().unwrap();
    /// logger.finish();
    /// assert!(run.join("files/media/html").is_dir());
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_html(&self, key: &str, html: impl Into<String>, step: impl Into<Option<u64>>) {
        let html = Html::new(self.logger.redact(&html.into()));
        self.log("log_html", key, html, step.into());
    }

    /// Saves a copy of a file, as it is now, with the W&B run.
    /// [`UnifiedLogger::save_file`](crate::UnifiedLogger::save_file) saves one for all sinks.
    ///
    /// A different file of the same name is saved under another name, which a warning reports. The
    /// same file replaces its earlier copy.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// let file = folder.path().join("notes.txt");
    /// std::fs::write(&file, "to remember").unwrap();
    /// wandb.save_file(&file);
    /// let run = wandb.folder().unwrap();
    /// logger.finish();
    /// assert_eq!(std::fs::read_to_string(run.join("files/notes.txt")).unwrap(), "to remember");
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn save_file(&self, path: impl AsRef<Path>) {
        self.save_file_with(path, SavePolicy::Now);
    }

    /// Saves a copy of a file like [`save_file`](Self::save_file), uploaded by this policy.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// use facade::wandb::SavePolicy;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// let file = folder.path().join("notes.txt");
    /// std::fs::write(&file, "to remember").unwrap();
    /// wandb.save_file_with(&file, SavePolicy::End);
    /// let run = wandb.folder().unwrap();
    /// logger.finish();
    /// assert!(run.join("files/notes.txt").is_file());
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn save_file_with(&self, path: impl AsRef<Path>, policy: SavePolicy) {
        let path = path.as_ref();
        self.send("save_file", |run| {
            let saved = run.file(path, policy)?;
            if let Some(remark) = saved.remark {
                self.warn(format_args!("save_file of {}: {remark}", path.display()));
            }
            Ok(saved.message)
        });
    }

    /// Saves copies of files, as they are now, as a version of an artifact.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// use facade::wandb::Artifact;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// let weights = folder.path().join("weights.bin");
    /// std::fs::write(&weights, [0; 16]).unwrap();
    /// wandb.log_artifact(Artifact::new("weights", "model").file(&weights));
    /// assert_eq!(logger.finish().sink("wandb").unwrap().dropped_total(), 0);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn log_artifact(&self, artifact: Artifact) {
        self.send("log_artifact", |run| run.artifact(artifact));
    }

    /// Sends an alert, as [`UnifiedLogger::alert`](crate::UnifiedLogger::alert) does.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// use facade::wandb::AlertLevel;
    ///
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// wandb.alert("loss is NaN", "at step 120", AlertLevel::Error);
    /// assert_eq!(logger.finish().sink("wandb").unwrap().dropped_total(), 0);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn alert(&self, title: &str, text: &str, level: AlertLevel) {
        self.logger.alert(title, text, level);
    }

    /// Returns the address of the run's page, once the server has named its owner; `None` offline.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// assert_eq!(wandb.url(), None, "the run is offline");
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.run.as_ref()?.url()
    }

    /// Returns the folder of the run's files; `None` without a run.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig {
    /// #     enable_wandb: true,
    /// #     sinks: [("wandb".into(), serde_json::json!({"mode": "offline"}))].into(),
    /// #     log_dir: folder.path().into(),
    /// #     enable_console: false,
    /// #     ..Default::default()
    /// # };
    /// let logger = facade::setup_logging(config)?;
    /// let wandb = logger.wandb();
    /// assert!(wandb.folder().unwrap().starts_with(logger.run_dir().canonicalize().unwrap()));
    /// # Ok::<(), facade::LogError>(())
    /// ```
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        self.run.as_ref()?.folder()
    }

    /// Logs a value as the method of the logger does, if there is a run.
    fn log(&self, call: &str, key: &str, media: impl Media, step: Option<u64>) {
        if self.run.is_some() {
            log_media(self.logger, call, key, media, step);
        }
    }

    fn send(&self, call: &str, message: impl FnOnce(&RunHandle) -> MessageText) {
        let Some(run) = &self.run else { return };
        match message(run) {
            Ok(message) => self.logger.send_to_sink("wandb", &message),
            Err(error) => self.report_skipped(call, &error),
        }
    }

    fn report_skipped(&self, call: &str, error: &MediaError) {
        self.warn(format_args!("{call} is left out: {error}"));
    }

    fn warn(&self, what: fmt::Arguments<'_>) {
        self.logger.log_message(Level::Warn, format_args!("wandb: {what}"));
    }
}

impl fmt::Debug for Wandb<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wandb")
            .field("logger", &self.logger.name())
            .field("has_run", &self.run.is_some())
            .finish_non_exhaustive()
    }
}
