//! Sets all fields of the configuration that programs commonly use. A comment names the default
//! where it differs.
//!
//! ```sh
//! cargo run -p examples --bin full_config
//! ```

use facade::{LevelFilter, LogConfig, setup_logging};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let config = LogConfig {
        name: "my_module".into(), // "root"
        log_dir: std::env::args_os()
            .nth(1)
            .unwrap_or("outputs/full_config".into())
            .into(), // "outputs/logs"
        console_level: LevelFilter::Info,
        file_level: LevelFilter::Debug,
        filename: "training.log".into(),

        enable_console: true,
        enable_file: true,
        enable_wandb: false,
        enable_progress: true,
        enable_metrics: true,
        enable_memory: true,
        capture_warnings: true,
        propagate: false,

        wandb_project: Some("my_project".into()), // None
        wandb_name: None,
        wandb_tags: vec![],

        progress_window: 100,
        progress_smoothing: 0.3,
        progress_position: 0,
        progress_leave: true,

        metrics_window: 100,
        metrics_history: true,
        metrics_prefix: "metrics/".into(),

        // Options of single sinks. An entry also switches on the sink, which may come from any
        // linked crate.
        sinks: [
            (
                "file".into(),
                json!({"rotate_mb": 50, "rotate_daily": true, "keep": 7, "formatter": "plain"}),
            ),
            ("jsonl".into(), json!({"records": true})),
        ]
        .into(),
        ..LogConfig::default()
    };

    let logger = setup_logging(config)?;
    logger.log_config(&json!({"lr": 1e-4, "batch_size": 32, "layers": [64, 32]}));
    logger.info("Configured");
    logger.finish();
    Ok(())
}
