//! A sink of one's own, from a crate of its own, switched on by a config file alone.
//!
//! ```sh
//! cargo run -p examples --bin custom_sink
//! ```

use std::fs;

use facade::{LogConfig, setup_logging};
// A crate has to be named once to be linked; nothing else in this program knows of it.
use tally_sink as _;

const CONFIG: &str = r#"
name = "custom_sink"

[sinks.tally]
metric = "metrics/loss"
"#;

fn main() -> anyhow::Result<()> {
    let log_dir = examples::log_dir("custom_sink");
    fs::create_dir_all(&log_dir)?;
    let file = log_dir.join("logging.toml");
    fs::write(&file, CONFIG)?;

    let config = LogConfig {
        log_dir,
        ..LogConfig::from_file(&file)?
    };
    let logger = setup_logging(config)?;
    logger.info("Starting");
    for (step, loss) in [0.9, 0.5, 0.3, 0.4].into_iter().enumerate() {
        logger.log_metrics_at(step as u64, [("loss", loss)]);
    }
    logger.warning("The loss went up");
    let report = logger.finish();
    anyhow::ensure!(
        report.sink("tally").is_some_and(|books| books.delivered == 6),
        "{report:?}"
    );
    Ok(())
}
