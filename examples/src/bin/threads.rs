//! Logs from several threads. No line is lost or torn, and the lines of each thread keep their
//! order.
//!
//! ```sh
//! cargo run -p examples --bin threads
//! ```

use std::thread;

use facade::{LogConfig, setup_logging};

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "threads".into(),
        log_dir: std::env::args_os().nth(1).unwrap_or("outputs/threads".into()).into(),
        enable_console: false,
        ..LogConfig::default()
    })?;
    thread::scope(|scope| {
        for worker in 0..4 {
            let logger = &logger;
            scope.spawn(move || {
                for line in 0..1000 {
                    logger.info(format_args!("worker {worker}, line {line}"));
                }
            });
        }
    });
    let report = logger.finish();
    anyhow::ensure!(report.all_delivered(), "{report:?}");
    Ok(())
}
