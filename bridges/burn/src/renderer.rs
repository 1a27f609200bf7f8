//! Reports a training and an evaluation to the logger. burn gives its renderer every value that it
//! gives its own metric logger, and all progress.

use std::error::Error;
use std::mem;
use std::time::{Duration, Instant};

use burn_train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn_train::metric::MetricDefinition;
use burn_train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use burn_train::{Interrupter, LearnerSummary};
use facade::{Bar, UnifiedLogger};

use crate::report::{MetricNumber, PassMeans, Report, describe, row};
use crate::{phase, resume};

/// The metric with the number of the epoch, from 1 on.
pub(crate) const EPOCH: &str = "epoch";

/// A reading has burn submit its queued work, so not each iteration has one.
const MEMORY_EVERY: Duration = Duration::from_secs(1);

/// Reports one training, one evaluation, or one after the other.
pub(crate) struct RunRenderer {
    logger: UnifiedLogger,
    /// Stops the training. burn has no such handle for an evaluation.
    interrupter: Option<Interrupter>,
    report: Report,
    epochs: Epochs,
    pass: Pass,
    memory_read: Option<Instant>,
}

/// The epochs of the training.
#[derive(Default)]
struct Epochs {
    current: usize,
    total: usize,
    bar: Option<Bar>,
    /// Number of training iterations in an epoch, once one is over.
    iterations: Option<u64>,
    /// Values of the passes of this epoch, for its line.
    passes: Vec<String>,
}

/// The pass over data that is under way.
enum Pass {
    None,
    Training(TrainingPass),
    Validation(SidePass),
    Test {
        name: String,
        pass: SidePass,
        means: PassMeans,
    },
}

struct TrainingPass {
    items: usize,
    total_items: usize,
    iterations: u64,
}

/// A pass that trains nothing. All of its values belong to the training step at which it began.
struct SidePass {
    step: u64,
    items: usize,
    bar: Bar,
}

impl RunRenderer {
    pub(crate) fn new(logger: UnifiedLogger, interrupter: Option<Interrupter>) -> Self {
        Self {
            logger,
            interrupter,
            report: Report::default(),
            epochs: Epochs::default(),
            pass: Pass::None,
            memory_read: None,
        }
    }

    fn end_iteration(&mut self, items: usize) {
        let numbers = self.report.take_numbers();
        match &mut self.pass {
            Pass::None => {}
            Pass::Training(pass) => {
                pass.advance_to(items, &self.logger, &self.epochs);
                let mut values = row("train/", &numbers);
                values.push((EPOCH.to_owned(), (self.epochs.current as u64).into()));
                self.logger.log_metrics(values);
                self.log_memory(MEMORY_EVERY);
            }
            Pass::Validation(pass) => {
                pass.advance_to(items);
                self.logger.log_metrics_at(pass.step, row("valid_batch/", &numbers));
            }
            Pass::Test { name, pass, means } => {
                pass.advance_to(items);
                means.add(&numbers);
                let values = row(&format!("test_batch/{name}/"), &numbers);
                self.logger.log_metrics_at(pass.step, values);
            }
        }
        self.heed_stop();
    }

    fn end_pass(&mut self) {
        // The values that burn has reported since the last iteration are those of the whole pass.
        let numbers = self.report.take_numbers();
        match mem::replace(&mut self.pass, Pass::None) {
            Pass::None => {}
            Pass::Training(pass) => {
                self.logger.finish_progress();
                self.epochs.iterations = Some(pass.iterations);
                self.logger.log_metrics(row("train_epoch/", &numbers));
                self.epochs.passes.push(format!("train {}", describe(&numbers)));
            }
            Pass::Validation(pass) => {
                self.set_goals(&numbers);
                self.logger.log_metrics_at(pass.step, row("valid/", &numbers));
                self.epochs.passes.push(format!("valid {}", describe(&numbers)));
            }
            Pass::Test { name, pass, means } => {
                // burn computes no values of a whole test.
                let numbers = means.into_numbers();
                let values = row(&format!("test/{name}/"), &numbers);
                self.logger.log_metrics_at(pass.step, values);
                let values = describe(&numbers);
                self.logger.info(format_args!("Test {name}: {values}"));
            }
        }
        for (name, text) in self.report.take_texts() {
            self.logger.info(format_args!("{name}: {text}"));
        }
        phase::leave();
        self.log_memory(Duration::ZERO);
    }

    /// The best value of a validation stands in the summary of the run.
    fn set_goals(&self, numbers: &[MetricNumber]) {
        for MetricNumber { metric, .. } in numbers {
            if let Some(goal) = metric.goal {
                self.logger.goal(&format!("valid/{}", metric.name), goal);
            }
        }
    }

    fn start_side_pass(&self, description: String, total_items: usize) -> SidePass {
        phase::enter(&self.logger, "eval");
        SidePass {
            // A call without values takes no step, and tells the present one.
            step: self.logger.log_metrics::<[(&str, f64); 0]>([]).step(),
            items: 0,
            bar: self.logger.bar(total_items as u64, description),
        }
    }

    fn log_memory(&mut self, pause: Duration) {
        if self.memory_read.is_none_or(|read| read.elapsed() >= pause) {
            self.memory_read = Some(Instant::now());
            self.logger.log_memory();
        }
    }

    fn heed_stop(&self) {
        let Some(interrupter) = &self.interrupter else { return };
        if !interrupter.should_stop() && self.logger.stop_requested() {
            self.logger
                .info("Stopping the training, because the run was asked to stop");
            interrupter.stop(Some("the run was asked to stop"));
        }
    }
}

impl Epochs {
    fn description(&self, pass: &str) -> String {
        format!("{pass} {}/{}", self.current, self.total)
    }
}

impl TrainingPass {
    fn advance_to(&mut self, items: usize, logger: &UnifiedLogger, epochs: &Epochs) {
        if self.iterations == 0 && epochs.iterations.is_none() {
            // burn tells the number of items. The first batch tells how many batches that is.
            let batches = self.total_items.div_ceil(items.max(1)) as u64;
            logger.start_progress(batches, epochs.description("Epoch"));
        }
        self.iterations += 1;
        logger.update_progress(1, items.saturating_sub(self.items) as u64);
        self.items = items;
    }
}

impl SidePass {
    fn advance_to(&mut self, items: usize) {
        self.bar.advance(items.saturating_sub(self.items) as u64);
        self.items = items;
    }
}

impl TrainingProgressLogger for RunRenderer {
    fn start(&mut self, total: usize, starting_epoch: usize, _items: Option<usize>, label: Option<&str>) {
        self.epochs = Epochs {
            current: starting_epoch,
            total,
            ..Epochs::default()
        };
        resume::continue_run(&self.logger, starting_epoch);
        let label = label.unwrap_or("training");
        self.logger
            .info(format_args!("Starting {label}: epoch {starting_epoch} of {total}"));
        let left = (total + 1).saturating_sub(starting_epoch);
        self.epochs.bar = Some(self.logger.bar(left as u64, "Epochs"));
    }

    fn start_split(&mut self, split: &str, total_items: usize) {
        phase::leave();
        if split == "train" {
            if let Some(iterations) = self.epochs.iterations {
                self.logger.start_progress(iterations, self.epochs.description("Epoch"));
            }
            self.pass = Pass::Training(TrainingPass {
                items: 0,
                total_items,
                iterations: 0,
            });
        } else {
            let description = self.epochs.description("Validation");
            self.pass = Pass::Validation(self.start_side_pass(description, total_items));
        }
    }

    fn update_split(&mut self, items: usize) {
        self.end_iteration(items);
    }

    fn end_split(&mut self) {
        self.end_pass();
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.log_passes("End of epoch");
        if let Some(bar) = &self.epochs.bar {
            bar.advance(1);
        }
        self.epochs.current = epoch + 1;
        // Until the next pass, burn writes its checkpoint and decides whether to stop.
        phase::enter(&self.logger, "checkpoint");
    }

    fn end(&mut self) {
        phase::leave();
        self.log_passes("In the part of epoch");
        self.epochs.bar = None;
    }

    /// The only events are the iterations, which burn reports in other ways, too.
    fn log_event_training(&mut self, _event: String) {}
}

impl MetricsRendererTraining for RunRenderer {
    fn update_train(&mut self, state: MetricState) {
        self.report.add(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.report.add(state);
    }

    fn on_train_end(&mut self, summary: Option<LearnerSummary>) -> Result<(), Box<dyn Error>> {
        self.log_summary(summary);
        Ok(())
    }
}

impl EvaluationProgressLogger for RunRenderer {
    fn start_global_progress(&mut self, _tests: usize) {}

    fn start_test(&mut self, name: &str, total_items: usize) {
        self.pass = Pass::Test {
            name: name.to_owned(),
            pass: self.start_side_pass(format!("Test {name}"), total_items),
            means: PassMeans::default(),
        };
    }

    fn update_test_progress(&mut self, items: usize) {
        self.end_iteration(items);
    }

    fn end_test(&mut self) {
        self.end_pass();
    }

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRendererEvaluation for RunRenderer {
    fn update_test(&mut self, _test: EvaluationName, state: MetricState) {
        self.report.add(state);
    }

    fn on_test_end(&mut self, summary: Option<LearnerSummary>) -> Result<(), Box<dyn Error>> {
        self.log_summary(summary);
        Ok(())
    }
}

impl MetricsRenderer for RunRenderer {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.report.announce(definition);
    }
}

impl RunRenderer {
    /// Logs the values of the passes since the last call, if there were any.
    fn log_passes(&mut self, part: &str) {
        let passes = mem::take(&mut self.epochs.passes);
        if !passes.is_empty() {
            let (epoch, passes) = (self.epochs.description(part), passes.join("; "));
            self.logger.info(format_args!("{epoch}: {passes}"));
        }
    }

    /// burn prints its summary, and the terminal belongs to the logger.
    fn log_summary(&self, summary: Option<LearnerSummary>) {
        if let Some(summary) = summary {
            self.logger.info(summary);
        }
    }
}

#[cfg(test)]
mod tests {
    use facade::{LogConfig, setup_logging};

    use super::*;

    #[test]
    fn each_batch_is_a_step_even_if_the_first_one_promised_fewer() {
        let folder = tempfile::tempdir().unwrap();
        let logger = setup_logging(LogConfig {
            log_dir: folder.path().into(),
            enable_console: false,
            ..LogConfig::default()
        })
        .unwrap();
        let mut renderer = RunRenderer::new(logger.clone(), None);
        renderer.start(2, 1, None, None);
        // Batches of five items and of one: six, where the first one promises two.
        for epoch in 1..=2 {
            renderer.start_split("train", 10);
            for items in 5..=10 {
                renderer.update_split(items);
            }
            renderer.end_split();
            renderer.update_epoch(epoch);
        }
        renderer.end();

        let points = logger.metrics().history(EPOCH).unwrap();
        let epochs: Vec<_> = points.iter().map(|point| (point.step, point.value)).collect();
        let expected: Vec<_> = (1..=12).map(|step| (step, if step > 6 { 2.0 } else { 1.0 })).collect();
        assert_eq!(epochs, expected);
    }
}
