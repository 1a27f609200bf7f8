//! A run of a few milliseconds, which shows where its ring lies.

use std::fs;
use std::path::{Path, PathBuf};

use facade::{LogConfig, setup_logging};
use logcore::RunManifest;
use logcore::files::random_suffix;

use super::Finding;

/// Where a ring lies that survives its process, but not the machine.
const SHARED_MEMORY: &str = "/dev/shm";

/// Logs a line in a folder of its own beneath `log_dir`, and looks at the run.
pub(super) fn examine(log_dir: &Path) -> Finding {
    let remedy = "see the line above, or set `ring_place`";
    let scratch = match ScratchFolder::make(log_dir) {
        Ok(scratch) => scratch,
        Err(error) => return Finding::bad("ring", format!("cannot make a folder for a test run: {error}"), remedy),
    };
    let logger = setup_logging(LogConfig {
        name: "doctor".to_owned(),
        log_dir: scratch.0.clone(),
        run: "flat".to_owned(),
        // In place of `LOGCORE_RESUME`: there is nothing to go on with.
        resume: Some("auto".to_owned()),
        enable_console: false,
        handle_signals: false,
        capture_warnings: false,
        heed_rust_log: false,
        finish_summary: false,
        rank: Some(0),
        world_size: Some(1),
        ..LogConfig::default()
    });
    let logger = match logger {
        Ok(logger) => logger,
        Err(error) => return Finding::bad("ring", format!("a test run cannot begin: {error}"), remedy),
    };
    logger.info("a line of the test run");
    let ring = RunManifest::read(logger.run().dir()).map(|manifest| manifest.ring);
    logger.finish();
    let written = fs::read_to_string(scratch.0.join("training.log")).is_ok_and(|text| text.ends_with('\n'));
    match ring {
        _ if !written => Finding::bad("ring", "a test run has not written its line", remedy),
        Err(error) => Finding::bad("ring", format!("a test run has left no run.json: {error}"), remedy),
        Ok(None) => Finding::warning(
            "ring",
            "in plain memory: a killed run loses its last moments",
            "name a `log_dir` on a local disk, or make /dev/shm larger",
        ),
        Ok(Some(ring)) if Path::new(&ring).starts_with(SHARED_MEMORY) => Finding::ok(
            "ring",
            "in shared memory: a killed run is completed, unless the machine or its container restarts",
        ),
        Ok(Some(_)) => Finding::ok("ring", "in the run's folder: a killed run is completed"),
    }
}

/// A new folder, which is removed with all that the test run has left.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn make(log_dir: &Path) -> std::io::Result<Self> {
        let path = std::path::absolute(log_dir)?.join(format!(".logcore-doctor-{}", random_suffix()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        // The name cannot be guessed, and links within are not followed.
        let _ = fs::remove_dir_all(&self.0);
    }
}
