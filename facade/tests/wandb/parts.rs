//! A part of a run that a server does not take holds nothing else up, and the account says so.

use facade::wandb::{AlertLevel, Synced};
use facade::{FinishReport, LogConfig, setup_logging};
use serde_json::json;
use tempfile::TempDir;

use crate::server::{Fault, On, Server};
use crate::{check_all, config, online, say_all, start, synced};

fn account(report: &FinishReport) -> (u64, u64, u64) {
    let books = report.sink("wandb").unwrap();
    assert!(books.balanced(), "{books:?}");
    (books.delivered, books.spooled, books.dropped_total())
}

#[test]
fn a_refused_alert_is_dropped_and_counted() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    server.fault(
        On::GraphQl("NotifyScriptableRunAlert"),
        Fault::Body(r#"{"errors": [{"message": "no alerts here"}]}"#),
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
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    server.fault(On::GraphQl("NotifyScriptableRunAlert"), Fault::Status(503), usize::MAX);
    let logger = setup_logging(LogConfig {
        finish_timeout: 2.0,
        ..config(&folder, "alert_waits", online(&server))
    })
    .unwrap();
    say_all(&logger, &folder);
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
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    server.fault(On::GraphQl("UpsertBucket"), Fault::Pass, 1);
    server.fault(On::GraphQl("UpsertBucket"), Fault::Status(400), usize::MAX);
    let logger = start(&folder, "config_refused", online(&server));
    say_all(&logger, &folder);
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
