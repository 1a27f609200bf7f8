//! Several loggers under one manager: one config, one file, each line with its logger's name; records that propagate.
//!
//! ```sh
//! cargo run -p examples --bin several_loggers
//! ```

use facade::{LogConfig, LogManager, setup_logging};

fn main() -> anyhow::Result<()> {
    let manager = LogManager::get_instance();
    let config = LogConfig {
        log_dir: examples::log_dir("several_loggers"),
        ..LogConfig::default()
    };
    manager.configure_from_config(config.clone())?;

    let loader = manager.get_logger("app.loader");
    let trainer = manager.get_logger("app.trainer");
    loader.info("Loading 3 shards");
    trainer.info("Starting training");
    // The plain macros reach the logger whose name the target lies under.
    log::info!(target: "app::loader::shard", "shard 1 is there");

    // A logger with a file of its own, whose records also go to its parent's.
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
