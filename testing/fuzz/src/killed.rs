//! The files of a killed process.

use std::collections::BTreeMap;

use facade::{LogConfig, LogManager, RingPlace, setup_logging};
use logcore::testing::{BlockingSink, SinkGate};
use serde_json::json;

use crate::folder;

/// Returns the files of a process at a moment when it could be killed: its writer waits, and the
/// ring holds calls of each kind behind the checkpoint. A kill would leave the same ring file,
/// because the memory of the ring is this file.
pub(crate) fn files() -> Vec<(String, Vec<u8>)> {
    let logger = setup_logging(config()).expect("a logger can be made");
    logger.info("before the checkpoint");
    logger.log_metrics_at(1, [("loss", 0.5), ("accuracy", f64::NAN)]);
    logger.log_config(&json!({"lr": 1e-4, "layers": [1, 2], "nested": {"name": "x"}}));
    logger.start_progress(10, "Training");
    logger.update_progress(1, 32);
    logger.flush().expect("a disk takes it");
    logger.log_metrics_at(2, [("loss", 0.25)]);
    let gate = SinkGate::default();
    let sink = Box::new(BlockingSink(gate.clone()));
    LogManager::get_instance()
        .add_sink("gate", sink)
        .expect("a sink is added");
    logger.info("the writer stands here");
    gate.wait_for_visitor();
    logger.warning("behind the checkpoint\nwith two lines");
    logcore::log::info!(logger: logger, target: "fuzz::target", step = 3, name = "a b", warm = true; "with fields");
    logger.log_metrics_at(2, [("accuracy", 0.75)]);
    logger.log_metrics_at(3, [("count", u64::MAX)]);
    logger.update_progress(1, 32);
    logger.log_config(&json!({"batch": 32}));
    logger.wandb().set_summary("best", 0.1);
    // Goes in pieces.
    logger.info("long ".repeat(500));
    let files = folder::files();
    gate.open();
    drop(logger);
    LogManager::get_instance().cleanup();
    folder::clear();
    files
}

fn config() -> LogConfig {
    LogConfig {
        name: "killed".to_owned(),
        log_dir: folder::path().to_owned(),
        run: "flat".into(),
        enable_console: false,
        enable_wandb: true,
        capture_warnings: false,
        ring_bytes: 8192,
        ring_place: RingPlace::LogDir,
        finish_timeout: 5.0,
        sinks: BTreeMap::from([
            ("file".to_owned(), json!({"rotate_mb": 1, "keep": 2})),
            ("jsonl".to_owned(), json!({"records": true})),
            ("wandb".to_owned(), json!({"mode": "offline", "console": true})),
        ]),
        ..LogConfig::default()
    }
}
