//! Each line comes once, whatever `tracing` also gives to `log`. `cargo xtask echoes` runs these
//! tests without a feature, with `log`, and with `log-always`.

use facade::{LevelFilter, LogConfig, MemorySink, UnifiedLogger, setup_logging};
use serde_json::json;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;

/// A logger that keeps its records in memory, and takes those of every crate.
fn logger() -> UnifiedLogger {
    let config = LogConfig {
        name: "trainer".into(),
        enable_console: false,
        enable_file: false,
        foreign_level: LevelFilter::Trace,
        heed_rust_log: false,
        sinks: [("jsonl".to_owned(), false.into()), ("memory".to_owned(), json!({}))].into(),
        ..LogConfig::default()
    };
    let logger = setup_logging(config).unwrap();
    logger.set_level("memory", LevelFilter::Trace).unwrap();
    logger
}

/// Returns the messages of these targets, flushed.
fn messages(logger: &UnifiedLogger, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    logger.flush().unwrap();
    let records = MemorySink::of("trainer").unwrap().records();
    let wanted = records.into_iter().filter(|record| is_wanted(&record.target));
    wanted.map(|record| record.message).collect()
}

/// Logs by every kind of macro; returns what a reader expects.
fn log_by_all_macros() -> Vec<&'static str> {
    tracing::info!(a = 1, "event");
    tracing::trace!("fine event");
    log::info!("record");
    let outer = tracing::info_span!("outer", job = 7, late = tracing::field::Empty);
    outer.record("late", 1);
    let entered = outer.enter();
    tracing::warn!(b = 2.5, "in a span");
    tracing::error!(parent: None, "of no span");
    tracing::event!(target: "echoes::own", tracing::Level::INFO, c = true, "own target");
    log::info!("record in a span");
    drop(entered);
    for turn in 0..3 {
        tracing::debug!(turn, "again");
    }
    inner(3);
    vec![
        "event",
        "fine event",
        "record",
        "in a span",
        "of no span",
        "own target",
        "record in a span",
        "again",
        "again",
        "again",
        "of a function",
    ]
}

#[tracing::instrument]
fn inner(depth: u64) {
    tracing::info!("of a function");
}

fn is_ours(target: &str) -> bool {
    target.starts_with("echoes")
}

#[test]
fn each_line_comes_once() {
    testkit::own_process!();
    let logger = logger();
    let layer = facade::tracing::layer(&logger);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    let expected = log_by_all_macros();
    assert_eq!(messages(&logger, |_| true), expected);
}

#[test]
fn without_a_layer_log_has_what_its_feature_gives() {
    testkit::own_process!();
    let logger = logger();
    tracing::info!("event");
    log::info!("record");
    let by_log = cfg!(any(feature = "log", feature = "log-always"));
    let expected: &[&str] = if by_log { &["event", "record"] } else { &["record"] };
    assert_eq!(messages(&logger, is_ours), expected);
}

#[test]
fn another_threads_subscriber_takes_nothing_away() {
    testkit::own_process!();
    let logger = logger();
    let with_layer = tracing_subscriber::registry().with(facade::tracing::layer(&logger));
    let say = || tracing::info!("event");
    tracing::subscriber::with_default(with_layer, || {
        let _span = tracing::info_span!("scoped", job = 7).entered();
        say();
    });
    assert_eq!(messages(&logger, |_| true), ["event"]);
    // Here no subscriber is set, so that `log-always` alone gives the event.
    say();
    let expected = if cfg!(feature = "log-always") { 2 } else { 1 };
    assert_eq!(messages(&logger, is_ours).len(), expected);
}

#[test]
fn threads_that_reach_a_line_first_at_once_give_it_once_each() {
    testkit::own_process!();
    const THREADS: usize = 8;
    let logger = logger();
    let layer = facade::tracing::layer(&logger);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    let barrier = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                tracing::info!("first");
                barrier.wait();
                tracing::info!("second");
            });
        }
    });
    for line in ["first", "second"] {
        let lines = messages(&logger, is_ours);
        assert_eq!(lines.iter().filter(|said| *said == line).count(), THREADS);
    }
}

#[test]
fn filters_of_tracing_hold() {
    testkit::own_process!();
    let logger = logger();
    let subscriber = tracing_subscriber::registry()
        .with(facade::tracing::layer(&logger))
        .with(EnvFilter::new("info"));
    tracing::subscriber::set_global_default(subscriber).unwrap();
    tracing::info!("seen");
    tracing::debug!("below the filter");
    let lines = messages(&logger, is_ours);
    // `log-always` gives what no subscriber sees to `log`: that is its purpose.
    let unseen = usize::from(cfg!(feature = "log-always"));
    assert_eq!(lines.iter().filter(|line| *line == "seen").count(), 1);
    assert_eq!(
        lines.iter().filter(|line| *line == "below the filter").count(),
        unseen,
        "{lines:?}"
    );
}

#[test]
fn a_program_with_a_server_and_a_client_has_each_line_once_and_no_loop() {
    testkit::own_process!();
    let logger = logger();
    let layer = facade::tracing::layer(&logger);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let app = axum::Router::new().route("/", axum::routing::get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for _ in 0..5 {
            let response = client.get(format!("http://{address}/")).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "ok");
        }
    });
    assert_eq!(messages(&logger, is_ours), vec!["asked"; 5]);
    let foreign = messages(&logger, |target| !is_ours(target));
    assert!(foreign.len() < 1000, "{} lines of five requests", foreign.len());
    assert!(
        !foreign
            .iter()
            .any(|line| line.starts_with("++ ") || line.starts_with("-> ")),
        "{foreign:?}"
    );
}

async fn answer() -> &'static str {
    tracing::info!(path = "/", "asked");
    "ok"
}
