//! The quick start: one logger for text, progress, metrics and memory.
//!
//! ```sh
//! cargo run -p examples --bin quick_start
//! ```

use facade::{LogConfig, setup_logging};

fn main() -> anyhow::Result<()> {
    // `setup_logging("my_module")` would do: all else has a default.
    let logger = setup_logging(LogConfig {
        name: "my_module".into(),
        log_dir: examples::log_dir("quick_start"),
        ..LogConfig::default()
    })?;
    logger.info("Starting process...");
    logger.debug("Debug information");
    logger.warning("Warning message");
    logger.error("Error occurred");

    logger.start_progress(100, "Processing data");
    for _ in 0..100 {
        // Do work
        logger.update_progress(1, 32);
    }

    logger.log_metrics([("loss", 0.5), ("accuracy", 0.95)]);
    logger.log_memory();
    logger.finish();
    Ok(())
}
