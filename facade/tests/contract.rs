//! The public face and its behaviour, sentence by sentence.
#![cfg(all(feature = "file", feature = "jsonl", feature = "metrics", feature = "progress"))]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use facade::logcore::testing::{RecordedCalls, recording};
use facade::logcore::{log, serde_json};
use facade::{
    LevelFilter, LogConfig, LogError, LogManager, MetricValue, OnFull, ProgressRows, UnifiedLogger, cleanup_logging,
    get_logger, setup_logging,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A logger that writes files only.
fn quiet_config(name: &str, folder: &TempDir) -> LogConfig {
    LogConfig {
        name: name.into(),
        log_dir: folder.path().into(),
        enable_console: false,
        ..LogConfig::default()
    }
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn log_lines(folder: &TempDir) -> Vec<String> {
    lines(&folder.path().join("training.log"))
}

fn rows(folder: &TempDir) -> Vec<Value> {
    lines(&folder.path().join("metrics.jsonl"))
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn refused(config: LogConfig) -> facade::ConfigError {
    match setup_logging(config) {
        Err(LogError::Config(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn listen(name: &str) -> RecordedCalls {
    let (handle, sink) = recording();
    LogManager::get_instance().add_sink(name, Box::new(sink)).unwrap();
    handle
}

#[test]
fn the_quick_start_of_the_seed() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(quiet_config("my_module", &folder)).unwrap();
    logger.info("Starting process...");
    logger.debug("Debug information");
    logger.warning("Warning message");
    logger.error("Error occurred");
    logger.trace("below the level of the file");
    logger.start_progress(100, "Processing data");
    for _ in 0..100 {
        logger.update_progress(1, 32);
    }
    logger.log_metrics([("loss", 0.5), ("accuracy", 0.95)]);
    logger.log_memory();
    let report = logger.finish();

    let text = log_lines(&folder);
    assert_eq!(text.len(), 4, "{text:?}");
    assert!(
        text[0].ends_with(" | INFO  | my_module | Starting process..."),
        "{text:?}"
    );
    assert!(text[1].contains(" | DEBUG | ") && text[2].contains(" | WARN  | ") && text[3].contains(" | ERROR | "));
    let books = report.sink("file").unwrap();
    assert_eq!((books.accepted, books.delivered), (4, 4));
    assert!(report.sinks.values().all(facade::SinkBooks::balanced), "{report:?}");
    assert!(report.all_delivered());
    assert_eq!(logger.finish(), report);

    let rows = rows(&folder);
    let last = rows.last().unwrap();
    assert_eq!(
        (last["step"].as_u64(), last["logger"].as_str()),
        (Some(100), Some("my_module"))
    );
    assert_eq!(
        (last["metrics/loss"].as_f64(), last["metrics/accuracy"].as_f64()),
        (Some(0.5), Some(0.95))
    );
    assert_eq!(last["throughput/accumulated_samples"], 3200);
    assert_eq!(last["progress/percent"], 100.0);
}

#[test]
fn an_invalid_config_is_refused_with_field_value_and_remedy() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let base = || quiet_config("refused", &folder);
    let sink = |name: &str, options: Value| LogConfig {
        sinks: [(name.to_owned(), options)].into(),
        ..base()
    };
    for (config, field) in [
        (
            LogConfig {
                metrics_window: 0,
                ..base()
            },
            "metrics_window",
        ),
        (
            LogConfig {
                progress_window: 0,
                ..base()
            },
            "progress_window",
        ),
        (
            LogConfig {
                progress_smoothing: 1.5,
                ..base()
            },
            "progress_smoothing",
        ),
        (
            LogConfig {
                filename: "a/b.log".into(),
                ..base()
            },
            "filename",
        ),
        (
            LogConfig {
                log_dir: file.join("below"),
                ..base()
            },
            "log_dir",
        ),
        (
            LogConfig {
                directives: "a=loud".into(),
                ..base()
            },
            "directives",
        ),
        (sink("file", json!({"rotate_kb": 5})), "sinks.file.rotate_kb"),
        (sink("file", json!({"formatter": "jsn"})), "sinks.file.formatter"),
        (sink("file", json!({"keep": "many"})), "sinks.file.keep"),
        (sink("slack", json!({})), "sinks.slack"),
    ] {
        let error = refused(config);
        assert_eq!(error.field, field, "{error}");
        assert!(!error.remedy.is_empty() && !error.value.is_empty(), "{error}");
    }
    assert!(
        refused(sink("slack", json!({}))).remedy.contains("file"),
        "the linked names are listed"
    );
}

#[test]
fn log_metrics_takes_pairs_of_every_kind() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(quiet_config("pairs", &folder)).unwrap();
    logger.log_metrics([("a", 1)]);
    logger.log_metrics(&[("a", 2.5_f32)]);
    logger.log_metrics(vec![(String::from("a"), 3_u8)]);
    let vector = vec![(String::from("a"), i64::MAX)];
    logger.log_metrics(&vector);
    logger.log_metrics(HashMap::from([("a", u64::MAX)]));
    let map = BTreeMap::from([(String::from("a"), MetricValue::Int(6))]);
    logger.log_metrics(&map);
    logger.log_metrics(&[("a", &7.0), ("b", &8.0)]);
    logger.log_metrics(facade::metrics! { "a" => 8, "b" => 0.5, "a" => 9_u16 });
    logger.log_metrics([("x", 1); 0]);
    logger.finish();
    let values: Vec<_> = rows(&folder).iter().map(|row| row["metrics/a"].to_string()).collect();
    assert_eq!(
        values,
        [
            "1",
            "2.5",
            "3",
            "9223372036854775807",
            "18446744073709551615",
            "6",
            "7.0",
            "9"
        ]
    );
}

#[test]
fn steps_count_calls_without_progress_and_positions_with_it() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(quiet_config("steps", &folder)).unwrap();
    logger.log_metrics([("m", 0)]);
    logger.log_metrics([("m", 1)]);
    logger.log_metrics_at(10, [("m", 2)]);
    logger.log_metrics([("m", 3)]);
    logger.log_metrics_at(4, [("m", 4)]);
    for _epoch in 0..2 {
        logger.start_progress(3, "epoch");
        for _ in 0..3 {
            logger.update_progress(1, None);
            logger.log_metrics([("m", 5)]);
            logger.log_metrics([("n", 6)]);
        }
    }
    logger.finish();
    let steps: Vec<_> = rows(&folder)
        .iter()
        .filter(|row| row.get("metrics/m").is_some())
        .map(|row| row["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [0, 1, 10, 11, 4, 12, 13, 14, 15, 16, 17]);
    let merged = rows(&folder)
        .iter()
        .filter(|row| row.get("metrics/m").is_some() && row.get("metrics/n").is_some())
        .count();
    assert_eq!(merged, 6, "calls of one step are one row");
}

#[test]
fn metrics_give_window_averages_statistics_and_history() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        metrics_window: 3,
        ..quiet_config("windows", &folder)
    };
    let logger = setup_logging(config).unwrap();
    for value in [9.0, 1.0, f64::NAN, 2.0, f64::INFINITY] {
        logger.log_metrics([("loss/train", value)]);
    }
    assert_eq!(logger.metrics().average("loss/train"), Some(2.0));
    assert_eq!(logger.metrics().averages(), [("loss/train".to_owned(), 2.0)]);
    let stats = logger.metrics().stats("loss/train").unwrap();
    assert_eq!(
        (stats.last, stats.mean, stats.min, stats.max),
        (f64::INFINITY, 2.0, 1.0, 9.0)
    );
    assert_eq!((stats.count, stats.nan_count, stats.infinite_count), (5, 1, 1));
    let history = logger.metrics().history("loss/train").unwrap();
    assert_eq!(
        history.iter().map(|point| point.step).collect::<Vec<_>>(),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(logger.metrics().average("unknown"), None);
    assert!(logger.metrics().stats("unknown").is_none() && logger.metrics().history("unknown").is_none());
    logger.log_metrics([("never", f64::NAN)]);
    assert_eq!(logger.metrics().average("never"), None);
    logger.finish();
    let rows = rows(&folder);
    let shown: Vec<_> = rows.iter().map(|row| row["metrics/loss/train"].to_string()).collect();
    assert_eq!(shown[..5], ["9.0", "1.0", "null", "2.0", "null"]);
    assert_eq!(rows[2]["nonfinite"], r#"{"metrics/loss/train":"NaN"}"#);
    assert_eq!(rows[4]["nonfinite"], r#"{"metrics/loss/train":"Infinity"}"#);
    assert_eq!((&rows[0]["nonfinite"], &rows[0]["attempt"]), (&"".into(), &1.into()));
}

#[test]
fn history_and_metrics_can_be_off() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        metrics_history: false,
        ..quiet_config("nohistory", &folder)
    })
    .unwrap();
    logger.log_metrics([("loss", 1.0)]);
    assert!(logger.metrics().history("loss").is_none());
    assert_eq!(logger.metrics().average("loss"), Some(1.0));
    drop(logger);

    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        enable_metrics: false,
        ..quiet_config("nometrics", &folder)
    })
    .unwrap();
    logger.log_metrics([("loss", 1.0)]);
    logger.start_progress(2, "work");
    logger.update_progress(2, 8);
    assert_eq!(logger.metrics().average("loss"), None);
    logger.finish();
    assert_eq!(rows(&folder), [] as [Value; 0]);
}

#[test]
fn a_name_that_clashes_with_a_column_gets_an_underscore() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        metrics_prefix: String::new(),
        ..quiet_config("clash", &folder)
    })
    .unwrap();
    logger.log_metrics([("step", 7.0), ("time", 8.0), ("loss", 9.0)]);
    assert_eq!(logger.metrics().average("step"), Some(7.0));
    logger.finish();
    let row = &rows(&folder)[0];
    assert_eq!(
        (&row["step"], &row["step_"], &row["time_"], &row["loss"]),
        (&json!(0), &json!(7.0), &json!(8.0), &json!(9.0))
    );
}

#[test]
fn each_metric_has_its_own_column_and_no_row_has_a_key_twice() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        metrics_prefix: String::new(),
        ..quiet_config("keys", &folder)
    })
    .unwrap();
    logger.start_progress(10, "work");
    logger.update_progress(1, 8);
    logger.update_progress(1, 8);
    logger.log_metrics([
        ("step", 1.0),
        ("step_", 2.0),
        ("step__", 3.0),
        ("time_", 4.0),
        ("time", 5.0),
    ]);
    logger.log_metrics([("progress/percent", 99.0), ("loss", 1.0)]);
    logger.finish();
    let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    for line in text.lines() {
        let row: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
        assert_eq!(line.matches("\":").count(), row.len(), "{line}");
    }
    let values: Vec<f64> = rows(&folder)
        .iter()
        .flat_map(|row| ["step_", "step__", "step___", "time_", "time__"].map(|name| row[name].as_f64()))
        .flatten()
        .collect();
    assert_eq!(values.iter().sum::<f64>(), 15.0, "{values:?}");
}

#[test]
fn progress_rows_thins_the_values_of_a_progress_and_nothing_else() {
    testkit::own_process!();
    for (progress_rows, at_most) in [(ProgressRows::Off, 0.0), (ProgressRows::Sparse, 10.0)] {
        let folder = tempfile::tempdir().unwrap();
        let logger = setup_logging(LogConfig {
            progress_rows,
            ..quiet_config("thin", &folder)
        })
        .unwrap();
        let start = Instant::now();
        logger.start_progress(4000, "work");
        for step in 1..=4000 {
            logger.update_progress(1, 8);
            logger.log_metrics([("loss", step)]);
        }
        logger.finish_progress();
        let elapsed = start.elapsed().as_secs_f64();
        assert!(logger.metrics().average("throughput/samples_per_sec").is_some());
        logger.finish();
        let rows = rows(&folder);
        assert_eq!(rows.iter().filter(|row| row["metrics/loss"].is_number()).count(), 4000);
        let derived = |row: &&Value| {
            let mut names = row.as_object().unwrap().keys();
            names.any(|name| name.starts_with("throughput/") || name.starts_with("progress/"))
        };
        let count = rows.iter().filter(derived).count() as f64;
        assert!(
            count <= (at_most * elapsed).ceil() + at_most.min(1.0),
            "{count} rows in {elapsed} s"
        );
        assert_eq!(count > 0.0, at_most > 0.0);
    }
}

#[test]
fn a_handle_and_an_iterator_that_logs_do_not_deadlock() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(quiet_config("handles", &folder)).unwrap();
    let loss = logger.metric("loss");
    loss.record(5, 0.25);
    loss.clone().record(6, 1_u32);
    let inner = logger.clone();
    logger.log_metrics((0..40).map(|i| {
        inner.info(format_args!("average so far: {:?}", inner.metrics().average("loss")));
        (format!("m{}", i % 30), i)
    }));
    logger.finish();
    let rows = rows(&folder);
    assert_eq!((&rows[0]["step"], &rows[0]["metrics/loss"]), (&json!(5), &json!(0.25)));
    assert_eq!((&rows[1]["step"], &rows[1]["metrics/loss"]), (&json!(6), &json!(1)));
    assert_eq!(
        (&rows[2]["step"], &rows[2]["metrics/m0"], &rows[2]["metrics/m29"]),
        (&json!(7), &json!(30), &json!(29))
    );
}

#[test]
fn progress_accepts_odd_totals_and_updates() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(quiet_config("odd", &folder)).unwrap();
    logger.update_progress(1, 1);
    logger.finish_progress();
    for total in [Some(0), None, Some(5)] {
        logger.start_progress(total, "odd");
        logger.update_progress(0, None);
        logger.update_progress(u64::MAX, -3);
        logger.update_progress(2, usize::MAX);
        logger.finish_progress();
        logger.finish_progress();
    }
    logger.start_progress(-1, String::from("negative"));
    logger.start_progress(3_usize, "second start ends the first");
    logger.finish();
    for row in rows(&folder) {
        assert!(matches!(row["nonfinite"].as_str(), None | Some("")), "{row}");
    }
}

#[test]
fn a_logger_closes_with_its_last_clone() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let outside: UnifiedLogger;
    {
        let logger = setup_logging(quiet_config("block", &folder)).unwrap();
        outside = logger.clone();
        logger.info("Starting...");
    }
    outside.info("still open");
    let handle = get_logger("block");
    drop(handle);
    outside.info("dropping a handle closes nothing");
    drop(outside);
    assert_eq!(log_lines(&folder).len(), 3);
    assert!(matches!(
        setup_logging(quiet_config("block", &folder)).unwrap().flush(),
        Ok(())
    ));
}

#[test]
fn calls_after_finish_are_ignored_and_do_not_fail() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(quiet_config("after", &folder)).unwrap();
    logger.finish();
    logger.error("x");
    logger.log_metrics([("a", 1)]);
    logger.start_progress(3, "x");
    logger.update_progress(1, 1);
    logger.log_memory();
    logger.log_config(&json!({}));
    assert!(matches!(logger.flush(), Err(LogError::Closed { .. })));
    assert_eq!(log_lines(&folder), [] as [&str; 0]);
}

#[test]
fn setting_up_again_reconfigures_the_live_logger() {
    testkit::own_process!();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let old = setup_logging(quiet_config("again", &first)).unwrap();
    old.info("one");
    let new = setup_logging(quiet_config("again", &second)).unwrap();
    old.info("two");
    drop(old);
    new.info("three");
    let report = new.finish();
    assert_eq!(log_lines(&first).len(), 1);
    assert_eq!(log_lines(&second).len(), 2);
    assert_eq!(report.sink("file").unwrap().delivered, 3);
}

#[test]
fn reconfiguring_while_threads_log_loses_no_line() {
    testkit::own_process!();
    let folders: Vec<_> = (0..8).map(|_| tempfile::tempdir().unwrap()).collect();
    let manager = LogManager::get_instance();
    let logger = setup_logging(quiet_config("fire", &folders[0])).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..20_000 {
                logger.info(i);
            }
        });
        for folder in &folders {
            manager.configure_from_config(quiet_config("ignored", folder)).unwrap();
        }
    });
    logger.finish();
    let mut all: Vec<u32> = Vec::new();
    for folder in &folders {
        all.extend(
            log_lines(folder)
                .iter()
                .map(|line| line.rsplit(" | ").next().unwrap().parse::<u32>().unwrap()),
        );
    }
    assert_eq!(all, (0..20_000).collect::<Vec<_>>());
}

#[test]
fn the_manager_gives_every_logger_the_config_and_one_file() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let manager = LogManager::get_instance();
    manager.configure_from_config(quiet_config("any", &folder)).unwrap();
    let (one, two) = (manager.get_logger("module1"), manager.get_logger("module2"));
    thread::scope(|scope| {
        for logger in [&one, &two] {
            scope.spawn(move || (0..5000).for_each(|i| logger.info(format_args!("{i} {}", "x".repeat(i % 50)))));
        }
    });
    manager.cleanup();
    cleanup_logging();
    let text = log_lines(&folder);
    for name in ["module1", "module2"] {
        let own: Vec<_> = text
            .iter()
            .filter(|line| line.contains(&format!(" | {name} | ")))
            .collect();
        assert_eq!(own.len(), 5000);
        for (i, line) in own.iter().enumerate() {
            assert!(line.ends_with(&format!("| {i} {}", "x".repeat(i % 50))), "{line}");
        }
    }
}

#[test]
fn get_logger_never_fails() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let manager = LogManager::get_instance();
    manager.configure_from_config(quiet_config("x", &folder)).unwrap();
    assert_eq!(get_logger("line\nend").name(), "line\\nend");
    assert_eq!(get_logger("").name(), "root");
    fs::remove_dir_all(folder.path()).unwrap();
    fs::write(folder.path(), "now a file").unwrap();
    let logger = get_logger("unlucky");
    logger.info("goes nowhere, harms nothing");
    logger.flush().unwrap();
    fs::remove_file(folder.path()).unwrap();
}

#[test]
fn an_added_sink_belongs_to_present_and_later_loggers() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let before = setup_logging(quiet_config("before", &folder)).unwrap();
    let handle = listen("mine");
    let after = setup_logging(quiet_config("later", &folder)).unwrap();
    before.debug("a");
    after.debug("b");
    after.log_config(&json!({"lr": 0.1}));
    after.set_exit_code(3);
    assert_eq!(after.finish().exit_code, 3);
    before.flush().unwrap();
    assert_eq!(
        handle.calls()[..3],
        ["record DEBUG before a", "record DEBUG later b", "config {\"lr\":0.1}"]
    );
    let (_, again) = recording();
    assert!(LogManager::get_instance().add_sink("mine", Box::new(again)).is_err());
    cleanup_logging();
    assert_eq!(handle.calls().last().unwrap(), "finish");
}

#[test]
fn any_text_stays_one_record() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let mut config = quiet_config("text", &folder);
    config.sinks.insert("jsonl".into(), json!({"records": true}));
    let logger = setup_logging(config).unwrap();
    let messages = [
        "2026-11-23 14:48:15.123 | ERROR | root | forged".to_owned(),
        "first\n2026-11-23 14:48:15.123 | ERROR | root | forged\r\nlast".to_owned(),
        "\x1b[31mred\x1b[0m \x07 \x08 \x7f \u{9b}31m".to_owned(),
        "x".repeat(1_000_000),
        "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f".to_owned(),
        String::from_utf8_lossy(b"lossy \xff\xfe").into_owned(),
        "emoji 🦀👩‍🔬 and a tab\t|".to_owned(),
        String::new(),
    ];
    for message in &messages {
        logger.info(message);
    }
    logger.finish();
    let text = fs::read_to_string(folder.path().join("training.log")).unwrap();
    let records = text.lines().filter(|line| !line.starts_with("    ")).count();
    assert_eq!(records, messages.len());
    assert!(
        text.chars()
            .all(|c| c == '\n' || !c.is_control() && !matches!(c, '\u{2028}'..='\u{202e}'))
    );
    let kept: Vec<String> = lines(&folder.path().join("latest/records.jsonl"))
        .iter()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["message"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(kept, messages);
}

#[test]
fn fields_are_kept_as_text_and_as_json() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let mut config = quiet_config("fields", &folder);
    config.sinks.insert("jsonl".into(), json!({"records": true}));
    let logger = setup_logging(config).unwrap();
    log::info!(logger: logger, lr = 0.5, note = "two words", n = 3; "epoch done");
    logger.finish();
    assert!(
        log_lines(&folder)[0].ends_with("| fields | epoch done | lr=0.5 note=\"two words\" n=3"),
        "{:?}",
        log_lines(&folder)
    );
    let record: Value = serde_json::from_str(&lines(&folder.path().join("latest/records.jsonl"))[0]).unwrap();
    assert_eq!(record["fields"], json!({"lr": 0.5, "note": "two words", "n": 3}));
    assert_eq!(
        (&record["logger"], &record["target"]),
        (&json!("fields"), &json!(module_path!()))
    );
}

#[test]
fn the_dropping_policy_counts_what_it_drops() {
    testkit::own_process!();
    use facade::logcore::testing::{BlockingSink, SinkGate};
    let folder = tempfile::tempdir().unwrap();
    let gate = SinkGate::default();
    let config = LogConfig {
        ring_bytes: 8192,
        on_full: OnFull::Drop,
        ..quiet_config("drops", &folder)
    };
    let logger = setup_logging(config).unwrap();
    LogManager::get_instance()
        .add_sink("slow", Box::new(BlockingSink(gate.clone())))
        .unwrap();
    for i in 0..10_000 {
        logger.info(i);
    }
    gate.open();
    let report = logger.finish();
    for name in ["file", "slow"] {
        let books = report.sink(name).unwrap();
        assert_eq!(books.accepted, 10_000, "{name}");
        assert!(books.balanced() && books.dropped["ring full"] > 9000, "{books:?}");
    }
    assert_eq!(log_lines(&folder).len() as u64, report.sink("file").unwrap().delivered);
    cleanup_logging();
}

#[test]
fn each_sink_has_its_own_level_which_can_change_while_running() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        file_level: LevelFilter::Warn,
        console_level: LevelFilter::Off,
        ..quiet_config("levels", &folder)
    };
    let logger = setup_logging(config).unwrap();
    assert!(!log::log_enabled!(logger: logger, log::Level::Info));
    logger.info("no");
    logger.warning("yes");
    logger.set_level("file", LevelFilter::Trace).unwrap();
    logger.trace("yes");
    logger.set_directives("warn,levels=debug").unwrap();
    logger.trace("no");
    logger.debug("yes");
    log::info!(logger: logger, "no: this target is under the plain warn");
    assert!(
        logger
            .set_level("slack", LevelFilter::Info)
            .unwrap_err()
            .remedy
            .contains("file")
    );
    assert!(logger.set_directives("a=loud").is_err());
    logger.finish();
    assert_eq!(log_lines(&folder).len(), 3, "{:?}", log_lines(&folder));
}

#[test]
fn eight_threads_log_a_hundred_thousand_lines_each_without_loss() {
    testkit::own_process!();
    const EACH: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig {
        ring_bytes: 1 << 20,
        ..quiet_config("flood", &folder)
    };
    let logger = setup_logging(config).unwrap();
    thread::scope(|scope| {
        for id in 0..8 {
            let logger = &logger;
            scope.spawn(move || (0..EACH).for_each(|i| logger.info(format_args!("{id} {i} end"))));
        }
    });
    let report = logger.finish();
    assert_eq!(report.sink("file").unwrap().delivered, 8 * EACH as u64);
    let mut next = [0; 8];
    for line in log_lines(&folder) {
        let message = line.rsplit(" | ").next().unwrap();
        let parts: Vec<_> = message.split(' ').collect();
        assert!(parts.len() == 3 && parts[2] == "end", "{line}");
        let id: usize = parts[0].parse().unwrap();
        assert_eq!(parts[1].parse::<usize>().unwrap(), next[id]);
        next[id] += 1;
    }
    assert_eq!(next, [EACH; 8]);
}

#[test]
fn hyper_parameters_go_to_config_json() {
    testkit::own_process!();
    #[derive(serde::Serialize)]
    struct Hyper {
        lr: f64,
        layers: Vec<u32>,
        hf_token: &'static str,
    }
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(quiet_config("hyper", &folder)).unwrap();
    logger.log_config(&Hyper {
        lr: 1e-4,
        layers: vec![64, 32],
        hf_token: "s3cr3t",
    });
    logger.log_config(&json!({"lr": 2e-4, "seed": 7}));
    logger.set_exit_code(3);
    logger.finish();
    let text = fs::read_to_string(folder.path().join("config.json")).unwrap();
    assert!(!text.contains("s3cr3t"));
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["config"]["lr"], 2e-4);
    assert_eq!(config["config"]["layers"], json!([64, 32]));
    assert_eq!(config["config"]["seed"], 7);
    assert_eq!(config["environment"]["pid"], std::process::id());
    assert_eq!(config["environment"]["argv"][0], std::env::args().next().unwrap());
    assert_eq!(config["end"]["exit_code"], 3);
}

/// A value without a form in JSON loses no other value; a notice names it.
#[test]
fn log_config_accepts_odd_values() {
    testkit::own_process!();
    #[derive(serde::Serialize)]
    struct Clip {
        max_grad_norm: f64,
        patience: f32,
    }
    #[derive(serde::Serialize)]
    struct Curriculum {
        warmup: u32,
        stages: BTreeMap<(u32, u32), f64>,
        seed: u128,
    }
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(quiet_config("odd hyper", &folder)).unwrap();
    logger.log_config(&Clip {
        max_grad_norm: f64::INFINITY,
        patience: f32::NAN,
    });
    logger.log_config(&Curriculum {
        warmup: 500,
        stages: BTreeMap::from([((0, 10), 0.5)]),
        seed: u128::MAX,
    });
    logger.log_config(&["train", "--password", "s3cr3t"]);
    for depth in [98, 127, 128, 500] {
        let deep = (0..depth).fold(json!(1), |inner, _| json!({ "a": inner }));
        logger.log_config(&json!({ format!("deep{depth}"): deep }));
    }
    logger.log_config(&json!({"last": 1}));
    let report = logger.finish();
    let jsonl = report.sink("jsonl").unwrap();
    assert_eq!((jsonl.accepted, jsonl.delivered), (8, 8));
    let text = fs::read_to_string(folder.path().join("config.json")).unwrap();
    let config = &serde_json::from_str::<Value>(&text).unwrap()["config"];
    assert_eq!(config["max_grad_norm"], "Infinity");
    assert_eq!(config["patience"], "NaN");
    assert_eq!(
        (&config["warmup"], &config["stages"], &config["seed"]),
        (&json!(500), &Value::Null, &Value::Null)
    );
    assert_eq!(config["value"], json!(["train", "--password", "***"]));
    assert_eq!(config["last"], 1);
    for depth in ["deep127", "deep128", "deep500"] {
        assert!(config[depth].to_string().contains("nested too deep"), "{depth}");
    }
    assert!(!config["deep98"].to_string().contains("nested too deep"));
}

/// An API key at a wrong place among the options of a sink, or in another field, appears in no
/// error.
#[test]
fn config_errors_show_no_secret() {
    testkit::own_process!();
    const KEY: &str = "S3CR3T-0123456789abcdef0123456789abcdef0";
    let folder = tempfile::tempdir().unwrap();
    for wrong in [
        json!({"sinks": {"file": KEY}}),
        json!({"sinks": {"file": {"keep": KEY}}}),
        json!({"sinks": {"file": {"keep": {"api_key": KEY}}}}),
        json!({"sinks": {"file": {"formatter": KEY}}}),
        json!({"sinks": {"file": {"formatter": {"name": "json", "api_key": KEY}}}}),
        json!({"sinks": {"file": {"kept": KEY}}}),
        json!({"sinks": {"jsonl": [KEY]}}),
        json!({"sinks": {"slack": {"hook": format!("https://hooks.example/{KEY}"), "other": KEY}}}),
        json!({"sinks": {"slack": KEY}}),
        json!({"redact": [format!("{KEY}(")]}),
        json!({"wandb_api": KEY}),
    ] {
        let read = serde_json::from_value::<LogConfig>(wrong.clone()).map_err(|error| error.to_string());
        let config = read.map(|config| LogConfig {
            log_dir: folder.path().into(),
            enable_console: false,
            ..config
        });
        let said = config.map_or_else(|error| error, |config| format!("{:?}", refused(config)));
        assert!(!said.contains("S3CR3T"), "{wrong}: {said}");
    }
}

/// Names of any length and with any characters leave every file valid.
#[test]
fn any_logger_or_metric_name_leaves_the_files_valid() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let evil = "a\u{1b}[2J\n\r\u{9b}31m\u{202e}\u{2028}\u{200b}\u{e0041}\0\"\\";
    let logger = setup_logging(quiet_config(evil, &folder)).unwrap();
    let long = "n".repeat(1 << 20);
    for name in [evil, "", "\n", &long, "step", "日本語 👩‍🚀"] {
        logger.log_metrics([(name, 1.0)]);
        logger.log_config(&BTreeMap::from([(name, name)]));
        logger.start_progress(1, name);
        logger.update_progress(1, 1);
        log::info!(logger: logger, target: name, "{name}");
    }
    let report = logger.finish();
    assert!(report.all_delivered(), "{report:?}");
    for file in ["config.json", "summary.json", "metrics.jsonl", "training.log"] {
        let text = fs::read_to_string(folder.path().join(file)).unwrap();
        let harmful =
            |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
        assert!(!text.contains(harmful), "{file}");
        match file.rsplit('.').next().unwrap() {
            "json" => drop(serde_json::from_str::<Value>(&text).unwrap()),
            "jsonl" => text
                .lines()
                .for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap())),
            _ => assert!(
                text.lines()
                    .all(|line| line.starts_with("    ") || line.contains(" | INFO  | "))
            ),
        }
    }
}
