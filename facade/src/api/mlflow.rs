//! MLflow: the delivery of runs that are only on disk. The sink `mlflow` delivers a run that goes
//! on.

use std::path::Path;

use logcore::Notices;
pub use logcore_mlflow::{SyncError, SyncOptions, SyncReport, Synced, find_runs};
use logcore_pipeline::print_notice;

use crate::api::recovery::recover_and_print;

/// Delivers the run of a folder to an MLflow server. Repeating is harmless: nothing is there twice.
/// `progress` gets the number of bytes of rows that were sent so far, and their number in all.
///
/// If a killed process has left calls in its ring, they are added first, with the end of the run.
///
/// The server and the login come from `options` and the official variables (`MLFLOW_TRACKING_URI`,
/// …), and never from the folder. A folder from somebody else can be synced safely: nothing outside
/// of it is read or written. Lines name the address of the run, and what is left out of it. The
/// lines go to stderr unless `options` have [`notices`](SyncOptions::notices).
///
/// ```
/// use std::path::Path;
///
/// use facade::mlflow::{SyncError, SyncOptions, sync};
///
/// let mut options = SyncOptions::default();
/// options.options.insert("uri".into(), "http://127.0.0.1:5000".into());
/// let report = sync(Path::new("logs/no-such-run"), &options, |sent, size| println!("{sent} of {size} bytes"));
/// assert!(matches!(report, Err(SyncError::Unreadable(_))), "there is no such folder");
/// ```
///
/// # Errors
///
/// If not everything was delivered.
pub fn sync(dir: &Path, options: &SyncOptions, progress: impl FnMut(u64, u64) + Send) -> Result<SyncReport, SyncError> {
    let whole = dir.canonicalize().unwrap_or_default();
    if let Some(log_dir) = whole.parent() {
        recover_and_print(log_dir);
    }
    let mut options = options.clone();
    options
        .notices
        .get_or_insert_with(|| Notices::new(|kind, line| _ = print_notice(kind, line)));
    logcore_mlflow::sync(dir, &options, progress)
}
