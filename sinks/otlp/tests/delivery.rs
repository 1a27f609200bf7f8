//! The sink against a receiver on loopback that misbehaves.

use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use logcore::log::Level;
use logcore::{
    BuildContext, Deadline, FieldValue, LogConfig, LoggerEnd, LoggerSummary, MetricBatch, MetricValue, Notices, Record,
    RunInfo, Sink, SinkBooks, SinkError, StopFlag, registry,
};
use logcore_otlp as _;
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::http_server::{HttpAnswer, HttpRequest, HttpServer};

/// A value of a header, which nothing may show.
const SECRET: &str = "s3cr3ts3cr3t";

struct Export {
    sink: Box<dyn Sink>,
    notices: Arc<Mutex<Vec<String>>>,
}

impl Export {
    fn start(folder: &Path, server: &HttpServer, options: Value) -> Self {
        let mut all = json!({"endpoint": server.url(), "headers": {"api-key": SECRET}});
        all.as_object_mut()
            .unwrap()
            .extend(options.as_object().unwrap().clone());
        let (config, stop) = (config(folder), StopFlag::default());
        let run = RunInfo::new("k3v9q2ab", "trainer", folder, 1);
        let context = BuildContext::new(&config, &stop).with_run(&run);
        Self::of(registry::build_sink("otlp", &all, &context).unwrap())
    }

    fn of(mut sink: Box<dyn Sink>) -> Self {
        let notices = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&notices);
        let print = move |_: &str, text: &str| lines.lock().unwrap().push(text.to_owned());
        sink.start(&Notices::new(print)).unwrap();
        Self { sink, notices }
    }

    fn log(&mut self, message: &str) -> Result<(), SinkError> {
        let fields = [("lr", FieldValue::Float(0.5))];
        self.sink
            .record(&Record::new(Level::Info, "trainer", message).with_fields(&fields))
    }

    fn finish(&mut self, time: Duration) -> (SinkBooks, Result<(), SinkError>) {
        let deadline = Deadline::after(time);
        self.sink.logger_ended(&LoggerEnd::default(), &LoggerSummary::default());
        self.sink.finish(deadline).unwrap();
        let (books, result) = match self.sink.pending_delivery() {
            Some(wait) => wait(deadline),
            None => (self.sink.books().unwrap(), Ok(())),
        };
        assert!(books.balanced(), "{books:?}");
        (books, result)
    }

    fn notices(&self) -> Vec<String> {
        let notices = self.notices.lock().unwrap().clone();
        assert!(!notices.iter().any(|line| line.contains(SECRET)), "{notices:?}");
        notices
    }
}

fn config(folder: &Path) -> LogConfig {
    LogConfig {
        name: "trainer".into(),
        log_dir: folder.into(),
        ..LogConfig::default()
    }
}

fn soon() -> Duration {
    Duration::from_secs(20)
}

/// Returns the messages of the records in requests. The form is that of the protocol, apart from
/// the crate's own.
fn bodies(requests: &[HttpRequest]) -> Vec<String> {
    let logs = requests.iter().filter(|request| request.target == "POST /v1/logs");
    let decoded = logs.map(|request| Bytes1::decode(&*unzip(request)).unwrap());
    let scopes = decoded
        .flat_map(|request| request.all)
        .map(|bytes| Bytes2::decode(&*bytes).unwrap());
    let records = scopes
        .flat_map(|of_resource| of_resource.all)
        .map(|bytes| Bytes2::decode(&*bytes).unwrap());
    let records = records
        .flat_map(|of_scope| of_scope.all)
        .map(|bytes| Body::decode(&*bytes).unwrap());
    records.map(|record| record.body.unwrap().text).collect()
}

fn unzip(request: &HttpRequest) -> Vec<u8> {
    assert_eq!(request.headers["content-type"], "application/x-protobuf");
    if !request.headers.contains_key("content-encoding") {
        return request.body.clone();
    }
    let mut body = Vec::new();
    flate2::read::GzDecoder::new(&*request.body)
        .read_to_end(&mut body)
        .unwrap();
    body
}

#[derive(Message)]
struct Bytes1 {
    #[prost(bytes = "vec", repeated, tag = "1")]
    all: Vec<Vec<u8>>,
}

#[derive(Message)]
struct Bytes2 {
    #[prost(bytes = "vec", repeated, tag = "2")]
    all: Vec<Vec<u8>>,
}

#[derive(Message)]
struct Body {
    #[prost(message, optional, tag = "5")]
    body: Option<Text>,
}

#[derive(Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

#[derive(Message)]
struct PartialReply {
    #[prost(message, optional, tag = "1")]
    partial: Option<Partial>,
}

#[derive(Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    why: String,
}

fn accepted(server: &HttpServer) -> Vec<String> {
    bodies(&server.accepted())
}

#[test]
fn records_arrive_in_order_and_in_batches() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let mut export = Export::start(folder.path(), &server, json!({"level": "info", "metrics": []}));
    for number in 0..5000 {
        export.log(&number.to_string()).unwrap();
    }
    export
        .sink
        .record(&Record::new(Level::Debug, "trainer", "not from this level"))
        .unwrap();
    export.sink.deliver().unwrap();
    let (books, result) = export.finish(soon());
    result.unwrap();
    assert_eq!((books.accepted, books.delivered), (5000, 5000));
    assert_eq!(
        accepted(&server),
        (0..5000).map(|number| number.to_string()).collect::<Vec<_>>()
    );
    let requests = server.requests();
    assert!(requests.len() <= 5, "{}", requests.len());
    assert_eq!(
        (
            &*requests[0].headers["content-encoding"],
            &*requests[0].headers["api-key"]
        ),
        ("gzip", SECRET)
    );
    assert_eq!(export.notices(), Vec::<String>::new());
}

#[test]
fn an_outage_loses_nothing_and_the_named_wait_holds() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|earlier, _| match earlier {
        0 => HttpAnswer::Reply(429, "retry-after: 2", Vec::new()),
        1 => HttpAnswer::status(503, ""),
        2 => HttpAnswer::Cut,
        3 => HttpAnswer::status(502, ""),
        4 => HttpAnswer::status(504, ""),
        _ => HttpAnswer::ok(),
    });
    let mut export = Export::start(folder.path(), &server, json!({}));
    export.log("one").unwrap();
    export.sink.deliver().unwrap();
    let start = Instant::now();
    server.wait_until(|requests| requests.len() >= 2);
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    export.log("two").unwrap();
    let (books, result) = export.finish(soon());
    result.unwrap();
    assert_eq!(books.delivered, 2);
    assert_eq!(accepted(&server), ["one", "two"]);
    let notices = export.notices();
    assert!(
        notices.len() <= 4 && notices[0].contains("its records are kept on disk"),
        "{notices:#?}"
    );
}

#[test]
fn refusals_are_dropped_by_reason() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|earlier, _| match earlier {
        0 => {
            let partial = Some(Partial {
                rejected: 200,
                why: "too old".into(),
            });
            HttpAnswer::Reply(
                200,
                "content-type: application/x-protobuf",
                PartialReply { partial }.encode_to_vec(),
            )
        }
        1 => HttpAnswer::status(400, SECRET),
        _ => HttpAnswer::ok(),
    });
    let mut export = Export::start(folder.path(), &server, json!({}));
    for (count, requests) in [(300, 1), (40, 2), (5, 3)] {
        for number in 0..count {
            export.log(&number.to_string()).unwrap();
        }
        export.sink.flush(Deadline::after(soon())).unwrap();
        server.wait_until(|seen| seen.len() == requests);
    }
    let (books, result) = export.finish(soon());
    result.unwrap();
    assert_eq!((books.accepted, books.delivered), (345, 105));
    assert_eq!(books.dropped["refused by the server"], 240);
    let notices = export.notices();
    assert_eq!(notices.len(), 2, "{notices:#?}");
    assert!(notices[0].contains("too old"), "{notices:#?}");
}

#[test]
fn a_full_spool_drops_by_reason() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|_, _| HttpAnswer::status(503, ""));
    let mut export = Export::start(folder.path(), &server, json!({"spool_mb": 1}));
    let long = "x".repeat(100_000);
    let refused = (0..15).filter(|_| export.log(&long).is_err()).count();
    export.sink.deliver().unwrap();
    assert_eq!(refused, 6);
    let (books, result) = export.finish(Duration::from_secs(1));
    assert_eq!((books.spooled, books.dropped["spool full"]), (9, 6));
    let text = result.unwrap_err().to_string();
    assert!(
        text.contains("9 records are only on disk") && text.contains("logs.spool"),
        "{text}"
    );
}

#[test]
fn a_resumed_run_sends_what_was_left() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|_, _| HttpAnswer::status(503, ""));
    let mut export = Export::start(folder.path(), &server, json!({}));
    export.log("left").unwrap();
    assert!(export.finish(Duration::from_secs(1)).1.is_err());
    drop(export);
    // The thread of the first sink ends soon after the deadline.
    server.answer(|_, _| HttpAnswer::ok());
    let deadline = Instant::now() + soon();
    loop {
        let mut next = Export::start(folder.path(), &server, json!({}));
        next.finish(soon()).1.unwrap();
        if accepted(&server) == ["left"] {
            return;
        }
        assert!(Instant::now() < deadline, "{:?}", accepted(&server));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_resumed_run_sends_what_was_left_while_the_usual_spool_was_busy() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|_, _| HttpAnswer::status(503, ""));
    // As the recovery of a killed process, while the receiver is away.
    let busy = Export::start(folder.path(), &server, json!({}));
    let mut second = Export::start(folder.path(), &server, json!({}));
    second.log("left").unwrap();
    let mut third = Export::start(folder.path(), &server, json!({}));
    third.log("left later").unwrap();
    for mut export in [second, third] {
        assert!(export.finish(Duration::from_millis(100)).1.is_err());
    }
    drop(busy);
    let spools = ["otlp/logs~2.spool", "otlp/logs~3.spool"].map(|spool| folder.path().join(spool));
    for spool in &spools {
        // The thread of a sink has the lock until it ends.
        std::fs::File::open(spool).unwrap().lock().unwrap();
    }
    server.answer(|_, _| HttpAnswer::ok());
    for message in ["new", "newest"] {
        let mut next = Export::start(folder.path(), &server, json!({}));
        next.log(message).unwrap();
        let (books, result) = next.finish(soon());
        result.unwrap();
        assert_eq!((books.accepted, books.delivered), (1, 1));
        drop(next);
        // The thread has the lock for a moment more.
        std::fs::File::open(folder.path().join("otlp/logs.spool"))
            .unwrap()
            .lock()
            .unwrap();
    }
    assert_eq!(accepted(&server), ["left", "left later", "new", "newest"]);
    for spool in &spools {
        assert_eq!(std::fs::metadata(spool).unwrap().len(), 16, "only the head is left");
    }
}

#[test]
fn secrets_that_the_receiver_repeats_are_not_shown() {
    const LOGIN: &str = "ann:hunter22";
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let credentials = logcore_delivery::basic_credentials("ann", "hunter22");
    let why = format!("not with {SECRET}, hunter22 or {credentials}");
    let partial = PartialReply {
        partial: Some(Partial { rejected: 1, why }),
    };
    let header = "content-type: application/x-protobuf";
    server.answer(move |_, _| HttpAnswer::Reply(200, header, partial.encode_to_vec()));
    let options = json!({
        "endpoint": server.url().replace("//", &format!("//{LOGIN}@")),
        "headers": {"x-token": format!("Bearer {SECRET}")},
    });
    let mut export = Export::start(folder.path(), &server, options);
    export.log("refused").unwrap();
    let values = [("memory/gpu", MetricValue::Float(1.0))];
    export.sink.metrics(&MetricBatch::new("trainer", 1, &values)).unwrap();
    export.finish(soon()).1.unwrap();
    let mut notices = export.notices();
    notices.sort();
    assert_eq!(
        notices,
        ["metrics", "records"].map(|kind| format!(
            "OpenTelemetry: the receiver refuses {kind}, which are dropped: not with ***, *** or ***"
        ))
    );
}

#[test]
fn a_killed_process_loses_no_record() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let first = TempDir::new().unwrap();
    server.answer(|_, _| HttpAnswer::status(503, ""));
    let mut export = Export::start(first.path(), &server, json!({}));
    export.log("one").unwrap();
    export.sink.deliver().unwrap();
    let point = export.sink.resume_point().unwrap();
    export.log("two").unwrap();
    export.sink.deliver().unwrap();
    // The folder as a kill leaves it.
    let spool = "otlp/logs.spool";
    std::fs::create_dir(folder.path().join("otlp")).unwrap();
    std::fs::copy(first.path().join(spool), folder.path().join(spool)).unwrap();
    let _ = export.finish(Duration::ZERO);
    drop(export);
    // The thread of the first sink has the lock until it ends.
    std::fs::File::open(first.path().join(spool)).unwrap().lock().unwrap();

    assert!(!point.text().contains(SECRET));
    server.answer(|_, _| HttpAnswer::ok());
    let mut config = config(folder.path());
    config.sinks.insert("otlp".into(), json!({"endpoint": server.url()}));
    let stop = StopFlag::default();
    let context = BuildContext::new(&config, &stop).for_dead_process();
    let mut recovered = Export::of(registry::recover_sink("otlp", point.text(), &context).unwrap());
    for message in ["two", "three"] {
        recovered.log(message).unwrap();
    }
    recovered.sink.deliver().unwrap();
    let before = server.requests().len();
    recovered.finish(soon()).1.unwrap();
    assert_eq!(bodies(&server.requests()[before..]), ["one", "two", "three"]);
}

#[test]
fn metrics_are_gauges_of_the_wanted_names() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let mut export = Export::start(
        folder.path(),
        &server,
        json!({"logs": false, "period": 1.0, "min_max": true}),
    );
    let mut send = |name, value| {
        let values = [
            (name, MetricValue::Float(value)),
            ("metrics/loss", MetricValue::Float(1.0)),
        ];
        export.sink.metrics(&MetricBatch::new("trainer", 7, &values)).unwrap();
    };
    send("memory/gpu", 2.0);
    send("memory/gpu", 1.0);
    send("metrics/acc", 1.0);
    let requests = server.wait_until(|requests| !requests.is_empty());
    let request = unzip(&requests[0]);
    let text = String::from_utf8_lossy(&request);
    assert_eq!(requests[0].target, "POST /v1/metrics");
    for name in [
        "memory/gpu",
        "memory/gpu.min",
        "memory/gpu.max",
        "service.name",
        "k3v9q2ab",
    ] {
        assert!(text.contains(name), "{name}");
    }
    assert!(!text.contains("metrics/") && !text.contains("step"));
    server.answer(|_, _| HttpAnswer::status(503, ""));
    let values = [("memory/gpu", MetricValue::Float(3.0))];
    export.sink.metrics(&MetricBatch::new("trainer", 8, &values)).unwrap();
    let (books, _) = export.finish(Duration::from_secs(2));
    assert_eq!(
        (books.accepted, books.delivered, books.dropped["metrics not sent"]),
        (3, 2, 1)
    );
}
