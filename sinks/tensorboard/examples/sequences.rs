//! Makes runs of random calls for the check of TensorBoard's own readers: the event files, and
//! beside them the calls (`calls.json`).
//!
//! ```sh
//! cargo run -p logcore-tensorboard --example sequences -- outputs/event-files/sequences
//! ```

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use logcore::serde_json::{self, Value, json};
use logcore::{
    BuildContext, Deadline, LogConfig, LoggerEnd, LoggerSummary, MetricBatch, MetricValue, RunInfo, Sink, StopFlag,
    registry,
};
use logcore_tensorboard as _;

const RUNS: u64 = 24;
const TAGS: [&str; 4] = ["metrics/loss", "metrics/acc", "throughput/samples_per_sec", "a b/ä"];
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let out = std::env::args_os().nth(1).ok_or("name a folder")?;
    for seed in 0..RUNS {
        let dir = Path::new(&out).join(format!("run-{seed:02}"));
        fs::create_dir_all(&dir)?;
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut attempts, mut time) = (Vec::new(), 1_763_000_000.0);
        for attempt in 1..=random.u32(1..=3) {
            let mut sink = build(&dir, attempt)?;
            sink.config(&json!({"seed": seed}))?;
            let mut calls = Vec::new();
            let first = random.u64(0..40) * u64::from(attempt > 1);
            let mut step = first;
            for call in 0..random.usize(3..60) {
                let values: Vec<_> = TAGS.into_iter().filter(|_| call == 0 || random.bool()).collect();
                let values: Vec<_> = values.into_iter().map(|tag| (tag, value(&mut random))).collect();
                time += 0.5;
                log(&mut *sink, time, step, &values)?;
                calls.push(json!({"step": step, "values": values.iter().map(shown).collect::<Vec<_>>()}));
                match random.u8(0..8) {
                    0 => step = random.u64(first..=step),
                    1 => {}
                    2 => sink.flush(Deadline::after(TIMEOUT))?,
                    _ => step += random.u64(1..4),
                }
                sink.deliver()?;
            }
            sink.flush(Deadline::after(TIMEOUT))?;
            // Some attempts are killed.
            let ends = random.bool();
            if ends {
                sink.logger_ended(&LoggerEnd::default(), &LoggerSummary::default());
                sink.finish(Deadline::after(TIMEOUT))?;
            }
            attempts.push(json!({"calls": calls, "ends": ends}));
        }
        fs::write(dir.join("calls.json"), serde_json::to_vec(&attempts)?)?;
    }
    Ok(())
}

fn build(dir: &Path, attempt: u32) -> Result<Box<dyn Sink>, Box<dyn Error>> {
    let config = LogConfig {
        name: "trainer".into(),
        log_dir: dir.into(),
        ..LogConfig::default()
    };
    let stop = StopFlag::default();
    let run = RunInfo::new("k3v9q2ab", "trainer", dir, attempt);
    let context = BuildContext::new(&config, &stop).with_run(&run);
    Ok(registry::build_sink("tensorboard", &json!({}), &context)?)
}

fn log(sink: &mut dyn Sink, time: f64, step: u64, values: &[(&str, f64)]) -> Result<(), Box<dyn Error>> {
    let values: Vec<_> = values
        .iter()
        .map(|(tag, value)| (*tag, MetricValue::Float(*value)))
        .collect();
    let time = UNIX_EPOCH + Duration::from_secs_f64(time);
    Ok(sink.metrics(&MetricBatch::at(time, "trainer", step, &values))?)
}

fn value(random: &mut fastrand::Rng) -> f64 {
    match random.u8(0..12) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        // Beyond single precision.
        3 => 1e300,
        4 => 0.0,
        _ => random.f64() * 4.0 - 2.0,
    }
}

fn shown((tag, value): &(&str, f64)) -> Value {
    json!([tag, value.to_string()])
}
