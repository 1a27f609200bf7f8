//! Sends an alert, the end of a run, its records and its health to receivers on this machine.
//!
//! ```sh
//! cargo run -p examples --bin alerts -- http://127.0.0.1:7000 http://127.0.0.1:4318
//! ```
//!
//! `docs/webhook.md` and `docs/opentelemetry.md` have receivers to start.

use facade::{AlertLevel, LogConfig, setup_logging};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let mut addresses = std::env::args().skip(1);
    let webhook = addresses.next().unwrap_or("http://127.0.0.1:7000".to_owned());
    let endpoint = addresses.next().unwrap_or("http://127.0.0.1:4318".to_owned());
    let logger = setup_logging(LogConfig {
        name: "trainer".into(),
        log_dir: addresses.next().unwrap_or("outputs/alerts".to_owned()).into(),
        sinks: [
            ("webhook".into(), json!({"url": webhook})),
            ("otlp".into(), json!({"endpoint": endpoint, "metrics": ["*"]})),
        ]
        .into(),
        ..LogConfig::default()
    })?;
    logger.start_progress(50, "Training");
    for step in 0..50_u32 {
        let loss = if step < 40 { 1.0 / f64::from(step + 1) } else { f64::NAN };
        logger.log_metrics([("loss", loss)]);
        if step == 40 {
            facade::warn!(logger, "the loss is NaN", lr = 0.1, step = step);
            logger.alert("the loss is NaN", "the learning rate was 0.1", AlertLevel::Error);
        }
        logger.update_progress(1, 32);
    }
    logger.finish();
    Ok(())
}
