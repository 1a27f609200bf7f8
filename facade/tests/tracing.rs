//! Events and spans of `tracing`. Each test is a process of its own (nextest), because a process
//! has one global logger and one global subscriber.

#![cfg(all(feature = "tracing", feature = "memory", feature = "jsonl"))]

use std::error::Error;
use std::fmt;

use facade::logcore::log;
use facade::logcore::serde_json::json;
use facade::{LevelFilter, LogConfig, MemorySink, UnifiedLogger, setup_logging};
use tracing::field::Empty;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

/// A logger that keeps its records and rows in memory.
fn logger(change: impl FnOnce(&mut LogConfig)) -> UnifiedLogger {
    let mut config = LogConfig {
        name: "trainer".into(),
        enable_console: false,
        enable_file: false,
        sinks: [("jsonl".to_owned(), false.into()), ("memory".to_owned(), json!({}))].into(),
        ..LogConfig::default()
    };
    change(&mut config);
    setup_logging(config).unwrap()
}

fn install(logger: &UnifiedLogger) {
    let subscriber = tracing_subscriber::registry().with(facade::tracing::layer(logger));
    tracing::subscriber::set_global_default(subscriber).unwrap();
}

/// Returns the records: level, target, message, and fields in their order.
fn records(logger: &UnifiedLogger) -> Vec<String> {
    logger.flush().unwrap();
    let records = MemorySink::of("trainer").unwrap().records();
    let shown = records.iter().map(|record| {
        let fields = record.fields.iter().map(|(name, value)| format!(" {name}={value:?}"));
        let level = record.level;
        format!(
            "{level} {} {:?}{}",
            record.target,
            record.message,
            fields.collect::<String>()
        )
    });
    shown.collect()
}

#[test]
fn events_keep_the_types_of_their_fields_and_have_those_of_their_spans() {
    testkit::own_process!();
    let logger = logger(|_| {});
    install(&logger);
    let cause: &(dyn Error + 'static) = &WithCause;
    let run = tracing::info_span!("run", lr = 0.5, epoch = 1, late = Empty).entered();
    run.record("late", 7_u64);
    let inner = tracing::info_span!("epoch", epoch = 2, name = "second").entered();
    tracing::info!(a = -1, b = u64::MAX, c = 1.5, d = true, e = "text", f = ?Some(1), g = %1, h = i128::MAX, "typed {}", 1);
    tracing::error!(error = cause, epoch = 3);
    drop((inner, run));
    tracing::warn!(target: "data::loader", "outside");
    assert_eq!(
        records(&logger),
        [
            "INFO tracing \"typed 1\" a=Int(-1) b=UInt(18446744073709551615) c=Float(1.5) d=Bool(true) \
             e=Text(\"text\") f=Text(\"Some(1)\") g=Text(\"1\") h=Text(\"170141183460469231731687303715884105727\") \
             lr=Float(0.5) late=Int(7) epoch=Int(2) name=Text(\"second\") span=Text(\"run:epoch\")",
            "ERROR tracing \"\" error=Text(\"cannot save: disk full\") epoch=Int(3) lr=Float(0.5) late=Int(7) \
             name=Text(\"second\") span=Text(\"run:epoch\")",
            "WARN data::loader \"outside\"",
        ]
    );
}

#[derive(Debug)]
struct WithCause;

impl fmt::Display for WithCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot save")
    }
}

impl Error for WithCause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&DiskFull)
    }
}

#[derive(Debug)]
struct DiskFull;

impl fmt::Display for DiskFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("disk full")
    }
}

impl Error for DiskFull {}

#[test]
fn records_of_log_and_of_methods_have_the_fields_of_the_threads_spans() {
    testkit::own_process!();
    let logger = logger(|_| {});
    log::info!(target: "t", "before the layer");
    install(&logger);
    log::info!(target: "t", "without a span");
    let span = tracing::info_span!("run", epoch = 1, lr = 0.5);
    span.in_scope(|| {
        log::info!(target: "t", epoch = 2; "own fields win");
        logger.info("method");
        facade::warn!(logger, "macro", loss = 3);
        facade::info!(logger, "macro {}", 4);
        std::thread::scope(|scope| {
            scope.spawn(|| log::info!(target: "t", "another thread"));
        });
    });
    facade::info!(logger, "after {}", 5);
    assert_eq!(
        records(&logger),
        [
            "INFO t \"before the layer\"",
            "INFO t \"without a span\"",
            "INFO t \"own fields win\" epoch=Int(2) lr=Float(0.5) span=Text(\"run\")",
            "INFO trainer \"method\" epoch=Int(1) lr=Float(0.5) span=Text(\"run\")",
            "WARN tracing \"macro\" loss=Int(3) epoch=Int(1) lr=Float(0.5) span=Text(\"run\")",
            "INFO tracing \"macro 4\" epoch=Int(1) lr=Float(0.5) span=Text(\"run\")",
            "INFO t \"another thread\"",
            "INFO tracing \"after 5\"",
        ]
    );
}

#[test]
fn fields_with_the_prefix_are_metrics() {
    testkit::own_process!();
    let logger = logger(|_| {});
    install(&logger);
    tracing::info!(metric.loss = 0.5, metric.tokens = 10_u64);
    tracing::info!(metric.loss = 0.25, step = 120, lr = 0.1, "validated");
    tracing::info!(metric.note = "not a number", "text");
    let points = logger.metrics().history("loss").unwrap();
    let points: Vec<_> = points.iter().map(|point| (point.step, point.value)).collect();
    assert_eq!(points, [(0, 0.5), (120, 0.25)]);
    assert_eq!(logger.metrics().average("tokens"), Some(10.0));
    assert_eq!(
        records(&logger),
        [
            "INFO tracing \"validated\" loss=Float(0.25) step=Int(120) lr=Float(0.1)",
            "INFO tracing \"text\" metric.note=Text(\"not a number\")",
        ]
    );
}

#[test]
fn the_times_of_spans_are_summed_for_each_step() {
    testkit::own_process!();
    let logger = logger(|config| config.span_metrics = vec!["load".into()]);
    install(&logger);
    logger.start_progress(3, "Training");
    for _ in 0..2 {
        logger.update_progress(1, 8);
        for _ in 0..3 {
            drop(tracing::info_span!("load").entered());
            drop(tracing::info_span!("forward", metric = true).entered());
            drop(tracing::info_span!("other").entered());
        }
        logger.log_metrics([("loss", 0.5)]);
    }
    logger.finish();
    let rows = MemorySink::of("trainer").unwrap().rows();
    assert_eq!(
        rows.iter().map(|row| row.step).collect::<Vec<_>>(),
        [1, 2],
        "spans begin no step"
    );
    for row in rows {
        let times: Vec<_> = row
            .values
            .iter()
            .filter(|(name, _)| name.starts_with("time/"))
            .collect();
        assert_eq!(
            times.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["time/load_ms", "time/forward_ms"]
        );
        assert!(times.iter().all(|(_, value)| value.as_f64() > 0.0), "{times:?}");
    }
}

#[test]
fn each_step_has_one_time_of_a_span_everywhere() {
    testkit::own_process!();
    let logger = logger(|_| {});
    let handle = logger.metric("loss");
    install(&logger);
    logger.start_progress(4, "Training");
    for step in 1..=4 {
        logger.update_progress(1, 8);
        for _ in 0..3 {
            drop(tracing::info_span!("load", metric = true).entered());
        }
        // A row of a later step is what ends a step: of a call, of a handle, and of a progress.
        match step {
            1 => drop(logger.log_metrics([("loss", 0.5)])),
            2 => handle.record(step, 0.5),
            _ => {}
        }
    }
    let before = logger.metrics().stats("time/load_ms").unwrap().count;
    logger.finish();
    let metrics = logger.metrics();
    let history = metrics.history("time/load_ms").unwrap();
    let rows = MemorySink::of("trainer").unwrap().rows();
    let in_rows: Vec<(u64, f64)> = rows
        .iter()
        .flat_map(|row| row.values.iter().map(move |(name, value)| (row.step, name, value)))
        .filter(|(_, name, _)| *name == "time/load_ms")
        .map(|(step, _, value)| (step, value.as_f64()))
        .collect();
    let in_history: Vec<(u64, f64)> = history.iter().map(|point| (point.step, point.value)).collect();
    assert_eq!(
        in_history.iter().map(|(step, _)| *step).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert_eq!(in_rows, in_history, "one value a step, in order: {rows:?}");
    let stats = metrics.stats("time/load_ms").unwrap();
    let mean = in_rows.iter().map(|(_, value)| value).sum::<f64>() / 4.0;
    assert!((stats.mean - mean).abs() < 1e-9, "{stats:?} {mean}");
    assert_eq!((before, stats.count), (3, 4), "the last step ends with the logger");
}

#[test]
fn a_span_with_a_total_is_a_bar() {
    testkit::own_process!();
    let logger = logger(|_| {});
    let (calls, sink) = facade::logcore::testing::recording();
    facade::LogManager::get_instance()
        .add_sink("calls", Box::new(sink))
        .unwrap();
    install(&logger);
    let span = tracing::info_span!("files", progress = 8, pos = Empty, kind = "a");
    span.record("pos", 3);
    span.record("pos", 2);
    span.in_scope(|| tracing::info!("in the bar"));
    drop(span);
    let named = tracing::info_span!("files", message = "Copying", progress = Empty);
    named.record("progress", 2);
    drop(named);
    logger.flush().unwrap();
    let calls: Vec<_> = calls
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("progress"))
        .collect();
    assert!(
        calls.iter().any(|call| call.contains("files")) && calls.iter().any(|call| call.contains("Copying")),
        "{calls:?}"
    );
    assert_eq!(
        records(&logger),
        ["INFO tracing \"in the bar\" kind=Text(\"a\") span=Text(\"files\")"]
    );
}

#[test]
fn fields_with_the_names_of_bars_are_fields_elsewhere() {
    testkit::own_process!();
    let logger = logger(|_| {});
    install(&logger);
    tracing::info_span!("seek", pos = 3, metric = false, message = "to").in_scope(|| tracing::info!("sought"));
    assert_eq!(
        records(&logger),
        ["INFO tracing \"sought\" pos=Int(3) metric=Bool(false) message=Text(\"to\") span=Text(\"seek\")"]
    );
}

#[test]
fn a_logger_that_is_set_up_anew_takes_the_place_of_the_layers() {
    testkit::own_process!();
    let first = logger(|_| {});
    install(&first);
    first.finish();
    let second = logger(|config| config.span_metrics = vec!["work".into()]);
    tracing::info_span!("work").in_scope(|| tracing::info!(metric.loss = 0.5, "of the second"));
    assert_eq!(second.metrics().average("loss"), Some(0.5));
    assert_eq!(records(&second).len(), 1);
    second.finish();
    let rows = MemorySink::of("trainer").unwrap().rows();
    assert!(
        rows.iter()
            .any(|row| row.values.iter().any(|(name, _)| name == "time/work_ms")),
        "{rows:?}"
    );
}

#[test]
fn a_metric_without_a_value_gives_no_line() {
    testkit::own_process!();
    let logger = logger(|_| {});
    install(&logger);
    tracing::info!(metric.loss = None::<f64>);
    assert_eq!(records(&logger), [""; 0]);
}

#[test]
fn a_source_of_fields_that_logs_or_panics_does_no_harm() {
    testkit::own_process!();
    let logger = logger(|_| {});
    install(&logger);
    tracing::info_span!("run", lr = 0.5).in_scope(|| {
        for odd in [false, true] {
            let source = OddSource(odd);
            let record = log::Record::builder()
                .level(log::Level::Warn)
                .target("t")
                .args(format_args!("outer"))
                .key_values(&source)
                .build();
            log::logger().log(&record);
        }
    });
    let lines = records(&logger);
    assert_eq!(
        lines.iter().filter(|line| line.contains("\"outer\"")).count(),
        2,
        "{lines:?}"
    );
}

/// A source whose code logs, or panics.
struct OddSource(bool);

impl log::kv::Source for OddSource {
    fn visit<'kvs>(&'kvs self, _: &mut dyn log::kv::VisitSource<'kvs>) -> Result<(), log::kv::Error> {
        assert!(!self.0, "planted");
        log::info!(target: "t", "inner");
        Ok(())
    }
}

#[test]
fn levels_of_the_loggers_hold_also_after_a_change() {
    testkit::own_process!();
    let logger = logger(|config| {
        config.sinks.insert("memory".into(), json!({}));
        config.foreign_level = LevelFilter::Trace;
    });
    logger.set_level("memory", LevelFilter::Warn).unwrap();
    install(&logger);
    let say = |text: &str| {
        tracing::debug!("{text}");
        tracing::error!("{text}");
        tracing::enabled!(tracing::Level::DEBUG)
    };
    assert!(!say("1"), "a level that nobody takes costs nothing");
    logger.set_level("memory", LevelFilter::Trace).unwrap();
    assert!(say("2"));
    logger.set_directives("warn").unwrap();
    say("3");
    logger.set_directives("error,tracing=debug").unwrap();
    say("4");
    let levels: Vec<_> = records(&logger)
        .iter()
        .map(|line| line.replace(" tracing ", " "))
        .collect();
    assert_eq!(
        levels,
        [
            "ERROR \"1\"",
            "DEBUG \"2\"",
            "ERROR \"2\"",
            "ERROR \"3\"",
            "DEBUG \"4\"",
            "ERROR \"4\""
        ]
    );
}

#[test]
fn the_layer_narrows_no_other_layer_and_other_filters_hold() {
    testkit::own_process!();
    let logger = logger(|_| {});
    logger.set_level("memory", LevelFilter::Warn).unwrap();
    let seen = Seen::default();
    let subscriber = tracing_subscriber::registry()
        .with(facade::tracing::layer(&logger).with_filter(filter_fn(|metadata| metadata.target() != "noise")))
        .with(seen.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    tracing::trace!("for the other layer");
    tracing::warn!(target: "noise", "for the other layer");
    tracing::warn!("for both");
    assert_eq!(seen.0.load(std::sync::atomic::Ordering::Relaxed), 3);
    assert_eq!(records(&logger), ["WARN tracing \"for both\""]);
}

/// A layer that counts events.
#[derive(Clone, Default)]
struct Seen(std::sync::Arc<std::sync::atomic::AtomicU64>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Seen {
    fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn each_event_goes_to_its_logger() {
    testkit::own_process!();
    let first = logger(|config| config.capture_warnings = false);
    let quiet = |name: &str| {
        let mut config = LogConfig {
            name: name.into(),
            enable_console: false,
            enable_file: false,
            ..LogConfig::default()
        };
        config.sinks = [("jsonl".to_owned(), false.into()), ("memory".to_owned(), json!({}))].into();
        setup_logging(config).unwrap()
    };
    let (named, entered) = (quiet("data"), quiet("sweep"));
    install(&first);
    tracing::info!(target: "data::loader", "by its name");
    {
        let _in = entered.enter();
        tracing::info!(target: "model", "of the thread");
    }
    tracing::info!(target: "model", "of the layer");
    for logger in [&first, &named, &entered] {
        logger.flush().unwrap();
    }
    let messages = |name: &str| MemorySink::of(name).unwrap().messages();
    assert_eq!(messages("data"), ["by its name"]);
    assert_eq!(messages("sweep"), ["of the thread"]);
    assert_eq!(messages("trainer"), ["of the layer"]);
}

#[test]
fn the_layer_keeps_no_logger_open_and_takes_events_after_its_end() {
    testkit::own_process!();
    let logger = logger(|_| {});
    install(&logger);
    let memory = MemorySink::of("trainer").unwrap();
    let span = tracing::info_span!("run", progress = 3, metric = true);
    drop(logger);
    assert!(memory.finished());
    span.in_scope(|| tracing::error!(metric.loss = 1.0, "too late"));
    drop(span);
    assert_eq!(memory.messages(), [""; 0]);
}

#[test]
fn a_field_whose_code_panics_or_logs_does_no_harm() {
    testkit::own_process!();
    let logger = logger(|_| {});
    install(&logger);
    let _span = tracing::info_span!("run", odd = ?Odd(true)).entered();
    tracing::info!(odd = ?Odd(false), good = 1, "one");
    let lines = records(&logger);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("\"one\" odd=Text(\"logged\") good=Int(1)")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.contains("\"from a field\"")), "{lines:?}");
}

/// A value whose `Debug` form panics, or logs.
struct Odd(bool);

impl fmt::Debug for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(!self.0, "planted");
        tracing::info!(inner = 1, "from a field");
        f.write_str("logged")
    }
}

#[test]
fn records_that_became_events_have_their_target_back() {
    testkit::own_process!();
    let logger = logger(|_| {});
    install(&logger);
    // The form in which `tracing-log` gives a record.
    tracing::info!(
        target: "log",
        {
            log.target = "hyper::client",
            log.module_path = "hyper::client::pool",
            log.file = "src/client.rs",
            log.line = 7_u64
        },
        "pooled"
    );
    assert_eq!(records(&logger), ["INFO hyper::client \"pooled\""]);
}

#[test]
fn threads_that_deliver_give_no_events() {
    testkit::own_process!();
    let logger = logger(|_| {});
    install(&logger);
    facade::logcore::suppress_logging(|| {
        let _span = tracing::info_span!("request", progress = 1).entered();
        tracing::error!(metric.loss = 1.0, "of a delivery");
    });
    assert_eq!(records(&logger), [""; 0]);
    assert!(logger.metrics().averages().is_empty());
}

#[test]
fn tasks_have_the_fields_of_their_own_spans() {
    testkit::own_process!();
    let logger = logger(|_| {});
    install(&logger);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks = (0..16).map(|worker| tokio::spawn(load(worker)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
    let mut lines = records(&logger);
    assert_eq!(lines.len(), 16 * 10);
    lines.dedup();
    for line in &lines {
        let number = |name: &str| line.split_once(name).unwrap().1.split(')').next().unwrap().to_owned();
        assert_eq!(number("said=Int("), number(" worker=Int("), "{line}");
    }
}

async fn load(worker: u64) {
    use tracing::Instrument as _;
    let work = async move {
        for turn in 0..10 {
            tokio::task::yield_now().await;
            match turn % 2 {
                0 => tracing::info!(said = worker, "event"),
                _ => log::info!(target: "t", said = worker; "record"),
            }
        }
    };
    work.instrument(tracing::info_span!("load", worker)).await;
}
