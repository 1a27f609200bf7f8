//! W&B runs through the facade, against a server on loopback.

mod server;

use std::time::{Duration, Instant};

use facade::wandb::{
    AlertLevel, Artifact, Histogram, Image, MetricDefinition, SyncOptions, Synced, Table, find_logs, sync,
};
use facade::{FinishReport, LogConfig, UnifiedLogger, setup_logging};
use serde_json::{Value, json};
use server::{Fault, KEY, On, Server};
use tempfile::TempDir;

/// A logger with a W&B run and nothing else.
fn start(folder: &TempDir, name: &str, options: Value) -> UnifiedLogger {
    setup_logging(config(folder, name, options)).unwrap()
}

fn config(folder: &TempDir, name: &str, options: Value) -> LogConfig {
    LogConfig {
        name: name.into(),
        log_dir: folder.path().into(),
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
    assert_eq!(state.artifacts.len(), 1);
    assert!(state.artifacts[0].committed);
    assert_eq!(state.artifacts[0].files["saved.txt"], b"saved");
    assert_eq!(state.artifacts[0].manifest["contents"]["saved.txt"]["size"], 5);
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
    for suffix in ["upload", "synced"] {
        std::fs::remove_file(format!("{}.{suffix}", logs[0].display())).unwrap();
    }
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
