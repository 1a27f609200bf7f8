//! A line through the origin that burn fits in milliseconds, always in the same way.

use std::path::Path;
use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::lr_scheduler::constant::ConstantLr;
use burn::module::{Module, Param};
use burn::optim::SgdConfig;
use burn::tensor::{Device, Tensor, TensorReadError};
use burn::train::metric::store::{Aggregate, Direction, Split};
use burn::train::metric::{
    LearningRateMetric, LossMetric, Metric, MetricMetadata, MetricName, Numeric, NumericEntry, SerializedEntry,
};
use burn::train::{
    InferenceStep, Learner, MetricEarlyStoppingStrategy, RegressionOutput, StoppingCondition, SupervisedTraining,
    TrainOutput, TrainStep,
};

/// Batches of an epoch of training: five of four points, and one of two.
pub(crate) const ITERATIONS: u64 = 6;
pub(crate) const EPOCHS: usize = 12;

#[derive(Module, Debug)]
pub(crate) struct Line {
    slope: Param<Tensor<2>>,
}

impl Line {
    fn fit(&self, batch: Points) -> RegressionOutput {
        let output = batch.x.matmul(self.slope.val());
        let loss = (output.clone() - batch.y.clone()).powi_scalar(2).mean();
        RegressionOutput::new(loss, output, batch.y)
    }
}

impl TrainStep for Line {
    type Input = Points;
    type Output = RegressionOutput;

    fn step(&self, batch: Points) -> TrainOutput<RegressionOutput> {
        let item = self.fit(batch);
        TrainOutput::new(self, item.loss.backward(), item)
    }
}

impl InferenceStep for Line {
    type Input = Points;
    type Output = RegressionOutput;

    fn step(&self, batch: Points) -> RegressionOutput {
        self.fit(batch)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Points {
    x: Tensor<2>,
    y: Tensor<2>,
}

/// Points of a line with this slope.
struct LineBatcher(f32);

impl Batcher<f32, Points> for LineBatcher {
    fn batch(&self, items: Vec<f32>, device: &Device) -> Points {
        let x = Tensor::<1>::from_floats(items.as_slice(), device).unsqueeze_dim(1);
        let y = x.clone() * self.0;
        Points { x, y }
    }
}

pub(crate) fn points(len: u8, slope: f32) -> Arc<dyn DataLoader<Points>> {
    let items = (1..=len).map(|n| f32::from(n) / f32::from(len)).collect();
    DataLoaderBuilder::new(LineBatcher(slope))
        .batch_size(4)
        .build(InMemDataset::new(items))
}

pub(crate) fn learner() -> Learner<Line> {
    let device = Device::default().autodiff();
    let slope = Param::from_tensor(Tensor::zeros([1, 1], &device));
    Learner::new(Line { slope }, SgdConfig::new().init(), ConstantLr::new(0.05))
}

/// A training towards a slope of `slope`, whose validation loss is best at a slope of 2: after some
/// epochs the validation gets worse.
pub(crate) fn training(directory: &Path, slope: f32) -> SupervisedTraining<Line> {
    SupervisedTraining::new(directory, points(22, slope), points(10, 2.0))
        .metrics((LossMetric::new(), LearningRateMetric::new(), Updates::default()))
        .metrics_text((Note::default(),))
        .with_default_checkpointers()
        .num_epochs(EPOCHS)
}

pub(crate) fn early_stopping() -> MetricEarlyStoppingStrategy {
    MetricEarlyStoppingStrategy::new(
        &LossMetric::new(),
        Aggregate::Mean,
        Direction::Lowest,
        Split::Valid,
        StoppingCondition::NoImprovementSince { n_epochs: 2 },
    )
}

/// The number of updates of a pass, which is known at its end, as the AUROC is.
#[derive(Clone, Default)]
pub(crate) struct Updates(u32);

impl Metric for Updates {
    type Input = ();

    fn name(&self) -> MetricName {
        Arc::new("Number of Updates".to_owned())
    }

    fn update(&mut self, (): &(), _: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        self.0 += 1;
        Ok(SerializedEntry::not_available(None))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        let serialized = self.final_value().serialize();
        Ok(SerializedEntry::new(serialized.clone(), serialized))
    }

    fn clear(&mut self) {
        self.0 = 0;
    }
}

impl Numeric for Updates {
    fn value(&self) -> Option<NumericEntry> {
        None
    }

    fn running_value(&self) -> Option<NumericEntry> {
        None
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Value(self.0.into())
    }
}

/// A metric of texts.
#[derive(Clone, Default)]
pub(crate) struct Note(Updates);

impl Metric for Note {
    type Input = ();

    fn name(&self) -> MetricName {
        Arc::new("Note".to_owned())
    }

    fn update(&mut self, (): &(), _: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        self.0.0 += 1;
        self.compute()
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        let text = format!("{} updates", self.0.0);
        Ok(SerializedEntry::new(text.clone(), text))
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
