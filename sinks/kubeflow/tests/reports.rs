//! The sink against a stand-in for Kubeflow Trainer, with the schema that it publishes. Each test
//! is a process of its own, because a process has one status.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use logcore::{
    BuildContext, Deadline, LogConfig, LoggerEnd, LoggerSummary, MetricBatch, MetricValue, Notices, ProgressEvent,
    ProgressKind, RunEnd, Sink, SinkBooks, StopFlag, registry,
};
use logcore_kubeflow as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::http_server::{HttpAnswer, HttpRequest, HttpServer};
use tokio_rustls::rustls;

/// The path of the status of a TrainJob.
const PATH: &str = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs/digits/status";

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

    fn wait_for_notice(&self) {
        let deadline = Deadline::after(soon());
        while self.notices().is_empty() {
            assert!(!deadline.remaining().is_zero(), "there was no notice");
            thread::yield_now();
        }
    }

    fn notices(&self) -> Vec<String> {
        self.notices.lock().unwrap().clone()
    }
}

/// Checks a request against Kubeflow's type `TrainerStatus` with the limits of its resource
/// definition, and returns the status.
fn status(request: &HttpRequest) -> Value {
    assert_eq!(request.target, format!("POST {PATH}"));
    assert!(request.body.len() <= 64 << 10);
    assert_eq!(request.headers["content-type"], "application/json");
    let mut body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1);
    let status = body["trainerStatus"].take();
    assert!(status["lastUpdatedTime"].is_string(), "the time is required");
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
                assert!(value.as_array().unwrap().len() <= 256);
                for metric in value.as_array().unwrap() {
                    assert_eq!(metric.as_object().unwrap().len(), 2);
                    for text in [&metric["name"], &metric["value"]] {
                        let characters = text.as_str().unwrap().chars().count();
                        assert!((1..=64).contains(&characters), "{metric}");
                    }
                }
            }
            _ => panic!("{name} is not in the schema"),
        }
    }
    status
}

fn url(server: &HttpServer) -> String {
    format!("{}{PATH}", server.url())
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
        // The server has no other answer for a token that has expired, and this one shows it.
        other => HttpAnswer::status(403, &format!("Forbidden: {other}")),
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
    assert!(
        notices.contains("does not accept the token") && !notices.contains("s3cr3t"),
        "{notices}"
    );
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
    run.wait_for_notice();
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

#[test]
fn what_the_server_would_refuse_is_shorter_or_left_out() {
    testkit::own_process!();
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let mut run = Reporting::start(folder.path(), &url(&server));
    let long = format!("metrics/{}", "n".repeat(65));
    let values = [
        ("metrics/norm", MetricValue::Float(1e300)),
        ("metrics/rate", MetricValue::Float(1e-300)),
        ("metrics/nan", MetricValue::Float(f64::NAN)),
        (&*long, MetricValue::Int(1)),
        ("metrics/", MetricValue::Int(1)),
    ];
    run.sink.metrics(&MetricBatch::new("trainer", 1, &values)).unwrap();
    run.finish(RunEnd::Finished, soon());
    let expected = json!([
        {"name": "norm", "value": "1e300"}, {"name": "rate", "value": "1e-300"}, {"name": "nan", "value": "NaN"}
    ]);
    assert_eq!(status(server.accepted().last().unwrap())["metrics"], expected);
}

#[test]
fn the_end_respects_the_time_that_the_server_names() {
    testkit::own_process!();
    let folder = TempDir::new().unwrap();
    let server = HttpServer::start(|earlier, _| match earlier {
        0 => HttpAnswer::Reply(503, "retry-after: 2", Vec::new()),
        _ => HttpAnswer::ok(),
    });
    let mut run = Reporting::start(folder.path(), &url(&server));
    let start = Instant::now();
    run.step(1);
    run.wait_for_notice();
    let books = run.finish(RunEnd::Finished, soon());
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!((books.delivered, server.requests().len()), (2, 2));
}

/// A new configuration replaces the sink of a run that goes on.
#[test]
fn a_sink_that_replaces_another_reports_on() {
    testkit::own_process!();
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let mut old = Reporting::start(folder.path(), &url(&server));
    old.step(10);
    server.wait_until(|requests| requests.len() == 1);
    old.step(20);
    old.sink.finish(Deadline::after(soon())).unwrap();
    // Nobody waits for its delivery.
    drop(old.sink.pending_delivery());
    drop(old);
    let mut new = Reporting::start(folder.path(), &url(&server));
    new.step(30);
    server.wait_until(|requests| requests.len() == 2);
    new.finish(RunEnd::Finished, soon());
    let reported: Vec<_> = server
        .accepted()
        .iter()
        .map(|request| status(request)["progressPercentage"].clone())
        .collect();
    assert_eq!(reported, [10, 30, 100], "the old sink has no last status");
}

#[test]
fn a_page_of_a_proxy_is_no_success() {
    testkit::own_process!();
    let folder = TempDir::new().unwrap();
    let server = HttpServer::start(|earlier, _| match earlier {
        0 => HttpAnswer::Reply(200, "content-type: text/html", b"<html>log in</html>".to_vec()),
        _ => HttpAnswer::ok(),
    });
    let mut run = Reporting::start(folder.path(), &url(&server));
    run.step(1);
    run.wait_for_notice();
    assert!(run.notices()[0].contains("a page for people"), "{:?}", run.notices());
    assert_eq!(run.finish(RunEnd::Finished, soon()).delivered, 2);
}

/// The certificates of the cluster rotate, and the file of the authority with them.
#[test]
fn only_the_authority_of_the_cluster_is_trusted_and_its_file_is_read_again() {
    testkit::own_process!();
    let folder = TempDir::new().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let (token, ca_file) = (folder.path().join("token"), folder.path().join("ca.crt"));
    fs::write(&token, "s3cr3t").unwrap();
    fs::write(&ca_file, &old.pem).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}{PATH}", listener.local_addr().unwrap());
    let identity = new.identity();
    let serve = move || {
        std::iter::repeat_with(|| serve_once(&listener, &identity))
            .flatten()
            .next()
    };
    let server = thread::Builder::new()
        .name("tls-server".to_owned())
        .spawn(serve)
        .unwrap();
    let options = json!({"url": url, "token_file": token, "ca_file": ca_file});
    let mut run = Reporting::start_with(options, LogConfig::default());
    run.step(1);
    run.wait_for_notice();
    assert!(run.notices()[0].contains("certificate"), "{:?}", run.notices());
    fs::write(&ca_file, &new.pem).unwrap();
    let books = run.finish(RunEnd::Finished, soon());
    assert_eq!((books.accepted, books.delivered), (2, 2));
    let request = server.join().unwrap().unwrap();
    assert_eq!(request.headers["authorization"], "Bearer s3cr3t");
    assert_eq!(status(&request)["progressPercentage"], 100);
}

/// An authority for certificates, as an operator of a cluster makes one.
struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self {
            pem: params.self_signed(&key).unwrap().pem(),
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    /// Returns the identity of a server on loopback.
    fn identity(&self) -> Arc<rustls::ServerConfig> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = vec![certificate.der().clone()];
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(chain, key.serialize_der().try_into().unwrap());
        Arc::new(config.unwrap())
    }
}

/// Accepts a request over TLS; `None` if the client hangs up, because it trusts another authority.
fn serve_once(listener: &TcpListener, identity: &Arc<rustls::ServerConfig>) -> Option<HttpRequest> {
    let (stream, _) = listener.accept().unwrap();
    let connection = rustls::ServerConnection::new(Arc::clone(identity)).unwrap();
    let mut reader = BufReader::new(rustls::StreamOwned::new(connection, stream));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let mut request = HttpRequest {
        target: lines[0].rsplit_once(' ').unwrap().0.to_owned(),
        headers: headers.collect(),
        body: Vec::new(),
        accepted: true,
    };
    request.body = vec![0; request.headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut request.body).unwrap();
    reader
        .get_mut()
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    Some(request)
}
