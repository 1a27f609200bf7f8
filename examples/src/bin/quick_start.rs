//! Quick start: one logger for text, progress, metrics and memory.
//!
//! ```sh
//! cargo run -p examples --bin quick_start
//! ```

use facade::{LogConfig, setup_logging};

fn main() -> anyhow::Result<()> {
    // `setup_logging("my_module")` is enough, because every field has a default.
    let logger = setup_logging(LogConfig {
        name: "my_module".into(),
        log_dir: std::env::args_os()
            .nth(1)
            .unwrap_or("outputs/quick_start".into())
            .into(),
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
