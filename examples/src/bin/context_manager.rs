//! Closes a logger at the end of a block: when the last clone of the logger from `setup_logging` is
//! dropped.
//!
//! ```sh
//! cargo run -p examples --bin context_manager
//! ```

use facade::{LogConfig, get_logger, setup_logging};

fn main() -> anyhow::Result<()> {
    let config = LogConfig {
        name: "block".into(),
        log_dir: std::env::args_os()
            .nth(1)
            .unwrap_or("outputs/context_manager".into())
            .into(),
        ..LogConfig::default()
    };
    {
        let logger = setup_logging(config.clone())?;
        logger.info("Starting...");
        work();
    }
    // Here everything is on disk, and the run is over. A logger with the same name begins the next
    // run, in a folder of its own.
    let again = setup_logging(config)?;
    again.info("Starting again...");
    Ok(())
}

fn work() {
    // Dropping a handle from `get_logger` does not close the logger.
    get_logger("block").info("working");
}
