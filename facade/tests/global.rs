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
    // The handle of the other set-up keeps the logger open.
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
    let first = logger("first", |config| config.capture_warnings = true);
    let root = logger("root", |config| {
        config.capture_warnings = true;
        config.foreign_level = log::LevelFilter::Debug;
    });
    let handle = listen();
    log::debug!(target: "other", "for the one that takes debug lines");
    root.finish();
    log::debug!(target: "other", "no");
    log::info!("from anywhere, any crate");
    assert_eq!(
        records(&handle, &first),
        [
            "record DEBUG other for the one that takes debug lines".to_owned(),
            format!("record INFO {} from anywhere, any crate", module_path!())
        ]
    );
}

#[test]
fn a_foreign_record_goes_to_the_first_logger_that_was_set_up() {
    testkit::own_process!();
    let own = logger("own", |_| {});
    let one = logger("one", |config| config.capture_warnings = true);
    let two = logger("two", |config| {
        config.capture_warnings = true;
        config.foreign_level = log::LevelFilter::Trace;
        config.directives = "hyper=info".into();
    });
    let handle = listen();
    log::info!(target: "other", "yes, by exactly one");
    log::debug!(target: "other", "no");
    log::info!(target: "hyper::client", "yes, named");
    log::debug!(target: "hyper::client", "no");
    log::info!(target: "own::x", "yes, by name");
    one.finish();
    log::debug!(target: "other", "yes, the next one takes them");
    two.finish();
    log::error!(target: "other", "no, the last one has captures off");
    assert_eq!(
        records(&handle, &own),
        [
            "record INFO other yes, by exactly one",
            "record INFO hyper::client yes, named",
            "record INFO own::x yes, by name",
            "record DEBUG other yes, the next one takes them",
        ]
    );
}

#[test]
fn warnings_pass_every_foreign_level() {
    testkit::own_process!();
    let logger = logger("one", |config| {
        config.capture_warnings = true;
        config.foreign_level = log::LevelFilter::Off;
    });
    let handle = listen();
    log::info!(target: "other", "no");
    log::warn!(target: "other", "yes");
    logger.info("own lines have no such limit");
    logger.set_directives("other=error,deep=trace").unwrap();
    log::warn!(target: "other", "no, the directive decides");
    log::trace!(target: "deep", "yes, the directive decides");
    assert_eq!(
        records(&handle, &logger),
        [
            "record WARN other yes",
            "record INFO one own lines have no such limit",
            "record TRACE deep yes, the directive decides"
        ]
    );
}

#[test]
fn a_thread_takes_foreign_records_to_the_logger_that_it_entered() {
    testkit::own_process!();
    let first = logger("first", |config| config.capture_warnings = true);
    // Only the entered loggers take debug lines, so these show who took them.
    let run = |name: &str| {
        logger(name, |config| {
            config.capture_warnings = true;
            config.foreign_level = log::LevelFilter::Debug;
        })
    };
    let (run, closed, silent) = (run("run"), run("closed"), logger("silent", |_| {}));
    let handle = listen();
    {
        let entered = run.enter();
        log::debug!(target: "other", "1");
        let inner = closed.enter();
        drop(closed);
        log::debug!(target: "other", "2: a closed logger takes nothing");
        let _silent = silent.enter();
        log::debug!(target: "other", "no: it takes no foreign lines");
        log::info!(target: "other", "3: the next in line takes it");
        log::info!(target: "first::x", "4: a name goes before");
        // In any order.
        drop(entered);
        drop(inner);
        std::thread::scope(|scope| {
            scope.spawn(|| log::debug!(target: "other", "no: another thread"));
        });
    }
    log::debug!(target: "other", "no: it has left");
    assert_eq!(
        records(&handle, &first),
        [
            "record DEBUG other 1",
            "record DEBUG other 2: a closed logger takes nothing",
            "record INFO other 3: the next in line takes it",
            "record INFO first::x 4: a name goes before"
        ]
    );
    drop(run);
}

#[test]
fn a_logger_closes_with_the_last_handle_of_all_its_set_ups() {
    testkit::own_process!();
    let first = logger("twice", |_| {});
    let second = logger("twice", |_| {});
    let clone = second.clone();
    drop(second);
    first.flush().unwrap();
    drop(first);
    clone.flush().unwrap();
    drop(logger("twice", |_| {}));
    clone.flush().unwrap();
    let borrowed = facade::get_logger("twice");
    drop(clone);
    borrowed.flush().unwrap_err();
}

/// Returns the text that a logger of this level has in its file after `log`.
#[cfg(feature = "file")]
fn text_of(change: impl FnOnce(&mut LogConfig), log: impl FnOnce(&UnifiedLogger)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let logger = logger("app", |config| {
        config.capture_warnings = true;
        config.enable_file = true;
        config.run = "flat".into();
        config.log_dir = folder.path().into();
        change(config);
    });
    log(&logger);
    logger.finish();
    std::fs::read_to_string(folder.path().join("training.log")).unwrap()
}

#[cfg(feature = "file")]
#[test]
fn a_directive_decides_for_its_target_in_both_directions() {
    testkit::own_process!();
    let text = text_of(
        |config| {
            config.file_level = log::LevelFilter::Warn;
            config.directives = "error,app::data=trace,dep=debug,dep::loud=off".into();
        },
        |logger| {
            log::trace!(target: "app::data::x", "yes 1");
            log::warn!(target: "app::model", "no: the level without a target is a limit");
            log::error!(target: "app::model", "yes 2");
            log::debug!(target: "dep", "yes 3");
            log::trace!(target: "dep", "no");
            log::error!(target: "dep::loud", "no");
            log::debug!(logger: logger, target: "dep", "yes 4");
            logger.set_directives("app=debug").unwrap();
            logger.debug("yes 5");
            logger.set_level("file", log::LevelFilter::Error).unwrap();
            logger.debug("yes 6: a level is for targets that no directive names");
            log::warn!(target: "dep", "no: such a target");
            logger.set_level("file", log::LevelFilter::Off).unwrap();
            logger.error("no: the sink is off");
        },
    );
    let said: Vec<_> = text
        .lines()
        .map(|line| &line[line.rfind("yes").unwrap_or(0)..])
        .collect();
    assert_eq!(
        said,
        [
            "yes 1",
            "yes 2",
            "yes 3",
            "yes 4",
            "yes 5",
            "yes 6: a level is for targets that no directive names"
        ],
        "{text}"
    );
}

/// Names the folder of a child that heeds `RUST_LOG`.
const FOLDER: &str = "GLOBAL_FOLDER";

/// Does nothing unless it is the child.
#[cfg(all(feature = "console", feature = "file"))]
#[test]
fn the_child_with_rust_log() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let logger = setup_logging(LogConfig {
        name: "app".into(),
        run: "flat".into(),
        log_dir: folder.into(),
        directives: std::env::var("DIRECTIVES").unwrap_or_default(),
        other_ranks_level: log::LevelFilter::Warn,
        ..LogConfig::default()
    })
    .unwrap();
    logger.debug("own debug");
    log::info!(target: "lib", "lib info");
    log::debug!(target: "lib", "lib debug");
    log::trace!(target: "hyper", "hyper trace");
}

/// Messages of the child on the console and in the file, and its stderr.
#[cfg(all(feature = "console", feature = "file"))]
fn with_rust_log(variables: &[(&str, &str)]) -> (Vec<String>, Vec<String>, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_with_rust_log", "--nocapture"])
        .envs(variables.iter().copied())
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let messages = |text: &str| {
        let lines = text.lines().filter(|line| line.contains(" | "));
        lines
            .map(|line| line.rsplit(" | ").next().unwrap().to_owned())
            .collect()
    };
    let file = std::fs::read_to_string(folder.path().join("training.log")).unwrap_or_default();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (
        messages(&String::from_utf8(output.stdout).unwrap()),
        messages(&file),
        stderr,
    )
}

#[cfg(all(feature = "console", feature = "file"))]
#[test]
fn rust_log_is_heeded_where_no_directive_says_anything() {
    let (console, file, said) = with_rust_log(&[("RUST_LOG", "")]);
    assert_eq!(
        (console, said.contains("RUST_LOG")),
        (vec!["lib info".to_owned()], false)
    );
    assert_eq!(file, ["own debug", "lib info"]);

    let (console, file, _) = with_rust_log(&[("RUST_LOG", "debug,hyper")]);
    assert_eq!(console, ["own debug", "lib info", "lib debug", "hyper trace"]);
    assert_eq!(
        file,
        ["own debug", "lib info", "hyper trace"],
        "its bare level is the console's alone"
    );

    let (console, file, said) = with_rust_log(&[("RUST_LOG", "warn,lib=debug,a[b]=info")]);
    assert_eq!(
        (&*console, &*file),
        (
            &["lib info".to_owned(), "lib debug".to_owned()][..],
            &["own debug".to_owned(), "lib info".to_owned(), "lib debug".to_owned()][..]
        )
    );
    assert_eq!(said.matches("without them: `a[b]=info`;").count(), 1, "{said}");

    let (console, file, _) = with_rust_log(&[("RUST_LOG", "trace"), ("DIRECTIVES", "lib=off")]);
    assert!(console.is_empty(), "{console:?}");
    assert_eq!(file, ["own debug"]);
}

#[cfg(all(feature = "console", feature = "file"))]
#[test]
fn a_directive_raises_no_console_of_another_rank() {
    let (console, file, _) = with_rust_log(&[("DIRECTIVES", "lib=debug"), ("RANK", "3"), ("WORLD_SIZE", "8")]);
    assert!(console.is_empty(), "{console:?}");
    assert!(file.is_empty(), "the rank has a file of its own");
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
    assert_eq!(log::max_level(), log::LevelFilter::Warn, "later calls are counted");
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

/// Does nothing unless it is the child.
#[cfg(all(feature = "console", feature = "file"))]
#[test]
fn the_child_that_panics() {
    let Some(folder) = std::env::var_os("PANICS_IN") else {
        return;
    };
    // The test harness has a hook of its own.
    drop(std::panic::take_hook());
    let _logger = setup_logging(LogConfig {
        name: "app".into(),
        run: "flat".into(),
        log_dir: folder.into(),
        enable_console: std::env::var_os("WITHOUT_CONSOLE").is_none(),
        ..LogConfig::default()
    })
    .unwrap();
    let _ = std::thread::scope(|scope| scope.spawn(|| panic!("boom\n  of two lines")).join());
}

/// Returns the texts that the child writes to stdout, to stderr and to its file.
#[cfg(all(feature = "console", feature = "file"))]
fn panicking(variables: &[(&str, &str)]) -> [String; 3] {
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_that_panics", "--nocapture"])
        .env_remove("RUST_BACKTRACE")
        .envs(variables.iter().copied())
        .env("PANICS_IN", folder.path())
        .output()
        .unwrap();
    let file = std::fs::read_to_string(folder.path().join("training.log")).unwrap();
    [
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
        file,
    ]
}

#[cfg(all(feature = "console", feature = "file"))]
#[test]
fn a_panic_is_shown_once_and_the_file_has_its_backtrace() {
    let [stdout, stderr, file] = panicking(&[]);
    assert_eq!(
        (stdout.matches("boom").count(), stderr.matches("boom").count()),
        (1, 0),
        "{stdout}{stderr}"
    );
    assert!(
        stdout.contains("global.rs") && stdout.contains("  of two lines"),
        "{stdout}"
    );
    assert!(!stdout.contains("stack backtrace"), "{stdout}");
    assert!(file.contains("stack backtrace") && file.contains("log_panic"), "{file}");

    let [stdout, _, file] = panicking(&[("RUST_BACKTRACE", "1")]);
    assert!(
        stdout.contains("stack backtrace") && !stdout.contains("log_panic"),
        "{stdout}"
    );
    assert!(stdout.contains("   0: ") && file.contains("log_panic"), "{stdout}");
    let [stdout, ..] = panicking(&[("RUST_BACKTRACE", "full")]);
    assert!(stdout.contains("log_panic"), "{stdout}");

    let [stdout, stderr, _] = panicking(&[("WITHOUT_CONSOLE", "1")]);
    assert_eq!(
        (stdout.matches("boom").count(), stderr.matches("boom").count()),
        (0, 1),
        "{stdout}{stderr}"
    );
}

/// Does nothing unless it is the child: a library logs, and later the program sets a logger up.
#[test]
fn the_child_with_a_library() {
    let Some(folder) = std::env::var_os("LIBRARY_IN") else {
        return;
    };
    std::env::set_current_dir(&folder).unwrap();
    let library = facade::get_logger("some-lib");
    library.info("nobody hears this");
    library.warning("heard\non stderr");
    library.log_metrics([("early", 1)]);
    library.set_directives("trace").unwrap();
    log::error!(target: "some_lib", "the global logger is left to the program");
    library.flush().unwrap();
    assert_eq!(std::fs::read_dir(".").unwrap().count(), 0, "no file");
    assert!(log::set_logger(&Ignore).is_ok());

    let handle = listen();
    let app = logger("app", |_| {});
    library.info("heard");
    library.log_metrics([("late", 2)]);
    let records = records(&handle, &app);
    assert_eq!(records, ["record INFO some-lib heard"]);
    assert_eq!(library.metrics().history("early").unwrap().len(), 1);
    assert_eq!(facade::get_logger("some_lib").name(), "some-lib");
    assert!(app.finish().all_delivered());
    assert!(library.finish().all_delivered());
}

struct Ignore;

impl log::Log for Ignore {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        false
    }
    fn log(&self, _: &log::Record<'_>) {}
    fn flush(&self) {}
}

#[test]
fn a_library_without_a_set_up_makes_no_files_and_says_only_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_with_a_library", "--nocapture"])
        .env("LIBRARY_IN", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let ours: Vec<_> = said.lines().filter(|line| line.contains("some-lib")).collect();
    assert_eq!(ours, ["WARN  | some-lib | heard\\non stderr"], "{said}");
}

#[test]
fn macros_log_to_a_given_logger_with_fields() {
    testkit::own_process!();
    let app = logger("app", |_| {});
    let handle = listen();
    let (loss, step) = (0.25_f64, 7);
    facade::info!(app, "loss {loss}");
    facade::warn!(&app, "{} of {:>2$} {x}", step, 9, 3, x = "y");
    facade::error!(app, "saved", path:? = "a b", epoch = step + 1, step = step);
    facade::info!(app, "{}", loss * 2.0, loss = "hides nothing");
    facade::info!(app, "{} done", step; loss = loss, text:% = step,);
    let evaluated = std::cell::Cell::new(0);
    let count = || evaluated.set(evaluated.get() + 1);
    facade::trace!(app, "{:?}", count());
    facade::trace!(app, "never", value:? = count());
    assert_eq!(evaluated.get(), 0);
    facade::debug!(app, "once", value:? = count());
    assert_eq!(evaluated.get(), 1);
    assert_eq!(
        records(&handle, &app),
        [
            "record INFO app loss 0.25",
            "record WARN app 7 of   9 y x=y",
            "record ERROR app saved path=\"a b\" epoch=8 step=7",
            "record INFO app 0.5 loss=hides nothing",
            "record INFO app 7 done loss=0.25 text=7",
            "record DEBUG app once value=()",
        ]
    );
}

#[test]
fn macros_give_the_text_of_format_for_arguments_of_any_type() {
    testkit::own_process!();
    #[derive(Debug)]
    struct Other;
    fn generic(app: &UnifiedLogger, value: impl std::fmt::Display) {
        facade::info!(app, "generic {}", value);
    }
    fn boxed(app: &dyn log::Log) {
        facade::info!(app, "any logger {}", 1);
    }
    let app = logger("app", |_| {});
    let handle = listen();
    let (float, owned, text, captured) = (0.1_f32, "ö".to_owned(), "a\tb", 'c');
    facade::info!(app, "{} {} {:x} {:#06b} {:e}", 3, -7_i128, -1_i8, 5_u16, 1500_usize);
    facade::info!(app, "{:?} {:8.3}| {:+} {{}}", float, 1e9_f64, f64::NEG_INFINITY);
    facade::warn!(&app, "{} {:?} {} {} {:^5}|", owned, &owned, &&text, text, 'x');
    facade::info!(&&app, "{} {captured} {:?}", true, Other);
    facade::info!(app, "{1} {0} {:>1$}", 4, 9);
    facade::info!(app, "{} {}", "x".repeat(256), "y".repeat(257));
    facade::error!(app, "{}", 8);
    generic(&app, 5);
    boxed(&app);
    let mut counted = 0;
    facade::info!(app, "{}", {
        counted += 1;
        counted
    });
    assert_eq!(
        records(&handle, &app),
        [
            "record INFO app 3 -7 ff 0b0101 1.5e3".to_owned(),
            "record INFO app 0.1 1000000000.000| -inf {}".to_owned(),
            "record WARN app ö \"ö\" a\tb a\tb   x  |".to_owned(),
            "record INFO app true c Other".to_owned(),
            "record INFO app 9 4         4".to_owned(),
            format!("record INFO app {} {}", "x".repeat(256), "y".repeat(257)),
            "record ERROR app 8".to_owned(),
            "record INFO app generic 5".to_owned(),
            "record INFO app any logger 1".to_owned(),
            "record INFO app 1".to_owned(),
        ]
    );
}

/// Logs a message that tells where it was formatted.
fn say_where(logger: &UnifiedLogger) {
    use facade::__deferred::{DeferredArgument, DeferredMessage, Logger, Message};
    let message = Message {
        deferred: DeferredMessage::new("by the {}", 1),
        arguments: &[DeferredArgument::Text("writer")],
        formatted: format_args!("by the caller"),
    };
    Logger(logger).log_call(log::Level::Info, "any", &message);
}

#[test]
fn a_logger_whose_filter_may_look_at_messages_formats_them_on_the_caller() {
    testkit::own_process!();
    let plain = logger("plain", |_| {});
    let redacting = logger("redacting", |config| config.redact = vec!["writer".into()]);
    let directed = logger("directed", |_| {});
    directed.set_directives("info").unwrap();
    let handle = listen();
    [&plain, &redacting, &directed].into_iter().for_each(say_where);
    assert_eq!(
        records(&handle, &plain),
        [
            "record INFO plain by the writer",
            "record INFO redacting by the caller",
            "record INFO directed by the caller",
        ]
    );
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
