//! The sink `tensorboard` in whole runs: killed, recovered and resumed ones. Each case is a child
//! process: this test program, run again.
#![cfg(all(unix, feature = "tensorboard", feature = "jsonl"))]
#![allow(unsafe_code, reason = "files are limited, as by a quota")]
#![allow(clippy::print_stdout, reason = "a child tells its parent how far it is")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use facade::{LogConfig, recover, setup_logging};
use logcore_tensorboard::{EventContent, EventReader, SessionStatus, TagContent};
use serde_json::json;

const FOLDER: &str = "EVENT_FILES_FOLDER";

fn config(folder: &Path) -> LogConfig {
    LogConfig {
        name: "trainer".into(),
        log_dir: folder.into(),
        run: "here".into(),
        enable_console: false,
        sinks: [("tensorboard".to_owned(), json!({"records": true}))].into(),
        ..LogConfig::default()
    }
}

/// Does nothing unless it is the child: it logs steps and reports each call that has returned,
/// until it is killed.
#[test]
fn the_child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let logger = setup_logging(config(Path::new(&folder))).unwrap();
    let eval = setup_logging(LogConfig {
        name: "eval".into(),
        ..config(Path::new(&folder))
    })
    .unwrap();
    logger.log_config(&json!({"lr": 0.1}));
    let mut stdout = std::io::stdout();
    for step in 0.. {
        logger.log_metrics_at(step, [("loss", step as f64)]);
        logger.log_metrics_at(step, [("acc", step as f64 + 0.5)]);
        eval.log_metrics_at(step, [("loss", -(step as f64))]);
        writeln!(stdout, "\nstep {step}").unwrap();
        stdout.flush().unwrap();
    }
}

/// Runs the child, and kills it once it has logged this many steps; returns the number of steps
/// whose calls have returned.
fn kill_after(folder: &Path, steps: u64) -> u64 {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut last = 0;
    for line in lines.map_while(Result::ok) {
        let Some(step) = line.strip_prefix("step ") else {
            continue;
        };
        last = step.parse().unwrap();
        if last == steps {
            process.kill().unwrap();
        }
    }
    process.wait().unwrap();
    last + 1
}

fn event_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// The points of each tag in a file, and the status with which it ends.
type FileContent = (BTreeMap<String, Vec<(i64, f64)>>, Option<SessionStatus>);

fn read(path: &Path) -> FileContent {
    let bytes = fs::read(path).unwrap();
    let mut reader = EventReader::new(&*bytes);
    let (mut points, mut end): FileContent = Default::default();
    while let Some(event) = reader.next_event().unwrap() {
        let EventContent::Values(values) = event.content else {
            continue;
        };
        for value in values {
            match value.value {
                TagContent::Scalar(number) => points.entry(value.tag).or_default().push((event.step, number.as_f64())),
                TagContent::End { status, .. } => end = status,
                _ => {}
            }
        }
    }
    assert_eq!(
        reader.position(),
        bytes.len() as u64,
        "the file ends with a whole record"
    );
    (points, end)
}

#[test]
fn a_killed_run_has_each_call_that_returned_once() {
    testkit::own_process!();
    for steps in [0, 1, 40, 2000] {
        let folder = tempfile::tempdir().unwrap();
        let returned = kill_after(folder.path(), steps);
        assert!(recover(folder.path()).into_iter().all(|recovery| recovery.is_ok()));
        let run = folder.path().join("here/tensorboard");
        for (folder, tag, sign) in [(run.clone(), "loss", 1.0), (run.join("eval"), "loss", -1.0)] {
            let files = event_files(&folder);
            assert_eq!(files.len(), 1, "{files:?}");
            let (points, end) = read(&files[0]);
            let loss = &points[&format!("metrics/{tag}")];
            assert!(loss.len() as u64 >= returned, "{} of {returned}", loss.len());
            for (step, point) in loss.iter().enumerate() {
                assert_eq!(*point, (step as i64, sign * step as f64));
            }
            if sign > 0.0 {
                assert!(points["metrics/acc"].len() + 1 >= loss.len());
                assert_eq!(end, Some(SessionStatus::Failure));
            }
        }
    }
}

#[test]
fn a_resumed_run_has_a_file_for_each_attempt_and_the_end_of_the_last() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    kill_after(folder.path(), 100);
    let logger = setup_logging(LogConfig {
        resume: Some("latest".into()),
        ..config(folder.path())
    })
    .unwrap();
    logger.start_from(50);
    logger.log_config(&json!({"lr": 0.1}));
    for step in 50..60 {
        logger.log_metrics_at(step, [("loss", -1.0)]);
    }
    // A step behind the newest one of the attempt.
    logger.log_metrics_at(55, [("loss", 7.0)]);
    let report = logger.finish();
    let books = &report.sinks["tensorboard"];
    assert_eq!(books.dropped["late"], 1, "{books:?}");
    let files = event_files(&folder.path().join("here/tensorboard"));
    assert_eq!(files.len(), 2);
    let (first, second) = (read(&files[0]), read(&files[1]));
    assert!(first.0["metrics/loss"].len() > 100);
    assert_eq!(
        second.0["metrics/loss"],
        (50..60).map(|step| (step, -1.0)).collect::<Vec<_>>()
    );
    assert_eq!((first.1, second.1), (None, Some(SessionStatus::Success)));
}

#[test]
fn media_of_a_resumed_run_hide_no_earlier_attempt() {
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    kill_after(folder.path(), 100);
    let logger = setup_logging(LogConfig {
        resume: Some("latest".into()),
        ..config(folder.path())
    })
    .unwrap();
    logger.start_from(90);
    logger.log_text("prompt", "once", 0);
    logger.log_metrics_at(90, [("loss", -1.0)]);
    logger.log_text("answer", "upon", 1);
    let books = logger.finish().sinks["tensorboard"].clone();
    assert!(
        books.balanced() && books.dropped["before the first row"] == 1,
        "{books:?}"
    );
    let newest = event_files(&folder.path().join("here/tensorboard")).pop().unwrap();
    let bytes = fs::read(newest).unwrap();
    let mut events = EventReader::new(&*bytes);
    let mut starts = Vec::new();
    while let Some(event) = events.next_event().unwrap() {
        if event.content == EventContent::SessionStart {
            starts.push(event.step);
        }
    }
    assert_eq!(
        starts,
        [90],
        "TensorBoard forgets what earlier attempts have from here on"
    );
}

/// Limits files to this length, as a quota does.
fn limit_files(bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: numbers alone are passed; the process is one for this test.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
}

#[test]
fn a_file_that_may_not_grow_has_whole_records_and_goes_on_later() {
    const LIMIT: u64 = 16 << 10;
    testkit::own_process!();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.enable_file = false;
    config.sinks.insert("jsonl".into(), false.into());
    let logger = setup_logging(config).unwrap();
    let log = |steps: std::ops::Range<i64>| {
        for step in steps {
            logger.log_metrics_at(step as u64, [("loss", step)]);
        }
        logger.flush()
    };
    log(0..10).unwrap();
    limit_files(LIMIT);
    log(10..1000).unwrap_err();
    let path = event_files(&folder.path().join("here/tensorboard")).remove(0);
    assert!(fs::metadata(&path).unwrap().len() <= LIMIT);
    limit_files(libc::RLIM_INFINITY);
    log(1000..1001).unwrap();
    let steps = |path: &Path| {
        read(path).0["metrics/loss"]
            .iter()
            .map(|(step, _)| *step)
            .collect::<Vec<_>>()
    };
    assert_eq!(steps(&path), (0..1001).collect::<Vec<_>>());

    limit_files(fs::metadata(&path).unwrap().len() + 10);
    log(1001..1100).unwrap_err();
    let books = &logger.finish().sinks["tensorboard"];
    assert!(books.balanced() && books.dropped_total() == 99, "{books:?}");
    assert_eq!(steps(&path), (0..1001).collect::<Vec<_>>(), "no record is cut off");
}
