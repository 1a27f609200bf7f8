//! A block is a context manager: the logger closes when the last clone of what `setup_logging` returned is dropped.
//!
//! ```sh
//! cargo run -p examples --bin context_manager
//! ```

use facade::{LogConfig, get_logger, setup_logging};

fn main() -> anyhow::Result<()> {
    let config = LogConfig {
        name: "block".into(),
        log_dir: examples::log_dir("context_manager"),
        ..LogConfig::default()
    };
    {
        let logger = setup_logging(config.clone())?;
        logger.info("Starting...");
        work();
    }
    // Everything is on disk here, and the same name can be set up again.
    let again = setup_logging(config)?;
    again.info("Starting again...");
    Ok(())
}

fn work() {
    // A handle by name; dropping it closes nothing.
    get_logger("block").info("working");
}
