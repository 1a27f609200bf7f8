//! Tests of deliveries of hand-made logs to a fake server.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use logcore::{Deadline, LogConfig, StopFlag};
use logcore_delivery::{DeliveryControl, Lane};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Api, DeliveryOutcome, DeliveryPlan, DeliveryReport, NAME, RetryingClient, deliver};
use crate::folder::RunFolder;
use crate::log_format::LogWriter;
use crate::log_format::proto::{ExitRecord, FilesItem, FilesRecord, RecordKind, RunRecord};
use crate::settings::{self, IgnoreGlobs};

/// A request that the server has answered.
#[derive(Clone)]
struct RecordedRequest {
    /// The operation, `stream` or `PUT`.
    what: String,
    body: Value,
}

#[derive(Default)]
struct FakeServerState {
    seen: Mutex<Vec<RecordedRequest>>,
    changed: Condvar,
}

/// A server on the loopback interface that accepts any run and records the requests.
pub(super) struct FakeServer {
    pub(super) url: String,
    shared: Arc<FakeServerState>,
}

impl FakeServer {
    /// Starts the server. `before` runs before each reply.
    pub(super) fn start(before: impl Fn(&FakeServer, &str) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(FakeServerState::default());
        let server = Self {
            url: url.clone(),
            shared: Arc::clone(&shared),
        };
        let before = Arc::new(before);
        thread::Builder::new()
            .spawn(move || {
                for stream in listener.incoming().flatten() {
                    let own = Self {
                        url: url.clone(),
                        shared: Arc::clone(&shared),
                    };
                    let before = Arc::clone(&before);
                    let serve = move || drop(own.serve(stream, &*before));
                    thread::Builder::new().spawn(serve).unwrap();
                }
            })
            .unwrap();
        server
    }

    fn serve(&self, mut stream: TcpStream, before: &dyn Fn(&FakeServer, &str)) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let line = line.to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
            let body: Value = serde_json::from_slice(&body).unwrap_or_else(|_| text());
            let what = match (first.starts_with("PUT"), body["operationName"].as_str()) {
                (true, _) => "PUT",
                (_, Some(operation)) => operation,
                (_, None) => "stream",
            };
            before(self, what);
            let answer = self.answer(what, &body).to_string();
            self.shared.seen.lock().unwrap().push(RecordedRequest {
                what: what.to_owned(),
                body,
            });
            self.shared.changed.notify_all();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            )?;
        }
    }

    fn answer(&self, what: &str, body: &Value) -> Value {
        let data = match what {
            "UpsertBucket" => json!({"upsertBucket": {"bucket": {
                "id": "S", "name": "x", "historyLineCount": 0, "project": {"name": "p", "entity": {"name": "e"}},
            }}}),
            "CreateRunFiles" => json!({"createRunFiles": {"files": [
                {"name": body["variables"]["files"][0], "uploadUrl": format!("{}/put", self.url)},
            ]}}),
            _ => json!({}),
        };
        json!({"data": data})
    }

    /// Returns all requests as text.
    pub(super) fn all(&self) -> String {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter()
            .map(|seen| format!("{} {}\n", seen.what, seen.body))
            .collect()
    }

    /// Waits for `count` requests of a kind, and returns their bodies.
    fn wait_for(&self, what: &str, count: usize) -> Vec<Value> {
        let of_kind = |seen: &[RecordedRequest]| -> Vec<Value> {
            let all = seen.iter().filter(|seen| seen.what == what);
            all.map(|seen| seen.body.clone()).collect()
        };
        let seen = self.shared.seen.lock().unwrap();
        let enough = self
            .shared
            .changed
            .wait_timeout_while(seen, Duration::from_secs(30), |seen| of_kind(seen).len() < count);
        let (seen, waited) = enough.unwrap();
        assert!(!waited.timed_out(), "{count} of {what}");
        of_kind(&seen)
    }

    fn client(&self, control: &Arc<DeliveryControl>) -> RetryingClient {
        let options = json!({"mode": "online", "api_key": "a".repeat(40), "base_url": self.url});
        let options = serde_json::from_value(options).unwrap();
        let settings = settings::resolve(options, &LogConfig::default(), Path::new("logs"), &|_| None).unwrap();
        RetryingClient {
            api: Arc::new(Api::new(&settings.server).unwrap()),
            control: Arc::clone(control),
            lane: Lane::Rows,
        }
    }
}

/// Creates a log of a run record and other records.
fn log(folder: &TempDir, kinds: impl IntoIterator<Item = RecordKind>) -> PathBuf {
    let path = folder.path().join("run-x.wandb");
    let mut log = LogWriter::create(&path, []).unwrap();
    log.append(run("first"));
    for kind in kinds {
        log.append(kind);
    }
    log.write_out().unwrap();
    path
}

fn run(display_name: &str) -> RecordKind {
    RecordKind::Run(Box::new(RunRecord {
        run_id: "x".to_owned(),
        project: "p".to_owned(),
        display_name: display_name.to_owned(),
        ..RunRecord::default()
    }))
}

fn plan(log: &Path, heartbeat: Duration) -> DeliveryPlan {
    DeliveryPlan {
        files: Arc::new(RunFolder::open(log).unwrap()),
        live: None,
        interval: Duration::from_secs(3600),
        heartbeat,
        app_url: String::new(),
        ignore_globs: IgnoreGlobs::default(),
        ended: true,
        may_exist: false,
        stop: StopFlag::default(),
    }
}

/// Delivers a complete log.
fn delivered(server: &FakeServer, plan: DeliveryPlan) -> DeliveryReport {
    let control = Arc::new(DeliveryControl::new(NAME, Some(Duration::from_secs(20))));
    deliver(server.client(&control), plan, &mut |_| {}).unwrap()
}

const BEAT: Duration = Duration::from_millis(20);

#[test]
fn a_run_without_records_sends_heartbeats() {
    let (server, folder) = (FakeServer::start(|_, _| {}), TempDir::new().unwrap());
    let log = log(&folder, [RecordKind::Environment(Box::default())]);
    let control = Arc::new(DeliveryControl::new(NAME, None));
    let plan = DeliveryPlan {
        ended: false,
        ..plan(&log, BEAT)
    };
    let client = server.client(&control);
    thread::scope(|scope| {
        let delivery = || deliver(client, plan, &mut |_| {}).map(drop).unwrap();
        thread::Builder::new().spawn_scoped(scope, delivery).unwrap();
        let beats = server.wait_for("stream", 4);
        assert!(beats.iter().all(|beat| *beat == json!({})), "{beats:?}");
        control.run_ended(Deadline::after(Duration::ZERO));
    });
}

/// The upload ends only after several heartbeats.
#[test]
fn heartbeats_continue_during_the_last_upload() {
    let server = FakeServer::start(|server, what| {
        if what == "PUT" {
            server.wait_for("stream", 4);
        }
    });
    let folder = TempDir::new().unwrap();
    let file = RecordKind::Files(FilesRecord {
        files: vec![FilesItem {
            path: "last.txt".to_owned(),
            policy: 1,
            r#type: 0,
        }],
    });
    let log = log(&folder, [file, RecordKind::Exit(ExitRecord::default())]);
    std::fs::create_dir(folder.path().join("files")).unwrap();
    std::fs::write(folder.path().join("files/last.txt"), "last").unwrap();
    assert_eq!(delivered(&server, plan(&log, BEAT)).outcome, DeliveryOutcome::Complete);
    let stream = server.wait_for("stream", 5);
    let last = stream.last().unwrap();
    assert_eq!(last["complete"], true);
    assert!(
        stream
            .iter()
            .any(|body| body["uploaded"].to_string().contains("last.txt"))
    );
}

#[test]
fn a_later_run_record_changes_the_name() {
    let (server, folder) = (FakeServer::start(|_, _| {}), TempDir::new().unwrap());
    let environment = RecordKind::Environment(Box::default());
    let log = log(
        &folder,
        [environment, run("second"), RecordKind::Exit(ExitRecord::default())],
    );
    assert_eq!(delivered(&server, plan(&log, BEAT)).outcome, DeliveryOutcome::Complete);
    let upserts = server.wait_for("UpsertBucket", 2);
    let names = upserts.iter().map(|upsert| &upsert["variables"]["displayName"]);
    assert_eq!(names.collect::<Vec<_>>(), ["first", "second"]);
}

/// The process ended between the upload and the announcement.
#[test]
fn an_unannounced_file_of_an_earlier_delivery_is_announced() {
    let (server, folder) = (FakeServer::start(|_, _| {}), TempDir::new().unwrap());
    let log = log(&folder, [RecordKind::Exit(ExitRecord::default())]);
    let uploaded = folder.path().join("run-x.wandb.uploaded");
    std::fs::write(uploaded, "{\"file\":{\"name\":\"a.txt\",\"digest\":\"1\"}}\n").unwrap();
    assert_eq!(delivered(&server, plan(&log, BEAT)).outcome, DeliveryOutcome::Complete);
    let stream = server.wait_for("stream", 1);
    let announced = stream
        .iter()
        .filter(|body| body["uploaded"].to_string().contains("a.txt"));
    assert_eq!(announced.count(), 1);
}
