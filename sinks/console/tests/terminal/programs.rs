//! The programs that run in the terminal. Each is this test program, started again.
#![allow(clippy::print_stdout, reason = "programs that print are what is tested")]

use std::convert::Infallible;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use facade::{LogConfig, OnFull, UnifiedLogger, setup_logging};
use logcore_console::ConsolePrinter;

use testkit::terminal::{FOLDER, PROGRAM};

/// Number of lines of each thread of `crowd`.
pub(crate) const CROWD: usize = 1500;
pub(crate) const THREADS: usize = 4;
/// Number of lines of `steady`.
pub(crate) const STEADY: u64 = 200;
/// Number of epochs of `epochs`.
pub(crate) const EPOCHS: u64 = 3;
/// Number of batches of an epoch of `epochs`.
pub(crate) const BATCHES: u64 = 20;
/// Number of updates of each bar of `bars only`.
pub(crate) const FRAMES: u64 = 8;
/// Number of lines of `hoards suspended`, of 1 MiB each: more than the backlog of 64 MiB.
pub(crate) const HOARD: usize = 70;
/// Number of lines of `outer`.
pub(crate) const OUTER: u64 = 40;

/// Runs the program that an environment variable names, if it is set.
pub(crate) fn run() {
    let Some(program) = std::env::var_os(PROGRAM) else {
        return;
    };
    // Ends the line that the test harness has begun.
    println!();
    match program.to_str().unwrap() {
        "outer" => outer(),
        "crowd" => crowd(),
        "stages" => stages(),
        "steady" => steady(),
        "forever" => forever(),
        "ends stopped" => ends_stopped(),
        "flushes suspended" => flushes_suspended(),
        "finishes suspended" => finishes_suspended(),
        "exits suspended" => ends_suspended(|| std::process::exit(0)),
        "terminated suspended" => ends_suspended(terminate),
        "late suspended" => late_suspended(),
        "ended suspended" => ended_suspended(),
        "hoards suspended" => hoards_suspended(),
        "panics" => panics(),
        "prints" => prints(),
        "hostile" => hostile(),
        "epochs" => epochs(),
        "bars only" => bars_only(),
        other => panic!("there is no program {other}"),
    }
}

pub(crate) fn folder() -> PathBuf {
    std::env::var_os(FOLDER).unwrap().into()
}

fn logger(name: &str, position: u32) -> UnifiedLogger {
    let config = LogConfig {
        name: name.into(),
        log_dir: folder(),
        progress_position: position,
        progress_leave: position == 0,
        ..LogConfig::default()
    };
    setup_logging(config).unwrap()
}

/// A bar within a bar.
fn outer() {
    let (logger, inner) = (logger("child", 0), logger("child.inner", 1));
    logger.start_progress(OUTER, "Outer work");
    for i in 1..=OUTER {
        inner.start_progress(None, "inner");
        inner.update_progress(1, None);
        // Makes the program last long enough to draw the bars, which happens ten times a second.
        thread::sleep(Duration::from_millis(20));
        logger.log_metrics([("loss", 1.0 / i as f64)]);
        logger.update_progress(1, 8);
        logger.info(format_args!("Starting line {i} of many, with 寛い characters"));
    }
    logger.warning("two\nlines");
    inner.finish();
    logger.finish();
}

/// Returns line `i` of thread `thread`.
pub(crate) fn said(thread: usize, i: usize) -> String {
    let tail = match i % 5 {
        0 => String::new(),
        1 => "寛い文字 and 🚀🧪 emoji ".repeat(3),
        2 => "a very long line ".repeat(30),
        3 => "combining e\u{301} and\ttabs".to_owned(),
        _ => "two\nlines".to_owned(),
    };
    format!("<{thread}:{i}> {tail}|end")
}

/// Four threads at full speed over three bars.
fn crowd() {
    let loggers = ["a", "b", "c"].map(|name| logger(name, 1));
    for (logger, bar) in loggers.iter().zip(["bar-a", "bar-b", "bar-c"]) {
        logger.start_progress((CROWD * THREADS) as u64, bar);
    }
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (loggers, start) = (&loggers, &start);
            scope.spawn(move || {
                start.wait();
                for i in 0..CROWD {
                    loggers[i % 3].info(said(thread, i));
                    for logger in loggers {
                        logger.update_progress(1, 32);
                    }
                }
            });
        }
    });
    for logger in &loggers {
        logger.finish();
    }
}

/// Bars and lines, with a pause in which the test changes the terminal.
fn stages() {
    let loggers = ["a", "b", "c"].map(|name| logger(name, 1));
    for (logger, bar) in loggers.iter().zip(["bar-a", "bar-b", "bar-c"]) {
        logger.start_progress(1000, bar);
    }
    for stage in 0.. {
        for i in 0..20 {
            for logger in &loggers {
                logger.update_progress(1, 32);
                logger.info(format_args!("{stage}:{i} {}", "a line that is broken ".repeat(i % 7)));
            }
        }
        loggers[0].info(format_args!("stage {stage} is over"));
        if stage == 6 {
            break;
        }
        wait_for(&format!("go-{stage}"));
    }
    for logger in &loggers {
        logger.finish();
    }
}

/// A training that writes a file when it has ended.
fn steady() {
    let logger = logger("steady", 0);
    logger.start_progress(STEADY, "bar-steady");
    for i in 0..STEADY {
        logger.info(format_args!("line {i} of the training"));
        logger.update_progress(1, 8);
        thread::sleep(Duration::from_millis(5));
    }
    fs::write(folder().join("through"), "").unwrap();
    logger.finish();
}

/// A training that runs until it is killed.
fn forever() {
    let logger = logger("forever", 0);
    logger.start_progress(1_000_000, "bar-forever");
    for i in 0.. {
        logger.info(format_args!("line {i} of the training"));
        logger.update_progress(1, 8);
        thread::sleep(Duration::from_millis(5));
    }
}

/// A run that ends while its terminal is stalled. It writes its report to a file, and nothing to
/// the terminal.
fn ends_stopped() {
    let config = LogConfig {
        name: "stopped".into(),
        log_dir: folder(),
        finish_timeout: 1.0,
        ..LogConfig::default()
    };
    let logger = setup_logging(config).unwrap();
    logger.info("the first line");
    wait_for("go");
    for i in 0..STEADY {
        logger.info(format_args!("line {i} of the training"));
        logger.log_metrics([("loss", i)]);
    }
    let report = logger.finish();
    let report = serde_json::to_string(&report).unwrap();
    fs::write(folder().join("report"), report).unwrap();
    std::process::exit(0);
}

/// Flushes while the program has the screen, which it gives back when the test says so.
fn flushes_suspended() {
    let logger = logger("flushes", 0);
    facade::suspend(|| {
        logger.info("a line that waits");
        let flushed = logger.flush();
        fs::write(folder().join("flushed"), format!("{flushed:?}")).unwrap();
        wait_for("go");
    });
    logger.finish();
}

/// Finishes loggers while the program has the screen, on the thread that has it and on another one.
fn finishes_suspended() {
    let loggers = ["here", "elsewhere"].map(|name| logger(name, 0));
    facade::suspend(|| {
        for logger in &loggers {
            logger.info("a last line");
            logger.log_metrics([("loss", 1.0)]);
        }
        let there = thread::scope(|scope| scope.spawn(|| loggers[1].finish()).join().unwrap());
        let reports = [loggers[0].finish(), there];
        fs::write(folder().join("reports"), serde_json::to_string(&reports).unwrap()).unwrap();
        wait_for("go");
    });
}

/// Ends the process while the program has the screen.
fn ends_suspended(end: fn() -> Infallible) {
    let logger = logger("ends", 0);
    logger.start_progress(10, "bar-ends");
    logger.update_progress(5, 8);
    facade::suspend(|| {
        logger.info("a line that waits");
        end();
    });
}

fn terminate() -> Infallible {
    let sent = Command::new("kill").arg(std::process::id().to_string()).status();
    assert!(sent.unwrap().success());
    loop {
        thread::park();
    }
}

/// Logs after the end of the logger, and ends the process, while the program has the screen.
fn late_suspended() {
    let logger = logger("late", 0);
    facade::suspend(|| {
        logger.finish();
        logger.info("too late");
        std::process::exit(0);
    });
}

/// Logs after the end of the only logger, and ends the process, while the program has the screen.
fn ended_suspended() {
    let logger = logger("late", 0);
    // Keeps the owner of the terminal, so that the pause holds lines.
    let printer = ConsolePrinter::from_config(&LogConfig::default());
    logger.finish();
    facade::suspend(|| {
        logger.info("too late");
        std::process::exit(i32::from(printer.is_none()));
    });
}

/// Logs more than the backlog holds while the program has the stream; no line may be dropped.
fn hoards_suspended() {
    let config = LogConfig {
        name: "hoards".into(),
        log_dir: folder(),
        on_full: OnFull::Wait,
        enable_file: false,
        ..LogConfig::default()
    };
    let logger = setup_logging(config).unwrap();
    let line = "x".repeat(1 << 20);
    facade::suspend(|| {
        for _ in 0..HOARD {
            logger.info(&line);
        }
        logger.flush().unwrap();
    });
    logger.finish();
}

/// Waits until the test has written a file.
fn wait_for(file: &str) {
    while !folder().join(file).exists() {
        thread::sleep(Duration::from_millis(5));
    }
}

/// A thread that panics while there are bars.
fn panics() {
    // The test harness has a hook of its own.
    drop(std::panic::take_hook());
    let logger = logger("panics", 0);
    logger.start_progress(10, "bar-panics");
    for i in 0..10 {
        logger.update_progress(1, 8);
        thread::sleep(Duration::from_millis(40));
        if i == 5 {
            let result = thread::Builder::new()
                .name("worker".to_owned())
                .spawn(|| panic!("the data are not there"))
                .unwrap()
                .join();
            assert!(result.is_err());
        }
    }
    logger.info("still here");
    logger.finish();
}

/// Epochs over batches, in the order of the documentation: an update, then the metrics of its step.
fn epochs() {
    let logger = logger("trainer", 0);
    logger.start_progress(EPOCHS, "Epochs");
    for epoch in 1..=EPOCHS {
        logger.start_progress(BATCHES, format!("Epoch {epoch}"));
        for batch in 1..=BATCHES {
            logger.update_progress(1, 32);
            let loss = 1.0 / (epoch * batch) as f64;
            logger.log_metrics([("loss", loss), ("grad_norm", 8.0 * loss), ("learning_rate", 3e-4)]);
        }
        logger.update_progress(1, None);
        logger.log_metrics([("val/loss", 1.0 / epoch as f64)]);
    }
    logger.finish();
}

/// Clears the screen, as a user does before a training, and shows bars without any line.
fn bars_only() {
    print!("\x1b[H\x1b[2J");
    std::io::stdout().flush().unwrap();
    let loggers = ["a", "b"].map(|name| logger(name, 1));
    for (logger, bar) in loggers.iter().zip(["bar-a", "bar-b"]) {
        // The bars stay open.
        logger.start_progress(FRAMES + 1, bar);
    }
    for _ in 0..FRAMES {
        for logger in &loggers {
            logger.update_progress(1, 32);
        }
        // Bars are drawn ten times a second at most.
        thread::sleep(Duration::from_millis(110));
    }
    fs::write(folder().join("through"), "").unwrap();
    // The test looks at the screen before the last word.
    loop {
        thread::park();
    }
}

/// Sets a title and the clipboard, clears the screen, forges a line, turns the order of characters,
/// hides some.
pub(crate) const EVIL: &str = "\x1b]0;t\x07\x1b]52;c;ZQ==\x07\x1b[2J\x1b[H\n2026-01-01 00:00:00 | ERROR | x | forged\r\u{9b}2J\u{202e}\u{2028}\u{200b}\u{e0041}";

/// A value that cannot be serialized; the text of its error contains control codes.
struct Fails;

impl serde::Serialize for Fails {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(EVIL))
    }
}

/// A run whose names and messages all contain control codes.
fn hostile() {
    // The default hook of Rust prints a message without escaping.
    std::panic::set_hook(Box::new(|_| {}));
    let logger = logger(&format!("run {EVIL}"), 0);
    logger.start_progress(2, format!("bar {EVIL}"));
    logger.log_metrics([(format!("loss {EVIL}"), 1.0), ("n".repeat(1 << 16), 2.0)]);
    logger.update_progress(1, 8);
    logger.warning(EVIL);
    logger.log_config(&std::collections::BTreeMap::from([(EVIL, Fails)]));
    // The bar contains all of these texts.
    thread::sleep(Duration::from_millis(300));
    let _logger = logger;
    panic!("bad token {EVIL}");
}

/// A program that also prints.
fn prints() {
    let logger = logger("prints", 0);
    logger.start_progress(10, "bar-prints");
    for i in 0..10 {
        logger.update_progress(1, 8);
        // Long enough that the bars are drawn again in between.
        thread::sleep(Duration::from_millis(250));
        println!("a line {i} of my own");
        thread::sleep(Duration::from_millis(250));
        facade::suspend(|| {
            for j in 0..5 {
                println!("line {i}.{j} while the bars are away");
            }
        });
    }
    logger.finish();
}
