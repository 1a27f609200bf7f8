//! Delivers runs of random calls to the server of `MLFLOW_TRACKING_URI`, for the check that an
//! MLflow server has what the folders of the runs have.
//!
//! ```sh
//! MLFLOW_TRACKING_URI=http://127.0.0.1:5000 cargo run -p logcore-mlflow --example sequences -- outputs/mlflow-runs
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use facade::{LogConfig, UnifiedLogger, setup_logging};
use fastrand::Rng;
use serde_json::json;

const RUNS: u64 = 12;
const NAMES: [&str; 8] = ["loss", "top@1", "a/b", "a//b", "größe", "100%", "naïve Ω/x", ".."];

fn main() -> Result<(), Box<dyn Error>> {
    let log_dir: PathBuf = std::env::args_os().nth(1).ok_or("name a folder")?.into();
    for seed in 0..RUNS {
        let mut random = Rng::with_seed(seed);
        let loggers = (0..random.usize(1..=3)).map(|number| start(&log_dir, seed, number));
        let loggers = loggers.collect::<Result<Vec<_>, _>>()?;
        loggers[0].log_config(&json!({"seed": seed, "deep": {"lr": 0.1, "text": "ä".repeat(7000)}}));
        let mut step = 0;
        for _ in 0..random.usize(1..400) {
            let logger = &loggers[random.usize(..loggers.len())];
            let names = NAMES.into_iter().filter(|_| random.bool()).collect::<Vec<_>>();
            logger.log_metrics_at(
                step,
                names
                    .into_iter()
                    .map(|name| (name, value(&mut random)))
                    .collect::<Vec<_>>(),
            );
            match random.u8(0..9) {
                0 => step = random.u64(0..=step),
                1 => {}
                2 => logger.flush()?,
                _ => step += random.u64(1..4),
            }
        }
        if random.bool() {
            loggers[0].set_exit_code(3);
        }
        // The last logger waits for all calls.
        let reports: Vec<_> = loggers.iter().map(UnifiedLogger::finish).collect();
        let books = &reports[reports.len() - 1].sinks["mlflow"];
        if !books.balanced() || books.spooled > 0 {
            return Err(format!("the run {seed} is not delivered: {books:?}").into());
        }
    }
    Ok(())
}

fn start(log_dir: &Path, seed: u64, number: usize) -> Result<UnifiedLogger, Box<dyn Error>> {
    Ok(setup_logging(LogConfig {
        name: ["trainer", "eval", "a b"][number].into(),
        log_dir: log_dir.into(),
        run: format!("run-{seed:02}"),
        enable_console: false,
        finish_timeout: 300.0,
        sinks: [("mlflow".to_owned(), json!({"experiment": "sequences"}))].into(),
        ..LogConfig::default()
    })?)
}

fn value(random: &mut Rng) -> f64 {
    match random.u8(0..12) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => 1e300,
        4 => f64::MIN_POSITIVE / 3.0,
        5 => -0.0,
        _ => random.f64() * 2.0 - 1.0,
    }
}
