//! Threads share a logger by reference or by clone; no line is lost or torn, and each thread's lines keep their order.
//!
//! ```sh
//! cargo run -p examples --bin threads
//! ```

use std::thread;

use facade::{LogConfig, setup_logging};

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "threads".into(),
        log_dir: examples::log_dir("threads"),
        enable_console: false,
        ..LogConfig::default()
    })?;
    thread::scope(|scope| {
        for worker in 0..4 {
            let logger = &logger;
            scope.spawn(move || {
                for line in 0..1000 {
                    logger.info(format_args!("worker {worker} says line {line}"));
                }
            });
        }
    });
    let report = logger.finish();
    anyhow::ensure!(report.all_delivered(), "{report:?}");
    Ok(())
}
