//! Whole runs against an MLflow server on loopback, with faults of the server and of the process.
//! `.ci/mlflow_server.py` has the same with the real server.
#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "a child tells its parent how far it is")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use facade::{FinishReport, LogConfig, UnifiedLogger, recover, setup_logging};
use logcore_mlflow::{SyncError, SyncOptions, SyncReport, Synced, sync};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::mlflow_server::MlflowServer;
use testkit::own_process;
use testkit::wandb_server::ServerFault;

fn config(folder: &Path, url: &str, options: Value) -> LogConfig {
    let mut sink = json!({"uri": url, "interval": 0.05});
    sink.as_object_mut()
        .unwrap()
        .extend(options.as_object().unwrap().clone());
    LogConfig {
        name: "trainer".into(),
        log_dir: folder.into(),
        run: "here".into(),
        enable_console: false,
        metrics_prefix: String::new(),
        finish_timeout: 20.0,
        sinks: [("mlflow".to_owned(), sink)].into(),
        ..LogConfig::default()
    }
}

fn start(folder: &TempDir, server: &MlflowServer, options: Value) -> UnifiedLogger {
    setup_logging(config(folder.path(), &server.url(), options)).unwrap()
}

fn log_steps(logger: &UnifiedLogger, steps: std::ops::Range<u64>) {
    for step in steps {
        logger.log_metrics_at(step, [("loss", 1.0 / (step + 1) as f64)]);
    }
}

/// A rate at which no points are left out: a quick machine logs more in a test than the default
/// rate lets through in a minute.
const UNLIMITED: f64 = 1e6;

/// The points of a metric whose value is that of [`log_steps`].
fn loss(steps: std::ops::Range<u64>) -> Vec<(u64, Value)> {
    steps.map(|step| (step, json!(1.0 / (step + 1) as f64))).collect()
}

/// Compares points without a message of thousands of them.
fn assert_points(points: &[(u64, Value)], expected: &[(u64, Value)]) {
    let other = points.iter().zip(expected).find(|(own, expected)| own != expected);
    assert_eq!((points.len(), other), (expected.len(), None));
}

fn assert_delivered(report: &FinishReport, calls: u64) {
    let books = &report.sinks["mlflow"];
    assert!(books.balanced(), "{books:?}");
    assert_eq!(
        (books.accepted, books.delivered),
        (calls, calls),
        "{books:?} {report:?}"
    );
}

fn sync_run(dir: &Path, server: &MlflowServer) -> Result<SyncReport, SyncError> {
    let mut options = SyncOptions::default();
    options.options.insert("uri".into(), server.url().into());
    options.options.insert("rate".into(), UNLIMITED.into());
    options.retry_limit = Some(Duration::from_secs(5));
    sync(dir, &options, |_, _| {})
}

#[test]
fn a_run_is_on_the_server_with_all_that_it_has() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let options = json!({"experiment": "vision", "tags": {"team": "a"}, "note": "a *first* try", "run_name": "base"});
    let logger = start(&folder, &server, options);
    logger.log_config(&json!({"lr": 0.1, "model": {"width": 3}}));
    log_steps(&logger, 0..100);
    logger.log_image("sample", facade::Image::rgb(1, 1, [255, 0, 0]), 7);
    logger.log_text("note", "hello", 7);
    logger.log_metrics_at(100, [("top@1", f64::NAN), ("max", f64::INFINITY)]);
    let report = logger.finish();
    assert_delivered(&report, 101);

    let state = server.state();
    let run = state.runs.values().next().unwrap();
    assert_eq!(state.experiments[&run.experiment], "vision");
    assert_eq!((&*run.name, &*run.status), ("base", "FINISHED"));
    assert!(run.end_time.is_some());
    assert_points(&run.points("loss"), &loss(0..100));
    assert_eq!(run.points("top_x40_1"), [(100, json!("NaN"))]);
    assert_eq!(run.points("max"), [(100, json!("Infinity"))]);
    assert_eq!((&*run.params["lr"], &*run.params["model.width"]), ("0.1", "3"));
    assert_eq!(
        (&*run.tags["team"], &*run.tags["mlflow.note.content"]),
        ("a", "a *first* try")
    );
    assert_eq!(run.tags["logcore.infinite.max"], "Infinity at step 100");
    assert!(run.tags.contains_key("mlflow.source.name"), "{:?}", run.tags);
    assert_eq!(run.tags["logcore.run"].len(), 8);
    let summary: Value = serde_json::from_slice(&run.artifacts["summary.json"]).unwrap();
    assert_eq!(summary["trainer"]["state"], "finished", "{summary}");
    let media: Vec<_> = run.artifacts.keys().filter(|name| name.starts_with("media/")).collect();
    assert!(
        media.len() == 2 && run.artifacts.values().any(|file| file == b"hello"),
        "{media:?}"
    );
    assert!(run.artifacts.contains_key("config.json") && !run.artifacts.contains_key("metrics.jsonl"));
    assert_eq!(run.repeated, 0);
}

#[test]
fn a_run_is_followed_while_it_goes_on_and_a_flush_sends_at_once() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let logger = start(&folder, &server, json!({"interval": 3600.0}));
    log_steps(&logger, 0..10);
    logger.flush().unwrap();
    server.wait_until(|state| state.runs.values().any(|run| run.points("loss").len() == 10));
    assert_eq!(server.run().status, "RUNNING");
    log_steps(&logger, 10..20);
    assert_delivered(&logger.finish(), 20);
    assert_points(&server.run().points("loss"), &loss(0..20));
}

#[test]
fn loggers_share_the_run_and_later_ones_have_a_prefix() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let logger = start(&folder, &server, json!({}));
    let eval = setup_logging(LogConfig {
        name: "eval".into(),
        ..config(folder.path(), &server.url(), json!({}))
    })
    .unwrap();
    for step in 0..50 {
        log_steps(&logger, step..step + 1);
        eval.log_metrics_at(step, [("acc", step)]);
        eval.log_metrics_at(step, [("acc", step + 1)]);
    }
    // The end of one logger is not that of the run.
    eval.set_exit_code(3);
    assert_delivered(&eval.finish(), 100);
    assert_eq!(server.run().status, "RUNNING");
    log_steps(&logger, 50..60);
    assert_delivered(&logger.finish(), 60);
    let run = server.run();
    assert_points(&run.points("loss"), &loss(0..60));
    assert_eq!(run.points("eval/acc").len(), 100);
    assert_eq!(run.status, "FAILED");
}

#[test]
fn a_server_that_fails_in_every_way_gets_each_point_once() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    for (path, fault) in [
        ("runs/create", ServerFault::LostReply),
        ("experiments/create", ServerFault::LostReply),
        ("log-batch", ServerFault::Pass),
        ("log-batch", ServerFault::LostReply),
        ("log-batch", ServerFault::LostReply),
        ("log-batch", ServerFault::Status(500)),
        ("log-batch", ServerFault::StatusWith(429, "retry-after", "1".to_owned())),
        ("log-batch", ServerFault::Reset),
        ("log-batch", ServerFault::Html),
        ("runs/update", ServerFault::LostReply),
        ("artifacts", ServerFault::Status(503)),
    ] {
        server.fault(path, fault, 1);
    }
    let logger = start(&folder, &server, json!({"experiment": "new"}));
    log_steps(&logger, 0..3000);
    assert_delivered(&logger.finish(), 3000);
    let run = server.run();
    assert_points(&run.points("loss"), &loss(0..3000));
    assert_eq!(run.status, "FINISHED");
    assert!(run.repeated > 0, "the batch of the lost reply was sent again");
    assert!(run.artifacts.contains_key("summary.json"));
}

#[test]
fn a_name_that_the_server_refuses_spoils_no_other() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    server.state().refused_metrics = ["bad".to_owned(), "größe".to_owned()].into();
    let logger = start(&folder, &server, json!({}));
    for step in 0..20_u64 {
        logger.log_metrics_at(step, [("loss", step), ("größe", step), ("acc", step)]);
        logger.log_metrics_at(step, [("bad", step)]);
    }
    let report = logger.finish();
    let run = server.run();
    assert_eq!(
        [
            run.points("loss").len(),
            run.points("acc").len(),
            run.points("bad").len()
        ],
        [20, 20, 0]
    );
    // A letter that the server does not know is encoded.
    assert_eq!(run.points("gr_xf6__xdf_e").len(), 20);
    let books = &report.sinks["mlflow"];
    assert!(
        books.balanced() && books.dropped["refused by the server"] >= 20,
        "{books:?}"
    );
    assert_eq!(run.status, "FINISHED");
}

#[test]
fn a_server_that_comes_late_gets_everything() {
    own_process!();
    let folder = tempfile::tempdir().unwrap();
    let (address, url) = {
        let gone = MlflowServer::start();
        (gone.address().to_string(), gone.url())
    };
    let logger = setup_logging(config(folder.path(), &url, json!({}))).unwrap();
    let began = Instant::now();
    log_steps(&logger, 0..1000);
    logger.flush().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "the run waits for no server");
    let server = MlflowServer::start_on(&address);
    assert_delivered(&logger.finish(), 1000);
    assert_points(&server.run().points("loss"), &loss(0..1000));
}

#[test]
fn a_server_that_stays_away_costs_the_deadline_and_a_sync_delivers() {
    own_process!();
    let folder = tempfile::tempdir().unwrap();
    let url = MlflowServer::start().url();
    let mut config = config(folder.path(), &url, json!({}));
    config.finish_timeout = 1.0;
    let logger = setup_logging(config).unwrap();
    log_steps(&logger, 0..100);
    let began = Instant::now();
    let report = logger.finish();
    assert!(began.elapsed() < Duration::from_secs(10));
    let books = &report.sinks["mlflow"];
    assert!(books.balanced() && books.spooled == 100, "{books:?}");
    let text = fs::read_to_string(folder.path().join("here/training.log")).unwrap_or_default();
    println!("{text}");

    let server = MlflowServer::start();
    let run = folder.path().join("here");
    let first = sync_run(&run, &server).unwrap();
    assert_eq!(first.outcome, Synced::Delivered);
    assert!(first.url.unwrap().starts_with(&server.url()));
    assert_points(&server.run().points("loss"), &loss(0..100));
    assert_eq!(server.run().status, "FINISHED");
    assert_eq!(sync_run(&run, &server).unwrap().outcome, Synced::AlreadyThere);
    // Another server has nothing yet.
    let other = MlflowServer::start();
    assert_eq!(sync_run(&run, &other).unwrap().outcome, Synced::Delivered);
    assert_points(&other.run().points("loss"), &loss(0..100));
}

#[test]
fn more_values_than_the_rate_are_thinned_and_the_rows_uploaded() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let logger = start(&folder, &server, json!({"rate": 20.0}));
    for step in 0..5000_u64 {
        let spike = if step == 2345 { 1e6 } else { 0.0 };
        logger.log_metrics_at(step, [("loss", spike + (step % 7) as f64), ("acc", step as f64)]);
    }
    assert_delivered(&logger.finish(), 5000);
    let run = server.run();
    let points = run.points("loss");
    // The run may touch two minutes.
    assert!(points.len() < 1300, "{}", points.len());
    assert!(points.contains(&(2345, json!(1e6 + 0.0))), "the spike is there");
    assert_eq!(run.points("acc").last(), Some(&(4999, json!(4999.0))));
    let rows = String::from_utf8(run.artifacts["metrics.jsonl"].clone()).unwrap();
    assert_eq!(rows.lines().count(), 5000);
}

#[test]
fn a_run_that_a_user_deletes_waits_and_goes_on_when_it_is_restored() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let logger = start(&folder, &server, json!({}));
    log_steps(&logger, 0..10);
    logger.flush().unwrap();
    server.wait_until(|state| state.runs.values().any(|run| !run.metrics.is_empty()));
    let set_deleted = |is_deleted| {
        server
            .state()
            .runs
            .values_mut()
            .for_each(|run| run.is_deleted = is_deleted)
    };
    set_deleted(true);
    log_steps(&logger, 10..20);
    logger.flush().unwrap();
    server.wait_until(|state| state.requests.iter().any(|(_, status)| *status == 400));
    set_deleted(false);
    let books = logger.finish().sinks["mlflow"].clone();
    assert!(books.balanced());
    // The deadline may be over before the next try.
    sync_run(&folder.path().join("here"), &server).unwrap();
    assert_points(&server.run().points("loss"), &loss(0..20));
}

#[test]
fn a_login_is_needed_and_never_shown() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    server.state().authorization = Some("Bearer s3cret-t0ken".to_owned());
    let logger = start(&folder, &server, json!({"token": "s3cret-t0ken"}));
    log_steps(&logger, 0..10);
    assert_delivered(&logger.finish(), 10);
    for entry in fs::read_dir(folder.path().join("here")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read(&path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default();
        assert!(!text.contains("s3cret"), "{}", path.display());
    }
    server.state().authorization = Some("Bearer another".to_owned());
    fs::remove_file(folder.path().join("here/mlflow.json")).unwrap();
    let error = sync_run(&folder.path().join("here"), &server).unwrap_err().to_string();
    assert!(
        error.contains("401") && error.contains("MLFLOW_TRACKING_USERNAME"),
        "{error}"
    );
}

#[test]
fn artifacts_that_are_elsewhere_are_left_out() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    server.state().has_no_proxy = true;
    let logger = start(&folder, &server, json!({}));
    log_steps(&logger, 0..10);
    assert_delivered(&logger.finish(), 10);
    assert!(server.run().artifacts.is_empty());
}

#[test]
fn a_flat_folder_has_a_run_for_each_process() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    for run in 0..2 {
        let logger = setup_logging(LogConfig {
            run: "flat".into(),
            ..config(folder.path(), &server.url(), json!({}))
        })
        .unwrap();
        log_steps(&logger, 10 * run..10 * run + 10);
        assert_delivered(&logger.finish(), 10);
    }
    let runs: Vec<_> = server.state().runs.values().map(|run| run.points("loss")).collect();
    assert_eq!(runs, [loss(0..10), loss(10..20)]);
}

const FOLDER: &str = "MLFLOW_FOLDER";
const URL: &str = "MLFLOW_URL";
const RESUME: &str = "MLFLOW_RESUME";

/// Does nothing unless it is the child: it logs steps and reports each call that has returned,
/// until it is killed.
#[test]
fn the_child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let url = std::env::var(URL).unwrap();
    let logger = setup_logging(LogConfig {
        resume: std::env::var(RESUME).ok(),
        ..config(Path::new(&folder), &url, json!({"rate": UNLIMITED}))
    })
    .unwrap();
    let mut stdout = std::io::stdout();
    // The start has completed the rows of an earlier process.
    let first = rows_of(&logger.run_dir());
    for step in first.. {
        log_steps(&logger, step..step + 1);
        writeln!(stdout, "\nstep {step}").unwrap();
        stdout.flush().unwrap();
    }
}

/// Runs the child, and kills it once it has logged this many steps; returns the number of steps
/// whose calls have returned.
fn kill_after(folder: &Path, server: &MlflowServer, steps: u64) -> u64 {
    kill_run_after(folder, server, steps, None)
}

/// Does the same with a run that goes on.
fn kill_run_after(folder: &Path, server: &MlflowServer, steps: u64, resume: Option<&str>) -> u64 {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture"])
        .env(FOLDER, folder)
        .env(URL, server.url())
        .envs(resume.map(|resume| (RESUME, resume)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let (mut last, mut returned) = (0, 0);
    for line in lines.map_while(Result::ok) {
        let Some(step) = line.strip_prefix("step ") else {
            continue;
        };
        last = step.parse().unwrap();
        returned += 1;
        if returned == steps + 1 {
            process.kill().unwrap();
        }
    }
    process.wait().unwrap();
    last + 1
}

fn rows_of(dir: &Path) -> u64 {
    let rows = fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
    rows.lines().count() as u64
}

#[test]
fn a_killed_run_is_delivered_by_a_sync_with_each_call_that_returned_once() {
    own_process!();
    for steps in [0, 40, 4000] {
        let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
        let returned = kill_after(folder.path(), &server, steps);
        assert!(recover(folder.path()).into_iter().all(|recovery| recovery.is_ok()));
        let dir = folder.path().join("here");
        assert_eq!(sync_run(&dir, &server).unwrap().outcome, Synced::Killed);
        let rows = rows_of(&dir);
        assert!(rows >= returned, "{rows} of {returned}");
        let run = server.run();
        assert_points(&run.points("loss"), &loss(0..rows));
        assert_eq!(run.status, "KILLED");
    }
}

#[test]
fn a_run_that_is_killed_in_any_phase_has_each_row_once() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let mut random = fastrand::Rng::with_seed(7);
    let faults = [
        ServerFault::LostReply,
        ServerFault::Status(500),
        ServerFault::Reset,
        ServerFault::Pass,
    ];
    let mut returned = 0;
    for attempt in 0..12 {
        for path in ["runs/create", "runs/get", "runs/update", "log-batch"] {
            server.fault(path, faults[random.usize(..faults.len())].clone(), random.usize(1..3));
        }
        let resume = (attempt > 0).then_some("latest");
        returned = kill_run_after(folder.path(), &server, random.u64(..3000), resume);
    }
    server.heal();
    assert!(recover(folder.path()).into_iter().all(|recovery| recovery.is_ok()));
    let dir = folder.path().join("here");
    let rows = rows_of(&dir);
    assert!(rows >= returned, "{rows} of {returned}");
    sync_run(&dir, &server).unwrap();
    assert_points(&server.run().points("loss"), &loss(0..rows));
    assert_eq!(server.run().status, "KILLED");
}

#[test]
fn the_next_start_closes_a_killed_run() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let returned = kill_after(folder.path(), &server, 100);
    let logger = setup_logging(LogConfig {
        run: "next".into(),
        ..config(folder.path(), &server.url(), json!({}))
    })
    .unwrap();
    server.wait_until(|state| state.runs.values().any(|run| run.status == "KILLED"));
    let run = server
        .state()
        .runs
        .values()
        .find(|run| run.status == "KILLED")
        .unwrap()
        .clone();
    assert_points(&run.points("loss"), &loss(0..rows_of(&folder.path().join("here"))));
    assert!(run.points("loss").len() as u64 >= returned);
    logger.finish();
    assert_eq!(server.state().runs.len(), 2);
}

#[test]
fn a_resumed_run_is_the_same_run_and_abandoned_rows_are_not_sent() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    // The rows of the first attempt stay on disk.
    server.fault("log-batch", ServerFault::Reset, 1_000_000);
    kill_after(folder.path(), &server, 100);
    server.heal();
    let logger = setup_logging(LogConfig {
        resume: Some("latest".into()),
        ..config(folder.path(), &server.url(), json!({}))
    })
    .unwrap();
    logger.start_from(50);
    for step in 50..60 {
        logger.log_metrics_at(step, [("loss", -1.0)]);
    }
    assert_delivered(&logger.finish(), 10);
    let run = server.run();
    let expected: Vec<_> = loss(0..50)
        .into_iter()
        .chain((50..60).map(|step| (step, json!(-1.0))))
        .collect();
    assert_points(&run.points("loss"), &expected);
    assert_eq!((&*run.status, &*run.tags["logcore.attempts"]), ("FINISHED", "2"));
}

#[test]
fn a_folder_that_somebody_has_sent_writes_into_no_other_run() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let logger = start(&folder, &server, json!({}));
    log_steps(&logger, 0..10);
    logger.finish();
    let victim = server.state().runs.keys().next().unwrap().clone();
    let sent = folder.path().join("sent");
    fs::create_dir(&sent).unwrap();
    fs::write(
        sent.join("metrics.jsonl"),
        "{\"step\":7,\"time\":1.5,\"logger\":\"a\",\"loss\":666.0}\n",
    )
    .unwrap();
    fs::write(
        sent.join("run.json"),
        "{\"id\":\"aaaaaaaa\",\"name\":\"x\",\"state\":\"finished\"}",
    )
    .unwrap();
    let position = json!({"uri": server.url(), "run_id": victim});
    fs::write(sent.join("mlflow.json"), position.to_string()).unwrap();
    sync_run(&sent, &server).unwrap();
    let state = server.state();
    assert_points(&state.runs[&victim].points("loss"), &loss(0..10));
    assert_eq!(state.runs.len(), 2);
}

#[test]
fn links_in_a_folder_are_not_followed() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let (sent, mine) = (folder.path().join("sent"), folder.path().join("mine"));
    fs::create_dir(&sent).unwrap();
    let text = "{\"step\":7,\"time\":1.5,\"logger\":\"a\",\"secret\":1.0}\n";
    fs::write(&mine, text).unwrap();
    for name in ["config.json", "summary.json", "mlflow.json"] {
        std::os::unix::fs::symlink(&mine, sent.join(name)).unwrap();
    }
    fs::write(sent.join("metrics.jsonl"), "").unwrap();
    fs::create_dir(sent.join("media")).unwrap();
    std::os::unix::fs::symlink(&mine, sent.join("media/a.txt")).unwrap();
    let line = |path: &str| json!({"time": 1.0, "logger": "a", "key": "k", "step": 1, "kind": "text", "path": path, "size": 1, "sha256": ""});
    let index = ["media/a.txt", "../mine", "media/../../mine", "config.json"].map(|path| line(path).to_string());
    fs::write(sent.join("media.jsonl"), index.join("\n")).unwrap();
    let synced = sync_run(&sent, &server);
    assert_eq!(fs::read_to_string(&mine).unwrap(), text);
    assert!(!synced.unwrap().skipped.is_empty());
    assert!(server.run().artifacts.is_empty() && server.run().metrics.is_empty());
}

#[test]
fn a_run_that_went_on_without_the_server_is_not_complete() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let logger = start(&folder, &server, json!({}));
    log_steps(&logger, 0..10);
    assert_delivered(&logger.finish(), 10);
    let run = folder.path().join("here");
    assert_eq!(sync_run(&run, &server).unwrap().outcome, Synced::AlreadyThere);
    let mut resumed = config(folder.path(), &server.url(), json!({}));
    (resumed.resume, resumed.sinks, resumed.finish_timeout) = (Some("latest".into()), [].into(), 1.0);
    let logger = setup_logging(resumed.clone()).unwrap();
    log_steps(&logger, 10..20);
    logger.finish();
    assert_eq!(sync_run(&run, &server).unwrap().outcome, Synced::Delivered);
    assert_points(&server.run().points("loss"), &loss(0..20));

    server.fault("/api", ServerFault::Reset, 1_000_000);
    resumed.sinks = config(folder.path(), &server.url(), json!({})).sinks;
    let logger = setup_logging(resumed).unwrap();
    log_steps(&logger, 20..30);
    logger.finish();
    server.heal();
    // The thread of the run may deliver the rest before.
    let outcome = sync_run(&run, &server).unwrap().outcome;
    assert!(
        matches!(outcome, Synced::Delivered | Synced::AlreadyThere),
        "{outcome:?}"
    );
    assert_points(&server.run().points("loss"), &loss(0..30));
}

#[test]
fn a_killed_run_is_not_delivered_into_the_run_of_the_next_job() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    kill_after(folder.path(), &server, 2000);
    let theirs = "f".repeat(32);
    let other = testkit::mlflow_server::MlflowRun {
        experiment: "0".to_owned(),
        ..Default::default()
    };
    server.state().runs.insert(theirs.clone(), other);
    let logger = setup_logging(LogConfig {
        run: "next".into(),
        ..config(
            folder.path(),
            &server.url(),
            json!({"run_id": theirs, "run_name": "next", "note": "of the next job"}),
        )
    })
    .unwrap();
    log_steps(&logger, 0..3);
    logger.flush().unwrap();
    server.wait_until(|state| state.runs.values().any(|run| run.status == "KILLED"));
    let state = server.state();
    assert_eq!(state.runs.len(), 2);
    let killed = state.runs.values().find(|run| run.status == "KILLED").unwrap();
    assert_points(&killed.points("loss"), &loss(0..rows_of(&folder.path().join("here"))));
    assert!(!killed.tags.contains_key("mlflow.note.content"), "{:?}", killed.tags);
    assert_points(&state.runs[&theirs].points("loss"), &loss(0..3));
}

#[test]
fn another_configuration_goes_on_with_the_run() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let logger = start(&folder, &server, json!({}));
    log_steps(&logger, 0..10);
    let again = start(&folder, &server, json!({"rate": 700.0}));
    log_steps(&again, 10..20);
    let report = again.finish();
    let books = &report.sinks["mlflow"];
    assert!(books.balanced() && books.delivered == 20, "{books:?}");
    assert_points(&server.run().points("loss"), &loss(0..20));
    assert_eq!(server.run().status, "FINISHED");
    assert_eq!(
        sync_run(&folder.path().join("here"), &server).unwrap().outcome,
        Synced::AlreadyThere
    );
}

#[test]
fn a_step_that_mlflow_does_not_have_spoils_no_metric() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let logger = start(&folder, &server, json!({}));
    log_steps(&logger, 0..10);
    logger.log_metrics_at(u64::MAX, [("loss", 0.5)]);
    let books = logger.finish().sinks["mlflow"].clone();
    assert!(
        books.balanced() && books.dropped["refused by the server"] == 1,
        "{books:?}"
    );
    assert_points(&server.run().points("loss"), &loss(0..10));
}

#[test]
fn a_sync_of_a_flat_folder_leaves_earlier_runs_alone() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    for run in 0..2 {
        let mut config = config(folder.path(), &server.url(), json!({}));
        (config.run, config.finish_timeout) = ("flat".into(), 1.0);
        if run == 1 {
            server.fault("/api", ServerFault::Reset, 1_000_000);
        }
        let logger = setup_logging(config).unwrap();
        log_steps(&logger, 10 * run..10 * run + 10);
        logger.finish();
    }
    server.heal();
    sync_run(folder.path(), &server).unwrap();
    let runs: Vec<_> = server.state().runs.values().map(|run| run.points("loss")).collect();
    assert_eq!(runs, [loss(0..10), loss(10..20)]);
}

#[test]
fn the_newest_row_is_sent_without_a_later_one() {
    own_process!();
    let (folder, server) = (tempfile::tempdir().unwrap(), MlflowServer::start());
    let logger = start(&folder, &server, json!({}));
    // The row of a step is written when the next one begins.
    log_steps(&logger, 0..2);
    server.wait_until(|state| state.runs.values().any(|run| !run.points("loss").is_empty()));
    drop(logger);
}

#[test]
fn a_rank_that_delivers_nothing_needs_no_server() {
    own_process!();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), "", json!({}));
    config.sinks = [("mlflow".to_owned(), json!(true))].into();
    (config.rank, config.world_size) = (Some(1), Some(2));
    setup_logging(config).unwrap().finish();
}

#[test]
fn without_rows_or_a_server_the_config_is_refused() {
    own_process!();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), "http://127.0.0.1:9", json!({}));
    config.sinks.insert("jsonl".into(), false.into());
    let error = setup_logging(config.clone()).unwrap_err().to_string();
    assert!(error.contains("switch on the feature and the sink `jsonl`"), "{error}");
    config.sinks = [("mlflow".to_owned(), json!(true))].into();
    let error = setup_logging(config).unwrap_err().to_string();
    assert!(error.contains("MLFLOW_TRACKING_URI"), "{error}");
}
