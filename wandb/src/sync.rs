//! Delivers logs of runs that have ended.
//!
//! A sync uses the same delivery as an online run, with a log that does not grow any more.

use std::fmt::{self, Display, Write as _};
use std::fs;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use logcore::escape::EscapingFormatter;
use logcore::{BuildContext, LogConfig, Notices, RunManifest, StopFlag, redacted, suppress_logging};
use logcore_delivery::{DeliveryControl, DeliveryError, DeliveryErrorKind, Lane};
use serde_json::Value;

use crate::folder::{RunFolder, wandb_folder};
use crate::settings::{self, RunSettings};
use crate::upload::{
    self, Api, DeliveryOutcome, DeliveryPlan, DeliveryReport, NAME, RetryingClient, UploadProgress, synced_by_official,
};

/// Options of [`sync`].
///
/// ```
/// use std::time::Duration;
///
/// use logcore_wandb::SyncOptions;
///
/// let mut options = SyncOptions::default();
/// options.options.insert("api_key".into(), "0123456789".into());
/// options.retry_limit = Some(Duration::from_secs(10));
/// assert!(!format!("{options:?}").contains("0123456789"));
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct SyncOptions {
    /// Options as under `sinks.wandb`: `base_url`, `api_key`, … Missing values come from the
    /// environment and from files.
    pub options: serde_json::Map<String, Value>,
    /// Time for which a server may fail before the sync gives up. The default is two minutes.
    pub retry_limit: Option<Duration>,
    /// Receives notices: the destination of a log before anything is sent, and the skipped files.
    pub notices: Option<Notices>,
}

/// Does not show the key.
impl fmt::Debug for SyncOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncOptions")
            .field("options", &redacted(&Value::Object(self.options.clone())))
            .field("retry_limit", &self.retry_limit)
            .finish_non_exhaustive()
    }
}

/// The result of a delivered log.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SyncReport {
    /// How the delivery ended.
    pub outcome: Synced,
    /// Address of the run's page, if the server has named the owner of the run.
    pub url: Option<String>,
    /// Descriptions of the files and artifacts of the log that were not sent: files that do not
    /// exist, and paths outside of the folder of the run.
    pub skipped: Vec<String>,
}

/// The end of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synced {
    /// The server has everything now.
    Delivered,
    /// The process of the run was killed. The run is delivered, and marked as failed.
    Killed,
    /// The server had everything before.
    AlreadyThere,
}

/// Cause for which a log was not delivered.
///
/// ```
/// use logcore_wandb::SyncError;
///
/// let error = SyncError::Incomplete("no connection".into());
/// assert_eq!(error.to_string(), "the run is not delivered completely: no connection; sync it again to continue");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum SyncError {
    /// The settings are invalid.
    Config(logcore::ConfigError),
    /// A running process writes or delivers the log. Sync the log after that process has ended.
    Live,
    /// A part of the run is still only on disk, for this reason. Another sync continues.
    Incomplete(String),
    /// The log cannot be read to its end, for this reason. The readable part was delivered.
    Unreadable(String),
}

impl Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Live => {
                f.write_str("a running process writes or delivers the log; sync it when that process has ended")
            }
            Self::Incomplete(cause) => {
                write!(
                    f,
                    "the run is not delivered completely: {cause}; sync it again to continue"
                )
            }
            Self::Unreadable(cause) => write!(f, "{cause}"),
        }
    }
}

impl std::error::Error for SyncError {}

/// Returns the logs in a folder: in the folder of a run, in a folder of W&B runs, or in a log
/// directory with all its runs. The path of a log returns that log.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let log_dir = folder.path();
/// use logcore_wandb::find_logs;
///
/// let run = log_dir.join("wandb/offline-run-20260101_000000-abc");
/// std::fs::create_dir_all(&run)?;
/// std::fs::write(run.join("run-abc.wandb"), "")?;
/// assert_eq!(find_logs(log_dir), [run.join("run-abc.wandb")]);
/// assert_eq!(find_logs(&run), find_logs(log_dir));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn find_logs(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut logs = Vec::new();
    let mut folders = vec![path.to_owned()];
    // A log directory has a folder for each run. Its link `latest` names one of them again.
    let runs = entries(path).into_iter().filter(|path| !path.is_symlink());
    let runs = runs.filter(|path| path.join(RunManifest::FILE).is_file());
    for dir in iter::once(path.to_owned()).chain(runs) {
        folders.extend(["wandb", ".wandb"].map(|name| dir.join(name)));
    }
    for folder in folders {
        let mut entries = entries(&folder);
        entries.sort();
        logs.extend(entries.iter().filter(|path| is_log(path)).cloned());
        // The target of the link `latest-run` is found under its own name.
        let runs = entries.iter().filter(|path| path.is_dir() && !path.is_symlink());
        for run in runs {
            logs.extend(self::entries(run).into_iter().filter(|path| is_log(path)));
        }
    }
    logs.sort();
    logs.dedup();
    logs
}

/// Delivers a log to the server. Repeating a sync is harmless: rows are not doubled, and only
/// missing content is sent. Calls `progress` with the bytes of the log that were read, and with the
/// size of the log.
///
/// It is safe to sync a folder that somebody has sent. Nothing outside of the folder is read or
/// written, and links in it are not followed. A settings file in it cannot redirect your API key.
/// Before anything is sent, [`SyncOptions::notices`] get the destination and the writer of the log.
///
/// The run may have been resumed since. Then the remaining rows, console lines and files of this
/// log are added behind those of the server. The config, the summary, the name and the end of the
/// run stay those of the newest part, which should have ended.
///
/// ```
/// use std::path::Path;
///
/// use logcore_wandb::{SyncError, SyncOptions, find_logs, sync};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// for log in find_logs(folder) {
///     sync(&log, &SyncOptions::default(), |read, size| println!("{read} of {size} bytes"))?;
/// }
/// let missing = sync(Path::new("run-x.wandb"), &SyncOptions::default(), |_, _| {});
/// assert!(matches!(missing, Err(SyncError::Unreadable(_))));
/// # Ok::<(), SyncError>(())
/// ```
///
/// # Errors
///
/// If a part of the run was not delivered.
pub fn sync(
    log: &Path,
    options: &SyncOptions,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<SyncReport, SyncError> {
    let unreadable = |error: io::Error| SyncError::Unreadable(format!("cannot read {}: {error}", log.display()));
    let files = RunFolder::open(log).map_err(unreadable)?;
    let file = files.open_log().map_err(unreadable)?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    if is_delivered(&files) {
        return Ok(SyncReport {
            outcome: Synced::AlreadyThere,
            url: None,
            skipped: Vec::new(),
        });
    }
    if matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)) {
        return Err(SyncError::Live);
    }
    let settings = resolve(options, log).map_err(SyncError::Config)?;
    let control = control(options, &settings);
    let delivered = deliver(files, &settings, &control, &mut |read| progress(read, size));
    report(log, delivered, &control)
}

/// Returns `true` if the server has the whole run already.
fn is_delivered(files: &RunFolder) -> bool {
    synced_by_official(files) || UploadProgress::load(files).is_some_and(|progress| progress.complete)
}

/// Creates the control of a sync, and prints the warnings about settings files.
fn control(options: &SyncOptions, settings: &RunSettings) -> Arc<DeliveryControl> {
    let retry_limit = options.retry_limit.unwrap_or(DEFAULT_RETRY_LIMIT);
    let control = Arc::new(DeliveryControl::new(NAME, Some(retry_limit)));
    if let Some(notices) = &options.notices {
        control.set_notices(notices.clone());
    }
    for line in &settings.warnings {
        control.print_notice(line, line);
    }
    control
}

/// Time for which a server may fail before a sync gives up.
const DEFAULT_RETRY_LIMIT: Duration = Duration::from_secs(120);

/// Delivers a log on a separate thread, because the caller may be inside an asynchronous runtime.
fn deliver(
    files: RunFolder,
    settings: &RunSettings,
    control: &Arc<DeliveryControl>,
    on_read: &mut (dyn FnMut(u64) + Send),
) -> Result<DeliveryReport, SyncFailure> {
    let plan = DeliveryPlan {
        files: Arc::new(files),
        live: None,
        interval: Duration::ZERO,
        heartbeat: upload::HEARTBEAT,
        may_exist: true,
        app_url: settings.app_url.clone(),
        ignore_globs: settings.ignore_globs.clone(),
        ended: true,
        stop: StopFlag::default(),
    };
    let work = || {
        suppress_logging(|| {
            let client = RetryingClient {
                api: Arc::new(Api::new(&settings.server)?),
                control: Arc::clone(control),
                lane: Lane::Rows,
            };
            upload::deliver(client, plan, &mut |read| on_read(read))
        })
    };
    let ended = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("logcore-wandb-sync".to_owned())
            .spawn_scoped(scope, work)
            .map(|thread| thread.join())
    });
    match ended {
        Ok(Ok(delivered)) => delivered.map_err(SyncFailure::Upload),
        Ok(Err(_)) => Err(SyncFailure::Thread("the delivery panicked".to_owned())),
        Err(error) => Err(SyncFailure::Thread(format!(
            "cannot start the thread of the delivery: {error}"
        ))),
    }
}

/// The failure of a delivery, or of its thread.
enum SyncFailure {
    Upload(DeliveryError),
    Thread(String),
}

/// Turns the result of a delivery into the result of a sync.
fn report(
    log: &Path,
    delivered: Result<DeliveryReport, SyncFailure>,
    control: &DeliveryControl,
) -> Result<SyncReport, SyncError> {
    let delivered = delivered.map_err(|failure| match failure {
        SyncFailure::Upload(error) if error.kind() == DeliveryErrorKind::InUse => SyncError::Live,
        SyncFailure::Upload(error) => SyncError::Unreadable(format!("{}: {error}", log.display())),
        SyncFailure::Thread(cause) => SyncError::Incomplete(cause),
    })?;
    if delivered.outcome == DeliveryOutcome::Incomplete {
        let cause = control.current_error().map(|error| error.to_string());
        return Err(SyncError::Incomplete(
            cause.unwrap_or_else(|| "the server refused a file".to_owned()),
        ));
    }
    Ok(SyncReport {
        outcome: match delivered.killed {
            true => Synced::Killed,
            false => Synced::Delivered,
        },
        url: control.address(),
        skipped: control.skipped(),
    })
}

/// Settles the settings of a sync.
fn resolve(options: &SyncOptions, log: &Path) -> Result<RunSettings, logcore::ConfigError> {
    // A sync is online, even if the machine is set to another mode.
    let mut all = options.options.clone();
    all.insert("mode".to_owned(), "online".into());
    let (config, stop) = (LogConfig::default(), StopFlag::default());
    let context = BuildContext::new(&config, &stop);
    let read = logcore::__private::build(Value::Object(all), &context, |read, _| Ok(read));
    let read = read.map_err(|error| error.within("options"))?;
    // The folder of all runs, whose settings file is read.
    let absolute = std::path::absolute(log).unwrap_or_else(|_| log.to_owned());
    let beside = absolute.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    // Above the folders of all runs of the logger.
    let above = beside.ancestors().nth(2).map(wandb_folder);
    let folders = [Some(beside.to_owned()), above];
    let has_settings = |folder: &PathBuf| folder.join("settings").exists();
    let runs_folder = folders.into_iter().flatten().find(has_settings);
    let runs_folder = runs_folder.unwrap_or_else(|| beside.to_owned());
    // The log has these settings itself.
    let environment = |name: &str| match name {
        "WANDB_MODE" | "WANDB_RUN_ID" | "WANDB_PROJECT" | "WANDB_TAGS" | "WANDB_RESUME" => None,
        name => std::env::var(name).ok(),
    };
    settings::resolve_beside(
        &runs_folder,
        runs_folder.clone(),
        read,
        &LogConfig::default(),
        &environment,
    )
}

/// Returns the paths in a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).into_iter().flatten();
    read.flatten().map(|entry| entry.path()).collect()
}

/// Returns `true` for a regular file with the extension `wandb`.
fn is_log(path: &Path) -> bool {
    // A link may lead to the log of another user.
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())
        && path.extension().is_some_and(|extension| extension == "wandb")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_in_the_options_is_not_shown() {
        let mut options = SyncOptions::default();
        options.options.insert("api_key".to_owned(), "s3cr3t".into());
        let shown = format!("{options:?}");
        assert!(shown.contains("api_key") && !shown.contains("s3cr3t"), "{shown}");
        for (name, value) in [
            ("api_kay", json!("s3cr3t")),
            ("api_key", json!(["s3cr3t"])),
            ("tags", json!("s3cr3t")),
        ] {
            let mut options = SyncOptions::default();
            options.options.insert(name.to_owned(), value);
            let error = resolve(&options, Path::new("run.wandb")).err().unwrap().to_string();
            assert!(error.contains(name) && !error.contains("s3cr3t"), "{error}");
        }
    }
}
