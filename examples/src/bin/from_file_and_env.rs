//! Reads the configuration from a file and from environment variables.
//!
//! Code overrides the environment, which overrides the file, which overrides the defaults.
//!
//! ```sh
//! LOGCORE_CONSOLE_LEVEL=debug cargo run -p examples --bin from_file_and_env
//! ```

use std::fs;
use std::path::PathBuf;

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
    let log_dir = PathBuf::from(std::env::args_os().nth(1).unwrap_or("outputs/from_file_and_env".into()));
    fs::create_dir_all(&log_dir)?;
    let file = log_dir.join("logging.toml");
    fs::write(&file, CONFIG)?;

    let mut config = LogConfig::from_file(&file)?.with_env()?;
    config.log_dir = log_dir;
    let logger = setup_logging(config)?;
    // The console shows this line only if the environment lowers its level.
    logger.info("in the file, as JSON");

    // An invalid value is refused before anything starts. The error names the field, the value and
    // the remedy.
    let invalid = LogConfig {
        metrics_window: 0,
        ..LogConfig::default()
    };
    logger.warning(format_args!("refused: {}", setup_logging(invalid).unwrap_err()));
    Ok(())
}
