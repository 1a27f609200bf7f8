//! Trains with checkpoints. After a kill, the same command goes on from the last one.
//!
//! ```sh
//! cargo run -p examples --bin resume -- outputs/resume 37  # a kill at step 37
//! cargo run -p examples --bin resume -- outputs/resume     # goes on at step 31
//! ```

use std::fs;
use std::thread;
use std::time::Duration;

use facade::{LogConfig, setup_logging};

const STEPS: u64 = 60;
const CHECKPOINT_INTERVAL: u64 = 10;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let log_dir = arguments.next().unwrap_or("outputs/resume".into());
    let killed_at: Option<u64> = arguments.next().map(|step| step.parse()).transpose()?;

    let logger = setup_logging(LogConfig {
        name: "resume".into(),
        log_dir: log_dir.into(),
        // The newest run of this name that did not finish; without one, a new run.
        resume: Some("auto".into()),
        ..LogConfig::default()
    })?;
    let checkpoint = logger.run_dir().join("checkpoint");
    let done: u64 = match fs::read_to_string(&checkpoint) {
        Ok(text) => text.parse()?,
        Err(_) => 0,
    };
    if done > 0 {
        logger.info(format_args!("Going on after step {done}"));
    }
    // Also without a checkpoint: what a killed attempt has logged is done again.
    logger.start_from(done + 1);
    logger.start_progress_at(done, STEPS, "Training");
    for step in done + 1..=STEPS {
        thread::sleep(Duration::from_millis(5));
        logger.update_progress(1, 32);
        logger.log_metrics([("loss", 1.0 / step as f64)]);
        if step % CHECKPOINT_INTERVAL == 0 {
            fs::write(&checkpoint, step.to_string())?;
        }
        if killed_at == Some(step) {
            kill_this_process();
        }
    }
    Ok(())
}

/// Ends the process as the system does when memory runs out: without a word.
fn kill_this_process() {
    let process = std::process::id().to_string();
    let killed = std::process::Command::new("kill").args(["-9", &process]).status();
    if killed.is_err() {
        std::process::abort();
    }
}
