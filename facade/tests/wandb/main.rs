//! W&B runs through the facade, against a server on loopback.

mod network;
mod official;
mod parts;
mod processes;
mod resume;
mod server;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use facade::wandb::{
    AlertLevel, Artifact, Histogram, Image, MetricDefinition, SyncOptions, Synced, Table, find_logs, sync,
};
use facade::{FinishReport, LogConfig, UnifiedLogger, setup_logging};
use logcore::registry::{build_sink, recover_sink};
use logcore::{BuildContext, Deadline, MetricBatch, MetricValue, Notices, Sink, StopFlag};
use serde_json::{Value, json};
use server::{Fault, KEY, On, Server};
use tempfile::TempDir;

/// A logger with a W&B run and nothing else.
fn start(folder: &TempDir, name: &str, options: Value) -> UnifiedLogger {
    setup_logging(config(folder, name, options)).unwrap()
}

fn config(folder: impl AsRef<Path>, name: &str, options: Value) -> LogConfig {
    LogConfig {
        name: name.into(),
        log_dir: folder.as_ref().into(),
        enable_console: false,
        enable_file: false,
        enable_wandb: true,
        metrics_prefix: String::new(),
        wandb_project: Some("project".into()),
        finish_timeout: 20.0,
        sinks: [("wandb".to_owned(), options)].into(),
        ..LogConfig::default()
    }
}

fn online(server: &Server) -> Value {
    json!({"mode": "online", "base_url": server.url(), "api_key": KEY, "transmit_interval": 0.05})
}

fn with(mut options: Value, more: Value) -> Value {
    options
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    options
}

/// What most tests say.
fn say_all(logger: &UnifiedLogger, folder: &TempDir) {
    logger.log_config(&json!({"lr": 0.1, "nested": {"x": [1, 2]}}));
    let wandb = logger.wandb();
    wandb.define_metric(MetricDefinition::new("loss").summary(["min", "last"]));
    wandb.define_metric(MetricDefinition::new("val/*").step_metric("epoch"));
    for step in 0..10_u64 {
        logger.log_metrics_at(step, [("loss", 1.0 / (step + 1) as f64)]);
        logger.log_metrics_at(step, facade::metrics! {"count" => step, "epoch" => step / 5});
    }
    logger.log_metrics_at(10, [("val/accuracy", f64::NAN), ("big", f64::INFINITY)]);
    logger.log_metrics_at(11, [("exact", i64::MAX)]);
    logger.info("a line");
    logger.warning("a warning\nof two lines");
    wandb.log_image("sample", Image::rgb(2, 2, vec![9; 12]).caption("grey"), 11);
    wandb.log_histogram("grad", Histogram::of([0.0, 1.0, 1.0], 2), 11);
    wandb.log_table("errors", Table::new(["id", "text"]).row([json!(1), json!("x")]), None);
    wandb.set_summary("best", 0.91);
    wandb.alert("title", "text", AlertLevel::Warn);
    let saved = folder.path().join("saved.txt");
    std::fs::write(&saved, "saved").unwrap();
    wandb.save_file(&saved);
    wandb.log_artifact(Artifact::new("model", "model").file(&saved).alias("best"));
    std::fs::write(&saved, "changed later").unwrap();
}

/// What the server should then have.
fn check_all(server: &Server) {
    let run = server.run();
    assert!(run.is_whole(), "{run:?}");
    assert_eq!(run.steps(), (0..12).collect::<Vec<_>>());
    let rows = run.rows();
    assert_eq!(rows[4]["count"], 4);
    assert_eq!(rows[4]["loss"], 0.2);
    assert_eq!(rows[10]["val/accuracy"], "NaN");
    assert_eq!(rows[10]["big"], "Infinity");
    assert_eq!(rows[10]["epoch"], 1, "the step metric's last value is put in");
    assert_eq!(rows[11]["exact"], i64::MAX);
    assert_eq!(rows[11]["sample"]["_type"], "image-file");
    assert_eq!(rows[11]["grad"]["values"], json!([1, 2]));
    assert!(rows[11]["_timestamp"].as_f64().unwrap() > 1.7e9);
    assert_eq!(run.user_config(), json!({"lr": 0.1, "nested": {"x": [1, 2]}}));
    assert_eq!(run.summary["loss"], json!({"min": 0.1, "last": 0.1}));
    assert_eq!(run.summary["best"], 0.91);
    assert_eq!(run.summary["count"], 9);
    assert_eq!(run.summary["_step"], 11);
    assert!(run.summary["_wandb"]["runtime"].is_u64());
    assert_eq!(run.console(), ["a line", "WARN: a warning", "of two lines"]);
    assert_eq!(run.exit_code, Some(0));
    let m = &run.config["_wandb"]["value"]["m"];
    assert!(
        m.as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["2"] == "val/*" && entry["5"].is_u64()),
        "{m}"
    );
    assert!(run.config["_wandb"]["value"]["t"].is_object());
    let image = rows[11]["sample"]["path"].as_str().unwrap();
    assert!(run.files[image].starts_with(b"\x89PNG"));
    assert_eq!(run.files["saved.txt"], b"saved", "the file as it was when it was saved");
    for name in ["config.yaml", "wandb-summary.json", "wandb-metadata.json", "output.log"] {
        assert!(run.files.contains_key(name), "{name}: {:?}", run.files.keys());
        assert!(run.announced.iter().any(|announced| announced == name), "{name}");
    }
    assert_eq!(run.files["output.log"], b"a line\nWARN: a warning\nof two lines\n");
    assert_eq!(run.alerts.len(), 1);
    assert_eq!(run.alerts[0]["severity"], "WARN");
    let state = server.state();
    assert_eq!(state.artifacts.iter().filter(|artifact| artifact.committed).count(), 2);
    for artifact in &state.artifacts {
        let of = &artifact.input;
        assert_eq!(
            (&of["projectName"], &of["runName"]),
            (&json!("project"), &json!(run.id)),
            "{of}"
        );
    }
    let of_type = |kind: &str| {
        let mut all = state.artifacts.iter();
        all.find(|artifact| artifact.committed && artifact.input["artifactTypeName"] == kind)
            .unwrap()
    };
    let model = of_type("model");
    assert_eq!(model.files["saved.txt"], b"saved");
    assert_eq!(model.manifest["contents"]["saved.txt"]["size"], 5);
    let table = of_type("run_table");
    let id = rows[11]["errors"]["artifact_path"].as_str().unwrap();
    assert!(id.contains(table.input["clientID"].as_str().unwrap()), "{id}");
    assert!(table.files.contains_key("errors.table.json"));
}

fn delivered(report: &FinishReport) {
    let books = report.sink("wandb").unwrap();
    assert_eq!((books.spooled, books.dropped_total()), (0, 0), "{report:?}");
    assert!(books.balanced() && books.delivered > 0, "{report:?}");
}

#[test]
fn online_the_server_has_all_of_it() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let logger = start(&folder, "online_all", online(&server));
    say_all(&logger, &folder);
    delivered(&logger.finish());
    check_all(&server);
}

#[test]
fn offline_then_synced_the_server_has_the_same() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let logger = start(&folder, "offline_all", json!({"mode": "offline"}));
    say_all(&logger, &folder);
    let report = logger.finish();
    let books = report.sink("wandb").unwrap();
    assert!(books.balanced() && books.spooled == books.accepted, "{books:?}");
    let logs = find_logs(folder.path());
    assert_eq!(logs.len(), 1);
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    check_all(&server);
    // Again, also without the memory of the first time, and nothing doubles.
    assert_eq!(synced(&server, &folder), Synced::AlreadyThere);
    forget(&folder);
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    assert!(server.run().is_whole());
    assert_eq!(server.run().steps().len(), 12);
}

fn sync_options(server: &Server) -> SyncOptions {
    let mut options = SyncOptions::default();
    options.options = json!({"base_url": server.url(), "api_key": KEY})
        .as_object()
        .unwrap()
        .clone();
    options.patience = Some(Duration::from_secs(10));
    options
}

fn synced(server: &Server, folder: &TempDir) -> Synced {
    let logs = find_logs(folder.path());
    sync(&logs[0], &sync_options(server), |_, _| {}).unwrap().outcome
}

/// Removes what says how far the only run in a folder is delivered.
fn forget(folder: &TempDir) {
    let log = find_logs(folder.path()).remove(0);
    for suffix in ["upload", "uploaded", "synced"] {
        std::fs::remove_file(format!("{}.{suffix}", log.display())).unwrap();
    }
}

/// Each of these passes by itself: the run is delivered whole, and its logger was never held up.
#[test]
fn passing_trouble_costs_nothing_but_time() {
    let slow = Fault::Slow(Duration::from_millis(300));
    let patience = Fault::StatusWith(429, "retry-after", "0.3".to_owned());
    let cases = [
        (On::Stream, Fault::Status(500)),
        (On::Stream, Fault::Status(503)),
        (On::Stream, patience),
        (On::Stream, Fault::Reset),
        (On::Stream, Fault::LostReply),
        (On::Stream, Fault::Truncated),
        (On::Stream, Fault::Html),
        (On::Stream, slow),
        (On::GraphQl("UpsertBucket"), Fault::Status(409)),
        (On::GraphQl("UpsertBucket"), Fault::LostReply),
        (On::GraphQl("UpsertBucket"), Fault::Html),
        (On::GraphQl("UpsertBucket"), Fault::Status(500)),
        (On::GraphQl("UpsertBucket"), Fault::Body("[]")),
        (On::GraphQl("UpsertBucket"), Fault::Body("true")),
        (
            On::GraphQl("ServerFeaturesQuery"),
            Fault::Body(r#"{"data": {"serverInfo": []}}"#),
        ),
        (On::GraphQl("CreateRunFiles"), Fault::Body("\"ok\"")),
        (On::GraphQl("CreateArtifact"), Fault::Body(r#"{"data": 1}"#)),
        (On::GraphQl("CreateRunFiles"), Fault::Status(502)),
        (On::Put, Fault::Status(500)),
        (On::Put, Fault::Reset),
        (On::Put, Fault::Html),
        (On::Put, Fault::StatusWith(303, "location", "/portal".to_owned())),
        (On::GraphQl("UpsertBucket"), Fault::Endless),
        (On::Any, Fault::Reset),
    ];
    std::thread::scope(|scope| {
        for (at, (on, fault)) in cases.into_iter().enumerate() {
            let case = move || {
                let (server, folder) = (Server::start(), TempDir::new().unwrap());
                server.fault(on, fault.clone(), 2);
                let logger = start(&folder, &format!("passing_{at}"), online(&server));
                say_all(&logger, &folder);
                let report = logger.finish();
                assert_eq!(report.sink("wandb").unwrap().spooled, 0, "{on:?} {fault:?}");
                check_all(&server);
            };
            std::thread::Builder::new().spawn_scoped(scope, case).unwrap();
        }
    });
}

#[test]
fn refusals_end_the_delivery_soon_and_lose_nothing() {
    for (at, (on, status)) in [
        (On::Any, 401),
        (On::GraphQl("UpsertBucket"), 403),
        (On::GraphQl("UpsertBucket"), 404),
        (On::Stream, 401),
        (On::Stream, 404),
        (On::Stream, 409),
    ]
    .into_iter()
    .enumerate()
    {
        let (server, folder) = (Server::start(), TempDir::new().unwrap());
        server.fault(on, Fault::Status(status), usize::MAX);
        let logger = start(&folder, &format!("refused_{at}"), online(&server));
        say_all(&logger, &folder);
        server.wait_until(|state| state.requests.iter().any(|seen| seen.status == status));
        let before = Instant::now();
        let report = logger.finish();
        assert!(before.elapsed() < Duration::from_secs(5), "{on:?} {status}");
        let books = report.sink("wandb").unwrap();
        assert!(books.spooled > 0 && books.balanced(), "{on:?} {status}: {books:?}");
        // Mended, all of it arrives, once.
        server.heal();
        assert_eq!(synced(&server, &folder), Synced::Delivered);
        check_all(&server);
    }
}

/// A server may name any time; the end of the run does not wait for it.
#[test]
fn a_wait_of_any_length_is_given_up_at_the_end() {
    for (at, on) in [
        On::Stream,
        On::GraphQl("CreateRunFiles"),
        On::PutOf("saved.txt"),
        On::GraphQl("NotifyScriptableRunAlert"),
    ]
    .into_iter()
    .enumerate()
    {
        let (server, folder) = (Server::start(), TempDir::new().unwrap());
        let after = Fault::StatusWith(429, "retry-after", "1e19".to_owned());
        server.fault(on, after, 1);
        let logger = start(&folder, &format!("long_wait_{at}"), online(&server));
        say_all(&logger, &folder);
        server.wait_until(|state| state.requests.iter().any(|seen| seen.status == 429));
        let before = Instant::now();
        let report = logger.finish();
        assert!(
            before.elapsed() < Duration::from_secs(15),
            "{on:?}: well before the deadline"
        );
        assert!(report.sink("wandb").unwrap().spooled > 0, "{on:?}");
        assert_eq!(synced(&server, &folder), Synced::Delivered);
        check_all(&server);
    }
}

#[test]
fn setup_waits_for_a_server_no_longer_than_it_is_told_to() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let slow = Fault::Slow(Duration::from_secs(25));
    server.fault(On::GraphQl("RunResumeStatus"), slow, 1);
    let options = json!({"run_id": "x", "resume": "allow", "init_timeout": 0.3, "http_timeout": 60});
    let before = Instant::now();
    let logger = start(&folder, "slow_setup", with(online(&server), options));
    assert!(before.elapsed() < Duration::from_secs(20));
    say_all(&logger, &folder);
    delivered(&logger.finish());
    check_all(&server);
}

#[test]
fn a_refusal_that_is_mended_before_the_end_is_forgotten() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    server.fault(On::Stream, Fault::Status(401), 1);
    let logger = start(&folder, "mended", online(&server));
    say_all(&logger, &folder);
    server.wait_until(|state| state.requests.iter().any(|seen| seen.status == 401));
    delivered(&logger.finish());
    check_all(&server);
}

#[test]
fn a_server_that_is_not_there_holds_nobody_up() {
    let folder = TempDir::new().unwrap();
    let address = {
        let server = Server::start();
        server.url()
    };
    let options = json!({"mode": "online", "base_url": address, "api_key": KEY, "transmit_interval": 0.05});
    let logger = setup_logging(LogConfig {
        finish_timeout: 1.0,
        ..config(&folder, "not_there", options)
    })
    .unwrap();
    let before = Instant::now();
    say_all(&logger, &folder);
    logger.flush().unwrap();
    assert!(before.elapsed() < Duration::from_secs(2));
    let report = logger.finish();
    assert!(before.elapsed() < Duration::from_secs(4));
    let books = report.sink("wandb").unwrap();
    assert_eq!(books.spooled, books.accepted);
    // It comes back, at the same address.
    let server = Server::start();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    check_all(&server);
}

#[test]
fn a_server_that_comes_back_gets_everything() {
    let folder = TempDir::new().unwrap();
    let server = Server::start();
    let address = server.url();
    let place = address.trim_start_matches("http://").to_owned();
    drop(server);
    let options = json!({"mode": "online", "base_url": address, "api_key": KEY, "transmit_interval": 0.05});
    let logger = start(&folder, "comes_back", options);
    say_all(&logger, &folder);
    // Some tries have failed by now, or will have; the result is the same.
    let server = Server::start_on(&place);
    delivered(&logger.finish());
    check_all(&server);
}

#[test]
fn a_part_that_was_streamed_is_not_doubled_by_a_sync() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let logger = start(&folder, "part", online(&server));
    for step in 0..50_u64 {
        logger.log_metrics_at(step, [("x", step)]);
    }
    logger.flush().unwrap();
    server.wait_until(|state| state.runs.values().any(|run| run.history.len() >= 49));
    server.fault(On::Stream, Fault::Status(401), usize::MAX);
    for step in 50..100_u64 {
        logger.log_metrics_at(step, [("x", step)]);
    }
    let report = logger.finish();
    assert!(report.sink("wandb").unwrap().spooled > 0);
    assert!(server.run().history.len() < 100);
    server.heal();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    let run = server.run();
    assert!(run.is_whole());
    assert_eq!(run.steps(), (0..100).collect::<Vec<_>>());
}

/// Rows that a killed process had streamed keep their places when the next process ends its log.
#[test]
fn what_was_streamed_before_a_kill_stays_right() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let config = config(&folder, "killed", online(&server));
    let stop = StopFlag::default();
    let context = BuildContext::new(&config, &stop);
    let start = SystemTime::now();
    let log = |sink: &mut dyn Sink, steps: std::ops::Range<u64>| {
        for step in steps {
            let values = [("x", MetricValue::Int(step as i64))];
            let batch = MetricBatch::new("killed", step, &values).with_time(start + Duration::from_secs(step));
            sink.metrics(&batch).unwrap();
        }
        sink.deliver().unwrap();
    };
    let soon = || Deadline::after(Duration::from_secs(10));
    let mut killed = build_sink("wandb", &config.sinks["wandb"], &context).unwrap();
    killed.start(&Notices::new(|_, _| {})).unwrap();
    log(&mut *killed, 0..20);
    let mark = killed.mark().unwrap();
    log(&mut *killed, 20..40);
    killed.flush(soon()).unwrap();
    server.wait_until(|state| state.runs.values().any(|run| run.history.len() == 39));
    // What it leaves, as it is at this moment.
    let left = TempDir::new().unwrap();
    let run = fs::canonicalize(folder.path().join("wandb/latest-run")).unwrap();
    let copy = left.path().join("wandb").join(run.file_name().unwrap());
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(&run).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    server.fault(On::Any, Fault::Status(401), usize::MAX);
    killed.exit_code(0);
    killed.finish(soon()).unwrap();
    killed.remainder().unwrap()(soon()).1.unwrap_err();
    server.heal();

    let text = mark
        .text()
        .replace(folder.path().to_str().unwrap(), left.path().to_str().unwrap());
    let mut recovered = recover_sink("wandb", &text, &context).unwrap();
    log(&mut *recovered, 20..45);
    recovered.exit_code(137);
    recovered.finish(soon()).unwrap();
    drop(recovered);
    assert_eq!(synced(&server, &left), Synced::Delivered);
    let run = server.run();
    assert!(run.is_whole(), "{run:?}");
    assert_eq!(run.steps(), (0..45).collect::<Vec<_>>());
    assert_eq!((&run.summary["x"], run.exit_code), (&json!(44), Some(137)));
    assert!(
        run.summary["_runtime"].as_u64().unwrap() < 60,
        "it lasted until its last call: {}",
        run.summary
    );
}

#[test]
fn the_stop_button_is_seen() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let logger = start(&folder, "stop", online(&server));
    logger.log_metrics([("x", 1)]);
    assert!(!logger.stop_requested());
    server.state().stop = true;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !logger.stop_requested() {
        assert!(Instant::now() < deadline);
        logger.log_metrics([("x", 1)]);
        logger.flush().unwrap();
    }
    logger.set_exit_code(3);
    delivered(&logger.finish());
    assert_eq!(server.run().exit_code, Some(3));
}

#[test]
fn a_run_that_panics_has_failed() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let panicked = std::thread::scope(|scope| {
        let run = || {
            let logger = start(&folder, "panics", online(&server));
            logger.log_metrics([("x", 1)]);
            panic!("the last word");
        };
        std::thread::Builder::new().spawn_scoped(scope, run).unwrap().join()
    });
    assert!(panicked.is_err());
    let run = server.run();
    assert_eq!((run.exit_code, run.history.len()), (Some(1), 1));
    let console = run.console().join("\n");
    assert!(console.contains("the last word"), "{console}");
}

#[test]
fn gzip_is_used_where_it_is_offered() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    server.state().features = vec!["FILESTREAM_GZIP".to_owned()];
    let logger = start(&folder, "gzip", online(&server));
    say_all(&logger, &folder);
    delivered(&logger.finish());
    check_all(&server);
    let state = server.state();
    let mut stream = state.requests.iter().filter(|seen| seen.path.ends_with("file_stream"));
    assert!(stream.all(|seen| seen.gzip));
}

#[test]
fn steps_behind_the_newest_are_counted_and_kept_locally() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let logger = start(&folder, "late", online(&server));
    for step in [0, 5, 3, 5, 6] {
        logger.log_metrics_at(step, [("x", step)]);
    }
    logger.log_metrics_at(6, [("y", 1)]);
    let report = logger.finish();
    let books = report.sink("wandb").unwrap();
    assert_eq!(
        (books.accepted, books.delivered, books.dropped_total()),
        (6, 5, 1),
        "{books:?}"
    );
    assert_eq!(server.run().steps(), [0, 5, 6]);
    assert_eq!(server.run().rows()[2]["y"], 1);
    let kept = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    assert!(kept.contains("\"step\":3"));
}

#[test]
fn impossible_settings_are_refused_at_setup() {
    let folder = TempDir::new().unwrap();
    let refused = |config: LogConfig| setup_logging(config).unwrap_err().to_string();
    for (option, value) in [
        ("api_key", json!("short")),
        ("base_url", json!("not an address")),
        ("run_id", json!("a?b")),
        ("tags", json!(["x".repeat(65)])),
        ("project", json!("a/b")),
        ("mode", json!("sideways")),
    ] {
        let options = with(json!({"mode": "offline"}), json!({ option: value }));
        let error = refused(config(&folder, "impossible", options));
        assert!(error.starts_with(&format!("sinks.wandb.{option} = ")), "{error}");
    }
    let error = refused(LogConfig {
        wandb_project: Some("a/b".into()),
        ..config(&folder, "impossible", json!({"mode": "offline"}))
    });
    assert!(error.starts_with("wandb_project = a/b"), "{error}");
    assert!(!folder.path().join("wandb").exists());
}

#[test]
fn a_sink_that_is_only_built_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let config = config(&folder, "tried", json!({"mode": "offline", "resume": "auto"}));
    let stop = StopFlag::default();
    let context = BuildContext::new(&config, &stop);
    let mut sink = build_sink("wandb", &config.sinks["wandb"], &context).unwrap();
    assert!(!folder.path().join("wandb").exists());
    sink.start(&Notices::new(|_, _| {})).unwrap();
    assert!(folder.path().join("wandb/wandb-resume.json").exists());
}

#[test]
fn what_a_settings_file_switches_off_is_not_sent() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let settings = "[default]\nx_disable_stats = true\nx_disable_meta = true\nconsole = off\n\
                    ignore_globs = *.ckpt,media/*/*,config.yaml\n";
    fs::create_dir(folder.path().join("wandb")).unwrap();
    fs::write(folder.path().join("wandb/settings"), settings).unwrap();
    let logger = start(&folder, "switched_off", online(&server));
    logger.info("a line");
    logger.log_metrics([("system/gpu", 1), ("x", 1)]);
    for name in ["a.ckpt", "b.txt"] {
        fs::write(folder.path().join(name), "x").unwrap();
        logger.wandb().save_file(folder.path().join(name));
    }
    logger.wandb().log_image("sample", Image::grey(1, 1, [0]), None);
    delivered(&logger.finish());
    let run = server.run();
    assert_eq!((run.events.len(), run.output.len(), run.history.len()), (0, 0, 1));
    let files: Vec<_> = run.files.keys().collect();
    assert_eq!(files, ["b.txt", "wandb-metadata.json", "wandb-summary.json"]);
    assert!(run.about.get("host").is_none_or(Value::is_null), "{:?}", run.about);
    let metadata: Value = serde_json::from_slice(&run.files["wandb-metadata.json"]).unwrap();
    let names: Vec<_> = metadata.as_object().unwrap().keys().collect();
    assert_eq!(names, ["startedAt", "writerId"]);
}

/// A log that cannot be made at first is made when it can be; what came before is counted.
#[test]
fn a_log_that_cannot_be_made_is_tried_again() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let in_the_way = folder.path().join("wandb");
    std::fs::write(&in_the_way, "a file").unwrap();
    let logger = start(&folder, "tried_again", online(&server));
    logger.log_metrics([("x", 0)]);
    logger.flush().unwrap();
    std::fs::remove_file(&in_the_way).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while find_logs(folder.path()).is_empty() {
        assert!(Instant::now() < deadline);
        logger.log_metrics([("x", 1)]);
        logger.flush().unwrap();
    }
    let report = logger.finish();
    let books = report.sink("wandb").unwrap();
    assert!(
        books.delivered > 0 && books.dropped["no log"] > 0 && books.balanced(),
        "{books:?}"
    );
    assert_eq!(server.run().history.len() as u64, books.delivered);
}

#[test]
fn two_runs_at_once_do_not_mix() {
    let (first, second) = (Server::start(), Server::start());
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let a = start(&folder, "two_a", online(&first));
    let b = start(&other, "two_b", online(&second));
    std::thread::scope(|scope| {
        for logger in [&a, &b] {
            std::thread::Builder::new()
                .spawn_scoped(scope, move || {
                    for _ in 0..500 {
                        logger.log_metrics([(logger.name(), 1)]);
                    }
                })
                .unwrap();
        }
    });
    delivered(&a.finish());
    delivered(&b.finish());
    for (server, name) in [(&first, "two_a"), (&second, "two_b")] {
        let run = server.run();
        assert_eq!(run.history.len(), 500);
        assert!(run.is_whole() && run.rows().iter().all(|row| row[name] == 1));
    }
}

/// Steps that the logger chooses reach the run in their order, whichever threads ask for them.
#[test]
fn console_lines_have_the_form_that_the_server_takes() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    server.state().features = vec!["STRUCTURED_CONSOLE_LOGS".to_owned()];
    let logger = start(&folder, "structured", online(&server));
    logger.info("a \"line\"");
    logger.warning("two\nlines");
    delivered(&logger.finish());
    let run = server.run();
    let lines: Vec<Value> = run.output.values().map(|line| server::lenient(line)).collect();
    let contents: Vec<_> = lines.iter().map(|line| line["content"].as_str().unwrap()).collect();
    assert_eq!(contents, ["a \"line\"", "WARN: two", "lines"]);
    let times = lines.iter().map(|line| line["ts"].as_str().unwrap());
    assert!(
        times.into_iter().all(|time| time.len() == 26 && time.contains('T')),
        "{lines:?}"
    );
    assert_eq!(
        run.files["output.log"], b"a \"line\"\nWARN: two\nlines\n",
        "the file has the text alone"
    );
}

#[test]
fn threads_lose_no_row() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let logger = start(&folder, "threads", online(&server));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            std::thread::Builder::new()
                .spawn_scoped(scope, || (0..2000).for_each(|_| logger.log_metrics([("x", 1)])))
                .unwrap();
        }
    });
    delivered(&logger.finish());
    assert_eq!(server.run().steps(), (0..8000).collect::<Vec<_>>());
}

/// What takes long to make is not late for its row, whatever other threads log meanwhile.
#[test]
fn images_of_other_threads_are_not_late() {
    let folder = TempDir::new().unwrap();
    let logger = start(&folder, "images", json!({"mode": "offline"}));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let metrics = || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                logger.log_metrics([("x", 1)]);
            }
        };
        std::thread::Builder::new().spawn_scoped(scope, metrics).unwrap();
        for _ in 0..20 {
            let image = Image::rgb(64, 64, vec![7; 64 * 64 * 3]);
            logger.wandb().log_image("sample", image, None);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let report = logger.finish();
    let books = report.sink("wandb").unwrap();
    assert_eq!(books.dropped_total(), 0, "{books:?}");
}

#[test]
fn a_file_that_is_saved_again_is_whole_or_as_it_was() {
    let folder = TempDir::new().unwrap();
    let logger = start(&folder, "saved", json!({"mode": "offline"}));
    let files = logger.wandb().folder().unwrap().join("files");
    let checkpoint = files.join("model.bin");
    fs::write(&checkpoint, "weights").unwrap();
    logger.wandb().save_file(&checkpoint);
    assert_eq!(
        fs::read(&checkpoint).unwrap(),
        b"weights",
        "it lies in the run's folder already"
    );
    fs::write(folder.path().join("model.bin"), "newer").unwrap();
    logger.wandb().save_file(folder.path().join("model.bin"));
    assert_eq!(fs::read(&checkpoint).unwrap(), b"newer");
    // A folder of that name cannot be copied.
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    fs::create_dir(folder.path().join("elsewhere/model.bin")).unwrap();
    logger.wandb().save_file(folder.path().join("elsewhere/model.bin"));
    assert_eq!(fs::read(&checkpoint).unwrap(), b"newer");
    logger.finish();
}

#[test]
fn it_works_inside_tokio() {
    let current = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let multi = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for (at, runtime) in [current, multi].into_iter().enumerate() {
        let (server, folder) = (Server::start(), TempDir::new().unwrap());
        runtime.block_on(async {
            let options = with(online(&server), json!({"resume": "allow", "run_id": "x"}));
            let logger = start(&folder, &format!("tokio_{at}"), options);
            say_all(&logger, &folder);
            delivered(&logger.finish());
        });
        check_all(&server);
    }
}

#[test]
fn a_new_configuration_goes_on_with_the_same_run() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let first = start(&folder, "again", online(&server));
    first.log_metrics([("x", 1)]);
    let second = setup_logging(LogConfig {
        enable_file: true,
        ..config(&folder, "again", online(&server))
    })
    .unwrap();
    second.log_metrics([("x", 2)]);
    drop(first);
    delivered(&second.finish());
    assert_eq!(server.run().steps(), [0, 1]);
    assert_eq!(find_logs(folder.path()).len(), 1);
}

#[test]
fn ten_thousand_names_and_many_rows() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let logger = start(&folder, "many", online(&server));
    let names: Vec<String> = (0..10_000).map(|at| format!("layer.{at}/norm")).collect();
    for step in 0..3_u64 {
        logger.log_metrics_at(step, names.iter().map(|name| (name.as_str(), step)));
    }
    for step in 3..20_000_u64 {
        logger.log_metrics_at(step, [("x", step)]);
    }
    delivered(&logger.finish());
    let run = server.run();
    assert!(run.is_whole());
    assert_eq!(run.history.len(), 20_000);
    assert_eq!(run.rows()[2].len(), 10_000 + 3);
    assert_eq!(run.summary.as_object().unwrap().len(), 10_000 + 1 + 4);
}

/// What a server that is down has not taken lies on disk and not in memory.
#[cfg(target_os = "linux")]
#[test]
fn memory_stays_flat_while_a_server_is_down() {
    let folder = TempDir::new().unwrap();
    let address = Server::start().url();
    let options = json!({"mode": "online", "base_url": address, "api_key": KEY, "transmit_interval": 0.05});
    let config = config(&folder, "down", options);
    let stop = StopFlag::default();
    let mut sink = build_sink("wandb", &config.sinks["wandb"], &BuildContext::new(&config, &stop)).unwrap();
    sink.start(&Notices::new(|_, _| {})).unwrap();
    let mut log = |steps: std::ops::Range<u64>| {
        for step in steps {
            let values = ["a", "b", "c"].map(|name| (name, MetricValue::Float(step as f64 / 7.0)));
            sink.metrics(&MetricBatch::new("down", step, &values)).unwrap();
            if step % 100 == 0 {
                sink.deliver().unwrap();
                sink.mark().unwrap();
            }
        }
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let early = log(0..50_000);
    let late = log(50_000..400_000);
    let size = fs::metadata(&find_logs(folder.path())[0]).unwrap().len() >> 10;
    assert!(
        late < early + size / 4,
        "from {early} to {late} KiB, with {size} KiB on disk"
    );
    assert_eq!(sink.books().unwrap().spooled, 400_000);
}

/// Cut anywhere, a log is readable up to its last whole record, for the official client as for us.
#[test]
fn the_official_client_reads_a_log_that_was_cut() {
    let folder = TempDir::new().unwrap();
    let logger = start(&folder, "cut", json!({"mode": "offline"}));
    say_all(&logger, &folder);
    for step in 100..1500_u64 {
        logger.log_metrics_at(step, [("x", step)]);
    }
    logger.finish();
    let log = find_logs(folder.path()).remove(0);
    let whole = std::fs::read(&log).unwrap();
    assert!(
        whole.len() > 2 * 32_768,
        "it goes over the ends of blocks: {}",
        whole.len()
    );
    let all = official::records(&log);
    assert_eq!(all.last().unwrap()["type"], "exit");
    let numbers: Vec<_> = all.iter().map(|record| record["num"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>());
    for part in 1..12 {
        // Not at round places.
        let length = whole.len() * part / 12 + part * 7;
        let (server, folder) = (Server::start(), TempDir::new().unwrap());
        let run = folder.path().join("wandb/offline-run-20260101_000000-cut");
        std::fs::create_dir_all(&run).unwrap();
        let log = run.join("run-cut.wandb");
        std::fs::write(&log, &whole[..length]).unwrap();
        let read = official::records(&log);
        assert!(!read.is_empty() && all.starts_with(&read));
        assert_eq!(synced(&server, &folder), Synced::Killed);
        let rows = read.iter().filter(|record| record["type"] == "history").count();
        assert_eq!(server.run().history.len(), rows);
        assert_eq!(server.run().exit_code, Some(1), "a run without an end was killed");
    }
}

#[test]
fn a_row_takes_less_than_half_of_the_official_clients_bytes() {
    const SCRIPT: &str = r#"
import wandb
run = wandb.init(project="project", settings=wandb.Settings(x_disable_stats=True, disable_git=True, console="off"))
for step in range(2000):
    run.log({f"metric{at}": step / (at + 3) for at in range(10)})
run.finish()
"#;
    let theirs = TempDir::new().unwrap();
    official::script(SCRIPT, theirs.path(), &[("WANDB_MODE", "offline")]);
    let ours = TempDir::new().unwrap();
    let logger = start(&ours, "bytes", json!({"mode": "offline"}));
    let names: Vec<String> = (0..10).map(|at| format!("metric{at}")).collect();
    for step in 0..2000 {
        let values = names
            .iter()
            .enumerate()
            .map(|(at, name)| (name, f64::from(step) / (at + 3) as f64));
        logger.log_metrics(values);
    }
    logger.finish();
    let size = |folder: &TempDir| std::fs::metadata(&find_logs(folder.path())[0]).unwrap().len();
    let (ours, theirs) = (size(&ours), size(&theirs));
    assert!(
        ours * 2 <= theirs,
        "{} bytes a row, the official client {}",
        ours / 2000,
        theirs / 2000
    );
}

#[test]
fn the_official_client_syncs_what_we_wrote() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let logger = start(&folder, "for_official", json!({"mode": "offline"}));
    say_all(&logger, &folder);
    logger.finish();
    official::sync(&server, &official::latest(folder.path()));
    check_all(&server);
}

/// The same calls to the official client and to us leave the same on a server.
#[test]
fn the_official_client_leaves_the_same() {
    const SCRIPT: &str = r#"
import wandb
run = wandb.init(project="project", name="a name", notes="some notes", tags=["a", "b"], group="g", job_type="train",
                 config={"lr": 0.1, "tiny": 1e-7, "nested": {"x": [1, 2], "y": None}, "text": "ü"},
                 settings=wandb.Settings(x_disable_stats=True, disable_git=True, console="wrap"))
run.define_metric("loss", summary="min,max,mean,last,first")
run.define_metric("none", summary="none")
run.define_metric("val/*", step_metric="epoch")
run.define_metric("hidden", hidden=True)
run.define_metric("goal", summary="min")
run.define_metric("goal", hidden=True)
run.define_metric("goal2", step_metric="epoch", summary="max")
run.define_metric("goal2", summary="min", overwrite=True)
run.define_metric("copy", summary="copy")
run.define_metric("both", summary="mean,copy")
for step in range(6):
    run.log({"loss": 1 / (step + 1), "none": step, "copy": step, "both": step, "goal": float(step % 3), "epoch": step // 3}, step=step)
    if step == 4:
        run.log({"loss": 7.0, "merged": 1}, step=step)
run.log({"val/accuracy": float("nan"), "inf": float("inf"), "minus": float("-inf")}, step=6)
run.log({"loss": float("nan"), "exact": 2**62, "a.b": 1, "c/d": 2, "val/other": 1}, step=9)
run.log({"late": 1}, step=3)
run.log({"grad": wandb.Histogram(np_histogram=([1, 2], [0.0, 0.5, 1.0]))}, step=10)
run.summary["best"] = 0.91
run.summary["loss_note"] = {"a": 1}
run.config.update({"later": True})
print("a line")
run.finish(exit_code=3)
"#;
    let official = Server::start();
    let folder = TempDir::new().unwrap();
    let address = official.url();
    official::script(
        SCRIPT,
        folder.path(),
        &[("WANDB_BASE_URL", address.as_str()), ("WANDB_API_KEY", KEY)],
    );

    let expected = state_of(&official);

    let folder = TempDir::new().unwrap();
    official::script(SCRIPT, folder.path(), &[("WANDB_MODE", "offline")]);
    let server = Server::start();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    assert_eq!(
        state_of(&server),
        expected,
        "the official client's own log, synced by us"
    );

    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    say_the_same(&start(&folder, "same_online", with(online(&server), about())));
    assert_eq!(state_of(&server), expected, "online");

    let folder = TempDir::new().unwrap();
    say_the_same(&start(
        &folder,
        "same_offline",
        with(json!({"mode": "offline"}), about()),
    ));
    let server = Server::start();
    official::sync(&server, &official::latest(folder.path()));
    assert_eq!(
        state_of(&server),
        expected,
        "offline, then synced by the official client"
    );
    let server = Server::start();
    std::fs::remove_file(format!("{}.synced", find_logs(folder.path())[0].display())).unwrap();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    assert_eq!(state_of(&server), expected, "offline, then synced by us");
}

fn about() -> Value {
    json!({"name": "a name", "notes": "some notes", "tags": ["a", "b"], "group": "g", "job_type": "train"})
}

/// The calls of the script, to us.
fn say_the_same(logger: &UnifiedLogger) {
    logger.log_config(&json!({"lr": 0.1, "tiny": 1e-7, "nested": {"x": [1, 2], "y": null}, "text": "ü"}));
    let wandb = logger.wandb();
    wandb.define_metric(MetricDefinition::new("loss").summary(["min", "max", "mean", "last", "first"]));
    wandb.define_metric(MetricDefinition::new("none").summary(["none"]));
    wandb.define_metric(MetricDefinition::new("val/*").step_metric("epoch"));
    wandb.define_metric(MetricDefinition::new("hidden").hidden());
    wandb.define_metric(MetricDefinition::new("goal").summary(["min"]));
    wandb.define_metric(MetricDefinition::new("goal").hidden());
    wandb.define_metric(MetricDefinition::new("goal2").step_metric("epoch").summary(["max"]));
    wandb.define_metric(MetricDefinition::new("goal2").summary(["min"]).overwrite());
    wandb.define_metric(MetricDefinition::new("copy").summary(["copy"]));
    wandb.define_metric(MetricDefinition::new("both").summary(["mean", "copy"]));
    for step in 0..6_u64 {
        let (loss, goal) = (1.0 / (step + 1) as f64, (step % 3) as f64);
        logger.log_metrics_at(
            step,
            facade::metrics! {"loss" => loss, "none" => step, "copy" => step, "both" => step, "goal" => goal, "epoch" => step / 3},
        );
        if step == 4 {
            logger.log_metrics_at(step, facade::metrics! {"loss" => 7.0, "merged" => 1});
        }
    }
    logger.log_metrics_at(
        6,
        [
            ("val/accuracy", f64::NAN),
            ("inf", f64::INFINITY),
            ("minus", f64::NEG_INFINITY),
        ],
    );
    logger.log_metrics_at(
        9,
        facade::metrics! {"loss" => f64::NAN, "exact" => 1_i64 << 62, "a.b" => 1, "c/d" => 2, "val/other" => 1},
    );
    logger.log_metrics_at(3, [("late", 1)]);
    wandb.log_histogram("grad", Histogram::from_counts([1, 2], [0.0, 0.5, 1.0]), 10);
    wandb.set_summary("best", 0.91);
    wandb.set_summary("loss_note", json!({"a": 1}));
    logger.log_config(&json!({"later": true}));
    logger.info("a line");
    logger.set_exit_code(3);
    logger.finish();
}

/// What a run has come to, without what differs from run to run.
fn state_of(server: &Server) -> Value {
    let run = server.run();
    let timeless = |mut row: serde_json::Map<String, Value>| {
        for name in ["_timestamp", "_runtime", "_wandb"] {
            assert!(row.remove(name).is_some(), "{name} in {row:?}");
        }
        row
    };
    let mut about = run.about.clone();
    for name in ["host", "program", "commit", "repo"] {
        about.remove(name);
    }
    let rows: Vec<_> = run
        .rows()
        .into_iter()
        .map(|mut row| {
            row.insert("_wandb".to_owned(), Value::Null);
            timeless(row)
        })
        .collect();
    // The official client writes its own warnings to the console.
    let console: Vec<_> = run
        .console()
        .into_iter()
        .filter(|line| !line.contains("wandb: "))
        .collect();
    let files: Vec<_> = run.files.keys().filter(|name| *name != "requirements.txt").collect();
    json!({
        "about": about,
        "config": run.user_config(),
        "definitions": definitions(&run.config["_wandb"]["value"]["m"]),
        "rows": rows,
        "summary": timeless(run.summary.as_object().unwrap().clone()),
        "console": console,
        "exit_code": run.exit_code,
        "files": files,
    })
}

/// Definitions by name, in which the number of a step metric is replaced by its name: their order means nothing.
fn definitions(list: &Value) -> Value {
    let list = list.as_array().unwrap();
    let name = |entry: &Value| entry["1"].as_str().or(entry["2"].as_str()).unwrap().to_owned();
    let sorted = |numbers: &Value| {
        let mut numbers: Vec<_> = numbers
            .as_array()
            .unwrap()
            .iter()
            .map(|number| number.as_u64().unwrap())
            .collect();
        numbers.sort_unstable();
        json!(numbers)
    };
    list.iter()
        .map(|entry| {
            let mut entry_now = entry.clone();
            if let Some(at) = entry["5"].as_u64() {
                entry_now["5"] = name(&list[at as usize - 1]).into();
            }
            entry_now["6"] = sorted(&entry["6"]);
            entry_now["7"] = sorted(&entry["7"]);
            (name(entry), entry_now)
        })
        .collect()
}

/// Rows of an offline part that is to resume a run take the same steps from us as from the official client.
#[test]
fn steps_of_a_resumed_offline_part_are_those_of_the_official_client() {
    let steps_after = |sync: fn(&Server, &TempDir)| {
        let server = Server::start();
        let folder = TempDir::new().unwrap();
        let logger = start(
            &folder,
            "stands_at",
            with(online(&server), json!({"run_id": "r", "resume": "allow"})),
        );
        logger.log_metrics_at(7, [("x", 1)]);
        logger.finish();
        let folder = TempDir::new().unwrap();
        let options = json!({"mode": "offline", "run_id": "r", "resume": "allow"});
        let logger = start(&folder, "follows", options);
        for step in [0, 3, 9, 20] {
            logger.log_metrics_at(step, [("x", 2)]);
        }
        // It may be the last that the summary says of a step.
        logger.log_metrics_at(21, [("y", 2)]);
        logger.finish();
        sync(&server, &folder);
        let run = server.run();
        (run.steps(), run.summary["_step"].clone(), run.summary["y"].clone())
    };
    let ours = steps_after(|server, folder| assert_eq!(synced(server, folder), Synced::Delivered));
    let theirs = steps_after(|server, folder| official::sync(server, &official::latest(folder.path())));
    assert_eq!(ours, theirs);
}
