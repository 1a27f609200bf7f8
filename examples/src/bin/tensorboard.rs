//! Logs two runs that TensorBoard shows: curves, hyper-parameters, images, histograms, texts, and a
//! warning.
//!
//! ```sh
//! cargo run -p examples --bin tensorboard
//! pip install tensorboard 'setuptools<81'
//! tensorboard --logdir outputs/tensorboard
//! ```

use facade::{Histogram, Image, LogConfig, setup_logging};
use serde_json::json;

const STEPS: u64 = 200;

fn main() -> anyhow::Result<()> {
    let log_dir = std::env::args_os().nth(1).unwrap_or("outputs/tensorboard".into());
    for learning_rate in [0.1, 0.02] {
        let logger = setup_logging(LogConfig {
            name: "trainer".into(),
            log_dir: log_dir.clone().into(),
            sinks: [("tensorboard".into(), json!({"records": true}))].into(),
            ..LogConfig::default()
        })?;
        logger.log_config(&json!({"lr": learning_rate, "model": {"width": 256, "activation": "gelu"}}));
        logger.start_progress(STEPS, "Training");
        for step in 0..STEPS {
            let loss = 2.0 / (1.0 + learning_rate * step as f64);
            logger.log_metrics([("loss/train", loss), ("lr", learning_rate)]);
            if step % 50 == 49 {
                logger.log_metrics([("loss/val", loss * 1.1)]);
                let grey = (step + 1) as u8;
                logger.log_image("sample", Image::rgb(16, 8, vec![grey; 384]), step);
                let weights = (0..100).map(|weight| f64::from(weight % 10) * loss);
                logger.log_histogram("weights", Histogram::of(weights, 10), step);
                logger.log_text("answer", format!("the loss is **{loss:.3}**"), step);
            }
            if step == 120 {
                logger.warning(format_args!("the loss is {loss:.3}: the gradient is large"));
            }
            logger.update_progress(1, 32);
        }
        logger.finish();
    }
    Ok(())
}
