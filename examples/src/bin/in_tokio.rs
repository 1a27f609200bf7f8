//! Logs from tokio tasks. The logger has threads of its own, so it works in any runtime.
//!
//! Calls that only queue a record (`trace` to `warning`, `log_metrics`, `update_progress`) return
//! within microseconds and belong into async code as they are. Three calls block the thread until
//! data is written: `flush`, `finish`, and `error`, which waits until the record is delivered. Run
//! `flush` and `finish` with `spawn_blocking`, or after the runtime.
//!
//! ```sh
//! cargo run -p examples --bin in_tokio
//! ```

use std::time::Duration;

use facade::{LogConfig, UnifiedLogger, setup_logging};
use tokio::runtime::Builder;

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "in_tokio".into(),
        log_dir: std::env::args_os().nth(1).unwrap_or("outputs/in_tokio".into()).into(),
        ..LogConfig::default()
    })?;
    Builder::new_current_thread()
        .enable_time()
        .build()?
        .block_on(run(&logger, "current thread"))?;
    Builder::new_multi_thread()
        .enable_time()
        .build()?
        .block_on(run(&logger, "many threads"))?;
    // Outside the runtime, blocking is harmless.
    logger.finish();
    Ok(())
}

async fn run(logger: &UnifiedLogger, runtime: &str) -> anyhow::Result<()> {
    let tasks: Vec<_> = (0..3)
        .map(|task| {
            // A clone is a handle to the same logger.
            let (logger, runtime) = (logger.clone(), runtime.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                logger.info(format_args!("task {task} on {runtime}"));
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    // `flush` waits for the disk, so it runs on a thread for blocking calls.
    let flushed = logger.clone();
    tokio::task::spawn_blocking(move || flushed.flush()).await??;
    Ok(())
}
