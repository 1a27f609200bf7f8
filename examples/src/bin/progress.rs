//! Several bars: one for the epochs, one for the batches inside, and one whose end nobody knows. On a terminal they stand
//! below the log lines; elsewhere they are a line now and then.
//!
//! ```sh
//! cargo run -p examples --bin progress
//! ```

use std::thread;
use std::time::Duration;

use facade::{LogConfig, setup_logging};

fn main() -> anyhow::Result<()> {
    let base = LogConfig {
        log_dir: examples::log_dir("progress"),
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
        // One bar an epoch; the steps go on where the last one ended.
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
