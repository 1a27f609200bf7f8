//! Shows several progress bars of one logger: for epochs, for the batches of an epoch, and one
//! without a total. A goal tells which epoch was the best.
//!
//! On a terminal the bars are below the log lines. Elsewhere a progress is a line every few
//! seconds.
//!
//! ```sh
//! cargo run -p examples --bin progress
//! ```

use std::thread;
use std::time::Duration;

use facade::{Goal, LogConfig, setup_logging};

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        log_dir: std::env::args_os().nth(1).unwrap_or("outputs/progress".into()).into(),
        progress_leave: false,
        ..LogConfig::default()
    })?;
    let best = logger.goal("val/loss", Goal::Min);

    let downloads = logger.bar(None, "Downloading");
    let epochs = logger.bar(3, "Epochs");
    for epoch in 1..=3 {
        // Each epoch has a bar of its own. The steps continue across epochs.
        logger.start_progress(40, format!("Epoch {epoch}"));
        let batches = (1..=40).inspect(|_| thread::sleep(Duration::from_millis(2)));
        for batch in logger.data(batches) {
            thread::sleep(Duration::from_millis(8));
            logger.update_progress(1, 32);
            logger.log_metrics([("loss", 3.0 / f64::from(epoch * 40 + batch))]);
            downloads.advance(3);
        }
        let _eval = logger.phase("eval");
        let loss = logger.metrics().average("loss").unwrap_or(f64::NAN) * 1.1;
        if logger.log_metrics([("val/loss", loss)]).is_best("val/loss") {
            logger.info(format_args!("Epoch {epoch} complete, the best so far: {loss:.4}"));
        }
        epochs.advance(1);
    }
    if let (Some(loss), Some(step)) = (best.value(), best.step()) {
        logger.info(format_args!("Least validation loss: {loss:.4} at step {step}"));
    }
    Ok(())
}
