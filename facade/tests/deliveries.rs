//! Alerts through a webhook and records over OTLP: from the logger's call to the server, and over
//! kills. Each process is this test program, run again.
#![cfg(all(unix, feature = "webhook", feature = "otlp"))]
#![allow(clippy::print_stdout, reason = "a child tells its parent how far it is")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use facade::{AlertLevel, LogConfig, setup_logging};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::http_server::{HttpAnswer, HttpRequest, HttpServer};

/// Names the case in the child.
const CASE: &str = "WEBHOOK_CASE";
const FOLDER: &str = "WEBHOOK_FOLDER";
const URL: &str = "WEBHOOK_TEST_URL";

/// Number of records of a child.
const RECORDS: usize = 3000;

fn config(folder: &Path, webhook: Value) -> LogConfig {
    with_sink(folder, "webhook", webhook)
}

fn with_sink(folder: &Path, sink: &str, options: Value) -> LogConfig {
    LogConfig {
        name: "trainer".into(),
        log_dir: folder.into(),
        enable_console: false,
        finish_timeout: 20.0,
        sinks: [(sink.to_owned(), options)].into(),
        ..LogConfig::default()
    }
}

/// Runs the case of a child; does nothing among the tests.
#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    let folder = std::env::var_os(FOLDER).unwrap();
    if case.starts_with("records") {
        return log_records(&case, Path::new(&folder));
    }
    let options = match &*case {
        "next start" => json!({"url_env": URL, "end": false}),
        "next start without it" => json!(false),
        _ => json!({"url_env": URL}),
    };
    let logger = setup_logging(config(Path::new(&folder), options)).unwrap();
    if !case.starts_with("next") {
        logger.log_metrics_at(7, [("loss", f64::NAN)]);
        logger.alert("loss is NaN", "lr 0.1", AlertLevel::Error);
        logger.flush().unwrap();
    }
    println!("ready");
    std::io::stdout().flush().unwrap();
    if case == "ending" {
        logger.finish();
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

/// Logs records over OTLP, or delivers those of a killed process.
fn log_records(case: &str, folder: &Path) {
    let options = json!({"endpoint": std::env::var(URL).unwrap(), "metrics": []});
    let logger = setup_logging(with_sink(folder, "otlp", options)).unwrap();
    if case == "records" {
        for number in 0..RECORDS {
            logger.info(format_args!("record {number:05}"));
        }
        logger.flush().unwrap();
    }
    println!("ready");
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

/// A process that is killed when it is dropped.
struct Running(Child);

impl Running {
    fn start(case: &str, folder: &TempDir, url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CASE, case)
            .env(FOLDER, folder.path())
            .env(URL, url)
            // So that the bodies have the texts as they are.
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.map_while(Result::ok).any(|line| line.ends_with("ready")),
            "{case} did not start"
        );
        Self(child)
    }

    /// Lets the process end, and returns its errors.
    fn end(mut self) -> String {
        drop(self.0.stdin.take());
        let mut errors = String::new();
        std::io::Read::read_to_string(self.0.stderr.as_mut().unwrap(), &mut errors).unwrap();
        self.0.wait().unwrap();
        errors
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGKILL; the process may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn titles(requests: &[HttpRequest]) -> Vec<String> {
    let body = |request: &HttpRequest| serde_json::from_slice::<Value>(&request.body).unwrap();
    let title = |request| body(request)["title"].as_str().unwrap().to_owned();
    requests.iter().map(title).collect()
}

fn has_accepted(requests: &[HttpRequest], count: usize) -> bool {
    requests.iter().filter(|request| request.accepted).count() >= count
}

/// Kills a process in a phase of the delivery, and returns what the next start sends.
fn killed_in(answer: HttpAnswer, requests: usize) -> Vec<String> {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(move |_, _| answer.clone());
    let running = Running::start("killed", &folder, &server.url());
    server.wait_until(|seen| seen.len() >= requests);
    // The process has to see the answer.
    std::thread::sleep(Duration::from_millis(300));
    drop(running);
    let before = server.requests().len();
    server.answer(|_, _| HttpAnswer::ok());
    let next = Running::start("next start", &folder, &server.url());
    server.wait_until(|seen| titles(seen).last().is_some_and(|title| title == "trainer killed"));
    let errors = next.end();
    assert!(!errors.contains("webhook"), "{errors}");
    titles(&server.requests()[before..])
}

#[test]
fn a_kill_loses_no_message_and_is_told() {
    let both = ["loss is NaN", "trainer killed"];
    assert_eq!(killed_in(HttpAnswer::status(503, ""), 1), both, "while it waits");
    assert_eq!(
        killed_in(HttpAnswer::Hang(Duration::from_secs(60)), 1),
        both,
        "while it sends"
    );
    assert_eq!(killed_in(HttpAnswer::ok(), 1), both[1..], "after it has sent");
}

#[test]
fn a_kill_at_the_end_leaves_the_messages_on_disk() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|_, _| HttpAnswer::status(503, ""));
    let running = Running::start("ending", &folder, &server.url());
    server.wait_until(|seen| seen.len() >= 3);
    drop(running);
    assert_eq!(left_in(&folder), ["loss is NaN", "trainer finished"]);
}

/// Returns the titles of the messages that the runs of a folder have left.
fn left_in(folder: &TempDir) -> Vec<String> {
    let mut all = Vec::new();
    for run in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        let is_link = run.file_type().unwrap().is_symlink();
        let files = fs::read_dir(run.path().join("webhook"));
        for file in files.into_iter().flatten().filter(|_| !is_link) {
            let state: Value = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
            let titles = state["unsent"].as_array().unwrap().iter();
            all.extend(titles.map(|message| message["title"].as_str().unwrap().to_owned()));
        }
    }
    all
}

#[test]
fn a_start_without_the_webhook_keeps_the_messages() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|_, _| HttpAnswer::status(503, ""));
    let running = Running::start("killed", &folder, &server.url());
    server.wait_until(|seen| !seen.is_empty());
    drop(running);
    let seen = server.requests().len();
    let errors = Running::start("next start without it", &folder, &server.url()).end();
    assert!(errors.contains("2 messages of a killed run are not sent"), "{errors}");
    assert_eq!(left_in(&folder), ["loss is NaN", "trainer killed"]);
    assert_eq!(server.requests().len(), seen);
}

#[test]
fn alerts_come_from_every_rank_and_the_end_from_the_first() {
    testkit::own_process!();
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let url = server.url();
    for rank in [1, 0] {
        let logger = setup_logging(LogConfig {
            name: format!("trainer{rank}"),
            rank: Some(rank),
            world_size: Some(2),
            run: format!("rank{rank}"),
            ..config(folder.path(), json!({"url": url}))
        })
        .unwrap();
        logger.alert("loss is NaN", "", AlertLevel::Warn);
        let report = logger.finish();
        assert_eq!(report.sink("webhook").unwrap().dropped_total(), 0, "{report:?}");
    }
    let requests = server.wait_until(|seen| has_accepted(seen, 3));
    assert_eq!(titles(&requests), ["loss is NaN", "loss is NaN", "trainer0 finished"]);
    let ranks = requests
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap()["rank"].clone());
    assert_eq!(ranks.collect::<Vec<_>>(), [json!(1), json!(0), json!(0)]);
}

#[test]
fn the_address_is_shown_nowhere() {
    testkit::own_process!();
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let secret = "s3cr3ts3cr3ts3cr3t";
    let config = config(
        folder.path(),
        json!({"url": format!("{}/{secret}", server.url()), "records": "error"}),
    );
    assert!(!format!("{config:?}").contains(secret), "{config:?}");
    let logger = setup_logging(config).unwrap();
    logger.log_config(&json!({"webhook_url": format!("https://hooks.slack.com/services/{secret}")}));
    logger.error("disk full");
    logger.alert("loss is NaN", "", AlertLevel::Error);
    let report = logger.finish();
    assert!(!format!("{report:?}").contains(secret));
    server.wait_until(|seen| has_accepted(seen, 3));
    let mut folders = vec![folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => {
                    let text = fs::read(entry.path()).unwrap();
                    let text = String::from_utf8_lossy(&text);
                    assert!(!text.contains(secret), "{}", entry.path().display());
                }
                _ => {}
            }
        }
    }
}

/// Returns the numbers of the records that a receiver has accepted.
fn record_numbers(requests: &[HttpRequest]) -> Vec<usize> {
    let mut numbers = Vec::new();
    for request in requests.iter().filter(|request| request.accepted) {
        let body = String::from_utf8_lossy(&request.body);
        let texts = body.split("record ").skip(1);
        numbers.extend(texts.map(|text| text[..5].parse::<usize>().unwrap()));
    }
    numbers
}

#[test]
fn a_kill_loses_no_record() {
    // The receiver is away, or accepts some batches and then hangs.
    for accepted in [0, 1] {
        let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
        server.answer(move |earlier, _| match earlier < accepted {
            true => HttpAnswer::ok(),
            false => HttpAnswer::Hang(Duration::from_secs(60)),
        });
        let running = Running::start("records", &folder, &server.url());
        server.wait_until(|seen| seen.len() > accepted);
        drop(running);
        server.answer(|_, _| HttpAnswer::ok());
        let next = Running::start("records of the next start", &folder, &server.url());
        let is_told = |seen: &[HttpRequest]| {
            let mut bodies = seen.iter().map(|request| String::from_utf8_lossy(&request.body));
            bodies.any(|body| body.contains("the run was killed"))
        };
        let requests = server.wait_until(is_told);
        assert_eq!(
            record_numbers(&requests),
            (0..RECORDS).collect::<Vec<_>>(),
            "{accepted} accepted"
        );
        assert!(!next.end().contains("OpenTelemetry"));
    }
}
