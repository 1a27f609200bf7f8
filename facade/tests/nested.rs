//! A progress within another, bars, phases and goals: the steps, rows, rates, figures and the
//! events.
#![cfg(all(feature = "file", feature = "jsonl", feature = "metrics", feature = "progress"))]

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use facade::logcore::serde_json::{Value, json};
use facade::logcore::testing::recording;
use facade::{Goal, LogConfig, LogManager, UnifiedLogger, setup_logging};

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

#[test]
fn a_bar_counts_no_steps_and_writes_no_metrics() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let (handle, sink) = recording();
    LogManager::get_instance()
        .add_sink("recording", Box::new(sink))
        .unwrap();
    let logger = open(folder.path());
    let epochs = logger.bar(2, "Epochs");
    for epoch in 0..2 {
        logger.start_progress(3, format!("Epoch {epoch}"));
        for _ in 0..3 {
            logger.update_progress(1, 10);
            logger.log_metrics([("loss", 0.5)]);
        }
        let clone = epochs.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || clone.advance(1));
        });
    }
    drop(epochs);
    // The end of the logger ends a bar that the program still holds.
    let open = logger.bar(None, "Open");
    logger.finish();
    open.advance(1);
    drop(open);
    let rows = rows(folder.path());
    let steps: Vec<_> = rows.iter().map(|row| row["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    assert_eq!(rows[5]["throughput/accumulated_samples"], json!(60));
    let calls = handle.calls();
    let seen: Vec<&str> = calls
        .iter()
        .filter_map(|call| call.strip_prefix("progress nested "))
        .filter(|call| !call.contains("Advanced"))
        .collect();
    assert_eq!(
        seen,
        [
            "Epochs Started 0",
            "Epoch 0 Started 0",
            "Epoch 0 Finished 3",
            "Epoch 1 Started 0",
            "Epoch 1 Finished 3",
            "Epochs Finished 2",
            "Open Started 0",
            "Open Finished 0",
        ]
    );
}

#[test]
fn a_tracked_iterator_is_as_long_as_its_own_and_counts_what_is_done() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let (handle, sink) = recording();
    LogManager::get_instance()
        .add_sink("recording", Box::new(sink))
        .unwrap();
    let logger = open(folder.path());
    assert_eq!(
        logger.track(vec![1, 2, 3], "Whole").rev().collect::<Vec<_>>(),
        [3, 2, 1]
    );
    for item in logger.track(0..10, "Cut") {
        if item == 4 {
            break;
        }
    }
    let items = [1, 2, 3];
    let (mut tracked, mut timed) = (logger.track(&items, "Length"), logger.data(&items));
    assert_eq!((tracked.len(), timed.len()), (3, 3));
    assert_eq!((tracked.next(), timed.next_back()), (Some(&1), Some(&3)));
    assert_eq!((tracked.size_hint(), timed.size_hint()), ((2, Some(2)), (2, Some(2))));
    drop(tracked);
    logger.finish();
    let calls = handle.calls();
    let ends: Vec<&str> = calls
        .iter()
        .filter_map(|call| call.strip_prefix("progress nested "))
        .filter(|call| call.contains("Finished"))
        .collect();
    assert_eq!(ends, ["Whole Finished 3", "Cut Finished 4", "Length Finished 0"]);
}

/// The least and the most time that something took.
#[derive(Default)]
struct Stopwatch {
    least: Duration,
    most: Duration,
}

impl Stopwatch {
    /// Measures a nap within a phase.
    fn measure<T>(&mut self, millis: u64, begin_phase: impl FnOnce() -> T) {
        let outer = Instant::now();
        let phase = begin_phase();
        let inner = Instant::now();
        sleep(Duration::from_millis(millis));
        self.least += inner.elapsed();
        drop(phase);
        self.most += outer.elapsed();
    }

    fn agrees_with(&self, seconds: f64) -> bool {
        (self.least.as_secs_f64()..=self.most.as_secs_f64()).contains(&seconds)
    }
}

/// A training with all kinds of phases, each measured with a stopwatch of the test's own.
#[test]
fn the_ledger_agrees_with_a_stopwatch() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let outer = Instant::now();
    let logger = open(folder.path());
    let inner = Instant::now();
    let [mut data, mut forward, mut eval, mut checkpoint] = [(); 4].map(|()| Stopwatch::default());
    let mut steps = Duration::ZERO;
    sleep(Duration::from_millis(20));
    logger.start_progress(10, "Train");
    logger.update_progress(1, 32);
    let training = Instant::now();
    let mut batches = logger.data((1..10).map(|_| {
        let begin = Instant::now();
        sleep(Duration::from_millis(4));
        begin.elapsed()
    }));
    loop {
        let begin = Instant::now();
        let Some(waited) = batches.next() else { break };
        data.least += waited;
        data.most += begin.elapsed();
        forward.measure(6, || logger.phase("forward"));
        sleep(Duration::from_millis(5));
        steps = training.elapsed();
        logger.update_progress(1, 32);
    }
    let steps_least = steps - data.most - forward.most;
    {
        let eval_phase = logger.phase("eval");
        eval.measure(30, || ());
        checkpoint.measure(20, || logger.phase("checkpoint"));
        drop(eval_phase);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _elsewhere = logger.phase("upload");
            sleep(Duration::from_millis(20));
        });
    });
    let inner = inner.elapsed();
    logger.finish();
    let wall = Stopwatch {
        least: inner,
        most: outer.elapsed(),
    };
    let summary = std::fs::read_to_string(folder.path().join("summary.json")).unwrap();
    let summary: Value = facade::logcore::serde_json::from_str(&summary).unwrap();
    let summary = &summary["nested"];
    let ledger = summary["ledger"].as_object().unwrap();
    let total: f64 = ledger.values().map(|seconds| seconds.as_f64().unwrap()).sum();
    assert!(wall.agrees_with(total), "{total}: {summary}");
    let used = |name: &str| ledger[name].as_f64().unwrap();
    assert!(data.agrees_with(used("data")), "{summary}");
    assert!(forward.agrees_with(used("forward")), "{summary}");
    assert!(checkpoint.agrees_with(used("checkpoint")), "{summary}");
    // Without the checkpoint within, and with the little around.
    assert!(used("eval") >= eval.least.as_secs_f64(), "{summary}");
    assert!(used("step") >= steps_least.as_secs_f64(), "{summary}");
    assert!(used("startup") >= 0.02, "{summary}");
    assert!(used("other") >= 0.02, "{summary}");
    let good = used("step") + used("forward");
    assert!(
        (summary["goodput"].as_f64().unwrap() - good / total).abs() < 1e-9,
        "{summary}"
    );
    assert!(
        summary["other_threads"]["upload"].as_f64().unwrap() >= 0.02,
        "{summary}"
    );
    assert!(!ledger.contains_key("upload"), "{summary}");
}

#[test]
fn the_best_value_and_its_step_are_in_the_summary() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = open(folder.path());
    // Values before the goal count.
    logger.log_metrics_at(1, [("val/loss", 0.4)]);
    let best = logger.goal("val/loss", Goal::Min);
    assert_eq!((best.value(), best.step()), (Some(0.4), Some(1)));
    let better = |step, loss: f64| {
        logger
            .log_metrics_at(step, [("val/loss", loss), ("x", 1.0)])
            .is_best("val/loss")
    };
    assert_eq!(
        [better(2, 0.5), better(3, 0.3), better(4, 0.3), better(5, f64::NAN)],
        [false, true, false, false]
    );
    let before = logger.log_metrics_at(6, [("val/loss", 0.2)]);
    logger.metric("val/loss").record(7, 0.1);
    // The answer is about that call, whatever came after it.
    assert!(before.is_best("val/loss"));
    assert!(!logger.log_metrics_at(8, [("x", -1.0)]).is_best("val/loss"));
    for _ in 0..2 {
        assert!(!logger.log_metrics_at(9, [("x", -2.0)]).is_best("x"), "it has no goal");
    }
    logger.finish();
    let summary = std::fs::read_to_string(folder.path().join("summary.json")).unwrap();
    let summary: Value = facade::logcore::serde_json::from_str(&summary).unwrap();
    let metrics = summary["nested"]["metrics"].as_array().unwrap();
    assert_eq!(metrics[0]["best"], json!({"step": 7, "value": 0.1}));
    assert_eq!(metrics[1].get("best"), None);
    assert_eq!(summary["nested"]["warnings"], json!(1));
}

#[test]
fn a_resumed_progress_begins_at_its_position_and_counts_no_rate_for_it() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = open(folder.path());
    logger.start_progress_at(500, 504, "Train");
    for _ in 0..4 {
        sleep(Duration::from_millis(5));
        logger.update_progress(1, 32);
        logger.log_metrics([("loss", 0.5)]);
    }
    logger.finish();
    let rows = rows(folder.path());
    assert_eq!(rows[3]["progress/percent"], json!(100.0));
    assert_eq!(rows[3]["throughput/accumulated_samples"], json!(128));
    assert_eq!((&rows[0]["step"], &rows[3]["step"]), (&json!(1), &json!(4)));
    for row in rows {
        let rate = row["throughput/samples_per_sec"].as_f64().unwrap_or(0.0);
        assert!(rate <= 32.0 / 0.005, "{row}");
    }
}

/// Runs a training of 20 steps in a process of its own; returns the rows, the summary and the
/// average.
fn train_with_operations(flops_per_sample: Option<f64>, peak_flops: Option<f64>) -> (Vec<Value>, Value, Option<f64>) {
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        name: "nested".into(),
        log_dir: folder.path().into(),
        enable_console: false,
        flops_per_sample,
        peak_flops,
        ..LogConfig::default()
    })
    .unwrap();
    logger.start_progress(20, "Train");
    for _ in 0..20 {
        sleep(Duration::from_millis(2));
        logger.update_progress(1, 32);
        logger.log_metrics([("loss", 0.5)]);
    }
    let average = logger.metrics().average("throughput/mfu");
    logger.finish();
    let summary = std::fs::read_to_string(folder.path().join("summary.json")).unwrap();
    let summary: Value = facade::logcore::serde_json::from_str(&summary).unwrap();
    (rows(folder.path()), summary["nested"].clone(), average)
}

#[test]
fn each_row_with_a_rate_has_its_share_of_the_peak() {
    testkit::own_process!();
    let (rows, summary, average) = train_with_operations(Some(6e9), Some(1e15));
    let mut with_rate = 0;
    for row in &rows {
        let of = |name: &str| row.get(name).map(|value| value.as_f64().unwrap());
        let (rate, mfu) = (of("throughput/samples_per_sec"), of("throughput/mfu"));
        assert_eq!(rate.is_some(), mfu.is_some(), "{row}");
        if let Some((rate, mfu)) = rate.zip(mfu) {
            assert!((mfu / (rate * 6e9 / 1e15) - 1.0).abs() < 1e-12, "{row}");
            with_rate += 1;
        }
    }
    assert!(with_rate >= 19, "{with_rate}");
    let expected = summary["samples_per_sec"].as_f64().unwrap() * 6e9 / 1e15;
    for mfu in [summary["mfu"].as_f64(), average] {
        assert!((mfu.unwrap() / expected - 1.0).abs() < 1e-9, "{mfu:?} for {expected}");
    }
}

#[test]
fn a_share_of_an_unknown_number_is_absent() {
    testkit::own_process!();
    for (operations, peak) in [(None, None), (Some(6e9), None), (None, Some(1e15))] {
        let (rows, summary, average) = train_with_operations(operations, peak);
        assert!(rows.iter().all(|row| row.get("throughput/mfu").is_none()));
        assert!(rows.iter().any(|row| row.get("throughput/samples_per_sec").is_some()));
        assert_eq!((summary.get("mfu"), average), (None, None));
    }
}

#[test]
fn a_share_above_one_is_told_once_and_not_hidden() {
    const CHILD: &str = "LOGCORE_TEST_SHARE_ABOVE_ONE";
    if std::env::var_os(CHILD).is_some() {
        let (rows, summary, _) = train_with_operations(Some(1e9), Some(1e9));
        assert!(rows[10]["throughput/mfu"].as_f64().unwrap() > 1.0);
        assert!(summary["mfu"].as_f64().unwrap() > 1.0);
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_share_above_one_is_told_once_and_not_hidden",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        said.matches("`flops_per_sample` or `peak_flops` is wrong").count(),
        1,
        "{said}"
    );
}

#[test]
fn without_progress_bars_and_phases_do_nothing() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        name: "nested".into(),
        log_dir: folder.path().into(),
        enable_console: false,
        enable_progress: false,
        ..LogConfig::default()
    })
    .unwrap();
    let bar = logger.bar(3, "Epochs");
    bar.advance(1);
    logger.start_progress(2, "Train");
    for item in logger.data(logger.track([1, 2], "Items")) {
        let _phase = logger.phase("forward");
        logger.update_progress(1, item);
        logger.log_metrics([("item", item)]);
    }
    logger.finish();
    assert_eq!(rows(folder.path()).len(), 2);
    let summary = std::fs::read_to_string(folder.path().join("summary.json")).unwrap();
    assert!(!summary.contains("ledger") && !summary.contains("goodput"), "{summary}");
}
