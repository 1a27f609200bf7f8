//! W&B runs through the facade, against a server on loopback.

mod load;
mod network;
mod official;
mod parts;
mod processes;
mod resume;
mod same;
mod trouble;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use facade::wandb::{
    AlertLevel, Artifact, Histogram, Image, MetricDefinition, SyncOptions, Synced, Table, find_logs, sync,
};
use facade::{FinishReport, LogConfig, UnifiedLogger, setup_logging};
use logcore::registry::build_sink;
use logcore::{BuildContext, Notices, StopFlag};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::wandb_server::{KEY, WandbServer};

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

fn online(server: &WandbServer) -> Value {
    json!({"mode": "online", "base_url": server.url(), "api_key": KEY, "transmit_interval": 0.05})
}

fn with(mut options: Value, more: Value) -> Value {
    options
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    options
}

/// Logs the calls of most tests.
fn log_all(logger: &UnifiedLogger, folder: &TempDir) {
    logger.log_config(&json!({"lr": 0.1, "nested": {"x": [1, 2]}}));
    let wandb = logger.wandb();
    wandb.define_metric(MetricDefinition::new("loss").summary(["min", "last"]));
    wandb.define_metric(MetricDefinition::new("val/*").step_metric("epoch"));
    logger.goal("loss", facade::Goal::Min);
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

/// Checks that the server has received them.
fn check_all(server: &WandbServer) {
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
    assert_eq!(
        (&run.summary["best/loss"], &run.summary["best/loss_step"]),
        (&json!(0.1), &json!(9))
    );
    assert_eq!(run.summary["count"], 9);
    assert_eq!(run.summary["_step"], 11);
    assert!(run.summary["_wandb"]["runtime"].is_u64());
    let of_rules = "WARN: 2 metrics at step 10 (rule *-nan): val/accuracy is NaN; big is inf";
    assert_eq!(run.console(), ["a line", "WARN: a warning", "of two lines", of_rules]);
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
    let output = format!("a line\nWARN: a warning\nof two lines\n{of_rules}\n");
    assert_eq!(run.files["output.log"], output.as_bytes());
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
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "online_all", online(&server));
    log_all(&logger, &folder);
    delivered(&logger.finish());
    check_all(&server);
}

#[test]
fn offline_then_synced_the_server_has_the_same() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "offline_all", json!({"mode": "offline"}));
    log_all(&logger, &folder);
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

fn sync_options(server: &WandbServer) -> SyncOptions {
    let mut options = SyncOptions::default();
    options.options = json!({"base_url": server.url(), "api_key": KEY})
        .as_object()
        .unwrap()
        .clone();
    options.retry_limit = Some(Duration::from_secs(10));
    options
}

fn synced(server: &WandbServer, folder: &TempDir) -> Synced {
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

#[test]
fn the_stop_button_is_seen() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
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
    testkit::own_process!();
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
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
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.state().features = vec!["FILESTREAM_GZIP".to_owned()];
    let logger = start(&folder, "gzip", online(&server));
    log_all(&logger, &folder);
    delivered(&logger.finish());
    check_all(&server);
    let state = server.state();
    let mut stream = state.requests.iter().filter(|seen| seen.path.ends_with("file_stream"));
    assert!(stream.all(|seen| seen.gzip));
}

#[test]
fn steps_behind_the_newest_are_counted_and_kept_locally() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
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
        // The config has a field of this name, too.
        ("name", json!("x".repeat(129))),
        ("job_type", json!("x".repeat(65))),
        ("group", json!("a\0b")),
    ] {
        let options = with(json!({"mode": "offline"}), json!({ option: value }));
        let error = refused(config(&folder, "impossible", options));
        assert!(
            error.starts_with(&format!("invalid sinks.wandb.{option} = ")),
            "{error}"
        );
    }
    let error = refused(LogConfig {
        wandb_project: Some("a/b".into()),
        ..config(&folder, "impossible", json!({"mode": "offline"}))
    });
    assert!(error.starts_with("invalid wandb_project = a/b"), "{error}");
    let error = refused(LogConfig {
        wandb_name: Some("x".repeat(129)),
        ..config(&folder, "impossible", json!({"mode": "offline"}))
    });
    assert!(error.starts_with("invalid wandb_name = "), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
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
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
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

/// Steps that the logger chooses reach the run in their order, whichever threads ask for them.
#[test]
fn console_lines_have_the_form_that_the_server_takes() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.state().features = vec!["STRUCTURED_CONSOLE_LOGS".to_owned()];
    let logger = start(&folder, "structured", online(&server));
    logger.info("a \"line\"");
    logger.warning("two\nlines");
    delivered(&logger.finish());
    let run = server.run();
    let lines: Vec<Value> = run
        .output
        .values()
        .map(|line| testkit::wandb_server::lenient(line))
        .collect();
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
    let outside = folder.path().join("weights.bin");
    for content in ["old", "newer"] {
        fs::write(&outside, content).unwrap();
        logger.wandb().save_file(&outside);
        assert_eq!(fs::read(files.join("weights.bin")).unwrap(), content.as_bytes());
    }
    // A folder of that name cannot be copied.
    fs::create_dir_all(folder.path().join("elsewhere/weights.bin")).unwrap();
    logger.wandb().save_file(folder.path().join("elsewhere/weights.bin"));
    assert_eq!(fs::read(files.join("weights.bin")).unwrap(), b"newer");
    logger.finish();
}

/// Files of one name, and names of the run's own, are kept beside each other, and a line says how
/// each is called.
#[test]
fn saved_files_do_not_replace_each_other() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "one_name", online(&server));
    let wandb = logger.wandb();
    let in_place = wandb.folder().unwrap().join("files/model.bin");
    fs::write(&in_place, "in place").unwrap();
    wandb.save_file(&in_place);
    for part in ["a", "b"] {
        fs::create_dir(folder.path().join(part)).unwrap();
        for name in ["model.bin", "config.yaml"] {
            let path = folder.path().join(part).join(name);
            fs::write(&path, format!("{name} of {part}")).unwrap();
            wandb.save_file(&path);
            // Once more it is the same file.
            wandb.save_file(&path);
        }
    }
    delivered(&logger.finish());
    let files = server.run().files;
    for (name, content) in [
        ("model.bin", "in place"),
        ("model-2.bin", "model.bin of a"),
        ("model-3.bin", "model.bin of b"),
        ("config-2.yaml", "config.yaml of a"),
        ("config-3.yaml", "config.yaml of b"),
    ] {
        assert_eq!(String::from_utf8_lossy(&files[name]), content, "{name}");
    }
    assert!(files["config.yaml"].starts_with(b"\"_wandb\""));
    let text = server.run().console().join("\n");
    let said = text.lines().filter(|line| line.contains("is kept as `"));
    assert_eq!(said.count(), 8, "{text}");
}

/// Names are those that metrics are logged under, however they begin; the system's own are what
/// they are.
#[test]
fn definitions_hold_for_names_of_all_kinds() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let config = LogConfig {
        metrics_prefix: "metrics/".into(),
        ..config(&folder, "families", online(&server))
    };
    let logger = setup_logging(config).unwrap();
    let wandb = logger.wandb();
    let names = [
        "loss",
        "progress/acc",
        "system/reward",
        "memory/hits",
        "throughput/tokens",
        "_aux",
        "metrics/mAP_0.5",
    ];
    for name in names {
        wandb.define_metric(MetricDefinition::new(name).summary(["max"]));
    }
    wandb.define_metric(MetricDefinition::new("metrics/shown").summary(["max"]));
    wandb.define_metric(MetricDefinition::new("val/*").step_metric("progress/epoch"));
    wandb.define_metric(MetricDefinition::new("test/*").step_metric("throughput/accumulated_samples"));
    wandb.define_metric(MetricDefinition::new("late").step_metric("_step"));
    for value in [3.0, 2.0, 1.0] {
        logger.log_metrics(
            names
                .into_iter()
                .chain(["shown", "progress/epoch", "val/loss", "late"])
                .map(|name| (name, value)),
        );
    }
    delivered(&logger.finish());
    let run = server.run();
    for name in names.into_iter().chain(["shown"]) {
        assert_eq!(
            run.summary[format!("metrics/{name}")]["max"],
            3.0,
            "{name}: {}",
            run.summary
        );
    }
    let list = run.config["_wandb"]["value"]["m"].as_array().unwrap().clone();
    let step_of = |glob: &str| {
        let entry = list
            .iter()
            .find(|entry| entry["2"] == glob || entry["1"] == glob)
            .unwrap();
        list[entry["5"].as_u64().unwrap() as usize - 1]["1"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(step_of("metrics/val/*"), "metrics/progress/epoch");
    assert_eq!(step_of("metrics/test/*"), "throughput/accumulated_samples");
    assert_eq!(step_of("metrics/late"), "_step");
}

#[test]
fn a_long_table_is_kept_and_one_that_is_too_long_is_cut_with_a_line() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "long_table", online(&server));
    for (name, rows) in [("long", 10_001_u64), ("longer", 200_001)] {
        let mut table = facade::wandb::Table::new(["a"]);
        (0..rows).for_each(|at| table.push([json!(at)]));
        logger.wandb().log_table(name, table, 0);
    }
    delivered(&logger.finish());
    let row = server.run().rows().remove(0);
    assert_eq!(
        (&row["long"]["nrows"], &row["longer"]["nrows"]),
        (&json!(10_001), &json!(200_000))
    );
    let text = server.run().console().join("\n");
    let said: Vec<_> = text.lines().filter(|line| line.contains("WARN")).collect();
    assert!(
        said.len() == 1 && said[0].contains("`longer`") && said[0].contains("200001"),
        "{text}"
    );
}

#[test]
fn a_new_configuration_goes_on_with_the_same_run() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
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
