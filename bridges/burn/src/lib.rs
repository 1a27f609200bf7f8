#![doc = include_str!("../README.md")]

mod checkpoints;
#[cfg(feature = "gpu")]
mod memory;
mod phase;
mod renderer;
mod report;
mod resume;

use burn_train::{EvaluatorBuilder, EvaluatorComponentTypes, LearnerModel, SupervisedTraining};
use facade::UnifiedLogger;

pub use self::checkpoints::last_checkpoint;
#[cfg(feature = "gpu")]
pub use self::memory::report_memory;
use self::renderer::RunRenderer;

/// Lets a training or an evaluation of burn report to the logger.
///
/// The logger gets the metrics and the progress, draws the bars, and takes the log lines of burn.
/// The files of burn's own metric logger stay where they were, so that checkpoint strategies, early
/// stopping and `.summary()` work as before. Metrics are for
/// [`metrics`](SupervisedTraining::metrics), as without this crate.
///
/// Call this function after `with_interrupter`, because the interrupter that the training has now
/// is the one that a stop of the logger triggers.
///
/// burn's line for each iteration is left out
/// ([`add_directives`](UnifiedLogger::add_directives)), because the bars show the iterations.
///
/// ```
/// # use burn::data::dataloader::{DataLoaderBuilder, batcher::Batcher};
/// # use burn::data::dataset::InMemDataset;
/// # use burn::module::{Module, Param};
/// # use burn::optim::{SgdConfig, lr_scheduler::constant::ConstantLr};
/// # use burn::tensor::{Device, Tensor};
/// # use burn::train::metric::LossMetric;
/// # use burn::train::{InferenceStep, Learner, RegressionOutput, SupervisedTraining, TrainOutput, TrainStep};
/// # #[derive(Module, Debug)]
/// # struct Weight { value: Param<Tensor<2>> }
/// # #[derive(Clone)]
/// # struct Numbers;
/// # impl Batcher<f32, Tensor<2>> for Numbers {
/// #     fn batch(&self, items: Vec<f32>, device: &Device) -> Tensor<2> {
/// #         Tensor::<1>::from_floats(items.as_slice(), device).unsqueeze_dim(1)
/// #     }
/// # }
/// # impl Weight {
/// #     fn forward(&self, batch: Tensor<2>) -> RegressionOutput {
/// #         let output = batch.clone().matmul(self.value.val());
/// #         let loss = (output.clone() - batch.clone()).powi_scalar(2).mean();
/// #         RegressionOutput::new(loss, output, batch)
/// #     }
/// # }
/// # impl TrainStep for Weight {
/// #     type Input = Tensor<2>;
/// #     type Output = RegressionOutput;
/// #     fn step(&self, batch: Tensor<2>) -> TrainOutput<RegressionOutput> {
/// #         let item = self.forward(batch);
/// #         TrainOutput::new(self, item.loss.backward(), item)
/// #     }
/// # }
/// # impl InferenceStep for Weight {
/// #     type Input = Tensor<2>;
/// #     type Output = RegressionOutput;
/// #     fn step(&self, batch: Tensor<2>) -> RegressionOutput { self.forward(batch) }
/// # }
/// # let folder = tempfile::tempdir().unwrap();
/// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
/// # let numbers = || DataLoaderBuilder::new(Numbers).batch_size(4).build(InMemDataset::new(vec![1.0, 2.0, 3.0, 4.0]));
/// # let (numbers, others) = (numbers(), numbers());
/// # let value = Param::from_tensor(Tensor::zeros([1, 1], &Device::default().autodiff()));
/// # let learner = Learner::new(Weight { value }, SgdConfig::new().init(), ConstantLr::new(0.1));
/// let logger = facade::setup_logging(config)?;
/// let training = SupervisedTraining::new(logger.run_dir().join("burn"), numbers, others)
///     .metrics((LossMetric::new(),))
///     .num_epochs(2);
/// logcore_burn::attach(training, &logger).launch(learner);
///
/// let loss = logger.metrics().history("train/Loss").unwrap();
/// assert_eq!((loss[0].step, loss[0].value), (1, 7.5));
/// assert_eq!(logger.metrics().history("valid/Loss").unwrap().len(), 2);
/// # Ok::<(), facade::LogError>(())
/// ```
pub fn attach<T: Attachable>(to: T, logger: &UnifiedLogger) -> T {
    // The text is constant, and a logger that has ended takes no lines anyway.
    let _ = logger.add_directives(QUIET);
    to.attached(logger.clone())
}

/// burn logs a line for each iteration here, and what the logger says itself.
const QUIET: &str = "burn_train::learner::supervised::strategies=warn";

/// A training or an evaluation that [`attach`] takes. Only this crate implements it.
///
/// ```
/// fn is_attachable<T: logcore_burn::Attachable>() -> bool {
///     true
/// }
/// # use burn::train::{EvaluatorBuilder, EvaluatorComponentTypes, LearnerModel, SupervisedTraining};
/// fn both<M: LearnerModel, C: EvaluatorComponentTypes>() {
///     assert!(is_attachable::<SupervisedTraining<M>>());
///     assert!(is_attachable::<EvaluatorBuilder<C>>());
/// }
/// ```
pub trait Attachable: sealed::Attachable {}

impl<T: sealed::Attachable> Attachable for T {}

mod sealed {
    use facade::UnifiedLogger;

    pub trait Attachable {
        fn attached(self, logger: UnifiedLogger) -> Self;
    }
}

impl<M: LearnerModel> sealed::Attachable for SupervisedTraining<M> {
    fn attached(self, logger: UnifiedLogger) -> Self {
        let renderer = RunRenderer::new(logger, Some(self.interrupter()));
        self.renderer(Box::new(renderer)).with_application_logger(None)
    }
}

impl<C: EvaluatorComponentTypes> sealed::Attachable for EvaluatorBuilder<C> {
    fn attached(self, logger: UnifiedLogger) -> Self {
        self.renderer(Box::new(RunRenderer::new(logger, None)))
            .with_application_logger(None)
    }
}
