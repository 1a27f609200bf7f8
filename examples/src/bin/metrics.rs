//! Logs metrics, and reads averages, statistics and history back.
//!
//! ```sh
//! cargo run -p examples --bin metrics
//! ```

use facade::{LogConfig, metrics, setup_logging};

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "metrics".into(),
        log_dir: std::env::args_os().nth(1).unwrap_or("outputs/metrics".into()).into(),
        metrics_window: 10,
        ..LogConfig::default()
    })?;

    // A handle looks the name up once, which makes `record` faster than `log_metrics`.
    let loss = logger.metric("loss/train");
    for step in 0..100 {
        loss.record(step, 1.0 / (step + 1) as f64);
    }
    logger.log_metrics_at(
        99,
        metrics! { "epoch" => 3, "learning_rate" => 1e-4, "samples" => 6_400_u64 },
    );
    // A late step and a NaN are kept. The average ignores the NaN, and the statistics count it.
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
