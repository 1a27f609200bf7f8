//! Trains a small transformer on logcore's own pages with tch, with everything that a training
//! needs from its logger: bars, validation, the best checkpoint, resume after a kill, media, and
//! all sinks of files. The same program for candle is beside it.
//!
//! ```sh
//! pip install torch==2.13.0   # or any libtorch of that version, in LIBTORCH
//! cd examples/frameworks/tch
//! LIBTORCH_USE_PYTORCH=1 cargo run --release          # on the CPU or on a GPU, in minutes
//! LIBTORCH_USE_PYTORCH=1 cargo run --release -- 300   # fewer steps
//! ```
//!
//! Kill the program at any moment; the same command goes on after the last checkpoint.
//!
//! libtorch bypasses the CUDA driver's memory pool, and neither its C interface nor tch reports its
//! usage. So a few lines of C++ (`shim.cpp`) are built against the libtorch that tch links.

mod adam;
mod allocator;
mod checkpoint;
// The text has no tensors, and is the same.
#[path = "../../candle/src/data.rs"]
mod data;
mod model;

use std::f64::consts::PI;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use facade::{AlertLevel, Goal, Image, LogConfig, OnSignal, UnifiedLogger, setup_logging};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::json;
use tch::nn::VarStore;
use tch::{Device, no_grad};

use crate::adam::Adam;
use crate::data::Corpus;
use crate::model::{CONTEXT, HEADS, LAYERS, Transformer, WIDTH};

/// Windows of a batch.
const BATCH: usize = 16;
const PEAK_RATE: f64 = 5e-3;
/// Validations in a run. A checkpoint follows each.
const VALIDATIONS: u64 = 10;
/// Bytes of a window: a context, and the byte behind it.
const WINDOW: usize = CONTEXT as usize + 1;
/// CUDA's number of the device.
const ORDINAL: usize = 0;
const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs");

fn main() -> Result<()> {
    let steps = std::env::args().nth(1).map_or(Ok(1000), |steps| steps.parse());
    let steps = steps.context("cannot read the number of steps")?;
    let config = LogConfig {
        name: "tch".into(),
        log_dir: "outputs/examples/tch".into(),
        // The newest run of this name that did not finish; without one, a new run.
        resume: Some("auto".into()),
        // SIGTERM asks the loop below to save and to stop.
        on_signal: OnSignal::Ask,
        progress_metrics: ["loss:mean", "val/loss"].map(String::from).into(),
        // Online with an API key, otherwise on disk.
        enable_wandb: true,
        wandb_project: Some("transformer".into()),
        report: true,
        sinks: [("tensorboard".into(), json!({}))].into(),
        ..LogConfig::default()
    };
    // `LOGCORE_…` variables go before these fields.
    let logger = setup_logging(config.with_env()?)?;
    train(&logger, steps).inspect_err(|error| {
        logger.error(format_args!("{error:#}"));
        // People hear of it through W&B and webhooks; `auto` goes on with a run that has failed.
        logger.alert("The training failed", format!("{error:#}"), AlertLevel::Error);
        logger.set_exit_code(1);
    })
}

fn train(logger: &UnifiedLogger, steps: u64) -> Result<()> {
    logger.log_config(&json!({
        "steps": steps, "batch": BATCH, "peak_rate": PEAK_RATE,
        "context": CONTEXT, "width": WIDTH, "heads": HEADS, "layers": LAYERS,
    }));
    let corpus = Corpus::read(Path::new(PAGES))?;
    let device = Device::cuda_if_available();
    let mut state = VarStore::new(device);
    let model = Transformer::new(&state.root());
    let mut adam = Adam::new(&state);
    let gpu_memory = facade::gpu::gauge(ORDINAL);

    // A checkpoint holds weights, Adam's moments and the step. Batches and rates follow from the
    // step, so an attempt that goes on sees what the killed one would have seen.
    let newest = logger.run_dir().join("newest.safetensors");
    let done = checkpoint::load(&mut state, &newest)?;
    facade::info!(logger, "Training on {device:?}, from step {} to {steps}", done + 1);
    // Also without a checkpoint: what a killed attempt has logged is done again.
    logger.start_from(done + 1);
    logger.goal("val/loss", Goal::Min);

    logger.start_progress_at(done, steps, "Training");
    let batches = (done + 1..=steps).map(|step| (step, corpus.batch(step, BATCH, WINDOW)));
    for (step, batch) in logger.data(batches) {
        let loss = model.loss(&batch);
        let rate = learning_rate(step, steps);
        let gradient_norm = adam.step(&loss, step, rate);
        let loss = loss.double_value(&[]);

        logger.update_progress(1, BATCH as u64);
        logger.log_metrics([
            ("loss", loss),
            ("learning_rate", rate),
            ("gradient_norm", gradient_norm),
        ]);
        // Nothing without a GPU. Only libtorch knows the memory of tensors.
        if let Some((allocated, reserved)) = allocator::usage(ORDINAL) {
            gpu_memory.set(allocated, reserved);
        }
        logger.log_memory();
        // The rows keep a NaN, and the checkpoint is from before it.
        ensure!(
            gradient_norm.is_finite(),
            "step {step} has the loss {loss} and the gradient norm {gradient_norm}"
        );

        let stop = logger.stop_requested();
        if step % steps.div_ceil(VALIDATIONS) == 0 || step == steps || stop {
            let val_loss = validate(logger, &model, &corpus)?;
            let is_best = logger.log_metrics([("val/loss", val_loss)]).is_best("val/loss");
            let _checkpoint = logger.phase("checkpoint");
            // The best one first: a kill between the two has the step done again.
            if is_best {
                checkpoint::save(&state, step, &newest.with_file_name("best.safetensors"))?;
            }
            checkpoint::save(&state, step, &newest)?;
        }
        if stop {
            facade::info!(logger, "Stopped behind step {step}; LOGCORE_RESUME=latest goes on");
            break;
        }
    }
    Ok(())
}

/// Returns the loss over the bytes for validation, and logs a sample and the attention.
fn validate(logger: &UnifiedLogger, model: &Transformer, corpus: &Corpus) -> Result<f64> {
    let _eval = logger.phase("eval");
    let windows = corpus.validation(4 * BATCH, WINDOW);
    let batches = windows.chunks_exact(BATCH);
    let count = batches.len() as f64;
    let mut loss = 0.0;
    for batch in logger.track(batches, "Validation") {
        loss += no_grad(|| model.loss(batch)).double_value(&[]) / count;
    }

    let prompt = &windows[0][..CONTEXT as usize];
    logger.log_text("sample", model.write(prompt, 150, &mut StdRng::seed_from_u64(0))?, None);
    let (width, height, pixels) = model.draw_attention(prompt)?;
    let caption = format!("{LAYERS} layers below each other, {HEADS} heads side by side");
    logger.log_image("attention", Image::grey(width, height, pixels).caption(caption), None);
    Ok(loss)
}

/// Returns the learning rate of a step: a linear warm-up, then half a cosine down to a tenth.
fn learning_rate(step: u64, steps: u64) -> f64 {
    const WARM_UP: f64 = 20.0;
    let done = step as f64 / steps as f64;
    PEAK_RATE * (step as f64 / WARM_UP).min(1.0) * (0.55 + 0.45 * (PI * done).cos())
}
