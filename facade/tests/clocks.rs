//! Logging with a clock that is far off: before 1970, outside the range of frames, and after year
//! 9999.
#![cfg(all(
    target_os = "linux",
    feature = "console",
    feature = "file",
    feature = "jsonl",
    feature = "metrics",
    feature = "progress"
))]

use std::path::Path;
use std::process::Command;

use facade::logcore::serde_json::{Value, from_str, json};
use facade::{LogConfig, setup_logging};

/// Moves the clock by `CLOCK_OFFSET` seconds.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, id, at);
    const char *offset = getenv("CLOCK_OFFSET");
    if (!failed && offset && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += atoll(offset);
    return failed;
}
"#;

/// Runs as a process of its own, with such a clock.
#[test]
fn logs_into_a_folder() {
    let Some(folder) = std::env::var_os("CLOCK_FOLDER") else {
        return;
    };
    let logger = setup_logging(LogConfig {
        name: "clocks".into(),
        log_dir: folder.into(),
        sinks: [
            ("file".into(), json!({"rotate_daily": true})),
            ("jsonl".into(), json!({"records": true})),
        ]
        .into(),
        ..LogConfig::default()
    })
    .unwrap();
    logger.start_progress(3, "Train");
    for step in 0..3 {
        logger.update_progress(1, 32);
        logger.log_metrics([("step_value", step)]);
        logger.info(format_args!("line {step}"));
    }
    logger.log_config(&json!({"lr": 0.1}));
    assert!(logger.finish().all_delivered());
}

fn log_under(clock: &Path, offset: i64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["logs_into_a_folder", "--exact"])
        .env("LD_PRELOAD", clock)
        .env("CLOCK_OFFSET", offset.to_string())
        .env("CLOCK_FOLDER", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && !said.contains("panicked"),
        "{offset}: {said}"
    );
    folder
}

#[test]
fn nothing_is_lost_and_all_is_readable_under_any_clock() {
    let tools = tempfile::tempdir().unwrap();
    let (source, clock) = (tools.path().join("clock.c"), tools.path().join("clock.so"));
    std::fs::write(&source, CLOCK).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&clock, &source])
        .status()
        .unwrap();
    assert!(built.success());
    for offset in [
        -2_000_000_000,
        -90_000_000_000,
        10_000_000_000,
        260_000_000_000,
        9_000_000_000_000,
    ] {
        let folder = log_under(&clock, offset);
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let text = read("training.log");
        for step in 0..3 {
            assert!(
                text.contains(&format!(" | INFO  | clocks | line {step}\n")),
                "{offset}: {text}"
            );
        }
        let rows: Vec<Value> = read("metrics.jsonl")
            .lines()
            .map(|line| from_str(line).unwrap())
            .collect();
        assert_eq!(
            rows.iter()
                .filter(|row| row.get("metrics/step_value").is_some())
                .count(),
            3,
            "{offset}"
        );
        assert!(
            rows.iter()
                .all(|row| row["time"].is_number() && row["logger"] == "clocks"),
            "{offset}"
        );
        let records: Vec<Value> = read("latest/records.jsonl")
            .lines()
            .map(|line| from_str(line).unwrap())
            .collect();
        assert_eq!(records.len(), 3, "{offset}");
        for file in ["summary.json", "config.json"] {
            let _: Value = from_str(&read(file)).unwrap();
        }
    }
}
