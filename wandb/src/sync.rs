//! Delivers logs afterwards.

use std::fmt::{self, Display, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use logcore::escape::EscapingFormatter;
use logcore::{BuildContext, LogConfig, Notices, StopFlag, redacted, suppress_logging};
use serde_json::Value;

use crate::folder::RunFolder;
use crate::settings;
use crate::upload::{
    self, Api, DeliveryControl, DeliveryOutcome, DeliveryPlan, RetryingClient, UploadErrorKind, UploadProgress,
    synced_by_other,
};

/// How logs are delivered.
///
/// ```
/// use std::time::Duration;
///
/// use logcore_wandb::SyncOptions;
///
/// let mut options = SyncOptions::default();
/// options.options.insert("api_key".into(), "0123456789".into());
/// options.patience = Some(Duration::from_secs(10));
/// assert!(!format!("{options:?}").contains("0123456789"));
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct SyncOptions {
    /// As under `sinks.wandb`: `base_url`, `api_key`, …; what is not said comes from the environment and files.
    pub options: serde_json::Map<String, Value>,
    /// How long a server may fail before a log is given up; two minutes, if nothing is said.
    pub patience: Option<Duration>,
    /// Takes lines for people: before anything is sent, where a log goes; and what is left out of it.
    pub notices: Option<Notices>,
}

/// Without the key.
impl fmt::Debug for SyncOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncOptions")
            .field("options", &redacted(&Value::Object(self.options.clone())))
            .field("patience", &self.patience)
            .finish()
    }
}

/// What became of one log.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SyncReport {
    /// What was done.
    pub outcome: Synced,
    /// The run's page, if the server has said whose it is.
    pub url: Option<String>,
    /// The files and artifacts that the log names and that were not sent, in words: files that are not there, and places that
    /// are not in the run's folder.
    pub left_out: Vec<String>,
}

/// How the delivery of a log ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synced {
    /// The server has everything now.
    Delivered,
    /// The process that wrote the log did not end it: the run is delivered, and marked as failed.
    Killed,
    /// The server had everything before.
    AlreadyThere,
}

/// Why a log was not delivered.
#[derive(Debug)]
#[non_exhaustive]
pub enum SyncError {
    /// The settings cannot work.
    Config(logcore::ConfigError),
    /// The process that writes it lives, or another delivers it; it can be synced when that has ended.
    Live,
    /// Something is still only on disk, for this reason. Another sync goes on where this one stopped.
    Incomplete(String),
    /// The log cannot be read, or not to its end; what could be read was delivered.
    Unreadable(String),
}

impl Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Live => {
                f.write_str("the process that writes or delivers it is still running; sync it when that has ended")
            }
            Self::Incomplete(why) => write!(f, "not everything was delivered: {why}; sync it again to go on"),
            Self::Unreadable(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for SyncError {}

/// The logs in a folder: of one run, of a folder of runs, or of a log directory; or a log itself.
#[must_use]
pub fn find_logs(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    for name in ["wandb", ".wandb"] {
        folders.push(path.join(name));
    }
    for folder in folders {
        let mut entries = entries(&folder);
        entries.sort();
        found.extend(entries.iter().filter(|path| is_log(path)).cloned());
        // `latest-run` leads to one that is found under its own name.
        let runs = entries.iter().filter(|path| path.is_dir() && !path.is_symlink());
        for run in runs {
            found.extend(self::entries(run).into_iter().filter(|path| is_log(path)));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Delivers a log. It is harmless to repeat: nothing is doubled, and what the server has is not sent again. `progress` is
/// told how many bytes of the log were read, of how many.
///
/// A folder that somebody has sent can be synced: nothing is read or written outside of it, no link in it is followed, and a
/// settings file in it chooses no server for a key of yours. Where the log goes, and what it says of where it comes from, is
/// said through [`SyncOptions::notices`] before anything is sent.
///
/// Of a run that was resumed since, what is left of this part (rows, console lines, files) goes behind what the server has,
/// and nothing else changes: config, summary, name and end are those of the newest part. That part should have ended.
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
/// let nothing = sync(Path::new("run-x.wandb"), &SyncOptions::default(), |_, _| {});
/// assert!(matches!(nothing, Err(SyncError::Unreadable(_))));
/// # Ok::<(), SyncError>(())
/// ```
///
/// # Errors
///
/// If not everything was delivered.
pub fn sync(
    log: &Path,
    options: &SyncOptions,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<SyncReport, SyncError> {
    let unreadable = |error: io::Error| SyncError::Unreadable(format!("{}: {error}", log.display()));
    let files = RunFolder::of(log).map_err(unreadable)?;
    let file = files.open_log().map_err(unreadable)?;
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let earlier = UploadProgress::load(&files);
    if synced_by_other(&files) || earlier.is_some_and(|earlier| earlier.complete) {
        return Ok(SyncReport {
            outcome: Synced::AlreadyThere,
            url: None,
            left_out: Vec::new(),
        });
    }
    if matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)) {
        return Err(SyncError::Live);
    }
    let settings = resolve(options, log).map_err(SyncError::Config)?;
    let patience = options.patience.unwrap_or(Duration::from_secs(120));
    let control = Arc::new(DeliveryControl::new(StopFlag::default(), Some(patience)));
    if let Some(notices) = &options.notices {
        control.set_notices(notices.clone());
    }
    for line in &settings.unread {
        control.say(line, line);
    }
    let plan = DeliveryPlan {
        files: Arc::new(files),
        live: None,
        interval: Duration::ZERO,
        heartbeat: upload::HEARTBEAT,
        may_exist: true,
        app_url: settings.app_url.clone(),
        ignored: settings.ignored.clone(),
        ended: true,
    };
    let ended = std::thread::scope(|scope| {
        let work = || {
            suppress_logging(|| {
                let client = RetryingClient {
                    api: Arc::new(Api::new(&settings)?),
                    control: Arc::clone(&control),
                    lane: upload::Lane::Rows,
                };
                upload::deliver(client, plan, &mut |read| progress(read, size))
            })
        };
        // The caller's thread may belong to an asynchronous runtime.
        std::thread::Builder::new()
            .name("logcore-wandb-sync".to_owned())
            .spawn_scoped(scope, work)
            .map(|thread| thread.join())
    });
    let url = control.address();
    let trouble = control.current_trouble().map(|error| error.to_string());
    match ended {
        Ok(Ok(Ok(delivered))) => match delivered.outcome {
            DeliveryOutcome::Complete => Ok(SyncReport {
                outcome: if delivered.killed {
                    Synced::Killed
                } else {
                    Synced::Delivered
                },
                url,
                left_out: control.left_out(),
            }),
            DeliveryOutcome::Incomplete => Err(SyncError::Incomplete(
                trouble.unwrap_or_else(|| "a file was refused".to_owned()),
            )),
        },
        Ok(Ok(Err(error))) if error.trouble == UploadErrorKind::InUse => Err(SyncError::Live),
        Ok(Ok(Err(error))) => Err(SyncError::Unreadable(format!("{}: {error}", log.display()))),
        Ok(Err(_)) => Err(SyncError::Incomplete("the delivery panicked".to_owned())),
        Err(error) => Err(SyncError::Incomplete(format!("no thread for the delivery: {error}"))),
    }
}

fn resolve(options: &SyncOptions, log: &Path) -> Result<settings::RunSettings, logcore::ConfigError> {
    // Whatever mode the machine is set to: to sync is to be online.
    let mut all = options.options.clone();
    all.insert("mode".to_owned(), "online".into());
    let (config, stop) = (LogConfig::default(), StopFlag::default());
    let context = BuildContext::new(&config, &stop);
    let read = logcore::__private::build(Value::Object(all), &context, |read, _| Ok(read));
    let read = read.map_err(|error| error.within("options"))?;
    // The folder that holds the run's, whatever its name: its settings file lies with the log.
    let whole = std::path::absolute(log).unwrap_or_else(|_| log.to_owned());
    let beside = whole.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    // Settings that the log itself has must not be in the way.
    let environment = |name: &str| match name {
        "WANDB_MODE" | "WANDB_RUN_ID" | "WANDB_PROJECT" | "WANDB_TAGS" | "WANDB_RESUME" => None,
        name => std::env::var(name).ok(),
    };
    settings::resolve_beside(beside, beside.to_owned(), read, &LogConfig::default(), &environment)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).into_iter().flatten();
    read.flatten().map(|entry| entry.path()).collect()
}

fn is_log(path: &Path) -> bool {
    // A link may lead to a log of somebody else.
    path.symlink_metadata().is_ok_and(|there| there.is_file())
        && path.extension().is_some_and(|ending| ending == "wandb")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_among_the_options_is_not_shown() {
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
