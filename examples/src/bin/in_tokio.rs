//! Inside tokio, in both kinds of runtime: the logger needs no runtime and disturbs none.
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
        log_dir: examples::log_dir("in_tokio"),
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
    Ok(())
}

async fn run(logger: &UnifiedLogger, runtime: &str) -> anyhow::Result<()> {
    let tasks: Vec<_> = (0..3)
        .map(|task| {
            // A clone is the same logger.
            let (logger, runtime) = (logger.clone(), runtime.to_owned());
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                logger.info(format_args!("task {task} on {runtime}"));
            }
        })
        .collect();
    for task in tasks {
        task.await;
    }
    logger.flush()?;
    Ok(())
}
