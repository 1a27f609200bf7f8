//! Where a configuration comes from: code goes before the environment, that before a file, that before the defaults.
//!
//! ```sh
//! LOGCORE_CONSOLE_LEVEL=debug cargo run -p examples --bin from_file_and_env
//! ```

use std::fs;

use facade::{LogConfig, setup_logging};

const CONFIG: &str = r#"
name = "from_file"
console_level = "WARNING"
directives = "debug,hyper=warn"

[sinks.file]
rotate_mb = 100
keep = 3
formatter = "json"
"#;

fn main() -> anyhow::Result<()> {
    let log_dir = examples::log_dir("from_file_and_env");
    fs::create_dir_all(&log_dir)?;
    let file = log_dir.join("logging.toml");
    fs::write(&file, CONFIG)?;

    let mut config = LogConfig::from_file(&file)?.with_env()?;
    config.log_dir = log_dir;
    let logger = setup_logging(config)?;
    logger.info("in the file, as JSON; on the console only if the environment asks for it");

    // What cannot work is refused before anything starts, with the field, the value and what to do.
    let wrong = LogConfig {
        metrics_window: 0,
        ..LogConfig::default()
    };
    logger.warning(format_args!("refused: {}", setup_logging(wrong).unwrap_err()));
    Ok(())
}
