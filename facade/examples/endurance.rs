//! Measures a long run: a history of 10^8 points, 10,000 names, a sink that hangs, a minute of
//! idling. `cargo run --release -p logcore-facade --features full --example endurance`; the results
//! are in `docs/reliability.md`.

#![allow(clippy::print_stdout, reason = "a program that talks to the person who runs it")]

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use facade::logcore::testing::{BlockingSink, SinkGate};
use facade::{LogConfig, LogManager, OnFull, UnifiedLogger, setup_logging};
use serde_json::json;

const POINTS: u64 = 100_000_000;
const NAMES: u64 = 10_000;
const CALLS: u64 = 1_000_000;
const IDLE: Duration = Duration::from_secs(60);

fn main() {
    let folder = tempfile::tempdir().expect("a folder for the files");
    println!("resident at the start: {:.1} MB", resident_mb());
    many_points(&config("points", &folder));
    many_names(&config("names", &folder));
    for on_full in [OnFull::Drop, OnFull::Wait] {
        a_sink_that_hangs(LogConfig {
            on_full,
            ..config("hang", &folder)
        });
    }
    idle(LogConfig {
        enable_file: true,
        enable_wandb: true,
        sinks: [("wandb".to_owned(), json!({"mode": "offline"}))].into(),
        ..config("idle", &folder)
    });
}

/// Without sinks, whose files would be gigabytes.
fn config(name: &str, folder: &tempfile::TempDir) -> LogConfig {
    LogConfig {
        name: name.into(),
        log_dir: folder.path().join(name),
        enable_console: false,
        enable_file: false,
        sinks: [("jsonl".to_owned(), json!(false))].into(),
        ..LogConfig::default()
    }
}

fn open(config: &LogConfig) -> UnifiedLogger {
    setup_logging(config.clone()).expect("a logger")
}

fn many_points(config: &LogConfig) {
    let logger = open(config);
    let (before, start) = (resident_mb(), Instant::now());
    let loss = logger.metric("loss");
    for step in 0..POINTS {
        loss.record(step, (step as f64).sin());
    }
    let stats = logger.metrics().stats("loss").expect("statistics");
    let kept = logger.metrics().history("loss").expect("a history").len();
    println!(
        "{} points in {:.1} s: {:.1} MB more; the history says that it keeps one in {}, and has {kept}",
        stats.count,
        start.elapsed().as_secs_f64(),
        resident_mb() - before,
        stats.history_stride,
    );
    logger.finish();
}

fn many_names(config: &LogConfig) {
    let logger = open(config);
    let names: Vec<String> = (0..NAMES)
        .map(|number| format!("layer.{number}.gradient_norm"))
        .collect();
    let log = |steps: std::ops::Range<u64>| {
        for step in steps {
            logger.log_metrics_at(step, names.iter().map(|name| (name.as_str(), step)));
        }
    };
    let (before, start) = (resident_mb(), Instant::now());
    log(0..100);
    logger.flush().expect("a flush");
    let first = resident_mb() - before;
    log(100..1000);
    println!(
        "{NAMES} names: {first:.1} MB more after 100 steps, {:.1} MB after 1000, in {:.1} s",
        resident_mb() - before,
        start.elapsed().as_secs_f64()
    );
    logger.finish();
}

fn a_sink_that_hangs(config: LogConfig) {
    let (on_full, gate) = (config.on_full, SinkGate::default());
    let logger = open(&config);
    LogManager::get_instance()
        .add_sink("hangs", Box::new(BlockingSink(gate.clone())))
        .expect("a sink");
    logger.info("the first");
    gate.wait_for_visitor();
    let (before, start, made) = (resident_mb(), Instant::now(), AtomicU64::new(1));
    let longest = thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            for number in 1..CALLS {
                let call = Instant::now();
                logger.info(number);
                longest = longest.max(call.elapsed());
                made.fetch_add(1, Ordering::Relaxed);
            }
            longest
        });
        // Until all calls have returned, or none does any more.
        let mut seen = 0;
        while !caller.is_finished() && seen != made.load(Ordering::Relaxed) {
            seen = made.load(Ordering::Relaxed);
            thread::sleep(Duration::from_millis(500));
        }
        println!(
            "a sink that hangs, {on_full:?}: {} calls have returned in {:.1} s, {:.1} MB more",
            made.load(Ordering::Relaxed),
            start.elapsed().as_secs_f64(),
            resident_mb() - before
        );
        gate.open();
        caller.join().expect("a caller")
    });
    let report = logger.finish();
    let books = report.sink("hangs").expect("its books");
    println!(
        "  after it: {} accepted, {} delivered, {} dropped; the longest call took {:.1} ms; {:.1} MB more",
        books.accepted,
        books.delivered,
        books.dropped_total(),
        longest.as_secs_f64() * 1e3,
        resident_mb() - before
    );
    assert!(books.balanced() && books.accepted == CALLS);
    facade::cleanup_logging();
}

fn idle(config: LogConfig) {
    let logger = open(&config);
    logger.info("said before the idling");
    logger.log_metrics([("loss", 0.5)]);
    logger.flush().expect("a flush");
    // The writer naps for a while before it sleeps.
    thread::sleep(Duration::from_secs(1));
    let (memory, before) = (resident_mb(), switches());
    thread::sleep(IDLE);
    println!(
        "idle for {} s: {:+.3} MB; the process is {}",
        IDLE.as_secs(),
        resident_mb() - memory,
        std::process::id()
    );
    for ((thread, before), (_, after)) in before.iter().zip(switches()) {
        println!("  thread {thread}: {} wake-ups", after - before);
    }
    logger.finish();
}

/// By thread of this process, how often it has gone to sleep.
fn switches() -> Vec<(String, u64)> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let status = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let field = |name: &str| {
            Some(
                status
                    .lines()
                    .find_map(|line| line.strip_prefix(name))?
                    .trim()
                    .to_owned(),
            )
        };
        Some((field("Name:")?, field("voluntary_ctxt_switches:")?.parse().ok()?))
    };
    tasks.filter_map(status).collect()
}

/// Resident memory of this process, in 10^6 bytes.
fn resident_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(f64::NAN, |kib: f64| kib * 1024.0 / 1e6)
}
