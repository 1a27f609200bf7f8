//! Uses several loggers with one config and one file, and loggers that propagate their records to a
//! parent.
//!
//! ```sh
//! cargo run -p examples --bin several_loggers
//! ```

use facade::{LogConfig, LogManager, setup_logging};

fn main() -> anyhow::Result<()> {
    let manager = LogManager::get_instance();
    let config = LogConfig {
        log_dir: std::env::args_os()
            .nth(1)
            .unwrap_or("outputs/several_loggers".into())
            .into(),
        ..LogConfig::default()
    };
    manager.configure_from_config(config.clone())?;

    let loader = manager.get_logger("app.loader");
    let trainer = manager.get_logger("app.trainer");
    loader.info("Loading 3 shards");
    trainer.info("Starting training");
    // The macros of `log` reach the logger whose name is a prefix of the target.
    log::info!(target: "app::loader::shard", "shard 1 is there");

    // A logger with a file of its own. With `propagate`, its records also go to the file of its
    // parent.
    let parent = setup_logging(LogConfig {
        name: "eval".into(),
        filename: "eval.log".into(),
        ..config.clone()
    })?;
    let child = setup_logging(LogConfig {
        name: "eval.bleu".into(),
        filename: "bleu.log".into(),
        propagate: true,
        ..config
    })?;
    child.info("in bleu.log and in eval.log");

    drop((parent, child));
    manager.cleanup();
    Ok(())
}
