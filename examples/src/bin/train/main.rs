//! A real training: a small language model learns to predict the next byte of source code. One
//! logger records text, progress, metrics, memory and hyper-parameters. At the end the program
//! prints its measurements.
//!
//! ```sh
//! cargo run --release -p examples --bin train
//! cargo run --release -p examples --bin train -- --fast --log-dir outputs/train --data .
//! ```

#![allow(clippy::print_stdout, reason = "a program prints its results")]

mod data;
mod matrix;
mod model;
mod options;
mod rng;
mod schedule;
mod sgd;

use std::path::Path;

use anyhow::{Result, ensure};
use facade::wandb::MetricDefinition;
use facade::{LogConfig, UnifiedLogger, setup_logging};
use serde_json::{Value, json};

use crate::data::Corpus;
use crate::model::{Model, Score};
use crate::options::Options;
use crate::rng::Rng;
use crate::schedule::Schedule;
use crate::sgd::Sgd;

/// Number of validations in the run.
const VALIDATIONS: u64 = 6;
/// Number of bytes that a validation predicts.
const VALIDATION_BYTES: usize = 2000;

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let logger = setup_logging(LogConfig {
        name: "train".into(),
        log_dir: options.log_dir.clone(),
        run: options.run.clone(),
        metrics_window: 50,
        probes: [("host".into(), json!(true))].into(),
        enable_wandb: options.wandb.is_some(),
        wandb_project: Some("logcore-demo".into()),
        wandb_name: Some("a byte-level language model".into()),
        sinks: [("wandb".into(), wandb_options(&options))].into(),
        ..LogConfig::default()
    })?;

    let mut rng = Rng::new(options.seed);
    logger.info(format_args!(
        "Loading the .rs and .md files below {}",
        near(&options.data).display()
    ));
    let corpus = Corpus::read(&options.data, options.shape.context, &mut rng)?;
    let model = Model::new(options.shape, &mut rng);
    logger.log_config(&options);
    logger.info(format_args!(
        "Starting: {} bytes of {} files to learn from, {} of {} for validation, {} weights",
        corpus.train.targets(),
        corpus.train.files,
        corpus.validation.targets(),
        corpus.validation.files,
        model.parameters()
    ));

    let (model, validation) = train(&logger, &options, &corpus, model, &mut rng);
    logger.info(format_args!(
        "Sample of the model:\n{}",
        sample(&model, &options, &mut rng)
    ));
    report(&logger, &options, validation)
}

/// Returns the options for a run on the server at this address, or for one that stays on disk.
fn wandb_options(options: &Options) -> Value {
    match options.wandb.as_deref() {
        None | Some("offline") => json!({"mode": "offline"}),
        Some(address) => json!({"mode": "online", "base_url": address}),
    }
}

/// Returns a path relative to the current folder, if it is below.
fn near(path: &Path) -> &Path {
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(here) {
        Ok(rest) if rest.as_os_str().is_empty() => Path::new("."),
        Ok(rest) => rest,
        Err(_) => path,
    }
}

/// Trains the model; returns it with the score of its last validation.
fn train(
    logger: &UnifiedLogger,
    options: &Options,
    corpus: &Corpus,
    mut model: Model,
    rng: &mut Rng,
) -> (Model, Score) {
    // The summary of the run then has the minimum of the loss, not only its last value.
    logger
        .wandb()
        .define_metric(MetricDefinition::new("loss").summary(["min", "last"]));
    let schedule = Schedule {
        peak: options.learning_rate,
        warm_up: (options.steps / 20).max(1),
        steps: options.steps,
    };
    let mut sgd = Sgd::new(&model, options.momentum);
    let examples = corpus.validation.spread(VALIDATION_BYTES);
    let mut validation = model.score(&examples);

    logger.start_progress(options.steps, "Training");
    for step in 1..=options.steps {
        let batch = corpus.train.batch(options.batch_size, rng);
        let (score, gradient) = model.gradient(&batch);
        let rate = schedule.rate(step - 1);
        let norm = sgd.step(&mut model, &gradient, rate);

        logger.update_progress(1, batch.len());
        logger.log_metrics([
            ("loss", score.bits),
            ("accuracy", score.accuracy),
            ("learning_rate", f64::from(rate)),
            ("grad_norm", norm),
        ]);
        if !score.bits.is_finite() {
            logger.error(format_args!("the loss is {} at step {step}", score.bits));
        }
        if step % 10 == 0 {
            logger.log_memory();
        }
        if step % (options.steps / VALIDATIONS).max(1) == 0 || step == options.steps {
            validation = model.score(&examples);
            logger.log_metrics([("val/loss", validation.bits), ("val/accuracy", validation.accuracy)]);
            logger.info(format_args!(
                "Validation at step {step}: {:.3} bits per byte, {:.1} % right",
                validation.bits,
                validation.accuracy * 100.0
            ));
        }
    }
    (model, validation)
}

/// Returns a few lines of text that the model writes.
fn sample(model: &Model, options: &Options, rng: &mut Rng) -> String {
    let context = options.shape.context;
    let mut text = format!("{:>context$}", "\npub fn ").into_bytes();
    for _ in 0..240 {
        text.push(model.draw(&text[text.len() - context..], 0.6, rng));
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Ends the run and prints its measurements. A loss above the expected limit is an error.
fn report(logger: &UnifiedLogger, options: &Options, validation: Score) -> Result<()> {
    let loss = logger.metrics().stats("loss");
    let first = logger
        .metrics()
        .history("loss")
        .and_then(|points| points.first().copied());
    let throughput = logger.metrics().average("throughput/samples_per_sec");
    let converged = loss.is_some_and(|loss| loss.mean < options.max_loss);
    if converged {
        logger.info("Training complete");
    } else {
        logger.warning(format_args!(
            "the loss did not come below {} bits per byte",
            options.max_loss
        ));
        logger.set_exit_code(1);
    }
    let page = logger.wandb().url();
    let books = logger.finish();

    if let (Some(loss), Some(first)) = (loss, first) {
        println!(
            "\nbits per byte: first {:.2}, least {:.2}, last 50 steps {:.2}",
            first.value, loss.min, loss.mean
        );
    }
    println!(
        "validation:    {:.2} bits per byte, {:.1} % right",
        validation.bits,
        validation.accuracy * 100.0
    );
    if let Some(throughput) = throughput {
        println!("throughput:    {throughput:.0} bytes per second");
    }
    println!("files:");
    for file in ["training.log", "metrics.jsonl", "config.json", "summary.json"] {
        println!("  {}", options.log_dir.join(file).display());
    }
    let lost: u64 = books.sinks.values().map(|books| books.dropped_total()).sum();
    ensure!(lost == 0, "not all was delivered or kept: {books:?}");
    if let Some(page) = page {
        println!("W&B:           {page}");
    }
    ensure!(
        converged,
        "the loss did not come below the limit of {} bits per byte",
        options.max_loss
    );
    Ok(())
}
