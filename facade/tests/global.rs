//! Records through the global logger of the `log` crate. Each test is a process of its own
//! (nextest), because a process has one global logger.

use facade::logcore::log;
use facade::logcore::testing::{RecordedCalls, recording};
use facade::{LogConfig, LogManager, UnifiedLogger, setup_logging};

/// A logger that writes no files.
fn logger(name: &str, change: impl FnOnce(&mut LogConfig)) -> UnifiedLogger {
    let mut config = LogConfig {
        name: name.into(),
        enable_console: false,
        enable_file: false,
        capture_warnings: false,
        sinks: [("jsonl".to_owned(), false.into())].into(),
        ..LogConfig::default()
    };
    change(&mut config);
    setup_logging(config).unwrap()
}

fn listen() -> RecordedCalls {
    let (handle, sink) = recording();
    LogManager::get_instance()
        .add_sink("listening", Box::new(sink))
        .unwrap();
    handle
}

fn records(handle: &RecordedCalls, flushed: &UnifiedLogger) -> Vec<String> {
    flushed.flush().unwrap();
    handle
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("record"))
        .collect()
}

#[test]
fn names_that_differ_in_dashes_and_separators_are_one() {
    testkit::own_process!();
    let crate_name = logger("my-trainer", |_| {});
    let data = logger("my-trainer::data", |_| {});
    let inner = logger("my_trainer.data.x", |config| config.propagate = true);
    let handle = listen();
    log::info!(target: "my_trainer::model", "1");
    log::info!(target: "my-trainer.data", "2");
    log::info!(target: "my", "3");
    log::info!(target: "my_trainers", "4");
    assert_eq!(
        records(&handle, &crate_name),
        ["record INFO my_trainer::model 1", "record INFO my-trainer.data 2"]
    );
    for spelling in ["my_trainer", "my-trainer"] {
        assert_eq!(facade::get_logger(spelling).name(), "my-trainer");
    }
    let again = logger("my_trainer.data", |_| {});
    assert_eq!(again.name(), "my-trainer::data", "shown as it was written first");
    // The later set-up of the same logger has taken over, so the handle of the earlier closes
    // nothing.
    drop(data);
    log::info!(target: "my_trainer::data", "5");
    inner.info("6");
    assert_eq!(
        records(&handle, &crate_name)[2..],
        ["record INFO my_trainer::data 5", "record INFO my_trainer.data.x 6"]
    );
}

#[test]
fn the_deepest_logger_takes_a_target_however_its_name_is_written() {
    testkit::own_process!();
    let outer = logger("a::b::c::d", |_| {});
    let inner = logger("a.b.c.d.e", |config| config.console_level = log::LevelFilter::Off);
    let handle = listen();
    inner.set_directives("off").unwrap();
    // The outer name has more characters.
    log::info!(target: "a::b::c::d::e::f", "of the inner one, which lets nothing pass");
    assert_eq!(records(&handle, &outer), [""; 0]);
}

#[test]
fn a_directive_names_a_crate_by_its_package() {
    testkit::own_process!();
    let logger = logger("my_trainer", |config| {
        config.directives = "info,my-trainer::data=off,other-crate=debug".into();
        config.file_level = log::LevelFilter::Trace;
    });
    let handle = listen();
    log::info!(target: "my_trainer::data", "1");
    log::info!(target: "my_trainer::model", "2");
    log::debug!(target: "other_crate::x", "3");
    assert_eq!(
        records(&handle, &logger),
        ["record INFO my_trainer::model 2", "record DEBUG other_crate::x 3"]
    );
}

#[test]
fn a_record_goes_to_the_longest_name_above_its_target() {
    testkit::own_process!();
    let app = logger("app", |_| {});
    let data = logger("app.data", |_| {});
    let handle = listen();
    log::info!(target: "app::model", "1");
    log::info!(target: "app::data", "2");
    log::info!(target: "app.data::loader", "3");
    log::info!(target: "application", "4");
    log::warn!(target: "application", "5");
    // All of these show their target; that they came to the right logger shows when one is gone.
    assert_eq!(
        records(&handle, &app),
        [
            "record INFO app::model 1",
            "record INFO app::data 2",
            "record INFO app.data::loader 3"
        ]
    );
    data.finish();
    log::info!(target: "app::data", "6");
    assert_eq!(records(&handle, &app).last().unwrap(), "record INFO app::data 6");
}

#[test]
fn root_takes_records_that_no_other_name_fits() {
    testkit::own_process!();
    let root = logger("root", |_| {});
    let handle = listen();
    log::info!("from anywhere, any crate");
    assert_eq!(
        records(&handle, &root),
        [format!("record INFO {} from anywhere, any crate", module_path!())]
    );
}

#[test]
fn without_root_only_warnings_and_directed_targets_are_taken() {
    testkit::own_process!();
    let one = logger("one", |config| config.capture_warnings = true);
    let two = logger("two", |config| {
        config.capture_warnings = true;
        config.directives = "hyper=info".into();
    });
    let handle = listen();
    log::info!(target: "other", "no");
    log::warn!(target: "other", "yes, by exactly one");
    log::info!(target: "hyper::client", "yes, named");
    log::debug!(target: "hyper::client", "no");
    assert_eq!(
        records(&handle, &one),
        [
            "record WARN other yes, by exactly one",
            "record INFO hyper::client yes, named"
        ]
    );
    drop(two);
}

#[test]
fn max_level_is_the_highest_in_use() {
    testkit::own_process!();
    assert_eq!(log::max_level(), log::LevelFilter::Off);
    let handle = listen();
    let quiet = logger("quiet", |config| {
        config.file_level = log::LevelFilter::Warn;
        config.console_level = log::LevelFilter::Error;
    });
    assert_eq!(log::max_level(), log::LevelFilter::Warn);
    let loud = logger("loud", |config| config.file_level = log::LevelFilter::Trace);
    assert_eq!(log::max_level(), log::LevelFilter::Trace);
    drop(loud);
    assert_eq!(log::max_level(), log::LevelFilter::Warn);
    drop((quiet, handle));
    assert_eq!(log::max_level(), log::LevelFilter::Off);
}

#[test]
fn a_panic_is_logged_and_the_earlier_hook_still_runs() {
    testkit::own_process!();
    use std::sync::atomic::{AtomicBool, Ordering};
    static EARLIER: AtomicBool = AtomicBool::new(false);
    std::panic::set_hook(Box::new(|_| EARLIER.store(true, Ordering::Relaxed)));
    let logger = logger("panics", |config| config.capture_warnings = true);
    let handle = listen();
    let thread = std::thread::Builder::new()
        .name("worker".into())
        .spawn(|| panic!("out of {}", "luck"))
        .unwrap();
    assert!(thread.join().is_err());
    assert!(EARLIER.load(Ordering::Relaxed));
    // An error is delivered before the call returns, so no flush is needed.
    let calls = handle.calls();
    let panic = calls
        .iter()
        .find(|call| call.starts_with("record ERROR panic"))
        .unwrap();
    assert!(
        panic.contains("thread `worker` panicked at") && panic.contains("global.rs") && panic.contains("out of luck"),
        "{panic}"
    );
    assert!(panic.contains("\n   0: "), "there is a backtrace: {panic}");
    drop(logger);
}

#[test]
fn setup_succeeds_beside_another_global_logger() {
    testkit::own_process!();
    struct Other;
    impl log::Log for Other {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, _: &log::Record<'_>) {}
        fn flush(&self) {}
    }
    log::set_logger(&Other).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let logger = logger("beside", |_| {});
    let handle = listen();
    log::warn!(target: "beside", "stays with the other");
    log::info!(logger: logger, "addressed");
    assert_eq!(records(&handle, &logger), ["record INFO beside addressed"]);
    assert_eq!(log::max_level(), log::LevelFilter::Trace);
}

#[test]
fn the_calls_work_inside_tokio() {
    testkit::own_process!();
    async fn work(name: &str) {
        let logger = logger(name, |_| {});
        logger.info("inside");
        logger.error("waits");
        logger.flush().unwrap();
        assert!(logger.finish().problem.is_none());
    }
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(work("current"));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap()
        .block_on(work("multi"));
}
