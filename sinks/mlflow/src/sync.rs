//! Delivers runs that have ended.

use std::fmt::{self, Display};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use logcore::escape::EscapingFormatter;
use logcore::files::Folder;
use logcore::{ConfigError, Notices, RunManifest, RunState, redacted, suppress_logging};
use logcore_delivery::{DeliveryControl, DeliveryError, DeliveryErrorKind, Lane, RetryingClient};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::NAME;
use crate::api::MlflowApi;
use crate::documents::RunDocuments;
use crate::run::open_for_delivery;
use crate::settings::{MlflowOptions, MlflowSettings};
use crate::spool::ROWS;
use crate::state::MlflowState;
use crate::uploader::{DeliveryPlan, deliver};

/// Options of [`sync`].
///
/// ```
/// use std::time::Duration;
///
/// use logcore_mlflow::SyncOptions;
///
/// let mut options = SyncOptions::default();
/// options.options.insert("token".into(), "0123456789".into());
/// options.retry_limit = Some(Duration::from_secs(10));
/// assert!(!format!("{options:?}").contains("0123456789"));
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct SyncOptions {
    /// Options as under `sinks.mlflow`: `uri`, `experiment`, … Missing values come from the
    /// environment, and never from the folder of the run.
    pub options: Map<String, Value>,
    /// Time for which a server may fail before the sync gives up. The default is two minutes.
    pub retry_limit: Option<Duration>,
    /// Receives notices: the address of the run, and what is skipped.
    pub notices: Option<Notices>,
}

/// Does not show the login.
impl fmt::Debug for SyncOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncOptions")
            .field("options", &redacted(&Value::Object(self.options.clone())))
            .field("retry_limit", &self.retry_limit)
            .finish_non_exhaustive()
    }
}

/// The result of a delivered run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SyncReport {
    /// How the delivery ended.
    pub outcome: Synced,
    /// Address of the run's page. `None` if the server was not asked.
    pub url: Option<String>,
    /// Descriptions of the metrics, tags and files that the server has refused.
    pub skipped: Vec<String>,
}

/// The end of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synced {
    /// The server has everything now.
    Delivered,
    /// The process of the run was killed. The run is delivered, and marked as `KILLED`.
    Killed,
    /// The server had everything before.
    AlreadyThere,
}

/// Cause for which a run was not delivered.
///
/// ```
/// use logcore_mlflow::SyncError;
///
/// let error = SyncError::Incomplete("no connection".into());
/// assert_eq!(error.to_string(), "the run is not delivered completely: no connection; sync it again to continue");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum SyncError {
    /// The settings are invalid.
    Config(ConfigError),
    /// A running process writes or delivers the run. Sync the run after that process has ended.
    Live,
    /// A part of the run is still only on disk, for this reason. Another sync continues.
    Incomplete(String),
    /// The files of the run cannot be read, for this reason.
    Unreadable(String),
}

impl Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        use std::fmt::Write as _;
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Live => {
                f.write_str("a running process writes or delivers the run; sync it when that process has ended")
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

/// Returns the folders of runs with rows: the folder itself, or those beneath a log directory.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let log_dir = folder.path();
/// use logcore_mlflow::find_runs;
///
/// let run = log_dir.join("2026-01-01_00-00-00_baseline");
/// std::fs::create_dir(&run)?;
/// std::fs::write(run.join("metrics.jsonl"), "")?;
/// assert_eq!(find_runs(log_dir), [run.clone()]);
/// assert_eq!(find_runs(&run), [run]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn find_runs(path: &Path) -> Vec<PathBuf> {
    let has_rows = |dir: &Path| {
        dir.join(ROWS)
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_file())
    };
    if has_rows(path) {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    // The link `latest` names one of the runs again.
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut runs: Vec<_> = folders
        .map(|entry| entry.path())
        .filter(|path| has_rows(path))
        .collect();
    runs.sort();
    runs
}

/// Delivers a run to the server. Repeating a sync is harmless: only missing rows are sent, and
/// equal values are kept once. Calls `progress` with the bytes of the rows that were sent, and with
/// their number in all.
///
/// It is safe to sync a folder that somebody has sent. Links in it are not followed, and a file in
/// it cannot redirect your login: the server comes from the options and the environment.
///
/// ```
/// use std::path::Path;
///
/// use logcore_mlflow::{SyncError, SyncOptions, sync};
///
/// let mut options = SyncOptions::default();
/// options.options.insert("uri".into(), "http://127.0.0.1:9".into());
/// let missing = sync(Path::new("no-such-run"), &options, |_, _| {});
/// assert!(matches!(missing, Err(SyncError::Unreadable(_))));
/// ```
///
/// # Errors
///
/// If a part of the run was not delivered.
pub fn sync(
    dir: &Path,
    options: &SyncOptions,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<SyncReport, SyncError> {
    let settings = resolve(options).map_err(SyncError::Config)?;
    let size = fs::symlink_metadata(dir.join(ROWS)).map_or(0, |metadata| metadata.len());
    deliver_run(dir, settings, options, &mut |read| progress(read, size))
}

/// Delivers a run with these settings.
pub(crate) fn deliver_run(
    dir: &Path,
    settings: MlflowSettings,
    options: &SyncOptions,
    on_read: &mut (dyn FnMut(u64) + Send),
) -> Result<SyncReport, SyncError> {
    let is_running = RunManifest::read(dir).is_ok_and(|run| run.read_state(dir) == RunState::Running);
    if is_running {
        return Err(SyncError::Live);
    }
    let (folder, _lock) = open_for_delivery(dir).map_err(of_delivery)?;
    let state = MlflowState::load(&folder);
    if state.uri == settings.server.uri && has_all(&folder, &state) {
        return Ok(SyncReport {
            outcome: Synced::AlreadyThere,
            url: None,
            skipped: Vec::new(),
        });
    }
    let control = Arc::new(DeliveryControl::new(
        NAME,
        Some(options.retry_limit.unwrap_or(DEFAULT_RETRY_LIMIT)),
    ));
    if let Some(notices) = &options.notices {
        control.set_notices(notices.clone());
    }
    let plan = DeliveryPlan {
        folder,
        dir: dir.to_owned(),
        settings,
        live: None,
    };
    let end = deliver_on_thread(plan, &control, on_read)?;
    Ok(SyncReport {
        outcome: match end {
            RunState::Killed => Synced::Killed,
            _ => Synced::Delivered,
        },
        url: control.address(),
        skipped: control.skipped(),
    })
}

/// Returns `true` if a server has everything: a run may have gone on since its delivery.
fn has_all(folder: &Folder, state: &MlflowState) -> bool {
    let is_at_end = match folder.open_file(Path::new(ROWS)) {
        Ok(rows) => {
            let length = rows.metadata().map_or(u64::MAX, |metadata| metadata.len());
            state.mark.find_in(&rows).is_ok_and(|found| found == Some(length))
        }
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    state.complete && is_at_end && state.attempts == RunDocuments::read(folder).attempts()
}

/// Time for which a server may fail before a sync gives up.
const DEFAULT_RETRY_LIMIT: Duration = Duration::from_secs(120);

/// Delivers on a separate thread, because the caller may be inside an asynchronous runtime.
fn deliver_on_thread(
    plan: DeliveryPlan,
    control: &Arc<DeliveryControl>,
    on_read: &mut (dyn FnMut(u64) + Send),
) -> Result<RunState, SyncError> {
    let work = || {
        suppress_logging(|| {
            let client = RetryingClient {
                api: Arc::new(MlflowApi::start(&plan.settings.server)?),
                control: Arc::clone(control),
                lane: Lane::Rows,
            };
            deliver(client, plan, &mut |read| on_read(read))
        })
    };
    let ended = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("logcore-mlflow-sync".to_owned())
            .spawn_scoped(scope, work)
            .map(|thread| thread.join())
    });
    let incomplete = |cause: String| Err(SyncError::Incomplete(cause));
    match ended {
        Ok(Ok(Ok(end))) => Ok(end),
        Ok(Ok(Err(error))) if error.kind() == DeliveryErrorKind::GaveUp => {
            incomplete(control.current_error().unwrap_or(error).to_string())
        }
        Ok(Ok(Err(error))) => Err(of_delivery(error)),
        Ok(Err(_)) => incomplete("the delivery panicked".to_owned()),
        Err(error) => incomplete(format!("cannot start the thread of the delivery: {error}")),
    }
}

fn of_delivery(error: DeliveryError) -> SyncError {
    match error.kind() {
        DeliveryErrorKind::InUse => SyncError::Live,
        DeliveryErrorKind::Unreadable => SyncError::Unreadable(error.to_string()),
        _ => SyncError::Incomplete(error.to_string()),
    }
}

/// Settles the settings of a sync.
fn resolve(options: &SyncOptions) -> Result<MlflowSettings, ConfigError> {
    let parsed = MlflowOptions::deserialize(Value::Object(options.options.clone()));
    // The text of the error may have a part of a value.
    let parsed = parsed.map_err(|_| ConfigError::new("options", "", "an option of `sinks.mlflow` has a wrong type"))?;
    // The run has its own id.
    let environment = |name: &str| match name {
        "MLFLOW_RUN_ID" => None,
        name => std::env::var(name).ok(),
    };
    MlflowSettings::resolve(parsed, &environment)
}
