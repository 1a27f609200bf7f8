//! Completing the files of killed processes, without starting a run.

use std::path::Path;

#[cfg(any(feature = "mlflow", feature = "wandb"))]
use logcore_pipeline::print_notice;
use logcore_pipeline::{Recovered, RecoveryError};

use crate::run::note_killed;

/// Delivers what killed processes have left in their rings, each call once, and ends their runs.
/// `folder` is a `log_dir` with all its runs, or the folder of one run. Recovery may itself be
/// killed and repeated. Rings of live processes are skipped.
///
/// The next start with this `log_dir` does the same by itself. The sinks of this program deliver a
/// ring, into the log directories that the ring was made for: each of them has a name of the ring,
/// and the ring contains their inodes. Copies of rings are skipped. So is the W&B log of a run
/// whose W&B folder was elsewhere, unless the environment names that folder.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// assert!(facade::recover(folder.path()).is_empty(), "there is nothing to recover");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recover(folder: &Path) -> Vec<Result<Recovered, RecoveryError>> {
    logcore_pipeline::recover(folder, &note_killed)
}

/// Recovers the runs of a folder, and prints what was recovered, before they are delivered.
#[cfg(any(feature = "mlflow", feature = "wandb"))]
pub(crate) fn recover_and_print(log_dir: &Path) {
    for outcome in recover(log_dir) {
        match outcome {
            Ok(recovered) => drop(print_notice(
                &format!("recovered {}", recovered.pid),
                &recovered.to_string(),
            )),
            // If the run belongs to the live process, the delivery reports it.
            Err(RecoveryError::Live { .. }) => {}
            Err(error) => drop(print_notice(
                &format!("ring in {}", log_dir.display()),
                &error.to_string(),
            )),
        }
    }
}

/// Does the same for a folder whose contents the user trusts: a copy of a ring is delivered into
/// this folder.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// assert!(facade::recover_trusted(folder.path()).is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn recover_trusted(folder: &Path) -> Vec<Result<Recovered, RecoveryError>> {
    logcore_pipeline::recover_trusted(folder, &note_killed)
}
