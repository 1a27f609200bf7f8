//! A part of a run that a server does not take holds nothing else up, and the account says so.

use std::fs::{self, File};
use std::time::Duration;

use facade::wandb::{AlertLevel, SyncError, Synced, find_logs, sync};
use facade::{FinishReport, LogConfig, setup_logging};
use logcore::{BuildContext, ConfigError, Probe, ProbeError, Readings};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{check_all, config, log_all, online, start, sync_options, synced};
use testkit::wandb_server::{FaultTarget, ServerFault, WandbServer};

fn account(report: &FinishReport) -> (u64, u64, u64) {
    let books = report.sink("wandb").unwrap();
    assert!(books.balanced(), "{books:?}");
    (books.delivered, books.spooled, books.dropped_total())
}

#[test]
fn a_refused_alert_is_dropped_and_counted() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.fault(
        FaultTarget::GraphQl("NotifyScriptableRunAlert"),
        ServerFault::Body(r#"{"errors": [{"message": "no alerts here"}]}"#),
        1,
    );
    let logger = start(&folder, "alert_refused", online(&server));
    logger.wandb().alert("refused", "", AlertLevel::Info);
    logger.log_metrics([("x", 1)]);
    logger.wandb().alert("taken", "", AlertLevel::Info);
    let report = logger.finish();
    assert_eq!(account(&report), (2, 0, 1));
    assert_eq!(report.sink("wandb").unwrap().dropped["refused by the server"], 1);
    let run = server.run();
    assert_eq!((run.history.len(), run.exit_code), (1, Some(0)));
    assert_eq!(run.alerts.len(), 1);
    assert_eq!(run.alerts[0]["title"], "taken");
    assert_eq!(synced(&server, &folder), Synced::AlreadyThere);
}

#[test]
fn an_alert_that_cannot_be_sent_now_holds_up_no_row() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.fault(
        FaultTarget::GraphQl("NotifyScriptableRunAlert"),
        ServerFault::Status(503),
        usize::MAX,
    );
    let logger = setup_logging(LogConfig {
        finish_timeout: 4.0,
        ..config(&folder, "alert_waits", online(&server))
    })
    .unwrap();
    log_all(&logger, &folder);
    server.wait_until(|state| state.runs.values().any(|run| run.history.len() >= 11));
    let (_, spooled, dropped) = account(&logger.finish());
    assert_eq!((spooled, dropped), (1, 0));
    server.heal();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    check_all(&server);
}

/// As a config of more than 15 MB is.
#[test]
fn a_refused_config_holds_up_no_row() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.fault(FaultTarget::GraphQl("UpsertBucket"), ServerFault::Pass, 1);
    server.fault(
        FaultTarget::GraphQl("UpsertBucket"),
        ServerFault::Status(400),
        usize::MAX,
    );
    let logger = start(&folder, "config_refused", online(&server));
    log_all(&logger, &folder);
    let report = logger.finish();
    assert_eq!(account(&report).1, 3, "the config and two definitions are only on disk");
    let run = server.run();
    assert_eq!((run.history.len(), run.exit_code), (12, Some(0)));
    assert_eq!(run.user_config(), json!({}));
    // It is on disk, and the next sync tries it again.
    server.heal();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    check_all(&server);
}

/// Addresses are good for minutes; a file or artifact that took longer gets new ones.
#[test]
fn an_address_that_has_expired_is_asked_for_again() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.fault(FaultTarget::Put, ServerFault::Expired, 6);
    let logger = start(&folder, "expired", online(&server));
    log_all(&logger, &folder);
    let report = logger.finish();
    assert_eq!(account(&report).1, 0, "{report:?}");
    check_all(&server);
}

#[test]
fn an_artifact_is_not_committed_without_its_files() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let short = ServerFault::Body(r#"{"data": {"createArtifactFiles": {"files": {"edges": []}}}}"#);
    server.fault(FaultTarget::GraphQl("CreateArtifactFiles"), short, 2);
    let logger = start(&folder, "short", online(&server));
    log_all(&logger, &folder);
    let report = logger.finish();
    assert_eq!(account(&report).1, 0, "{report:?}");
    check_all(&server);
}

#[test]
fn a_file_that_cannot_be_sent_now_holds_up_no_other_and_is_counted() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.fault(FaultTarget::PutOf("bad.txt"), ServerFault::Status(503), usize::MAX);
    let logger = setup_logging(LogConfig {
        finish_timeout: 4.0,
        ..config(&folder, "one_bad", online(&server))
    })
    .unwrap();
    let save = |name: &str| {
        let path = folder.path().join(name);
        fs::write(&path, name).unwrap();
        logger.wandb().save_file(&path);
    };
    save("bad.txt");
    logger.flush().unwrap();
    server.wait_until(|state| state.requests.iter().any(|seen| seen.status == 503));
    for at in 0..5 {
        save(&format!("good{at}.txt"));
    }
    logger.log_metrics([("x", 1)]);
    logger.flush().unwrap();
    server.wait_until(|state| state.runs.values().any(|run| run.files.contains_key("good4.txt")));
    let report = logger.finish();
    assert_eq!(account(&report), (6, 1, 0));
    server.heal();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    let run = server.run();
    assert_eq!(run.files["bad.txt"], b"bad.txt");
    assert!(run.announced.contains(&"bad.txt".to_owned()) && run.exit_code == Some(0));
}

#[test]
fn a_sync_whose_uploads_fail_ends_and_says_so() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "uploads_fail", json!({"mode": "offline"}));
    log_all(&logger, &folder);
    logger.finish();
    server.fault(FaultTarget::Put, ServerFault::Status(503), usize::MAX);
    let log = find_logs(folder.path()).remove(0);
    let mut options = sync_options(&server);
    options.retry_limit = Some(Duration::from_secs(2));
    let error = sync(&log, &options, |_, _| {}).unwrap_err();
    assert!(
        matches!(&error, SyncError::Incomplete(why) if why.contains("503")),
        "{error:?}"
    );
    let run = server.run();
    assert_eq!(
        (run.history.len(), run.exit_code),
        (12, Some(0)),
        "rows go all the same"
    );
    server.heal();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    check_all(&server);
}

#[test]
fn a_file_that_is_gone_is_left_out_and_counted() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "gone", json!({"mode": "offline"}));
    let saved = folder.path().join("saved.txt");
    fs::write(&saved, "saved").unwrap();
    logger.wandb().save_file(&saved);
    logger.log_metrics([("x", 1)]);
    let run = logger.wandb().folder().unwrap();
    logger.finish();
    fs::remove_file(run.join("files/saved.txt")).unwrap();
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    assert_eq!(server.run().history.len(), 1);
}

#[test]
fn copies_for_artifacts_go_when_the_server_has_them() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    server.fault(FaultTarget::GraphQl("CommitArtifact"), ServerFault::Status(400), 1);
    let logger = start(&folder, "copies", online(&server));
    log_all(&logger, &folder);
    let copies = logger.wandb().folder().unwrap().join("artifacts");
    let report = logger.finish();
    assert_eq!(account(&report).1, 1);
    assert_eq!(fs::read_dir(&copies).unwrap().count(), 1, "the one that was refused");
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    assert!(!copies.exists());
    check_all(&server);
}

#[test]
fn a_log_is_delivered_by_one_at_a_time() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = start(&folder, "one_at_a_time", json!({"mode": "offline"}));
    log_all(&logger, &folder);
    logger.finish();
    let log = find_logs(folder.path()).remove(0);
    let other = File::create(format!("{}.uploaded", log.display())).unwrap();
    other.lock().unwrap();
    let error = sync(&log, &sync_options(&server), |_, _| {}).unwrap_err();
    assert!(matches!(error, SyncError::Live), "{error:?}");
    assert!(server.state().requests.is_empty());
    drop(other);
    assert_eq!(synced(&server, &folder), Synced::Delivered);
    check_all(&server);
}

/// A probe that reads an energy.
struct EnergyProbe;

impl EnergyProbe {
    fn build(_: Value, _: &BuildContext<'_>) -> Result<Self, ConfigError> {
        Ok(Self)
    }
}

impl Probe for EnergyProbe {
    fn sample(&mut self, readings: &mut Readings) -> Result<(), ProbeError> {
        readings.push("system/gpu_energy_kwh", 1.25);
        Ok(())
    }
}

logcore::register_probe!("energy", EnergyProbe::build);

#[test]
fn the_energy_of_the_run_is_in_its_summary() {
    let (server, folder) = (WandbServer::start(), TempDir::new().unwrap());
    let logger = setup_logging(LogConfig {
        probes: [("energy".to_owned(), json!(true))].into(),
        ..config(&folder, "energy", online(&server))
    })
    .unwrap();
    logger.log_metrics([("x", 1)]);
    logger.log_memory();
    logger.finish();
    assert_eq!(server.run().summary["gpu_energy_kwh"], 1.25);
}
