//! A progress within another: the steps, rows, rates and the bars.
#![cfg(all(feature = "file", feature = "jsonl", feature = "metrics", feature = "progress"))]

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use facade::logcore::serde_json::{Value, json};
use facade::logcore::testing::recording;
use facade::{LogConfig, LogManager, UnifiedLogger, setup_logging};

fn open(folder: &Path) -> UnifiedLogger {
    setup_logging(LogConfig {
        name: "nested".into(),
        log_dir: folder.into(),
        enable_console: false,
        ..LogConfig::default()
    })
    .unwrap()
}

fn rows(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| facade::logcore::serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_validation_shifts_no_step_and_adds_no_sample() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = open(folder.path());
    logger.start_progress(30, "Train");
    for step in 1..=30_u32 {
        logger.update_progress(1, 4);
        logger.log_metrics([("true_step", step)]);
        if step % 10 == 0 && step < 30 {
            logger.start_progress(50, "Validate");
            for _ in 0..25 {
                logger.update_progress(2, 100);
                logger.log_metrics([("val_step", step)]);
            }
            // Its loop has ended it already.
            logger.finish_progress();
        }
    }
    logger.finish();
    let mut samples = 0;
    for row in rows(folder.path()) {
        for name in ["metrics/true_step", "metrics/val_step"] {
            if let Some(step) = row.get(name) {
                assert_eq!(&row["step"], step, "{row}");
            }
        }
        if let Some(accumulated) = row.get("throughput/accumulated_samples") {
            samples = accumulated.as_u64().unwrap();
            assert_eq!(samples, 4 * row["step"].as_u64().unwrap(), "{row}");
            let percent = row["progress/percent"].as_f64().unwrap();
            assert!((percent - row["step"].as_f64().unwrap() / 0.3).abs() < 1e-9, "{row}");
        }
    }
    assert_eq!(samples, 120);
}

#[test]
fn samples_count_on_from_one_epoch_to_the_next() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = open(folder.path());
    for epoch in 0..3 {
        logger.start_progress(5, format!("Epoch {epoch}"));
        // The second one ends early, by the start of the third.
        for _ in 0..if epoch == 1 { 3 } else { 5 } {
            logger.update_progress(1, 10);
            logger.log_metrics([("loss", 0.5)]);
        }
    }
    logger.finish();
    let last = rows(folder.path()).pop().unwrap();
    assert_eq!(
        (&last["step"], &last["throughput/accumulated_samples"]),
        (&json!(13), &json!(130))
    );
}

/// Steps of two speeds, a resumed progress, and a validation in between: the average is all samples
/// by all time.
#[test]
fn the_average_rate_is_all_samples_by_all_time() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = open(folder.path());
    logger.start_progress(1000, "Train");
    logger.update_progress(900, 32_000);
    let begin = Instant::now();
    let mut left_out = Duration::ZERO;
    for step in 0..20 {
        sleep(Duration::from_millis(if step % 2 == 0 { 1 } else { 20 }));
        if step == 10 {
            let pause = Instant::now();
            logger.start_progress(2, "Validate");
            logger.update_progress(1, 1_000_000);
            sleep(Duration::from_millis(300));
            logger.update_progress(1, 1_000_000);
            left_out = pause.elapsed();
        }
        logger.update_progress(1, 32);
        logger.log_metrics([("loss", 0.5)]);
    }
    let truth = 20.0 * 32.0 / (begin.elapsed() - left_out).as_secs_f64();
    let is_true = |rate: f64| (rate / truth - 1.0).abs() < 0.05;
    let average = logger.metrics().average("throughput/samples_per_sec").unwrap();
    assert!(is_true(average), "{average} for {truth}");
    let averages = logger.metrics().averages();
    let listed = averages
        .iter()
        .find(|(name, _)| name == "throughput/samples_per_sec")
        .unwrap();
    assert!(is_true(listed.1), "{averages:?}");
    logger.finish();
    let summary = std::fs::read_to_string(folder.path().join("summary.json")).unwrap();
    let summary: Value = facade::logcore::serde_json::from_str(&summary).unwrap();
    assert!(
        is_true(summary["nested"]["samples_per_sec"].as_f64().unwrap()),
        "{summary}"
    );
    let rows = rows(folder.path());
    let spike = rows
        .iter()
        .filter_map(|row| row["throughput/samples_per_sec"].as_f64())
        .fold(0.0, f64::max);
    // A step of 1 ms is the quickest there is.
    assert!(spike <= 32_000.0, "{spike}");
}

#[test]
fn every_progress_starts_and_ends_once_and_inner_ones_end_first() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let (handle, sink) = recording();
    LogManager::get_instance()
        .add_sink("recording", Box::new(sink))
        .unwrap();
    let logger = open(folder.path());
    for epoch in 0..2 {
        logger.start_progress(100, format!("Epoch {epoch}"));
        logger.start_progress(10, "Validate");
        logger.start_progress(None, "Loading");
    }
    logger.finish();
    let calls = handle.calls();
    let seen: Vec<&str> = calls
        .iter()
        .filter_map(|call| call.strip_prefix("progress nested "))
        .collect();
    assert_eq!(
        seen,
        [
            "Epoch 0 Started 0",
            "Validate Started 0",
            "Loading Started 0",
            "Loading Finished 0",
            "Validate Finished 0",
            "Epoch 0 Finished 0",
            "Epoch 1 Started 0",
            "Validate Started 0",
            "Loading Started 0",
            "Loading Finished 0",
            "Validate Finished 0",
            "Epoch 1 Finished 0",
        ]
    );
}
