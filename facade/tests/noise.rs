//! Less output: folded repeats, limits, levels that change, redaction.
#![cfg(all(feature = "console", feature = "file", feature = "jsonl"))]
#![allow(clippy::print_stdout, reason = "a child tells its parent how far it is")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use facade::logcore::{log, serde_json};
use facade::{LevelFilter, LogConfig, LogManager, Secret, UnifiedLogger, cleanup_logging, get_logger, setup_logging};
use serde_json::json;
use tempfile::TempDir;

fn config(name: &str, folder: &TempDir) -> LogConfig {
    LogConfig {
        name: name.into(),
        log_dir: folder.path().into(),
        enable_console: false,
        ..LogConfig::default()
    }
}

/// Level and message of each line.
fn lines(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("training.log")).unwrap_or_default();
    let columns = text.lines().map(|line| line.split(" | ").collect::<Vec<_>>());
    columns
        .map(|columns| format!("{} {}", columns[1].trim(), columns[3..].join(" | ")))
        .collect()
}

#[test]
fn equal_lines_in_a_row_become_one() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        fold_repeats: true,
        sinks: [("jsonl".into(), json!({"records": true}))].into(),
        ..config("trainer", &folder)
    })
    .unwrap();
    for _ in 0..1000 {
        log::warn!(logger: logger, attempt = 1; "no connection");
    }
    log::warn!(logger: logger, attempt = 2; "no connection");
    let report = logger.finish();
    let expected = [
        "WARN no connection | attempt=1",
        "WARN last line repeated 999 times",
        "WARN no connection | attempt=2",
    ];
    assert_eq!(lines(folder.path()), expected);
    let books = report.sink("file").unwrap();
    assert_eq!((books.accepted, books.delivered), (1001, 1001));
    // Sinks that programs read get each record.
    let records = fs::read_to_string(logger.run_dir().join("records.jsonl")).unwrap();
    assert_eq!(records.lines().count(), 1001);
}

/// Names the folder of a child that shows lines.
const FOLDED: &str = "NOISE_FOLDED";

/// Does nothing unless it is the child: logs lines that repeat on the console and not in the file.
#[test]
fn the_child_that_folds() {
    let Some(folder) = std::env::var_os(FOLDED) else { return };
    let logger = setup_logging(LogConfig {
        name: "folded".into(),
        log_dir: folder.into(),
        fold_repeats: true,
        ..LogConfig::default()
    })
    .unwrap();
    for attempt in 0..3 {
        logger.warning("no connection");
        logger.debug(attempt);
    }
}

#[test]
fn the_console_folds_repeats_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_that_folds", "--nocapture", "--test-threads=1"])
        .env(FOLDED, folder.path())
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let shown = shown.lines().filter_map(|line| line.split_once(" | folded | "));
    let shown: Vec<_> = shown.map(|(_, message)| message).collect();
    assert_eq!(shown, ["no connection", "last line repeated 2 times"]);
    assert_eq!(lines(folder.path()).len(), 6);
}

#[test]
fn without_fold_repeats_every_line_is_written() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(config("trainer", &folder)).unwrap();
    (0..1000).for_each(|_| logger.info("again"));
    logger.finish();
    assert_eq!(lines(folder.path()), vec!["INFO again"; 1000]);
}

#[test]
fn site_limit_bounds_the_records_of_a_call_site() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        limit_per_site: "2/1h".into(),
        ..config("trainer", &folder)
    })
    .unwrap();
    let first = line!() + 2;
    for number in 0..1236 {
        log::info!(target: "trainer::data", "batch {number}");
        logger.warning(number);
        logger.error("errors always pass");
    }
    logger.flush().unwrap();
    let told =
        |line: u32, more: &str| format!("… {more} more like this from facade/tests/noise.rs:{line} within 3600s");
    let expected = [
        format!("INFO {}", told(first, "1,234")),
        format!("WARN {}", told(first + 1, "1,234")),
    ];
    let of = |level: &str| {
        lines(folder.path())
            .into_iter()
            .filter(|line| line.starts_with(level))
            .collect::<Vec<_>>()
    };
    assert_eq!(of("INFO"), ["INFO batch 0", "INFO batch 1", &expected[0]]);
    assert_eq!(of("WARN"), ["WARN 0", "WARN 1", &expected[1]]);
    assert_eq!(of("ERROR").len(), 1236);
    let report = logger.finish();
    let books = report.sink("file").unwrap();
    assert!(books.balanced(), "{books:?}");
    assert_eq!(books.dropped["limit"], 2 * 1234);
    assert_eq!(books.accepted, 3 * 1236 + expected.len() as u64);
}

#[test]
fn the_manager_changes_the_levels_of_present_and_later_loggers() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let manager = LogManager::get_instance();
    manager.configure_from_config(config("any", &folder)).unwrap();
    let before = get_logger("app.before");
    manager.set_level("file", LevelFilter::Warn).unwrap();
    let after = get_logger("app.after");
    let say = |text: &str| {
        for logger in [&before, &after] {
            logger.info(text);
            logger.warning(text);
        }
    };
    say("one");
    manager.set_level("file", LevelFilter::Info).unwrap();
    manager.set_directives("app.after=error").unwrap();
    let third = get_logger("app.after.all");
    say("two");
    third.info("nobody wants it");
    let error = manager.set_level("fiel", LevelFilter::Info).unwrap_err();
    assert_eq!((error.field.as_str(), error.value.as_str()), ("sink", "fiel"));
    assert_eq!(manager.set_directives("a=loud").unwrap_err().field, "directives");
    // A new config is the newest word.
    manager.configure_from_config(config("any", &folder)).unwrap();
    third.info("three");
    cleanup_logging();
    assert_eq!(
        lines(folder.path()),
        ["WARN one", "WARN one", "INFO two", "WARN two", "INFO three"]
    );
}

#[test]
fn redacted_text_reaches_neither_sinks_nor_ring() {
    testkit::own_process!();
    const KEY: &str = "hf_0123456789abcdefghij";
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(LogConfig {
        redact: vec!["api_keys".into(), r"password=\S+".into()],
        sinks: [("jsonl".into(), json!({"records": true}))].into(),
        ..config("trainer", &folder)
    })
    .unwrap();
    let message = format!("log in with {KEY}");
    log::info!(logger: logger, key = KEY, lr = 0.5, on = true, step = -1, size = u64::MAX; "{message}");
    log::info!(target: "trainer::net", "GET /?password=tops3cret");
    logger.warning("nothing to hide");
    logger.log_config(&json!({"command": ["train", "--hub", KEY]}));
    logger.flush().unwrap();
    let expected = [
        "INFO log in with *** | key=*** lr=0.5 on=true step=-1 size=18446744073709551615",
        "INFO GET /?***",
        "WARN nothing to hide",
    ];
    assert_eq!(lines(folder.path()), expected);
    let mut looked_at = 0;
    for entry in fs::read_dir(logger.run_dir()).unwrap() {
        let path = entry.unwrap().path();
        if let Ok(bytes) = fs::read(&path) {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(KEY) && !text.contains("tops3cret"), "{}", path.display());
            looked_at += 1;
        }
    }
    // The text, the records, the config, and the ring.
    assert!(looked_at >= 4);
    logger.finish();
}

#[test]
fn a_secret_appears_in_no_output() {
    testkit::own_process!();
    #[derive(Debug, serde::Serialize)]
    struct Config {
        endpoint: &'static str,
        login: Secret<String>,
    }
    let folder = tempfile::tempdir().unwrap();
    let logger = setup_logging(config("trainer", &folder)).unwrap();
    let config = Config {
        endpoint: "localhost",
        login: Secret::new("tops3cret".to_owned()),
    };
    log::info!(logger: logger, login:% = config.login, again:? = config.login; "{} {config:?}", config.login);
    logger.log_config(&config);
    logger.finish();
    let shown = r#"INFO *** Config { endpoint: "localhost", login: *** } | login=*** again=***"#;
    assert_eq!(lines(folder.path()), [shown]);
    let written = fs::read_to_string(folder.path().join("config.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["config"], json!({"endpoint": "localhost", "login": "***"}));
    assert_eq!(config.login.expose(), "tops3cret");
}

/// Names the folder in the child.
const WATCHED: &str = "NOISE_WATCHED";

/// Does nothing unless it is the child: logs until the parent has seen enough.
#[test]
fn the_child() {
    let Some(folder) = std::env::var_os(WATCHED) else {
        return;
    };
    let folder = Path::new(&folder);
    let logger = setup_logging(LogConfig::from_file(folder.join("logging.toml")).unwrap()).unwrap();
    println!("ready");
    std::io::stdout().flush().unwrap();
    log_until_told_to_stop(&logger, &folder.join("stop"));
    println!("{}", logger.finish().all_delivered());
}

fn log_until_told_to_stop(logger: &UnifiedLogger, stop: &Path) {
    while !stop.exists() {
        log::debug!(target: "watched::data", "a detail of the data");
        logger.debug("a detail");
        logger.info("news");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_change_of_the_watched_file_changes_the_levels() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("logging.toml");
    let write = |levels: &str| {
        let rest = "name = \"watched\"\nenable_console = false\nwatch_file = \"logging.toml\"\n";
        let log_dir = format!("log_dir = {:?}\n", folder.path());
        fs::write(&file, format!("{rest}{log_dir}{levels}")).unwrap();
    };
    write("file_level = \"info\"\n");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--test-threads=1"])
        .env(WATCHED, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("ready")));
    let mut notices = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .filter(|line| line.starts_with("logcore:"));

    // Each is waited for, however long it takes.
    let wait_for = |wanted: &str, from: usize| loop {
        let lines = lines(folder.path());
        if let Some(at) = lines[from..].iter().position(|line| line == wanted) {
            return from + at;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let quiet = wait_for("INFO news", 0);
    write("file_level = \"debug\"\n");
    let loud = wait_for("DEBUG a detail", quiet);
    wait_for("DEBUG a detail of the data", quiet);
    // An invalid config changes nothing.
    fs::write(&file, "file_level = \"lou").unwrap();
    let notice = notices.next().unwrap();
    assert!(notice.contains("the levels stay as they are"), "{notice}");
    let broken = lines(folder.path()).len();
    wait_for("DEBUG a detail", broken);
    write("file_level = \"debug\"\ndirectives = \"watched::data=info\"\n");
    let directed = wait_for(
        &format!(
            r#"INFO {} has changed: directives = "watched::data=info""#,
            file.display()
        ),
        loud,
    );
    wait_for("DEBUG a detail", directed);
    write("# A remark.\nfile_level = \"debug\"\ndirectives = \"watched::data=info\"\n");
    wait_for(
        &format!("INFO {} has changed, and no level in it", file.display()),
        directed,
    );
    fs::write(folder.path().join("stop"), "").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(said.any(|line| line == "true"), "everything was delivered");

    let lines = lines(folder.path());
    assert!(lines[..quiet].iter().all(|line| line == "INFO news"));
    let changed = format!("INFO {} has changed: file_level = DEBUG", file.display());
    assert_eq!(lines.iter().filter(|line| **line == changed).count(), 1);
    let of_data = |lines: &[String]| lines.iter().filter(|line| line.contains("of the data")).count();
    assert!(of_data(&lines[loud..directed]) > 0);
    assert_eq!(of_data(&lines[directed..]), 0);
    assert_eq!(notices.next(), None, "it is said once");
}
