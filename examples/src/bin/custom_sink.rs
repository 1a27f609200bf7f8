//! Uses a sink from another crate, `examples/tally-sink`, which a config file switches on.
//!
//! ```sh
//! cargo run -p examples --bin custom_sink
//! ```

use std::fs;
use std::path::PathBuf;

use facade::{LogConfig, setup_logging};
// Links the crate. Nothing else in this program refers to it.
use tally_sink as _;

const CONFIG: &str = r#"
name = "custom_sink"

[sinks.tally]
metric = "metrics/loss"
"#;

fn main() -> anyhow::Result<()> {
    let log_dir = PathBuf::from(std::env::args_os().nth(1).unwrap_or("outputs/custom_sink".into()));
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
