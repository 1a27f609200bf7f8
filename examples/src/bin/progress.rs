//! Shows several progress bars: for epochs, for the batches of an epoch, and one without a total.
//!
//! On a terminal the bars are below the log lines. Elsewhere a progress is a line every few
//! seconds.
//!
//! ```sh
//! cargo run -p examples --bin progress
//! ```

use std::thread;
use std::time::Duration;

use facade::{LogConfig, setup_logging};

fn main() -> anyhow::Result<()> {
    let base = LogConfig {
        log_dir: std::env::args_os().nth(1).unwrap_or("outputs/progress".into()).into(),
        ..LogConfig::default()
    };
    let epochs = setup_logging(LogConfig {
        name: "epochs".into(),
        ..base.clone()
    })?;
    let batches = setup_logging(LogConfig {
        name: "batches".into(),
        progress_position: 1,
        progress_leave: false,
        ..base.clone()
    })?;
    let downloads = setup_logging(LogConfig {
        name: "downloads".into(),
        progress_position: 2,
        ..base
    })?;

    downloads.start_progress(None, "Downloading");
    epochs.start_progress(3, "Epochs");
    for epoch in 1..=3 {
        // Each epoch has a bar of its own. The steps continue across epochs.
        batches.start_progress(40, format!("Epoch {epoch}"));
        for batch in 1..=40 {
            thread::sleep(Duration::from_millis(10));
            batches.update_progress(1, 32);
            batches.log_metrics([("loss", 3.0 / f64::from(epoch * 40 + batch))]);
            downloads.update_progress(3, None);
        }
        epochs.update_progress(1, None);
        let average = batches.metrics().average("loss").unwrap_or(f64::NAN);
        epochs.info(format_args!("Epoch {epoch} complete, average loss {average:.4}"));
    }
    downloads.finish_progress();
    Ok(())
}
