//! The sink against a real server on loopback that misbehaves.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use logcore::log::Level;
use logcore::{
    Alert, AlertLevel, BuildContext, Deadline, EventKind, LogConfig, LoggerEnd, LoggerSummary, Notices, Record,
    ResumePoint, RunInfo, Sink, SinkBooks, SinkError, StopFlag, registry,
};
use logcore_webhook as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::http_server::{HttpAnswer, HttpRequest, HttpServer};
use testkit::wandb_server::WandbServer;

/// A part of the address, which nothing may show.
const SECRET: &str = "s3cr3ts3cr3t";

/// A sink, and what people see of it.
struct Hook {
    sink: Box<dyn Sink>,
    notices: Arc<Mutex<Vec<String>>>,
}

impl Hook {
    fn start(folder: &Path, url: &str, options: Value) -> Self {
        Self::start_attempt(folder, url, options, 1)
    }

    fn start_attempt(folder: &Path, url: &str, options: Value, attempt: u32) -> Self {
        Self::of(build(folder, &options_of(url, options), attempt))
    }

    /// Starts what the next process recovers of a killed one.
    fn recover(folder: &Path, url: &str, point: &ResumePoint) -> Self {
        let config = config(folder, options_of(url, json!({"end": false})));
        let stop = StopFlag::default();
        let context = BuildContext::new(&config, &stop).for_dead_process();
        Self::of(registry::recover_sink("webhook", point.text(), &context).unwrap())
    }

    fn of(mut sink: Box<dyn Sink>) -> Self {
        let notices = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&notices);
        let print = move |_: &str, text: &str| lines.lock().unwrap().push(text.to_owned());
        sink.start(&Notices::new(print)).unwrap();
        Self { sink, notices }
    }

    fn alert(&mut self, title: &str) -> Result<(), SinkError> {
        self.sink.alert(&Alert::new(title, "text", AlertLevel::Warn))
    }

    /// Ends the logger, within a time.
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

fn config(folder: &Path, options: Value) -> LogConfig {
    LogConfig {
        name: "trainer".into(),
        log_dir: folder.into(),
        sinks: [("webhook".to_owned(), options)].into(),
        ..LogConfig::default()
    }
}

fn options_of(url: &str, further: Value) -> Value {
    let mut all = json!({"url": format!("{url}/{SECRET}")});
    all.as_object_mut()
        .unwrap()
        .extend(further.as_object().unwrap().clone());
    all
}

fn build(folder: &Path, options: &Value, attempt: u32) -> Box<dyn Sink> {
    let (config, stop) = (config(folder, options.clone()), StopFlag::default());
    let run = RunInfo::new("k3v9q2ab", "trainer", folder, attempt);
    let context = BuildContext::new(&config, &stop).with_run(&run);
    registry::build_sink("webhook", options, &context).unwrap()
}

/// Copies the files of a sink, as they are after a kill: nobody has a lock.
fn copy_as_killed(folder: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    std::fs::create_dir(copy.path().join("webhook")).unwrap();
    for file in std::fs::read_dir(folder.join("webhook")).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), copy.path().join("webhook").join(file.file_name())).unwrap();
    }
    copy
}

/// Leaves an alert, "left", in the folder of a run whose server is down.
fn leave_a_message(folder: &Path, server: &HttpServer) {
    server.answer(|_, _| HttpAnswer::status(503, ""));
    let mut hook = Hook::start(folder, &server.url(), json!({"end": false}));
    hook.alert("left").unwrap();
    give_up(hook, folder);
}

/// Ends a sink whose server is down, with its thread.
fn give_up(mut hook: Hook, folder: &Path) {
    assert!(hook.finish(Duration::from_millis(100)).1.is_err());
    drop(hook);
    for file in std::fs::read_dir(folder.join("webhook")).unwrap().map(Result::unwrap) {
        // The thread of the sink has the lock until it ends.
        std::fs::File::open(file.path()).unwrap().lock().unwrap();
    }
}

fn soon() -> Duration {
    Duration::from_secs(20)
}

fn titles(requests: &[HttpRequest]) -> Vec<String> {
    let body = |request: &HttpRequest| serde_json::from_slice::<Value>(&request.body).unwrap();
    let title = |request| body(request)["title"].as_str().unwrap().to_owned();
    requests.iter().map(title).collect()
}

#[test]
fn alerts_errors_and_the_end_arrive_in_order() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let mut hook = Hook::start(folder.path(), &server.url(), json!({"records": "error"}));
    assert!(hook.sink.wants(EventKind::Record) && !hook.sink.wants(EventKind::Metrics));
    hook.alert("loss is NaN").unwrap();
    for level in [Level::Warn, Level::Error] {
        hook.sink
            .record(&Record::new(level, "trainer", "disk full\nat /data"))
            .unwrap();
    }
    let (books, result) = hook.finish(soon());
    result.unwrap();
    assert_eq!(
        titles(&server.accepted()),
        ["loss is NaN", "disk full", "trainer finished"]
    );
    assert_eq!((books.accepted, books.delivered), (3, 3));
    let first = &server.requests()[0];
    assert_eq!(
        (&*first.target, &*first.headers["content-type"]),
        (&*format!("POST /{SECRET}"), "application/json")
    );
    assert!(!folder.path().join("webhook").exists(), "nothing is left");
    assert_eq!(hook.notices(), Vec::<String>::new());
}

#[test]
fn an_outage_is_one_line_and_loses_nothing() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    // Each kind of trouble, and then success.
    server.answer(|earlier, _| match earlier {
        0 => HttpAnswer::Reply(503, "retry-after: 1", Vec::new()),
        1 => HttpAnswer::Cut,
        2 => HttpAnswer::status(503, "again"),
        3 => HttpAnswer::Reply(200, "content-type: text/html", b"<html>log in</html>".to_vec()),
        _ => HttpAnswer::ok(),
    });
    let mut hook = Hook::start(folder.path(), &server.url(), json!({}));
    let start = Instant::now();
    hook.alert("one").unwrap();
    hook.alert("two").unwrap();
    assert!(start.elapsed() < Duration::from_millis(500), "the caller does not wait");
    server.wait_until(|requests| requests.iter().filter(|request| request.accepted).count() >= 3);
    hook.finish(soon()).1.unwrap();
    let accepted = titles(&server.accepted());
    // The page counts as accepted by the server alone.
    assert_eq!(accepted, ["one", "one", "two", "trainer finished"]);
    let notices = hook.notices();
    assert_eq!(notices.len(), 4, "{notices:#?}");
    assert!(
        notices[0].contains("503; the run continues, and its messages wait"),
        "{notices:#?}"
    );
}

#[test]
fn discord_names_the_wait_in_the_body() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|earlier, _| match earlier {
        0 => HttpAnswer::status(429, r#"{"message": "slow down", "retry_after": 2.25, "global": false}"#),
        _ => HttpAnswer::Reply(204, "", Vec::new()),
    });
    let mut hook = Hook::start(folder.path(), &server.url(), json!({"kind": "discord", "end": false}));
    let start = Instant::now();
    hook.alert("one").unwrap();
    server.wait_until(|requests| requests.len() == 2);
    assert!(start.elapsed() >= Duration::from_millis(2250), "{:?}", start.elapsed());
    assert_eq!(hook.finish(soon()).0.delivered, 1);
}

#[test]
fn a_refused_message_is_counted_and_the_next_one_sent() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|earlier, request| match earlier {
        // A server that repeats the secret address.
        0 => HttpAnswer::status(400, &format!("invalid_payload at {}", request.target)),
        _ => HttpAnswer::ok(),
    });
    let mut hook = Hook::start(folder.path(), &server.url(), json!({}));
    hook.alert("one").unwrap();
    let (books, result) = hook.finish(soon());
    result.unwrap();
    assert_eq!((books.accepted, books.delivered), (2, 1));
    assert_eq!(books.dropped["refused by the server"], 1);
    let notices = hook.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(
        notices[0].contains("skipping the message `one`") && notices[0].contains("***"),
        "{notices:?}"
    );
}

#[test]
fn a_redirect_takes_nothing_to_another_server() {
    let (server, other, folder) = (
        HttpServer::accepting(),
        HttpServer::accepting(),
        TempDir::new().unwrap(),
    );
    for status in [302, 307, 308] {
        let location: &'static str = format!("location: {}/{SECRET}", other.url()).leak();
        server.answer(move |_, _| HttpAnswer::Reply(status, location, Vec::new()));
        let mut hook = Hook::start(folder.path(), &server.url(), json!({}));
        hook.alert("one").unwrap();
        let (books, result) = hook.finish(Duration::from_secs(3));
        assert_eq!((books.delivered, books.spooled), (0, 2));
        let error = result.unwrap_err().to_string();
        assert!(error.contains("redirects") && !error.contains(SECRET), "{error}");
        assert_eq!(hook.notices().len(), 1);
    }
    assert!(other.requests().is_empty());
}

#[test]
fn a_certificate_that_nobody_knows_gets_nothing() {
    let folder = TempDir::new().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let identity = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let server = WandbServer::start_tls(Arc::new(identity).into());
    let mut hook = Hook::start(folder.path(), &server.url(), json!({}));
    hook.alert("one").unwrap();
    let (books, result) = hook.finish(Duration::from_secs(5));
    assert_eq!(books.spooled, 2);
    assert!(result.unwrap_err().to_string().contains("certificate"));
    assert!(server.state().requests.is_empty());
}

#[test]
fn messages_beyond_the_limit_are_one_message() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    let mut hook = Hook::start(folder.path(), &server.url(), json!({"per_minute": 1}));
    hook.alert("first").unwrap();
    server.wait_until(|requests| requests.len() == 1);
    for _ in 0..3 {
        hook.alert("again").unwrap();
    }
    hook.alert("other").unwrap();
    let (books, result) = hook.finish(soon());
    result.unwrap();
    let requests = server.accepted();
    assert_eq!(titles(&requests), ["first", "4 more messages", "trainer finished"]);
    let digest: Value = serde_json::from_slice(&requests[1].body).unwrap();
    assert_eq!(digest["text"], "3 × again\nother");
    assert_eq!((books.accepted, books.delivered), (6, 2));
    assert_eq!(books.dropped["summed up in one message"], 4);
}

#[test]
fn at_most_a_hundred_messages_wait_and_the_end_has_room() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|_, _| HttpAnswer::status(503, ""));
    let mut hook = Hook::start(folder.path(), &server.url(), json!({}));
    let refused = (0..150)
        .filter(|number| hook.alert(&number.to_string()).is_err())
        .count();
    assert_eq!(refused, 50);
    let point = hook.sink.resume_point().unwrap();
    assert!(point.text().len() < 50_000 && !point.text().contains(SECRET));
    server.answer(|_, _| HttpAnswer::ok());
    let (books, result) = hook.finish(soon());
    result.unwrap();
    assert_eq!((books.accepted, books.dropped["queue full"]), (151, 50));
    let requests = server.accepted();
    assert_eq!(titles(&requests).last().unwrap(), "trainer finished");
    let digest: Value = serde_json::from_slice(&requests[requests.len() - 2].body).unwrap();
    assert!(
        digest["text"].as_str().unwrap().contains("50 further messages"),
        "{digest}"
    );
}

#[test]
fn a_server_that_hangs_delays_the_end_until_its_deadline() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|_, _| HttpAnswer::Hang(Duration::from_secs(30)));
    let mut hook = Hook::start(folder.path(), &server.url(), json!({}));
    hook.alert("one").unwrap();
    let start = Instant::now();
    let (books, result) = hook.finish(Duration::from_secs(2));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(books.spooled, 2);
    let text = result.unwrap_err().to_string();
    assert!(
        text.starts_with("2 messages are not sent") && text.contains("webhook/"),
        "{text}"
    );
}

#[test]
fn a_resumed_run_sends_what_the_earlier_attempt_left() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|_, _| HttpAnswer::status(503, ""));
    let mut hook = Hook::start(folder.path(), &server.url(), json!({}));
    hook.alert("left").unwrap();
    assert!(hook.finish(Duration::from_secs(1)).1.is_err());
    drop(hook);
    server.answer(|_, _| HttpAnswer::ok());

    let mut other = Hook::start_attempt(folder.path(), &server.url(), json!({"kind": "slack", "end": false}), 1);
    assert_eq!(other.finish(soon()).0.accepted, 0, "the same attempt takes nothing");
    let mut elsewhere = Hook::start_attempt(folder.path(), &format!("{}/x", server.url()), json!({"end": false}), 2);
    assert_eq!(elsewhere.finish(soon()).0.accepted, 0, "another address takes nothing");
    assert!(server.accepted().is_empty());

    let mut next = Hook::start_attempt(folder.path(), &server.url(), json!({"end": false}), 2);
    let (books, result) = next.finish(soon());
    result.unwrap();
    assert_eq!(titles(&server.accepted()), ["left", "trainer finished"]);
    assert_eq!(books.accepted, 0, "they are in the books of the attempt that took them");
    assert!(!folder.path().join("webhook").exists());
}

#[test]
fn a_sink_that_only_tries_a_config_leaves_what_was_left() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    leave_a_message(folder.path(), &server);
    server.answer(|_, _| HttpAnswer::ok());
    drop(build(folder.path(), &options_of(&server.url(), json!({})), 2));
    let mut next = Hook::start_attempt(folder.path(), &server.url(), json!({"end": false}), 2);
    next.finish(soon()).1.unwrap();
    assert_eq!(titles(&server.accepted()), ["left"]);
}

#[test]
fn a_kill_after_the_start_keeps_what_was_left() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    leave_a_message(folder.path(), &server);
    let mut hook = Hook::start_attempt(folder.path(), &server.url(), json!({"end": false}), 2);
    let point = hook.sink.resume_point().unwrap();
    hook.alert("own").unwrap();
    let killed = copy_as_killed(folder.path());
    give_up(hook, folder.path());
    // The ring was not saved before the kill.
    server.answer(|_, _| HttpAnswer::ok());
    let again = copy_as_killed(killed.path());
    let mut next = Hook::start_attempt(again.path(), &server.url(), json!({"end": false}), 3);
    next.finish(soon()).1.unwrap();
    assert_eq!(titles(&server.accepted()), ["left"]);
    // The ring was saved.
    let mut recovered = Hook::recover(killed.path(), &server.url(), &point);
    recovered.alert("own").unwrap();
    recovered.finish(soon()).1.unwrap();
    assert_eq!(titles(&server.accepted())[1..], ["left", "own"]);
    assert!(!killed.path().join("webhook").exists());
}

#[test]
fn a_left_message_that_was_sent_before_a_kill_is_not_sent_again() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    leave_a_message(folder.path(), &server);
    let mut hook = Hook::start_attempt(folder.path(), &server.url(), json!({"end": false}), 2);
    hook.alert("own").unwrap();
    let point = hook.sink.resume_point().unwrap();
    server.answer(|_, request| match titles(std::slice::from_ref(request))[0].as_str() {
        "left" => HttpAnswer::ok(),
        _ => HttpAnswer::status(503, ""),
    });
    // The state is saved before the second message is sent.
    server.wait_until(|requests| titles(requests).last().is_some_and(|title| title == "own"));
    let killed = copy_as_killed(folder.path());
    give_up(hook, folder.path());
    server.answer(|_, _| HttpAnswer::ok());
    let before = server.accepted().len();
    Hook::recover(killed.path(), &server.url(), &point)
        .finish(soon())
        .1
        .unwrap();
    assert_eq!(titles(&server.accepted()[before..]), ["own"]);
}

#[test]
fn messages_that_a_recovery_still_sends_are_not_sent_by_the_new_attempt() {
    let (server, first) = (HttpServer::accepting(), TempDir::new().unwrap());
    server.answer(|_, _| HttpAnswer::status(503, ""));
    let mut hook = Hook::start(first.path(), &server.url(), json!({"end": false}));
    hook.alert("one").unwrap();
    let point = hook.sink.resume_point().unwrap();
    give_up(hook, first.path());
    let folder = TempDir::new().unwrap();
    let mut recovered = Hook::recover(folder.path(), &server.url(), &point);
    // Returns after a second; the thread goes on.
    recovered.sink.finish(Deadline::after(Duration::ZERO)).unwrap();
    let mut next = Hook::start_attempt(folder.path(), &server.url(), json!({"end": false}), 2);
    next.alert("two").unwrap();
    server.answer(|_, _| HttpAnswer::ok());
    next.finish(soon()).1.unwrap();
    server.wait_until(|requests| requests.iter().filter(|request| request.accepted).count() >= 2);
    recovered.sink.pending_delivery().unwrap()(Deadline::after(soon()))
        .1
        .unwrap();
    let mut accepted = titles(&server.accepted());
    accepted.sort();
    assert_eq!(accepted, ["one", "two"]);
    assert!(!folder.path().join("webhook").exists());
}

/// A part of the sink's own state, which a program may have lost or replaced.
#[test]
fn a_damaged_state_is_no_reason_to_fail() {
    let (server, folder) = (HttpServer::accepting(), TempDir::new().unwrap());
    std::fs::create_dir(folder.path().join("webhook")).unwrap();
    std::fs::write(folder.path().join("webhook/damaged.json"), "{").unwrap();
    let mut hook = Hook::start_attempt(folder.path(), &server.url(), json!({}), 2);
    hook.alert("one").unwrap();
    hook.finish(soon()).1.unwrap();
    assert_eq!(titles(&server.accepted()), ["one", "trainer finished"]);
}
