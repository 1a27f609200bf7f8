//! Trainings of burn with the logger, beside the same trainings without.

mod line;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::train::metric::{LossMetric, NumericEntry};
use burn::train::{EvaluatorBuilder, Interruption, LearningResult};
use facade::logcore::{
    BuildContext, ConfigError, EventKind, MetricBatch, Sink, SinkError, StopFlag, StoredRow, log, register_sink,
};
use facade::{LogConfig, UnifiedLogger, setup_logging};
use logcore_burn::{attach, last_checkpoint};
use logcore_runs::StoredRun;
use serde_json::json;
use tempfile::TempDir;

use crate::line::{EPOCHS, ITERATIONS, Line, early_stopping, learner, points, training};

#[test]
fn every_number_of_burns_files_is_in_the_rows() {
    let run = Run::start("numbers");
    attach(training(&run.burn, 3.0).num_epochs(3), &run.logger).launch(learner());
    let rows = run.finish();

    for (split, each, whole, batches) in [
        ("train", "train", "train_epoch", 6),
        ("valid", "valid_batch", "valid", 3),
    ] {
        for (metric, has_batches) in [("Loss", true), ("Learning Rate", true), ("Number of Updates", false)] {
            let epochs = (1..=3).map(|epoch| burns_numbers(&run.burn, split, epoch, metric));
            let (mut expected, mut expected_whole) = (Vec::new(), Vec::new());
            for mut numbers in epochs {
                expected_whole.extend(numbers.pop());
                assert_eq!(numbers.len(), if has_batches { batches } else { 0 });
                expected.extend(numbers);
            }
            assert_eq!(values(&rows, &format!("{each}/{metric}")), expected);
            assert_eq!(values(&rows, &format!("{whole}/{metric}")), expected_whole);
        }
    }
    let text = fs::read_to_string(run.dir.join("training.log")).unwrap();
    assert_eq!(text.matches("Note: 6 updates").count(), 3);
}

#[test]
fn each_value_stands_at_the_training_step_that_it_belongs_to() {
    let run = Run::start("steps");
    attach(training(&run.burn, 3.0).num_epochs(2), &run.logger).launch(learner());
    let rows = run.finish();

    assert_eq!(steps(&rows, "train/Loss"), (1..=2 * ITERATIONS).collect::<Vec<_>>());
    let ends = [ITERATIONS, 2 * ITERATIONS];
    assert_eq!(steps(&rows, "train_epoch/Loss"), ends);
    assert_eq!(steps(&rows, "valid/Loss"), ends);
    assert_eq!(steps(&rows, "valid_batch/Loss"), [6, 6, 6, 12, 12, 12]);
    let epochs: Vec<f64> = [1.0; 6].into_iter().chain([2.0; 6]).collect();
    assert_eq!(values(&rows, "epoch"), epochs);
    let mut samples = rows
        .iter()
        .filter_map(|row| row.value("throughput/accumulated_samples"));
    assert_eq!(samples.next_back(), Some(2.0 * 22.0));
}

#[test]
fn checkpoints_and_early_stopping_are_those_of_burn_alone() {
    // With NaN, no epoch is better than another.
    for (slope, last_epoch) in [(3.0, 6), (f32::NAN, 3)] {
        let run = Run::start("alone");
        let alone = run.folder.path().join("burn-alone");
        training(&alone, slope)
            .early_stopping(early_stopping())
            .with_application_logger(None)
            .launch(learner());
        let attached = training(&run.burn, slope).early_stopping(early_stopping());
        attach(attached, &run.logger).launch(learner());
        let rows = run.finish();

        assert_eq!(values(&rows, "valid/Loss").len(), last_epoch);
        assert!(last_epoch < EPOCHS);
        let (own, burns) = (files(&run.burn), files(&alone));
        assert!(own.contains_key(Path::new("train/epoch-1/Loss.log")));
        assert_eq!(own, burns);
        assert_eq!(last_checkpoint(&run.burn), Some(last_epoch));
        assert_eq!(values(&rows, "train/Loss")[0].is_nan(), slope.is_nan());
    }
}

#[test]
fn a_request_to_stop_ends_the_training_with_a_summary() {
    let run = Run::start_with("stopped", |config| {
        let stop = json!({"step": 3 * ITERATIONS + 2});
        config.sinks.insert("stop".into(), stop);
    });
    let training = training(&run.burn, 3.0).num_epochs(3_000).summary();
    let result: LearningResult<Line> = attach(training, &run.logger).launch(learner());
    let reason = Some("the run was asked to stop".to_owned());
    assert_eq!(result.interrupted, Some(Interruption { reason }));
    let rows = run.finish();

    let reached = rows.last().unwrap().step;
    // The sink hears of the step some milliseconds later.
    assert!((20..3_000 * ITERATIONS).contains(&reached), "{reached}");
    let text = fs::read_to_string(run.dir.join("training.log")).unwrap();
    for part in ["because the run was asked to stop", "Learner Summary", "| Valid | Loss"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn an_evaluation_logs_each_batch_and_the_mean_at_the_step_of_the_training() {
    let run = Run::start("tested");
    let trained = attach(training(&run.burn, 3.0).num_epochs(1), &run.logger).launch(learner());
    let builder = EvaluatorBuilder::new(&run.burn).metrics((LossMetric::new(),)).summary();
    attach(builder, &run.logger)
        .build(trained.model)
        .eval_all([("near", points(10, 1.0)), ("far away", points(4, 9.0))]);
    let rows = run.finish();

    for (test, folder) in [("near", "near"), ("far away", "far-away")] {
        let expected = numbers_in(&run.burn.join("test").join(folder).join("Loss.log"));
        let name = format!("test_batch/{test}/Loss");
        assert_eq!(values(&rows, &name), expected);
        assert_eq!(steps(&rows, &name), vec![ITERATIONS; expected.len()]);
        let mean = expected.iter().sum::<f64>() / expected.len() as f64;
        assert_eq!(values(&rows, &format!("test/{test}/Loss")), [mean]);
    }
    let text = fs::read_to_string(run.dir.join("training.log")).unwrap();
    assert!(
        text.contains("Test near: Loss ") && text.contains("Learner Summary"),
        "{text}"
    );
}

#[test]
fn an_evaluation_alone_stands_at_one_step() {
    let run = Run::start("only-tested");
    let builder = EvaluatorBuilder::new(&run.burn).metrics((LossMetric::new(),));
    attach(builder, &run.logger)
        .build(learner().model())
        .eval("all", points(10, 1.0));
    let rows = run.finish();
    assert_eq!(steps(&rows, "test_batch/all/Loss"), [0, 0, 0]);
    assert_eq!(steps(&rows, "test/all/Loss"), [0]);
}

#[test]
fn a_resumed_training_goes_on_behind_its_checkpoint() {
    let whole = Run::start("whole");
    attach(training(&whole.burn, 3.0).num_epochs(4), &whole.logger).launch(learner());
    let whole_rows = whole.finish();
    drop(whole);

    // The first attempt ends in an epoch after the last checkpoint that is whole.
    let first = Run::start("parts");
    attach(training(&first.burn, 3.0).num_epochs(3), &first.logger).launch(learner());
    let attempt = first.finish();
    assert_eq!(attempt.last().unwrap().step, 3 * ITERATIONS);
    fs::write(first.burn.join("checkpoint/optim-3.bpk"), "torn").unwrap();
    assert_eq!(last_checkpoint(&first.burn), Some(2));

    let second = first.resume();
    let training = training(&second.burn, 3.0).num_epochs(4).checkpoint(2);
    attach(training, &second.logger).launch(learner());
    assert_eq!(second.logger.run().first_steps()["parts"], 2 * ITERATIONS + 1);
    second.finish();

    let stored = StoredRun::open(&second.dir).unwrap();
    let rows: Vec<StoredRow> = stored.all_rows(0).unwrap().map(Result::unwrap).collect();
    for name in [
        "train/Loss",
        "train_epoch/Loss",
        "valid/Loss",
        "valid_batch/Loss",
        "epoch",
    ] {
        assert_eq!(steps(&rows, name), steps(&whole_rows, name), "{name}");
        assert_eq!(values(&rows, name), values(&whole_rows, name), "{name}");
    }
}

#[test]
fn an_attempt_without_a_checkpoint_starts_again_at_the_first_step() {
    let first = Run::start("again");
    attach(training(&first.burn, 3.0).num_epochs(1), &first.logger).launch(learner());
    first.finish();
    let second = first.resume();
    attach(training(&second.burn, 3.0).num_epochs(1), &second.logger).launch(learner());
    assert_eq!(second.logger.run().first_steps()["again"], 1);
    second.finish();
}

#[test]
fn the_loggers_own_lines_and_those_of_log_stay_and_those_of_iterations_are_left_out() {
    let run = Run::start("lines");
    attach(training(&run.burn, 3.0).num_epochs(2).summary(), &run.logger).launch(learner());
    log::info!("a line after the training");
    run.finish();

    let text = fs::read_to_string(run.dir.join("training.log")).unwrap();
    for part in [
        "Starting training: epoch 1 of 2",
        "End of epoch 2/2: train Loss ",
        "a line after the training",
        "| Train | Loss ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("Iteration"), "{text}");
    assert!(!run.burn.join("experiment.log").exists());
    let stored = StoredRun::open(&run.dir).unwrap();
    let summary = stored.summary().unwrap();
    let metrics = summary["lines"]["metrics"].as_array().unwrap();
    let loss = metrics.iter().find(|metric| metric["name"] == "valid/Loss").unwrap();
    assert_eq!(loss["best"], json!({"step": 2 * ITERATIONS, "value": loss["min"]}));
}

/// A run with a logger and a folder of burn of its own.
struct Run {
    folder: TempDir,
    dir: PathBuf,
    burn: PathBuf,
    logger: UnifiedLogger,
    /// The lines of `log` belong to the one logger that is there.
    _turn: MutexGuard<'static, ()>,
}

impl Run {
    fn start(name: &str) -> Self {
        Self::start_with(name, |_| {})
    }

    fn start_with(name: &str, change: impl FnOnce(&mut LogConfig)) -> Self {
        Self::open(name, tempfile::tempdir().unwrap(), turn(), change)
    }

    fn open(name: &str, folder: TempDir, turn: MutexGuard<'static, ()>, change: impl FnOnce(&mut LogConfig)) -> Self {
        let mut config = LogConfig {
            name: name.into(),
            run: name.into(),
            log_dir: folder.path().into(),
            enable_console: false,
            ..LogConfig::default()
        };
        change(&mut config);
        let logger = setup_logging(config).unwrap();
        let dir = logger.run_dir();
        Self {
            folder,
            burn: dir.join("burn"),
            dir,
            logger,
            _turn: turn,
        }
    }

    /// Ends the run, and returns its rows with every value.
    fn finish(&self) -> Vec<StoredRow> {
        self.logger.finish();
        let run = StoredRun::open(&self.dir).unwrap();
        run.all_rows(0).unwrap().map(Result::unwrap).collect()
    }

    /// Goes on with a run that has ended.
    fn resume(self) -> Self {
        let name = self.logger.name().to_owned();
        let resume = Some(name.clone());
        Self::open(&name, self.folder, self._turn, |config| {
            config.run = LogConfig::default().run;
            config.resume = resume;
        })
    }
}

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed does not concern the others.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn steps(rows: &[StoredRow], name: &str) -> Vec<u64> {
    let name = format!("metrics/{name}");
    let of_metric = rows.iter().filter(|row| row.value(&name).is_some());
    of_metric.map(|row| row.step).collect()
}

fn values(rows: &[StoredRow], name: &str) -> Vec<f64> {
    let name = format!("metrics/{name}");
    rows.iter().filter_map(|row| row.value(&name)).collect()
}

/// Returns the numbers of a metric that burn's file logger has written for an epoch.
fn burns_numbers(directory: &Path, split: &str, epoch: u32, metric: &str) -> Vec<f64> {
    let file = format!("{}.log", metric.replace(' ', "_"));
    numbers_in(&directory.join(split).join(format!("epoch-{epoch}")).join(file))
}

fn numbers_in(file: &Path) -> Vec<f64> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| NumericEntry::deserialize(line).unwrap().current())
        .collect()
}

/// Returns the files of burn's loggers and the names of its checkpoints, relative to a directory.
/// Two trainings write records with other ids into their checkpoints.
fn files(directory: &Path) -> BTreeMap<PathBuf, Option<String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            let content = is_log.then(|| fs::read_to_string(&path).unwrap());
            found.insert(path.strip_prefix(directory).unwrap().to_owned(), content);
        }
    }
    found
}

/// Asks the run to stop once it has reached a step, as W&B does after a click on its stop button.
struct StopAt {
    step: u64,
    stop: StopFlag,
}

impl Sink for StopAt {
    fn wants(&self, what: EventKind) -> bool {
        matches!(what, EventKind::Metrics)
    }

    fn metrics(&mut self, batch: &MetricBatch<'_>) -> Result<(), SinkError> {
        if batch.step() >= self.step {
            self.stop.request();
        }
        Ok(())
    }
}

register_sink!("stop", |options: BTreeMap<String, u64>,
                        context: &BuildContext<'_>|
 -> Result<StopAt, ConfigError> {
    let step = options["step"];
    let stop = context.stop_flag().clone();
    Ok(StopAt { step, stop })
});
