//! Servers that fail, refuse, hang or are not there, and disks that take nothing.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use facade::wandb::{Synced, find_logs};
use facade::{LogConfig, setup_logging};
use logcore::registry::{build_sink, recover_sink};
use logcore::{BuildContext, Deadline, LoggerEnd, LoggerSummary, MetricBatch, MetricValue, Notices, Sink, StopFlag};
use serde_json::json;
use tempfile::TempDir;

use crate::{check_all, config, delivered, log_all, online, start, synced, with};
use testkit::wandb_server::{FaultTarget, KEY, ServerFault, WandbServer};

/// Each of these passes by itself: the run is delivered whole, and its logger was never held up.
#[test]
fn passing_trouble_costs_nothing_but_time() {
    let slow = ServerFault::Slow(Duration::from_millis(300));
    let retry_after = ServerFault::StatusWith(429, "retry-after", "0.3".to_owned());
    let cases = [
        (FaultTarget::Stream, ServerFault::Status(500)),
        (FaultTarget::Stream, ServerFault::Status(503)),
        (FaultTarget::Stream, retry_after),
        (FaultTarget::Stream, ServerFault::Reset),
        (FaultTarget::Stream, ServerFault::LostReply),
        (FaultTarget::Stream, ServerFault::Truncated),
        (FaultTarget::Stream, ServerFault::Html),
        (FaultTarget::Stream, slow),
        (FaultTarget::GraphQl("UpsertBucket"), ServerFault::Status(409)),
        (FaultTarget::GraphQl("UpsertBucket"), ServerFault::LostReply),
        (FaultTarget::GraphQl("UpsertBucket"), ServerFault::Html),
        (FaultTarget::GraphQl("UpsertBucket"), ServerFault::Status(500)),
        (FaultTarget::GraphQl("UpsertBucket"), ServerFault::Body("[]")),
        (FaultTarget::GraphQl("UpsertBucket"), ServerFault::Body("true")),
        (
            FaultTarget::GraphQl("ServerFeaturesQuery"),
            ServerFault::Body(r#"{"data": {"serverInfo": []}}"#),
        ),
        (FaultTarget::GraphQl("CreateRunFiles"), ServerFault::Body("\"ok\"")),
        (
            FaultTarget::GraphQl("CreateArtifact"),
            ServerFault::Body(r#"{"data": 1}"#),
        ),
        (FaultTarget::GraphQl("CreateRunFiles"), ServerFault::Status(502)),
        (FaultTarget::Put, ServerFault::Status(500)),
        (FaultTarget::Put, ServerFault::Reset),
        (FaultTarget::Put, ServerFault::Html),
        (
            FaultTarget::Put,
            ServerFault::StatusWith(303, "location", "/portal".to_owned()),
        ),
        (FaultTarget::GraphQl("UpsertBucket"), ServerFault::Endless),
        (FaultTarget::Any, ServerFault::Reset),
    ];
    std::thread::scope(|scope| {
        for (at, (on, fault)) in cases.into_iter().enumerate() {
            let case = move || {
                let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
                server.fault(on, fault.clone(), 2);
                let logger = start(&folder, &format!("passing_{at}"), online(&server));
                log_all(&logger, &folder);
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
        (FaultTarget::Any, 401),
        (FaultTarget::GraphQl("UpsertBucket"), 403),
        (FaultTarget::GraphQl("UpsertBucket"), 404),
        (FaultTarget::Stream, 401),
        (FaultTarget::Stream, 404),
        (FaultTarget::Stream, 409),
    ]
    .into_iter()
    .enumerate()
    {
        let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
        server.fault(on, ServerFault::Status(status), usize::MAX);
        let logger = start(&folder, &format!("refused_{at}"), online(&server));
        log_all(&logger, &folder);
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
        FaultTarget::Stream,
        FaultTarget::GraphQl("CreateRunFiles"),
        FaultTarget::PutOf("saved.txt"),
        FaultTarget::GraphQl("NotifyScriptableRunAlert"),
    ]
    .into_iter()
    .enumerate()
    {
        let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
        let after = ServerFault::StatusWith(429, "retry-after", "1e19".to_owned());
        server.fault(on, after, 1);
        let logger = start(&folder, &format!("long_wait_{at}"), online(&server));
        log_all(&logger, &folder);
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
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let slow = ServerFault::Slow(Duration::from_secs(25));
    server.fault(FaultTarget::GraphQl("RunResumeStatus"), slow, 1);
    let options = json!({"run_id": "x", "resume": "allow", "init_timeout": 0.3, "http_timeout": 60});
    let before = Instant::now();
    let logger = start(&folder, "slow_setup", with(online(&server), options));
    assert!(before.elapsed() < Duration::from_secs(20));
    log_all(&logger, &folder);
    delivered(&logger.finish());
    check_all(&server);
}

#[test]
fn a_refusal_that_is_mended_before_the_end_is_forgotten() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.fault(FaultTarget::Stream, ServerFault::Status(401), 1);
    let logger = start(&folder, "mended", online(&server));
    log_all(&logger, &folder);
    server.wait_until(|state| state.requests.iter().any(|seen| seen.status == 401));
    delivered(&logger.finish());
    check_all(&server);
}

#[test]
fn a_server_that_is_not_there_holds_nobody_up() {
    let folder = TempDir::new().unwrap();
    let address = {
        let server = WandbServer::start();
        server.url()
    };
    let options = json!({"mode": "online", "base_url": address, "api_key": KEY, "transmit_interval": 0.05});
    let logger = setup_logging(LogConfig {
        finish_timeout: 1.0,
        ..config(&folder, "not_there", options)
    })
    .unwrap();
    let before = Instant::now();
    log_all(&logger, &folder);
    logger.flush().unwrap();
    assert!(before.elapsed() < Duration::from_secs(2));
    let report = logger.finish();
    assert!(before.elapsed() < Duration::from_secs(4));
    let books = report.sink("wandb").unwrap();
    assert_eq!(books.spooled, books.accepted);
    // It comes back, at the same address.
    let server = WandbServer::start();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    check_all(&server);
}

#[test]
fn a_server_that_comes_back_gets_everything() {
    let folder = TempDir::new().unwrap();
    let server = WandbServer::start();
    let address = server.url();
    let place = address.trim_start_matches("http://").to_owned();
    drop(server);
    let options = json!({"mode": "online", "base_url": address, "api_key": KEY, "transmit_interval": 0.05});
    let logger = start(&folder, "comes_back", options);
    log_all(&logger, &folder);
    // Some tries have failed by now, or will have; the result is the same.
    let server = WandbServer::start_on(&place);
    delivered(&logger.finish());
    check_all(&server);
}

#[test]
fn a_part_that_was_streamed_is_not_doubled_by_a_sync() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "part", online(&server));
    for step in 0..50_u64 {
        logger.log_metrics_at(step, [("x", step)]);
    }
    logger.flush().unwrap();
    server.wait_until(|state| state.runs.values().any(|run| run.history.len() >= 49));
    server.fault(FaultTarget::Stream, ServerFault::Status(401), usize::MAX);
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
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let config = config(&folder, "killed", online(&server));
    let stop = StopFlag::default();
    let context = BuildContext::new(&config, &stop);
    let start = SystemTime::now();
    let log = |sink: &mut dyn Sink, steps: std::ops::Range<u64>| {
        for step in steps {
            let values = [("x", MetricValue::Int(step as i64))];
            let batch = MetricBatch::at(start + Duration::from_secs(step), "killed", step, &values);
            sink.metrics(&batch).unwrap();
        }
        sink.deliver().unwrap();
    };
    let soon = || Deadline::after(Duration::from_secs(10));
    let mut killed = build_sink("wandb", &config.sinks["wandb"], &context).unwrap();
    killed.start(&Notices::new(|_, _| {})).unwrap();
    log(&mut *killed, 0..20);
    let mark = killed.resume_point().unwrap();
    log(&mut *killed, 20..40);
    killed.flush(soon()).unwrap();
    server.wait_until(|state| state.runs.values().any(|run| run.history.len() == 39));
    // A copy of the files at this moment, as a kill would leave them.
    let left = TempDir::new().unwrap();
    let run = fs::canonicalize(folder.path().join("wandb/latest-run")).unwrap();
    let copy = left.path().join("wandb").join(run.file_name().unwrap());
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(&run).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    server.fault(FaultTarget::Any, ServerFault::Status(401), usize::MAX);
    killed.logger_ended(&LoggerEnd::default(), &LoggerSummary::default());
    killed.finish(soon()).unwrap();
    killed.pending_delivery().unwrap()(soon()).1.unwrap_err();
    server.heal();

    let config = LogConfig {
        log_dir: left.path().into(),
        ..config
    };
    let context = BuildContext::new(&config, &stop);
    let mut recovered = recover_sink("wandb", mark.text(), &context).unwrap();
    log(&mut *recovered, 20..45);
    recovered.logger_ended(&LoggerEnd::killed(), &LoggerSummary::default());
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

/// A log that cannot be made at first is made when it can be; what came before is counted.
#[test]
fn a_log_that_cannot_be_made_is_tried_again() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let config = LogConfig {
        run: "sweep-1".into(),
        ..config(&folder, "tried_again", online(&server))
    };
    let in_the_way = folder.path().join("sweep-1/wandb");
    std::fs::create_dir(folder.path().join("sweep-1")).unwrap();
    std::fs::write(&in_the_way, "a file").unwrap();
    let logger = setup_logging(config).unwrap();
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

/// However often a server says "at once", it is asked more and more rarely.
#[test]
fn a_server_that_says_at_once_is_left_in_peace() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.fault(
        FaultTarget::Any,
        ServerFault::StatusWith(429, "retry-after", "0".to_owned()),
        usize::MAX,
    );
    let before = Instant::now();
    let logger = start(&folder, "at_once", online(&server));
    logger.log_metrics([("x", 0)]);
    server.wait_until(|state| state.requests.len() >= 3);
    assert!(before.elapsed() >= Duration::from_secs(2), "{:?}", before.elapsed());
    logger.finish();
    server.heal();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
}

/// Somebody empties the log while it runs: the run goes on in it, online as offline, and the books
/// tell what is lost.
#[test]
fn a_log_that_is_emptied_goes_on_and_the_books_tell() {
    for is_online in [true, false] {
        let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
        let options = if is_online {
            online(&server)
        } else {
            json!({"mode": "offline"})
        };
        let logger = start(&folder, "emptied", options);
        logger.log_config(&json!({"lr": 0.1}));
        for step in 0..3 {
            logger.log_metrics_at(step, [("x", step)]);
        }
        logger.flush().unwrap();
        if is_online {
            server.wait_until(|state| state.runs.values().any(|run| run.history.len() == 2));
        }
        let log = find_logs(folder.path()).remove(0);
        fs::OpenOptions::new()
            .write(true)
            .open(&log)
            .unwrap()
            .set_len(0)
            .unwrap();
        for step in 3..6 {
            logger.log_metrics_at(step, [("x", step)]);
        }
        let report = logger.finish();
        let books = report.sink("wandb").unwrap();
        assert!(books.balanced(), "{books:?}");
        if is_online {
            assert_eq!(server.run().steps(), [0, 1, 2, 3, 4, 5]);
            assert!(server.run().is_whole());
        } else {
            assert_eq!(books.dropped["cut off by another program"], 2, "{books:?}");
            assert_eq!(synced(&server, &folder), Synced::Delivered);
            assert_eq!(server.run().steps(), [2, 3, 4, 5], "the row that was open is there");
        }
        assert_eq!(server.run().user_config()["lr"], 0.1);
        assert_eq!(server.run().summary["x"], 5);
    }
}

/// Somebody cleans up while it runs: the log of an offline run is there again, with all that was in
/// it.
#[cfg(target_os = "linux")]
#[test]
fn an_offline_run_that_is_removed_is_there_again() {
    for removed_at_last in [false, true] {
        let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
        let logger = start(&folder, "removed", json!({"mode": "offline"}));
        logger.log_metrics_at(0, [("x", 0)]);
        logger.log_metrics_at(1, [("x", 1)]);
        logger.flush().unwrap();
        let wandb = logger.run_dir().join("wandb");
        fs::remove_dir_all(&wandb).unwrap();
        logger.log_metrics_at(2, [("x", 2)]);
        logger.flush().unwrap();
        if removed_at_last {
            fs::remove_dir_all(&wandb).unwrap();
        }
        let report = logger.finish();
        assert!(report.sink("wandb").unwrap().balanced(), "{report:?}");
        assert_eq!(synced(&server, &folder), Synced::Delivered);
        assert_eq!(server.run().steps(), [0, 1, 2]);
    }
}
