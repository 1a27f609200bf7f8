//! Records a W&B run: metrics with definitions, an image, a histogram, a table and a checkpoint.
//!
//! With an API key (`WANDB_API_KEY` or `~/.netrc`) the run is uploaded while it goes on. Without
//! one it is kept on disk, and the logger prints the command that uploads it later.
//!
//! ```sh
//! cargo run -p examples --bin wandb_run
//! ```

#![allow(clippy::print_stdout, reason = "a program prints its results")]

use std::path::PathBuf;

use anyhow::Result;
use facade::wandb::{Artifact, Histogram, Image, MetricDefinition, Table};
use facade::{LogConfig, setup_logging};
use serde_json::json;

fn main() -> Result<()> {
    let log_dir = PathBuf::from(std::env::args_os().nth(1).unwrap_or("outputs/wandb_run".into()));
    let logger = setup_logging(LogConfig {
        name: "wandb_run".into(),
        log_dir,
        enable_wandb: true,
        wandb_project: Some("examples".into()),
        wandb_name: Some("a first run".into()),
        wandb_tags: vec!["example".into()],
        metrics_prefix: String::new(),
        ..LogConfig::default()
    })?;
    logger.log_config(&json!({"lr": 1e-4, "layers": [64, 64], "optimizer": {"name": "adam", "beta": 0.9}}));
    let wandb = logger.wandb();
    wandb.define_metric(MetricDefinition::new("loss").summary(["min", "last"]));
    wandb.define_metric(MetricDefinition::new("val/*").step_metric("epoch"));

    for step in 0..20_u64 {
        let loss = 2.0 / (step + 1) as f64;
        logger.log_metrics_at(step, [("loss", loss), ("lr", 1e-4)]);
        if step % 10 == 9 {
            logger.log_metrics_at(step, [("epoch", step / 10)]);
            logger.log_metrics_at(step, [("val/accuracy", 1.0 - loss / 4.0)]);
            logger.info(format_args!("epoch {} is done", step / 10));
        }
    }
    wandb.log_image("sample", Image::rgb(8, 8, vec![200; 192]).caption("grey"), None);
    wandb.log_histogram("gradients", Histogram::of((0..100).map(|at| (at % 7) as f64), 7), None);
    wandb.log_table("errors", Table::new(["id", "text"]).row([json!(1), json!("x")]), None);
    wandb.set_summary("best", 0.91);

    let checkpoint = logger.run_dir().join("checkpoint.bin");
    std::fs::write(&checkpoint, [7; 1000])?;
    wandb.log_artifact(Artifact::new("model", "model").file(&checkpoint).alias("best"));
    logger.warning("that was all");

    let report = logger.finish();
    if let Some(books) = report.sink("wandb") {
        println!("{} calls delivered, {} kept on disk", books.delivered, books.spooled);
    }
    Ok(())
}
