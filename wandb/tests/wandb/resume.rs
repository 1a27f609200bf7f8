//! Runs that go on with, or must not be, a run that the server has.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use facade::wandb::{SyncError, Synced, find_logs, sync};
use facade::{LogConfig, UnifiedLogger, setup_logging};
use logcore::registry::build_sink;
use logcore::{BuildContext, Deadline, LoggerEnd, LoggerSummary, MetricBatch, MetricValue, Notices, RunInfo, StopFlag};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{config, delivered, forget, online, start, sync_options, synced, with};
use testkit::wandb_server::{FaultTarget, ServerFault, StoredRun, WandbServer};

#[test]
fn a_run_is_resumed_where_the_server_stands() {
    let server = WandbServer::start();
    for (part, resume) in ["allow", "allow", "must"].into_iter().enumerate() {
        let folder = TempDir::new().unwrap();
        let options = with(online(&server), json!({"run_id": "same", "resume": resume}));
        let logger = start(&folder, &format!("resumed_{part}"), options);
        logger.log_config(&json!({format!("part{part}"): part}));
        logger.start_progress(5, "Training");
        for _ in 0..5 {
            logger.update_progress(1, None);
            logger.log_metrics([("x", part)]);
        }
        logger.info(format_args!("part {part}"));
        delivered(&logger.finish());
    }
    let run = server.run();
    assert!(run.is_whole(), "{run:?}");
    assert_eq!(run.steps(), (1..=15).collect::<Vec<_>>());
    assert_eq!(run.user_config(), json!({"part0": 0, "part1": 1, "part2": 2}));
    assert_eq!(run.console(), ["part 0", "part 1", "part 2"]);
    let runtimes: Vec<_> = run.rows().iter().map(|row| row["_runtime"].as_f64().unwrap()).collect();
    assert!(runtimes.is_sorted(), "{runtimes:?}");
}

#[test]
fn auto_goes_on_with_a_run_that_did_not_end_well() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    for (exit_code, name) in [(1, "auto_a"), (0, "auto_b"), (0, "auto_c")] {
        let logger = start(&folder, name, with(online(&server), json!({"resume": "auto"})));
        logger.log_metrics([("x", 1)]);
        logger.set_exit_code(exit_code);
        delivered(&logger.finish());
    }
    let state = server.state();
    let mut rows: Vec<_> = state.runs.values().map(StoredRun::steps).collect();
    rows.sort();
    assert_eq!(
        rows,
        [vec![0], vec![0, 1]],
        "the second goes on with the first, the third is new"
    );
}

#[test]
fn resuming_is_refused_where_it_must_be() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let missing = with(online(&server), json!({"run_id": "missing", "resume": "must"}));
    let error = setup_logging(config(&folder, "must_missing", missing))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sinks.wandb.resume") && error.contains("missing"),
        "{error}"
    );
    let there = || with(online(&server), json!({"run_id": "there", "resume": "never"}));
    delivered(&{
        let logger = start(&folder, "never", there());
        logger.log_metrics([("x", 1)]);
        logger.finish()
    });
    let error = setup_logging(config(&folder, "never_again", there()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("sinks.wandb.resume"), "{error}");
}

#[test]
fn an_offline_part_of_a_resumed_run_follows_the_server() {
    let server = WandbServer::start();
    let folder = TempDir::new().unwrap();
    let logger = start(
        &folder,
        "first_part",
        with(online(&server), json!({"run_id": "parts", "resume": "allow"})),
    );
    for _ in 0..5 {
        logger.log_metrics([("x", 1)]);
    }
    delivered(&logger.finish());
    let folder = TempDir::new().unwrap();
    let options = json!({"mode": "offline", "run_id": "parts", "resume": "allow"});
    let logger = start(&folder, "second_part", options);
    for _ in 0..5 {
        logger.log_metrics([("x", 2)]);
    }
    logger.finish();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    assert_eq!(server.run().steps(), (0..10).collect::<Vec<_>>());
    assert!(server.run().is_whole());
    // Without the memory of where it began, nothing is overwritten.
    forget(&folder);
    let log = find_logs(folder.path()).remove(0);
    let error = sync(&log, &sync_options(&server), |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("delivered in part"), "{error}");
    assert!(server.run().is_whole());
    assert_eq!(server.run().steps().len(), 10);
}

/// One row under the id `there`.
fn run_there(server: &WandbServer) {
    let folder = TempDir::new().unwrap();
    let logger = start(&folder, "there", with(online(server), json!({"run_id": "there"})));
    logger.log_metrics([("x", 1)]);
    delivered(&logger.finish());
}

fn refused(server: &WandbServer, folder: &TempDir, word: &str) {
    let log = find_logs(folder.path()).remove(0);
    let error = sync(&log, &sync_options(server), |_, _| {}).unwrap_err();
    assert!(
        matches!(&error, SyncError::Incomplete(why) if why.contains(word)),
        "{error:?}"
    );
}

/// The server cannot be asked at setup; what was demanded holds all the same.
#[test]
fn must_and_never_hold_when_the_server_comes_back() {
    let server = WandbServer::start();
    run_there(&server);
    for (resume, run_id) in [("never", "there"), ("must", "missing")] {
        let folder = TempDir::new().unwrap();
        server.fault(
            FaultTarget::GraphQl("RunResumeStatus"),
            ServerFault::Status(503),
            usize::MAX,
        );
        let options = json!({"run_id": run_id, "resume": resume, "init_timeout": 0.2});
        let logger = start(&folder, &format!("down_{resume}"), with(online(&server), options));
        logger.log_metrics([("x", 2)]);
        server.heal();
        let report = logger.finish();
        let books = report.sink("wandb").unwrap();
        assert_eq!((books.delivered, books.spooled), (0, 1), "{resume}: {books:?}");
        assert_eq!(server.run().history.len(), 1, "only the run that was there");
        refused(&server, &folder, resume);
    }
    // A run that meets the demand is delivered.
    for (resume, run_id, rows) in [("must", "there", 2), ("never", "new", 1)] {
        let folder = TempDir::new().unwrap();
        server.fault(
            FaultTarget::GraphQl("RunResumeStatus"),
            ServerFault::Status(503),
            usize::MAX,
        );
        let options = json!({"run_id": run_id, "resume": resume, "init_timeout": 0.2});
        let logger = start(&folder, &format!("up_{resume}"), with(online(&server), options));
        logger.log_metrics([("x", 2)]);
        server.heal();
        delivered(&logger.finish());
        let state = server.state();
        let run = &state.runs[&("project".to_owned(), run_id.to_owned())];
        assert_eq!(run.steps(), (0..rows).collect::<Vec<_>>());
    }
}

#[test]
fn an_offline_run_keeps_what_was_demanded_of_it() {
    let server = WandbServer::start();
    run_there(&server);
    for (resume, run_id) in [("never", "there"), ("must", "missing")] {
        let folder = TempDir::new().unwrap();
        let options = json!({"mode": "offline", "run_id": run_id, "resume": resume});
        let logger = start(&folder, &format!("offline_{resume}"), options);
        logger.log_metrics([("x", 2)]);
        logger.finish();
        refused(&server, &folder, resume);
        assert_eq!(server.run().history.len(), 1);
    }
}

/// A run whose id the server has already, and that nobody asked to resume, is appended.
#[test]
fn a_run_behind_another_is_never_sent_over_it() {
    let server = WandbServer::start();
    run_there(&server);
    let folder = TempDir::new().unwrap();
    let options = json!({"mode": "offline", "run_id": "there"});
    let logger = start(&folder, "behind", options);
    logger.log_metrics([("x", 2)]);
    logger.finish();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    let values = |run: &StoredRun| run.rows().iter().map(|row| row["x"].clone()).collect::<Vec<_>>();
    assert_eq!(values(&server.run()), [1, 2]);
    forget(&folder);
    refused(&server, &folder, "delivered in part");
    assert_eq!(values(&server.run()), [1, 2]);
    assert!(server.run().is_whole());
}

/// Two offline parts, of which the first is synced again when nothing remembers that it was.
#[test]
fn an_earlier_part_is_known_behind_a_later_one() {
    let server = WandbServer::start();
    let parts = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    for (at, folder) in parts.iter().enumerate() {
        let options = json!({"mode": "offline", "run_id": "parts", "resume": "allow"});
        let logger = start(folder, &format!("part_{at}"), options);
        logger.log_metrics([("x", at)]);
        logger.finish();
        assert_eq!(synced(&server, folder), Synced::Delivered);
    }
    assert_eq!(server.run().steps(), [0, 1]);
    forget(&parts[0]);
    refused(&server, &parts[0], "delivered in part");
    assert_eq!(server.run().steps(), [0, 1]);
}

/// JSON has no words for these, and W&B has.
#[test]
fn what_is_no_number_survives_a_resume() {
    let server = WandbServer::start();
    let folder = TempDir::new().unwrap();
    let logger = start(&folder, "nan_first", with(online(&server), json!({"run_id": "r"})));
    logger.log_metrics([("nan", f64::NAN), ("inf", f64::NEG_INFINITY)]);
    delivered(&logger.finish());
    let folder = TempDir::new().unwrap();
    let options = with(online(&server), json!({"run_id": "r", "resume": "must"}));
    let logger = start(&folder, "nan_second", options);
    logger.log_metrics([("x", 1)]);
    delivered(&logger.finish());
    let summary = server.run().summary;
    assert_eq!((&summary["nan"], &summary["inf"]), (&json!("NaN"), &json!("-Infinity")));
}

/// A part of the run `parts` of which the server has the first rows, and then takes nothing more
/// until it is healed.
fn part_cut_off(server: &WandbServer, folder: &TempDir, part: i64) {
    let options = with(online(server), json!({"run_id": "parts", "resume": "allow"}));
    let logger = setup_logging(LogConfig {
        finish_timeout: 1.0,
        ..config(folder, &format!("part_{part}"), options)
    })
    .unwrap();
    let there = server.state().runs.values().map(|run| run.history.len()).sum::<usize>();
    say_part(&logger, folder, part);
    server.wait_until(|state| {
        let run = state.runs.values().next();
        run.is_some_and(|run| run.history.len() >= there + 4 && run.output.len() > there / 4)
    });
    server.fault(FaultTarget::Stream, ServerFault::Status(503), usize::MAX);
    for x in 5..10 {
        logger.log_metrics([("x", 100 * part + x)]);
    }
    logger.info(format_args!("end of part {part}"));
    logger.set_exit_code(3);
    let report = logger.finish();
    assert!(report.sink("wandb").unwrap().spooled > 0, "{report:?}");
    server.heal();
}

/// Logs the beginning of one part of a run.
fn say_part(logger: &UnifiedLogger, folder: &TempDir, part: i64) {
    logger.log_config(&json!({"part": part}));
    logger.wandb().set_summary("best", part);
    for x in 0..5 {
        logger.log_metrics([("x", 100 * part + x)]);
    }
    logger.info(format_args!("part {part}"));
    let saved = folder.path().join(format!("saved{part}.txt"));
    std::fs::write(&saved, "saved").unwrap();
    logger.wandb().save_file(&saved);
    logger.flush().unwrap();
}

/// A part of the same run that is delivered whole.
fn part_delivered(server: &WandbServer, part: i64) {
    let folder = TempDir::new().unwrap();
    let options = json!({"run_id": "parts", "resume": "allow", "tags": ["later"], "name": "later"});
    let logger = start(&folder, &format!("part_{part}"), with(online(server), options));
    say_part(&logger, &folder, part);
    delivered(&logger.finish());
}

fn values(run: &StoredRun) -> Vec<i64> {
    run.rows().iter().map(|row| row["x"].as_i64().unwrap()).collect()
}

/// The run as its newest part has left it, with all rows and lines of all parts.
fn check_parts(server: &WandbServer, last: i64, count: usize) {
    let run = server.run();
    assert!(run.is_whole(), "{run:#?}");
    let mut sorted = values(&run);
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), count, "{:?}", values(&run));
    assert_eq!(run.history.len(), count, "no row is there twice");
    let steps = run.steps();
    assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    assert_eq!(
        (&run.summary["best"], &run.user_config()),
        (&json!(last), &json!({"part": last}))
    );
    let own = String::from_utf8_lossy(&run.files["config.yaml"]).into_owned();
    assert!(own.contains(&format!("value: {last}")), "{own}");
}

#[test]
fn what_is_left_of_a_run_that_was_resumed_since_goes_behind_it() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    part_cut_off(&server, &folder, 1);
    part_delivered(&server, 2);
    let before = server.run();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    check_parts(&server, 2, 15);
    let run = server.run();
    assert_eq!(
        values(&run)[..before.history.len()],
        values(&before),
        "what was there stays"
    );
    assert_eq!(run.console(), ["part 1", "part 2", "end of part 1"]);
    assert_eq!(
        (run.exit_code, &run.about, &run.summary),
        (Some(0), &before.about, &before.summary)
    );
    assert_eq!(
        (&run.config, &run.files["output.log"]),
        (&before.config, &before.files["output.log"])
    );
    assert!(run.files.contains_key("saved1.txt"), "{:?}", run.files.keys());
    // Also without the mark that it is done: nothing is left.
    assert_eq!(synced(&server, &folder), Synced::AlreadyThere);
    let log = find_logs(folder.path()).remove(0);
    std::fs::remove_file(format!("{}.synced", log.display())).unwrap();
    let standing = format!("{}.upload", log.display());
    let kept = std::fs::read_to_string(&standing).unwrap();
    std::fs::write(&standing, kept.replace("\"complete\":true", "\"complete\":false")).unwrap();
    let requests = server.state().requests.len();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    let state = server.state();
    let sent = &state.requests[requests..];
    assert!(
        sent.iter().all(|seen| seen.path == "/graphql"),
        "only questions: {sent:?}"
    );
    drop(state);
    check_parts(&server, 2, 15);
}

/// A sync of the older part that breaks off goes on where it was.
#[test]
fn what_goes_behind_a_resumed_run_may_be_broken_off_and_lose_a_reply() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    part_cut_off(&server, &folder, 1);
    part_delivered(&server, 2);
    server.fault(FaultTarget::Stream, ServerFault::LostReply, 1);
    server.fault(FaultTarget::Stream, ServerFault::Status(401), usize::MAX);
    refused(&server, &folder, "401");
    assert_eq!(server.run().history.len(), 15, "they are there, and nobody said so");
    server.heal();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    check_parts(&server, 2, 15);
}

/// The end of the older part has not come to the server, and all else of it has.
#[test]
fn the_end_of_a_run_that_was_resumed_since_is_not_said() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let options = with(online(&server), json!({"run_id": "parts", "resume": "allow"}));
    let logger = setup_logging(LogConfig {
        finish_timeout: 1.0,
        ..config(&folder, "part_1", options)
    })
    .unwrap();
    say_part(&logger, &folder, 1);
    server.wait_until(|state| state.runs.values().any(|run| run.files.contains_key("saved1.txt")));
    server.fault(
        FaultTarget::GraphQl("CreateRunFiles"),
        ServerFault::Status(503),
        usize::MAX,
    );
    logger.set_exit_code(3);
    logger.finish();
    assert_eq!(server.run().history.len(), 5);
    server.heal();
    part_delivered(&server, 2);
    let before = server.run();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    let run = server.run();
    assert_eq!((run.exit_code, run.announced), (Some(0), before.announced));
    check_parts(&server, 2, 10);
}

/// Two parts that were both cut off, delivered in either order.
#[test]
fn parts_that_were_cut_off_do_not_overwrite_each_other() {
    for order in [[0, 1], [1, 0]] {
        let server = WandbServer::start();
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        part_cut_off(&server, &folders[0], 1);
        part_cut_off(&server, &folders[1], 2);
        for at in order {
            assert_eq!(synced(&server, &folders[at]), Synced::Delivered);
        }
        assert_eq!(server.run().exit_code, Some(3));
        check_parts(&server, 2, 20);
    }
}

/// A later process knows the W&B run of an earlier attempt from `run.json`.
#[test]
fn a_resumed_run_goes_on_in_the_wandb_run_that_was_named_once() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "named_once", with(online(&server), json!({"run_id": "mine"})));
    logger.log_metrics_at(0, [("x", 0)]);
    logger.finish();
    let resumed = |options: Value| LogConfig {
        resume: Some("latest".to_owned()),
        ..config(&folder, "named_once", options)
    };
    let error = setup_logging(resumed(with(online(&server), json!({"run_id": "other"})))).unwrap_err();
    assert!(error.to_string().contains("goes on in the W&B run `mine`"), "{error}");
    let logger = setup_logging(resumed(online(&server))).unwrap();
    logger.log_metrics_at(1, [("x", 1)]);
    logger.finish();
    let run = server.run();
    assert_eq!((run.id.as_str(), run.steps()), ("mine", vec![0, 1]));
}

/// Logs rows of these steps in an attempt of the run `k3v9q2ab`. Returns the report's dropped calls
/// and the notices.
fn attempt(folder: &TempDir, number: u32, options: &Value, steps: Range<u64>) -> (BTreeMap<String, u64>, String) {
    let config = LogConfig {
        resume: (number > 1).then(|| "latest".into()),
        ..config(folder, "attempts", options.clone())
    };
    let (stop, run) = (
        StopFlag::default(),
        RunInfo::new("k3v9q2ab", "attempts", folder.path(), number),
    );
    let context = BuildContext::new(&config, &stop).with_run(&run);
    let mut sink = build_sink("wandb", options, &context).unwrap();
    let notices = Arc::new(Mutex::new(String::new()));
    let printed = Arc::clone(&notices);
    sink.start(&Notices::new(move |_, text| *printed.lock().unwrap() += text))
        .unwrap();
    for step in steps {
        let values = [("attempt", MetricValue::Int(number.into()))];
        sink.metrics(&MetricBatch::new("attempts", step, &values)).unwrap();
        sink.deliver().unwrap();
    }
    let deadline = Deadline::after(Duration::from_secs(20));
    sink.logger_ended(&LoggerEnd::from_exit_code(0), &LoggerSummary::default());
    sink.finish(deadline).unwrap();
    assert!(sink.destination().unwrap().contains("k3v9q2ab"));
    let (books, delivered) = sink.pending_delivery().unwrap()(deadline);
    delivered.unwrap();
    assert_eq!(run.wandb_runs()[0].id, "k3v9q2ab");
    assert_eq!(run.wandb_url().is_some(), options["mode"] == "online");
    let notices = notices.lock().unwrap().clone();
    (books.dropped, notices)
}

/// Checks that the server has each step once, from the attempt that it heard first.
fn check_attempts(server: &WandbServer) {
    let run = server.run();
    assert!(run.is_whole(), "{run:?}");
    assert_eq!(run.steps(), (0..11).collect::<Vec<_>>());
    let attempts: Vec<_> = run.rows().iter().map(|row| row["attempt"].as_i64().unwrap()).collect();
    assert_eq!(attempts, [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2]);
}

#[test]
fn a_resumed_run_keeps_its_steps_and_names_those_that_the_server_has() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    attempt(&folder, 1, &online(&server), 0..8);
    let (dropped, notices) = attempt(&folder, 2, &online(&server), 5..11);
    check_attempts(&server);
    assert_eq!(dropped, [("late".to_owned(), 3)].into());
    assert_eq!(notices.matches("steps 5 to 7 of this attempt").count(), 1, "{notices}");
}

/// The server cannot be asked at the start of an offline attempt.
#[test]
fn offline_attempts_are_synced_in_their_order() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let offline = json!({"mode": "offline"});
    attempt(&folder, 1, &offline, 0..8);
    attempt(&folder, 2, &offline, 5..11);
    let mut logs = find_logs(folder.path());
    logs.sort();
    for _ in 0..2 {
        for log in &logs {
            sync(log, &sync_options(&server), |_, _| {}).unwrap();
        }
        check_attempts(&server);
    }
}
