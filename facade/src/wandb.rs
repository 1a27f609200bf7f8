//! What only a W&B run takes, through [`UnifiedLogger::wandb`](crate::UnifiedLogger::wandb); and the delivery of runs that
//! are only on disk.

use std::path::{Path, PathBuf};

use logcore::Notices;
use logcore::log::Level;
use logcore::{JsonCapture, redacted};
use logcore_pipeline::{RecoveryError, print_notice, recover};
pub use logcore_wandb::{
    AlertLevel, Artifact, Histogram, Html, Image, Media, MediaError, MetricDefinition, SavePolicy, SyncError,
    SyncOptions, SyncReport, Synced, Table, find_logs,
};
use logcore_wandb::{MessageText, RunHandle};
use serde_json::Value;

use crate::instance::Instance;

/// Delivers a log. It is harmless to repeat: nothing is doubled, and what the server has is not sent again. `progress` is
/// told how many bytes of the log were read, of how many.
///
/// What a killed process has left for the log in its ring is put there first, with the end of the run.
///
/// Before anything is sent, a line says where the log goes, and another each thing that is left out of it: on stderr, unless
/// `options` have [`notices`](SyncOptions::notices) for them. A folder that somebody has sent can be synced: nothing outside
/// of it is read or written, and no settings file in it chooses a server for your key.
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
        for outcome in recover(log_dir) {
            match outcome {
                Ok(recovered) => drop(print_notice(
                    &format!("recovered {}", recovered.pid),
                    &recovered.to_string(),
                )),
                // If the log is its own, the sync says so.
                Err(RecoveryError::Live { .. }) => {}
                Err(error) => drop(print_notice(
                    &format!("ring in {}", log_dir.display()),
                    &error.to_string(),
                )),
            }
        }
    }
    let mut options = options.clone();
    options
        .notices
        .get_or_insert_with(|| Notices::new(|kind, line| _ = print_notice(kind, line)));
    logcore_wandb::sync(log, &options, progress)
}

/// A logger's W&B run.
///
/// What is malformed is said as a warning of the logger, and left out. Without a run (`enable_wandb` is off, or the mode is
/// `disabled`) nothing happens.
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
pub struct Wandb<'a> {
    logger: &'a Instance,
    run: Option<RunHandle>,
}

impl<'a> Wandb<'a> {
    pub(crate) fn new(logger: &'a Instance) -> Self {
        Self {
            logger,
            run: RunHandle::of(logger.name()),
        }
    }

    /// Says what a metric means. Names are those that the metrics are logged under, or those that W&B shows.
    pub fn define_metric(&self, definition: MetricDefinition) {
        let definition = {
            let measures = self.logger.measures();
            definition.map_names(|name| measures.shown_names(name), |name| measures.shown_name(name))
        };
        self.send("define_metric", |run| run.definition(definition));
    }

    /// Sets a value of the run's summary, in place of what the rows say.
    pub fn set_summary(&self, key: &str, value: impl Into<Value>) {
        // As `log_config` has it: what is nested too deep for a reader is cut, and what nobody may see is hidden.
        let value = JsonCapture::new(&value.into()).value.unwrap_or_default();
        let value = self.logger.hidden_in(redacted(&value));
        self.send("set_summary", |run| run.summary(key, value));
    }

    /// Logs an image at a step; `None` is the current one.
    pub fn log_image(&self, key: &str, image: Image, step: impl Into<Option<u64>>) {
        self.log("log_image", key, image, step.into());
    }

    /// Logs a histogram at a step; `None` is the current one.
    pub fn log_histogram(&self, key: &str, histogram: Histogram, step: impl Into<Option<u64>>) {
        self.log("log_histogram", key, histogram, step.into());
    }

    /// Logs a table at a step; `None` is the current one.
    pub fn log_table(&self, key: &str, table: Table, step: impl Into<Option<u64>>) {
        self.log("log_table", key, table, step.into());
    }

    /// Logs a page at a step; `None` is the current one.
    pub fn log_html(&self, key: &str, html: impl Into<String>, step: impl Into<Option<u64>>) {
        self.log("log_html", key, Html::new(html), step.into());
    }

    /// Keeps a copy of a file, as it is now, with the run. Another file of the same name is kept, too, under a name that a
    /// warning tells; the same file once more takes the place of its copy.
    pub fn save_file(&self, path: impl AsRef<Path>) {
        self.save_file_with(path, SavePolicy::Now);
    }

    /// The same, and says when it is uploaded.
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

    /// Keeps copies of files, as they are now, as a version of an artifact.
    pub fn log_artifact(&self, artifact: Artifact) {
        self.send("log_artifact", |run| run.artifact(artifact));
    }

    /// Has W&B tell people.
    pub fn alert(&self, title: &str, text: &str, level: AlertLevel) {
        let (title, text) = (self.logger.hidden(title), self.logger.hidden(text));
        self.send("alert", |run| run.alert(&title, &text, level));
    }

    /// The address of the run's page, once the server has said whose it is; `None` offline.
    pub fn url(&self) -> Option<String> {
        self.run.as_ref()?.url()
    }

    /// The folder of the run's files.
    pub fn folder(&self) -> Option<PathBuf> {
        self.run.as_ref()?.folder()
    }

    fn log(&self, call: &str, key: &str, media: impl Media, step: Option<u64>) {
        let Some(run) = &self.run else { return };
        // An image takes long to encode: its step is chosen when it is ready, or it would come behind newer ones.
        let logged = run.prepare(key, media).and_then(|value| {
            if let Some(remark) = value.remark() {
                self.warn(format_args!("{call} of `{key}`: {remark}"));
            }
            self.logger.message_at("wandb", step, |step| value.message(step))
        });
        if let Err(error) = logged {
            self.leave_out(call, &error);
        }
    }

    fn send(&self, call: &str, message: impl FnOnce(&RunHandle) -> MessageText) {
        let Some(run) = &self.run else { return };
        match message(run) {
            Ok(message) => self.logger.message("wandb", &message),
            Err(error) => self.leave_out(call, &error),
        }
    }

    fn leave_out(&self, call: &str, error: &MediaError) {
        self.warn(format_args!("{call} is left out: {error}"));
    }

    fn warn(&self, what: std::fmt::Arguments<'_>) {
        self.logger.say(Level::Warn, format_args!("wandb: {what}"));
    }
}
