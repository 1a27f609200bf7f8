//! Metrics: windows, statistics, history, handles for hot loops, mixed number types, NaN.
//!
//! ```sh
//! cargo run -p examples --bin metrics
//! ```

use facade::{LogConfig, metrics, setup_logging};

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "metrics".into(),
        log_dir: examples::log_dir("metrics"),
        metrics_window: 10,
        ..LogConfig::default()
    })?;

    // The name is looked up once.
    let loss = logger.metric("loss/train");
    for step in 0..100 {
        loss.record(step, 1.0 / (step + 1) as f64);
    }
    logger.log_metrics_at(
        99,
        metrics! { "epoch" => 3, "learning_rate" => 1e-4, "samples" => 6_400_u64 },
    );
    // A late step and a NaN are kept, too; the average leaves the NaN out and the statistics count it.
    logger.log_metrics_at(50, [("loss/train", f64::NAN)]);

    let stats = logger.metrics().stats("loss/train");
    logger.info(format_args!(
        "average of the last 10: {:?}",
        logger.metrics().average("loss/train")
    ));
    logger.info(format_args!("statistics: {stats:?}"));
    logger.info(format_args!("all averages: {:?}", logger.metrics().averages()));
    logger.info(format_args!(
        "points kept: {:?}",
        logger.metrics().history("loss/train").map(|points| points.len())
    ));
    Ok(())
}
