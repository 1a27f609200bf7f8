//! The sink against a stand-in for Kubeflow Trainer, with the schema that it publishes. Each test is
//! a process of its own, because a process has one status.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use logcore::{
    BuildContext, Deadline, LogConfig, LoggerEnd, LoggerSummary, MetricBatch, MetricValue, Notices, ProgressEvent,
    ProgressKind, RunEnd, Sink, SinkBooks, StopFlag, registry,
};
use logcore_kubeflow as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::http_server::{HttpAnswer, HttpRequest, HttpServer};

/// A sink, and what people see of it.
struct Reporting {
    sink: Box<dyn Sink>,
    notices: Arc<Mutex<Vec<String>>>,
}

impl Reporting {
    fn start(folder: &Path, url: &str) -> Self {
        let token = folder.join("token");
        fs::write(&token, "s3cr3t-1\n").unwrap();
        Self::start_with(json!({"url": url, "token_file": token}), LogConfig::default())
    }

    fn start_with(options: Value, config: LogConfig) -> Self {
        let stop = StopFlag::default();
        let context = BuildContext::new(&config, &stop);
        let mut sink = registry::build_sink("kubeflow", &options, &context).unwrap();
        let notices = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&notices);
        let print = move |_: &str, text: &str| lines.lock().unwrap().push(text.to_owned());
        sink.start(&Notices::new(print)).unwrap();
        Self { sink, notices }
    }

    fn step(&mut self, position: u64) {
        let kind = match position {
            0 => ProgressKind::Started,
            _ => ProgressKind::Advanced,
        };
        let mut event = ProgressEvent::new(kind, 1, "trainer", "Training");
        (event.position, event.total) = (position, Some(100));
        event.eta = Some(Duration::from_secs(100 - position));
        self.sink.progress(&event).unwrap();
        let loss = MetricValue::Float(1.0 / (position + 1) as f64);
        let batch = [("metrics/loss", loss)];
        self.sink
            .metrics(&MetricBatch::new("trainer", position, &batch))
            .unwrap();
    }

    fn finish(&mut self, end: RunEnd, time: Duration) -> SinkBooks {
        let deadline = Deadline::after(time);
        self.sink
            .logger_ended(&LoggerEnd::new(0, end), &LoggerSummary::default());
        self.sink.finish(deadline).unwrap();
        match self.sink.pending_delivery() {
            Some(wait) => wait(deadline).0,
            None => self.sink.books().unwrap(),
        }
    }

    fn notices(&self) -> Vec<String> {
        self.notices.lock().unwrap().clone()
    }
}

/// Checks a request against the types of `TrainJobTrainerStatus`, and returns the status.
fn status(request: &HttpRequest) -> Value {
    assert_eq!(request.target, "POST /apis/trainer/v1/status");
    assert_eq!(request.headers["content-type"], "application/json");
    let mut body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1);
    let status = body["trainerStatus"].take();
    for (name, value) in status.as_object().unwrap() {
        match &**name {
            "progressPercentage" => assert!((0..=100).contains(&value.as_i64().unwrap())),
            "estimatedRemainingSeconds" => assert!((0..=i64::from(i32::MAX)).contains(&value.as_i64().unwrap())),
            "lastUpdatedTime" => {
                let text = value.as_str().unwrap();
                assert!(
                    text.len() == 20 && text.ends_with('Z') && &text[10..11] == "T",
                    "{text}"
                );
            }
            "metrics" => {
                for metric in value.as_array().unwrap() {
                    assert_eq!(metric.as_object().unwrap().len(), 2);
                    assert!(metric["name"].is_string() && metric["value"].is_string(), "{metric}");
                }
            }
            _ => panic!("{name} is not in the schema"),
        }
    }
    status
}

fn url(server: &HttpServer) -> String {
    format!("{}/apis/trainer/v1/status", server.url())
}

fn soon() -> Duration {
    Duration::from_secs(20)
}

#[test]
fn progress_and_metrics_arrive_and_the_end_is_100_percent() {
    testkit::own_process!();
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let mut run = Reporting::start(folder.path(), &url(&server));
    for position in 0..=40 {
        run.step(position);
    }
    server.wait_until(|requests| !requests.is_empty());
    run.step(50);
    let books = run.finish(RunEnd::Finished, soon());
    let requests = server.accepted();
    // The second request of the run was not due yet.
    assert_eq!(requests.len(), 2);
    assert!(
        requests
            .iter()
            .all(|request| request.headers["authorization"] == "Bearer s3cr3t-1")
    );
    let last = status(&requests[1]);
    assert_eq!(
        (&last["progressPercentage"], &last["estimatedRemainingSeconds"]),
        (&json!(100), &json!(0))
    );
    assert_eq!(
        last["metrics"],
        json!([{"name": "loss", "value": (1.0 / 51.0).to_string()}])
    );
    assert!(status(&requests[0])["progressPercentage"].as_i64() < Some(50));
    assert_eq!((books.accepted, books.delivered, books.spooled), (84, 84, 0));
    assert_eq!(run.notices(), [""; 0]);
}

#[test]
fn requests_are_five_seconds_apart_and_the_token_is_read_again() {
    testkit::own_process!();
    let folder = TempDir::new().unwrap();
    let server = HttpServer::start(|_, request| match request.headers["authorization"].as_str() {
        "Bearer s3cr3t-2" => HttpAnswer::ok(),
        other => HttpAnswer::status(401, &format!("{other} has expired")),
    });
    let mut run = Reporting::start(folder.path(), &url(&server));
    run.step(1);
    server.wait_until(|requests| requests.len() == 1);
    let first = Instant::now();
    fs::write(folder.path().join("token"), "s3cr3t-2").unwrap();
    run.step(2);
    server.wait_until(|requests| requests.len() == 2);
    assert!(first.elapsed() > Duration::from_millis(4_500), "{:?}", first.elapsed());
    let books = run.finish(RunEnd::Finished, soon());
    assert_eq!((books.accepted, books.delivered), (4, 4));
    let notices = run.notices().join("\n");
    assert!(notices.contains("Kubeflow") && !notices.contains("s3cr3t"), "{notices}");
}

#[test]
fn a_run_that_fails_is_not_complete() {
    testkit::own_process!();
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let mut run = Reporting::start(folder.path(), &url(&server));
    run.step(40);
    run.finish(RunEnd::Failed { exit_code: 1 }, soon());
    let last = status(server.accepted().last().unwrap());
    assert_eq!(last["progressPercentage"], 40);
    assert!(last.get("estimatedRemainingSeconds").is_none());
}

#[test]
fn a_server_in_trouble_is_tried_again_at_the_end() {
    testkit::own_process!();
    let folder = TempDir::new().unwrap();
    let server = HttpServer::start(|earlier, _| match earlier {
        0 => HttpAnswer::Cut,
        1 => HttpAnswer::status(503, "not now"),
        _ => HttpAnswer::ok(),
    });
    let mut run = Reporting::start(folder.path(), &url(&server));
    run.step(1);
    server.wait_until(|requests| requests.len() == 1);
    let books = run.finish(RunEnd::Finished, soon());
    assert_eq!((books.accepted, books.delivered), (2, 2));
    assert_eq!(status(server.accepted().last().unwrap())["progressPercentage"], 100);
}

#[test]
fn a_server_that_hangs_delays_the_end_until_its_deadline() {
    testkit::own_process!();
    let folder = TempDir::new().unwrap();
    let server = HttpServer::start(|_, _| HttpAnswer::Hang(Duration::from_secs(30)));
    let mut run = Reporting::start(folder.path(), &url(&server));
    run.step(1);
    let start = Instant::now();
    let books = run.finish(RunEnd::Finished, Duration::from_secs(1));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(books.dropped["status not sent"], 2);
}

#[test]
fn elsewhere_a_line_says_that_nothing_is_reported() {
    testkit::own_process!();
    let mut run = Reporting::start_with(json!({}), LogConfig::default());
    run.step(1);
    let books = run.finish(RunEnd::Finished, soon());
    assert_eq!(books.accepted, 0);
    assert_eq!(
        run.notices(),
        ["nothing is reported to Kubeflow Trainer, because KUBEFLOW_TRAINER_SERVER_URL is not set"]
    );
}

#[test]
fn a_token_that_is_absent_is_named_and_awaited() {
    testkit::own_process!();
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let token = folder.path().join("later");
    let options = json!({"url": url(&server), "token_file": token});
    let mut run = Reporting::start_with(options, LogConfig::default());
    run.step(1);
    while run.notices().is_empty() {
        std::thread::yield_now();
    }
    assert!(
        run.notices()[0].contains("cannot read the token"),
        "{:?}",
        run.notices()
    );
    fs::write(token, "t").unwrap();
    let books = run.finish(RunEnd::Finished, soon());
    assert_eq!(books.delivered, 2);
}

#[test]
fn other_ranks_and_further_loggers_report_nothing() {
    testkit::own_process!();
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let of_rank = LogConfig {
        rank: Some(1),
        world_size: Some(2),
        ..LogConfig::default()
    };
    let token = folder.path().join("token");
    let mut other = Reporting::start_with(json!({"url": url(&server), "token_file": token}), of_rank);
    other.step(1);
    let mut first = Reporting::start(folder.path(), &url(&server));
    let mut second = Reporting::start(folder.path(), &url(&server));
    first.step(10);
    second.step(90);
    assert_eq!(second.finish(RunEnd::Finished, soon()).accepted, 0);
    assert_eq!(other.finish(RunEnd::Finished, soon()).accepted, 0);
    first.finish(RunEnd::Failed { exit_code: 1 }, soon());
    let reported: Vec<_> = server
        .accepted()
        .iter()
        .map(|request| status(request)["progressPercentage"].clone())
        .collect();
    assert!(
        !reported.is_empty() && reported.iter().all(|percentage| *percentage == 10),
        "{reported:?}"
    );
}
