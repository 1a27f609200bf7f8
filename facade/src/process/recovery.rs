//! Delivers what killed processes have left, before anything new is written there.
//!
//! Each rank recovers its own files. The first rank also recovers the files that no rank of this
//! run has.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use logcore::{FileRank, LogConfig, Ranks};
use logcore_pipeline::{Recovered, RecoveryError, print_notice, recover_ranks};

use crate::run::note_killed;

/// Delivers what killed runs have left in the `log_dir` of a config and in the folders of its runs.
///
/// The process `gone` has just ended, and may close its files a moment after its threads have
/// ended.
pub(crate) fn deliver_killed(config: &LogConfig, gone: Option<u64>) {
    let is_closing = |pid: u64| Some(pid) == gone;
    deliver(config, gone, &is_closing, CLOSE_TIMEOUT);
}

/// Delivers what a killed run has left in its folder, to which this process is about to add. If
/// another process is delivering that, waits for it.
pub(crate) fn deliver_killed_in(dir: &Path, config: &LogConfig) {
    let config = LogConfig {
        log_dir: dir.to_owned(),
        ..config.clone()
    };
    // Without files of its own, a rank finds the rings of live ranks, too.
    let is_being_delivered = |_| config.rank_files;
    deliver(&config, None, &is_being_delivered, DELIVERY_TIMEOUT);
}

/// Delivers the rings in a `log_dir`. A ring of this rank that another process has is tried again
/// for a while, if `is_ending` says so of the process that made the ring.
fn deliver(config: &LogConfig, gone: Option<u64>, is_ending: &dyn Fn(u64) -> bool, timeout: Duration) {
    let folder = canonical(&config.log_dir);
    let (ranks, files) = (Ranks::from_config(config), FileRank::from_config(config));
    let deliver_own = || recover_ranks(config, gone, &|other| other == files, &note_killed);
    let is_awaited = |outcome: &Result<Recovered, RecoveryError>| matches!(outcome, Err(RecoveryError::Live { pid, folder: other }) if *other == folder && is_ending(*pid));
    let since = Instant::now();
    let mut own = deliver_own();
    while own.iter().any(is_awaited) && since.elapsed() < timeout {
        thread::sleep(RETRY_INTERVAL);
        own.retain(|outcome| !is_awaited(outcome));
        own.extend(deliver_own());
    }
    let is_orphaned = |other: u32| !config.rank_files || ranks.world_size.is_some_and(|size| other >= size);
    let is_wanted = |other: FileRank| ranks.is_first() && other.0.is_some_and(is_orphaned);
    let mut orphans = recover_ranks(config, None, &is_wanted, &note_killed);
    // A live process has files of its own.
    orphans.retain(|outcome| !matches!(outcome, Err(RecoveryError::Live { .. })));
    for outcome in own.into_iter().chain(orphans) {
        match outcome {
            Ok(recovered) => print_notice(&format!("recovered {}", recovered.pid), &recovered.to_string()),
            // The live process has a run of its own.
            Err(RecoveryError::Live { folder: other, .. }) if other != folder => true,
            Err(RecoveryError::Live { pid, .. }) => print_notice(
                &format!("shared folder {}", folder.display()),
                &format!(
                    "process {pid} logs into {}, too: both append to the same files",
                    folder.display()
                ),
            ),
            Err(error) => print_notice(&format!("ring in {}", folder.display()), &error.to_string()),
        };
    }
}

fn canonical(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// A process closes its files within this time after its end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The ring of a killed process is delivered within this time, unless it has thousands of loggers
/// or the disk hangs.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks at a process that is ending.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);
