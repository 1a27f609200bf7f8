//! Trains a classifier of digits with burn, and logs everything: metrics, bars, W&B (offline),
//! TensorBoard, GPU memory.
//!
//! ```sh
//! cargo run --release --example digits                    # on the processor
//! cargo run --release --example digits --features cuda    # on a GPU; the build downloads LLVM
//! ```
//!
//! Kill the program, and start it again: the same run goes on behind its last checkpoint. The data
//! are made here, so nothing is downloaded.

use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::{Dataset, DatasetError};
use burn::lr_scheduler::constant::ConstantLr;
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig, Relu};
use burn::optim::AdamConfig;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::train::metric::store::{Aggregate, Direction, Split};
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{
    ClassificationOutput, EvaluatorBuilder, InferenceStep, Learner, MetricEarlyStoppingStrategy, StoppingCondition,
    SupervisedTraining, TrainOutput, TrainStep,
};
use facade::{LogConfig, setup_logging};
use logcore_burn::{attach, last_checkpoint};
use serde_json::json;

const EPOCHS: usize = 30;
const BATCH_SIZE: usize = 64;
const LEARNING_RATE: f64 = 1e-2;
const HIDDEN: usize = 64;
const SEED: u64 = 42;

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "digits".into(),
        log_dir: "outputs/examples/digits".into(),
        // The newest run of this name that did not finish; without one, a new run.
        resume: Some("auto".into()),
        enable_wandb: true,
        sinks: [
            // `online` sends the run while it goes on; `wandb sync` sends it later.
            ("wandb".into(), json!({"mode": "offline"})),
            ("tensorboard".into(), json!({})),
        ]
        .into(),
        // The newest values beside the bars.
        progress_metrics: ["train/Loss", "train/Accuracy", "valid/Loss"].map(String::from).into(),
        hyper_parameters: [
            ("batch_size".into(), json!(BATCH_SIZE)),
            ("learning_rate".into(), json!(LEARNING_RATE)),
            ("hidden".into(), json!(HIDDEN)),
        ]
        .into(),
        ..LogConfig::default()
    })?;

    let device = Device::default().autodiff();
    device.seed(SEED);
    #[cfg(feature = "gpu")]
    logcore_burn::report_memory(&device, 0);

    // burn's checkpoints and files belong to the run, so a resumed run finds them.
    let directory = logger.run_dir().join("burn");
    let stop_early = MetricEarlyStoppingStrategy::new(
        &LossMetric::new(),
        Aggregate::Mean,
        Direction::Lowest,
        Split::Valid,
        StoppingCondition::NoImprovementSince { n_epochs: 2 },
    );
    let mut training = SupervisedTraining::new(&directory, digits(1, 4000), digits(2, 1000))
        .metrics((LossMetric::new(), AccuracyMetric::new()))
        .with_default_checkpointers()
        .early_stopping(stop_early)
        .num_epochs(EPOCHS)
        .summary();
    if let Some(epoch) = last_checkpoint(&directory) {
        training = training.checkpoint(epoch);
    }
    let learner = Learner::new(
        Classifier::new(&device),
        AdamConfig::new().init(),
        ConstantLr::new(LEARNING_RATE),
    );
    let trained = attach(training, &logger).launch(learner);

    let evaluation = EvaluatorBuilder::new(&directory).metrics((LossMetric::new(), AccuracyMetric::new()));
    attach(evaluation, &logger)
        .build(trained.model)
        .eval("unseen", digits(3, 1000));

    logger.finish();
    Ok(())
}

/// A small network of two layers.
#[derive(Module, Debug)]
struct Classifier {
    hidden: Linear,
    output: Linear,
}

impl Classifier {
    fn new(device: &Device) -> Self {
        Self {
            hidden: LinearConfig::new(PIXELS, HIDDEN).init(device),
            output: LinearConfig::new(HIDDEN, GLYPHS.len()).init(device),
        }
    }

    fn classify(&self, batch: DigitBatch) -> ClassificationOutput {
        let hidden = Relu::new().forward(self.hidden.forward(batch.images));
        let output = self.output.forward(hidden);
        let loss = CrossEntropyLossConfig::new()
            .init(&output.device())
            .forward(output.clone(), batch.targets.clone());
        ClassificationOutput::new(loss, output, batch.targets)
    }
}

impl TrainStep for Classifier {
    type Input = DigitBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: DigitBatch) -> TrainOutput<ClassificationOutput> {
        let item = self.classify(batch);
        TrainOutput::new(self, item.loss.backward(), item)
    }
}

impl InferenceStep for Classifier {
    type Input = DigitBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: DigitBatch) -> ClassificationOutput {
        self.classify(batch)
    }
}

/// Returns batches of `len` digits that `seed` decides, in an order that it decides, too.
fn digits(seed: u64, len: usize) -> Arc<dyn DataLoader<DigitBatch>> {
    DataLoaderBuilder::new(DigitBatcher)
        .batch_size(BATCH_SIZE)
        .shuffle(seed)
        .build(Digits { seed, len })
}

/// Images of digits: each is drawn at a random place, paler or darker, on a noisy ground.
struct Digits {
    seed: u64,
    len: usize,
}

#[derive(Clone, Debug)]
struct Digit {
    pixels: Vec<f32>,
    number: i64,
}

const SIDE: usize = 12;
const PIXELS: usize = SIDE * SIDE;
const GLYPH_WIDTH: usize = 3;
const GLYPH_HEIGHT: usize = 5;
/// The digits, row by row.
const GLYPHS: [&[u8; GLYPH_WIDTH * GLYPH_HEIGHT]; 10] = [
    b"####.##.##.####",
    b".#.##..#..#.###",
    b"###..#####..###",
    b"###..####..####",
    b"#.##.####..#..#",
    b"####..###..####",
    b"####..####.####",
    b"###..#..#..#..#",
    b"####.#####.####",
    b"####.####..####",
];

impl Dataset<Digit> for Digits {
    fn get(&self, index: usize) -> Result<Digit, DatasetError> {
        let mut random = fastrand::Rng::with_seed(self.seed << 32 | index as u64);
        let number = random.usize(..GLYPHS.len());
        let ink = 0.7 + 0.3 * random.f32();
        let left = random.usize(4..=6);
        let top = random.usize(3..=4);
        let mut pixels: Vec<f32> = std::iter::repeat_with(|| 0.4 * random.f32()).take(PIXELS).collect();
        for (place, dot) in GLYPHS[number].iter().enumerate() {
            if *dot == b'#' {
                let (row, column) = (top + place / GLYPH_WIDTH, left + place % GLYPH_WIDTH);
                pixels[row * SIDE + column] += ink;
            }
        }
        let number = number as i64;
        Ok(Digit { pixels, number })
    }

    fn len(&self) -> usize {
        self.len
    }
}

#[derive(Clone, Debug)]
struct DigitBatch {
    images: Tensor<2>,
    targets: Tensor<1, Int>,
}

struct DigitBatcher;

impl Batcher<Digit, DigitBatch> for DigitBatcher {
    fn batch(&self, digits: Vec<Digit>, device: &Device) -> DigitBatch {
        let numbers: Vec<i64> = digits.iter().map(|digit| digit.number).collect();
        let pixels: Vec<f32> = digits.into_iter().flat_map(|digit| digit.pixels).collect();
        let len = numbers.len();
        DigitBatch {
            images: Tensor::from_data(TensorData::new(pixels, [len, PIXELS]), device),
            targets: Tensor::from_data(TensorData::new(numbers, [len]), device),
        }
    }
}
