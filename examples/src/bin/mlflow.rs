//! Logs two runs to an MLflow server: curves, hyper-parameters, tags, and a spike.
//!
//! ```sh
//! pip install mlflow
//! mlflow server --port 5000
//! MLFLOW_TRACKING_URI=http://127.0.0.1:5000 cargo run -p examples --bin mlflow
//! ```

use facade::{LogConfig, setup_logging};
use serde_json::json;

const STEPS: u64 = 200;

fn main() -> anyhow::Result<()> {
    let log_dir = std::env::args_os().nth(1).unwrap_or("outputs/mlflow".into());
    for learning_rate in [0.1, 0.02] {
        let logger = setup_logging(LogConfig {
            name: "trainer".into(),
            log_dir: log_dir.clone().into(),
            sinks: [(
                "mlflow".into(),
                json!({"experiment": "logcore", "tags": {"team": "vision"}}),
            )]
            .into(),
            ..LogConfig::default()
        })?;
        logger.log_config(&json!({"lr": learning_rate, "model": {"width": 256, "activation": "gelu"}}));
        logger.start_progress(STEPS, "Training");
        for step in 0..STEPS {
            let spike = if step == 120 { 3.0 } else { 0.0 };
            let loss = 2.0 / (1.0 + learning_rate * step as f64) + spike;
            logger.log_metrics([("loss/train", loss), ("lr", learning_rate)]);
            if step % 50 == 49 {
                logger.log_metrics([("loss/val", loss * 1.1)]);
            }
            logger.update_progress(1, 32);
        }
        logger.finish();
    }
    Ok(())
}
