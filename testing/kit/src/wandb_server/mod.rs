//! A W&B server on loopback, which keeps all that it receives and can be told to misbehave.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// The only API key that the server accepts.
pub const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

/// A W&B server on loopback; it ends when it is dropped.
pub struct WandbServer {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<SharedServerState>,
    end: Option<oneshot::Sender<()>>,
}

/// The requests that a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultTarget {
    /// All requests.
    Any,
    /// GraphQL requests with the operation of this name.
    GraphQl(&'static str),
    /// Requests to the file stream.
    Stream,
    /// Uploads of any content.
    Put,
    /// Uploads of the content of the file of this name.
    PutOf(&'static str),
}

/// A way for the server to misbehave.
#[derive(Debug, Clone)]
pub enum ServerFault {
    /// No fault: the request meets no later one.
    Pass,
    /// An answer with this status; the request has no effect.
    Status(u16),
    /// An answer with this status and one header; the request has no effect.
    StatusWith(u16, &'static str, String),
    /// The connection is closed without an answer; the request has no effect.
    Reset,
    /// The same, but the request has its effect.
    LostReply,
    /// The answer breaks off in the middle; the request has its effect.
    Truncated,
    /// The page of a proxy; the request has no effect.
    Html,
    /// An answer with status 200 and this body; the request has no effect.
    Body(&'static str),
    /// An answer with this status and body; the request has no effect.
    StatusWithBody(u16, String),
    /// An answer that never ends; the request has its effect.
    Endless,
    /// The address of an upload has expired.
    Expired,
    /// The answer comes after this time.
    Slow(Duration),
}

/// All that the server has received.
#[derive(Debug, Default)]
pub struct ServerState {
    /// Runs by project and id.
    pub runs: BTreeMap<(String, String), StoredRun>,
    /// Artifacts in the order of their creation.
    pub artifacts: Vec<StoredArtifact>,
    /// Names of the features that the server offers.
    pub features: Vec<String>,
    /// All requests, in their order.
    pub requests: Vec<ReceivedRequest>,
    /// `true` if runs are asked to stop.
    pub stop: bool,
    faults: Vec<(FaultTarget, ServerFault, usize)>,
    uploads: BTreeMap<String, UploadTarget>,
}

/// A request that the server has received.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// Path of the address.
    pub path: String,
    /// `true` if the body was compressed.
    pub gzip: bool,
    /// Status of the answer; 0 if the connection was cut.
    pub status: u16,
}

/// A run, as the server knows it.
#[derive(Debug, Clone, Default)]
pub struct StoredRun {
    /// Id of the run.
    pub id: String,
    /// Id by which the server keeps it.
    pub storage_id: String,
    /// Entity of the project.
    pub entity: String,
    /// Name of the project.
    pub project: String,
    /// Other members of the newest upsert.
    pub about: Map<String, Value>,
    /// Config of the run.
    pub config: Value,
    /// Rows of the history, by line number.
    pub history: BTreeMap<u64, String>,
    /// Rows of system metrics, by line number.
    pub events: BTreeMap<u64, String>,
    /// Console lines, by line number.
    pub output: BTreeMap<u64, String>,
    /// Summary of the run.
    pub summary: Value,
    /// Config and summary as they came.
    texts: [String; 2],
    /// Exit code; `None` while the run goes on.
    pub exit_code: Option<i64>,
    /// Uploaded files by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Names of files whose upload was announced.
    pub announced: Vec<String>,
    /// Variables of the alerts.
    pub alerts: Vec<Value>,
    /// Number of lines that were sent again with other content.
    pub changed_lines: usize,
}

/// An artifact, as the server knows it.
#[derive(Debug, Clone, Default)]
pub struct StoredArtifact {
    /// Input of the request that created it.
    pub input: Value,
    /// `true` if it was committed.
    pub committed: bool,
    /// Uploaded files by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Manifest, as it was uploaded.
    pub manifest: Value,
}

#[derive(Debug, Clone)]
enum UploadTarget {
    File { run: (String, String), name: String },
    Artifact { at: usize, name: String },
    Manifest { at: usize },
}

#[derive(Default)]
struct SharedServerState {
    state: Mutex<ServerState>,
    changed: Condvar,
}

impl WandbServer {
    /// Starts at a free port.
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Starts at this address, for example the address of a server that is gone.
    pub fn start_on(address: &str) -> Self {
        Self::start_with(address, None)
    }

    /// Starts behind TLS.
    pub fn start_tls(identity: TlsAcceptor) -> Self {
        Self::start_with("127.0.0.1:0", Some(identity))
    }

    fn start_with(address: &str, identity: Option<TlsAcceptor>) -> Self {
        let scheme = if identity.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(SharedServerState::default());
        let (end, ended) = oneshot::channel();
        let served = Arc::clone(&shared);
        thread::Builder::new()
            .spawn(move || serve(listener, &format!("{scheme}://{address}"), identity, &served, ended))
            .unwrap();
        Self {
            address,
            scheme,
            shared,
            end: Some(end),
        }
    }

    /// Returns the address for clients.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Returns the socket address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Locks and returns the state.
    pub fn state(&self) -> MutexGuard<'_, ServerState> {
        self.shared.lock()
    }

    /// Returns a copy of the only run.
    ///
    /// # Panics
    ///
    /// If there is not exactly one run.
    pub fn run(&self) -> StoredRun {
        let state = self.state();
        assert_eq!(state.runs.len(), 1, "{:?}", state.runs.keys());
        state.runs.values().next().unwrap().clone()
    }

    /// Has the next `times` requests of a kind meet a fault.
    pub fn fault(&self, on: FaultTarget, fault: ServerFault, times: usize) {
        self.state().faults.push((on, fault, times));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Waits until `is_reached` returns `true`, at most 30 s.
    ///
    /// # Panics
    ///
    /// If the time is over.
    pub fn wait_until(&self, is_reached: impl Fn(&ServerState) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut state = self.state();
        while !is_reached(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the server waited in vain: {:?}", state.requests);
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for WandbServer {
    fn drop(&mut self) {
        let _ = self.end.take().map(|end| end.send(()));
    }
}

impl StoredRun {
    /// Returns the rows in the order of their lines; numbers that JSON does not have are texts.
    pub fn rows(&self) -> Vec<Map<String, Value>> {
        self.history
            .values()
            .map(|line| lenient(line).as_object().unwrap().clone())
            .collect()
    }

    /// Returns the steps of the rows.
    pub fn steps(&self) -> Vec<i64> {
        self.rows().iter().map(|row| row["_step"].as_i64().unwrap()).collect()
    }

    /// Returns the lines of the console without their times.
    pub fn console(&self) -> Vec<String> {
        let without_time = |line: &String| line.split_once(' ').unwrap().1.to_owned();
        self.output.values().map(without_time).collect()
    }

    /// Returns the config without the entries of the client.
    pub fn user_config(&self) -> Value {
        let all = self.config.as_object().unwrap().iter();
        all.filter(|(key, _)| *key != "_wandb")
            .map(|(key, wrapped)| (key.clone(), wrapped["value"].clone()))
            .collect()
    }

    /// Returns `true` if the line numbers have no gaps and no line was changed.
    pub fn is_whole(&self) -> bool {
        let whole = |lines: &BTreeMap<u64, String>| lines.keys().copied().eq(0..lines.len() as u64);
        whole(&self.history) && whole(&self.events) && whole(&self.output) && self.changed_lines == 0
    }
}

/// Parses JSON in which numbers may be `NaN` and `Infinity`; these become texts.
///
/// # Panics
///
/// If the text is not JSON otherwise.
pub fn lenient(text: &str) -> Value {
    let mut plain = String::new();
    let mut in_string = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = ["NaN", "Infinity", "-Infinity"]
            .into_iter()
            .find(|word| rest.starts_with(word));
        let mut taken = c.len_utf8();
        match word.filter(|_| !in_string) {
            Some(word) => {
                plain.push_str(&format!("\"{word}\""));
                taken = word.len();
            }
            None => {
                if in_string && c == '\\' {
                    taken += rest[1..].chars().next().map_or(0, char::len_utf8);
                }
                in_string ^= c == '"';
                plain.push_str(&rest[..taken]);
            }
        }
        rest = &rest[taken..];
    }
    serde_json::from_str(&plain).unwrap_or_else(|error| panic!("{error}: {text}"))
}

impl SharedServerState {
    fn lock(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type ServerAnswer = Response<body::PartedBody>;

/// A body that is sent in parts, the last of which may be missing.
mod body {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::{Bytes, Frame};

    pub(super) struct PartedBody {
        pub(super) parts: Vec<Result<Bytes, std::io::Error>>,
        pub(super) endless: bool,
    }

    impl hyper::body::Body for PartedBody {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            match self.parts.is_empty() {
                true if self.endless => Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b' '; 1 << 20]))))),
                true => Poll::Ready(None),
                false => Poll::Ready(Some(self.parts.remove(0).map(Frame::data))),
            }
        }
    }
}

fn serve(
    listener: TcpListener,
    base: &str,
    identity: Option<TlsAcceptor>,
    shared: &Arc<SharedServerState>,
    ended: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let accept = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(shared);
                let (base, identity) = (base.to_owned(), identity.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, Arc::clone(&shared), base.clone()));
                    let http = hyper::server::conn::http1::Builder::new();
                    // A connection ends in an error if it is cut on purpose, or if the client
                    // trusts no certificate.
                    match identity {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        Some(identity) => {
                            if let Ok(stream) = identity.accept(stream).await {
                                drop(http.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        };
        tokio::select! { () = accept => {}, _ = ended => {} }
    });
}

/// The error that cuts a connection.
#[derive(Debug)]
struct CutConnection;

impl std::fmt::Display for CutConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is cut on purpose")
    }
}

impl std::error::Error for CutConnection {}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<SharedServerState>,
    base: String,
) -> Result<ServerAnswer, CutConnection> {
    let (head, body) = request.into_parts();
    let mut body = body.collect().await.map_err(|_| CutConnection)?.to_bytes().to_vec();
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let gzip = header("content-encoding") == "gzip";
    if gzip {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(body.as_slice())
            .read_to_end(&mut plain)
            .map_err(|_| CutConnection)?;
        body = plain;
    }
    let path = head.uri.path().to_owned();
    let kind = match (head.method.as_str(), path.as_str()) {
        ("POST", "/graphql") => RequestKind::GraphQl,
        ("POST", path) if path.ends_with("/file_stream") => RequestKind::Stream,
        ("PUT", _) => RequestKind::Put,
        _ => RequestKind::Other,
    };
    let graphql: Value = match kind {
        RequestKind::GraphQl => serde_json::from_slice(&body).unwrap_or_default(),
        _ => Value::Null,
    };
    let operation = operation_of(&graphql);
    let known = header("authorization") == format!("Basic {}", STANDARD.encode(format!("api:{KEY}")));
    let fault = shared.lock().take_fault(kind, &operation, &path);
    if matches!(fault, Some(ServerFault::Expired)) {
        shared.lock().uploads.remove(&path);
    }

    let apply = |state: &mut ServerState| match kind {
        RequestKind::Put if !header("authorization").is_empty() => (400, json!({"error": "no key belongs here"})),
        RequestKind::Put => state.put(&path, body.clone()),
        RequestKind::GraphQl | RequestKind::Stream if !known => (401, json!({"error": "user is not logged in"})),
        RequestKind::GraphQl => (200, state.graphql(&operation, &graphql["variables"], &base)),
        RequestKind::Stream => state.stream(&path, &body),
        // The target of a captive portal.
        RequestKind::Other if path == "/portal" => (200, json!("sign in")),
        RequestKind::Other => (404, json!({})),
    };
    let effect = !matches!(
        &fault,
        Some(
            ServerFault::Status(_)
                | ServerFault::StatusWith(..)
                | ServerFault::Reset
                | ServerFault::Html
                | ServerFault::Body(_)
                | ServerFault::StatusWithBody(..)
                | ServerFault::Expired
        )
    );
    let (status, reply) = match effect {
        true => apply(&mut shared.lock()),
        false => (0, Value::Null),
    };
    let (status, text, extra) = match &fault {
        Some(ServerFault::Status(status)) => (
            *status,
            json!({"error": format!("the test asked for {status}")}).to_string(),
            None,
        ),
        Some(ServerFault::StatusWith(status, name, value)) => (*status, "{}".to_owned(), Some((*name, value.clone()))),
        Some(ServerFault::Html) => (200, "<html><body>Sign in to the hotel</body></html>".to_owned(), None),
        Some(ServerFault::Expired) => (403, "<Error>Request has expired</Error>".to_owned(), None),
        Some(ServerFault::StatusWithBody(status, text)) => (*status, text.clone(), None),
        Some(ServerFault::Body(text)) => (200, (*text).to_owned(), None),
        _ => (status, reply.to_string(), None),
    };
    shared.lock().requests.push(ReceivedRequest {
        path: path.clone(),
        gzip,
        status: if matches!(&fault, Some(ServerFault::Reset | ServerFault::LostReply)) {
            0
        } else {
            status
        },
    });
    shared.changed.notify_all();
    let mut parts = vec![Ok(Bytes::from(text.clone()))];
    match &fault {
        Some(ServerFault::Reset | ServerFault::LostReply) => return Err(CutConnection),
        Some(ServerFault::Truncated) => {
            let half = text.as_bytes()[..text.len() / 2].to_vec();
            parts = vec![Ok(Bytes::from(half)), Err(std::io::Error::other("cut"))];
        }
        Some(ServerFault::Slow(time)) => tokio::time::sleep(*time).await,
        _ => {}
    }
    let kind = if matches!(fault, Some(ServerFault::Html)) {
        "text/html"
    } else {
        "application/json"
    };
    let endless = matches!(fault, Some(ServerFault::Endless));
    let mut response = Response::builder().status(status).header("content-type", kind);
    if !endless {
        response = response.header("content-length", text.len());
    }
    if let Some((name, value)) = extra {
        response = response.header(name, value);
    }
    response
        .body(body::PartedBody { parts, endless })
        .map_err(|_| CutConnection)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestKind {
    GraphQl,
    Stream,
    Put,
    Other,
}

fn operation_of(graphql: &Value) -> String {
    if let Some(name) = graphql["operationName"].as_str() {
        return name.to_owned();
    }
    let query = graphql["query"].as_str().unwrap_or_default();
    let mut words = query
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty());
    words
        .find(|word| !matches!(*word, "query" | "mutation"))
        .unwrap_or_default()
        .to_owned()
}

impl ServerState {
    fn take_fault(&mut self, kind: RequestKind, operation: &str, path: &str) -> Option<ServerFault> {
        let meets = |on: &FaultTarget| match on {
            FaultTarget::Any => true,
            FaultTarget::GraphQl(name) => kind == RequestKind::GraphQl && *name == operation,
            FaultTarget::Stream => kind == RequestKind::Stream,
            FaultTarget::Put => kind == RequestKind::Put,
            FaultTarget::PutOf(wanted) => match self.uploads.get(path) {
                Some(UploadTarget::File { name, .. } | UploadTarget::Artifact { name, .. }) => name == wanted,
                _ => false,
            },
        };
        let at = self.faults.iter().position(|(on, _, times)| *times > 0 && meets(on))?;
        self.faults[at].2 -= 1;
        Some(self.faults[at].1.clone()).filter(|fault| !matches!(fault, ServerFault::Pass))
    }

    fn graphql(&mut self, operation: &str, variables: &Value, base: &str) -> Value {
        let text = |name: &str| variables[name].as_str().unwrap_or_default().to_owned();
        let data = match operation {
            "Viewer" => json!({"viewer": {
                "id": "V", "entity": "team", "username": "someone", "email": "a@b.c", "admin": false,
                "flags": "{}", "teams": {"edges": [{"node": {"name": "team"}}]},
            }}),
            "ServerFeaturesQuery" => json!({"serverInfo": {"features":
                self.features.iter().map(|name| json!({"name": name, "isEnabled": true})).collect::<Vec<_>>()
            }}),
            "UpsertBucket" => self.upsert(variables),
            "RunResumeStatus" => self.resume_status(&text("project"), &text("name")),
            "RunStoppedStatus" => json!({"project": {"run": {"stopped": self.stop}}}),
            "CreateRunFiles" => {
                let run = (text("project"), text("run"));
                let names = variables["files"].as_array().cloned().unwrap_or_default();
                let files: Vec<_> = names
                    .iter()
                    .map(|name| {
                        let upload = UploadTarget::File {
                            run: run.clone(),
                            name: name.as_str().unwrap().to_owned(),
                        };
                        json!({"name": name, "uploadUrl": self.new_upload(base, upload)})
                    })
                    .collect();
                json!({"createRunFiles": {"runID": run.1, "uploadHeaders": ["X-Test-Header:1"], "files": files}})
            }
            "NotifyScriptableRunAlert" => {
                let key = (text("projectName"), text("runName"));
                if let Some(run) = self.runs.get_mut(&key) {
                    run.alerts.push(variables.clone());
                }
                json!({"notifyScriptableRunAlert": {"success": true}})
            }
            "CreateArtifact" => self.create_artifact(&variables["input"]),
            "CreateArtifactManifest" => {
                let at = artifact_number(&variables["artifactID"]);
                let url = self.new_upload(base, UploadTarget::Manifest { at });
                json!({"createArtifactManifest": {"artifactManifest": {"id": format!("M{at}"), "file": {
                    "id": "F", "name": "wandb_manifest.json", "displayName": "wandb_manifest.json",
                    "uploadUrl": url, "uploadHeaders": []}}}})
            }
            "CreateArtifactFiles" => {
                let files = variables["input"]["artifactFiles"]
                    .as_array()
                    .cloned()
                    .unwrap_or_default();
                let edges: Vec<_> = files
                    .iter()
                    .map(|file| {
                        let at = artifact_number(&file["artifactID"]);
                        let name = file["name"].as_str().unwrap_or_default().to_owned();
                        let url = self.new_upload(base, UploadTarget::Artifact { at, name: name.clone() });
                        json!({"node": {"id": "F", "name": name, "displayName": name, "storagePath": name,
                            "uploadUrl": url, "uploadHeaders": [], "uploadMultipartUrls": null,
                            "artifact": {"id": format!("A{at}")}}})
                    })
                    .collect();
                json!({"createArtifactFiles": {"files": {"edges": edges}}})
            }
            "CommitArtifact" => {
                let input = if variables["input"].is_null() {
                    variables
                } else {
                    &variables["input"]
                };
                let at = artifact_number(&input["artifactID"]);
                self.artifacts[at].committed = true;
                let digest = &self.artifacts[at].input["digest"];
                json!({"commitArtifact": {"artifact": {"id": format!("A{at}"), "digest": digest}}})
            }
            _ => json!({}),
        };
        json!({"data": data})
    }

    fn upsert(&mut self, variables: &Value) -> Value {
        let text = |name: &str| {
            variables[name]
                .as_str()
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        let by_storage = text("id").and_then(|id| {
            let found = self.runs.iter().find(|(_, run)| run.storage_id == id);
            found.map(|(key, _)| key.clone())
        });
        let key = by_storage.unwrap_or_else(|| {
            let id = text("name").unwrap_or_else(|| format!("made{}", self.runs.len()));
            (text("project").unwrap_or_else(|| "uncategorized".to_owned()), id)
        });
        let inserted = !self.runs.contains_key(&key);
        let run = self.runs.entry(key.clone()).or_insert_with(|| StoredRun {
            id: key.1.clone(),
            storage_id: format!("S:{}:{}", key.0, key.1),
            entity: text("entity").unwrap_or_else(|| "team".to_owned()),
            project: key.0.clone(),
            ..StoredRun::default()
        });
        if let Some(config) = text("config") {
            run.config = lenient(&config);
            run.texts[0] = config;
        }
        for (name, value) in variables.as_object().into_iter().flatten() {
            if !value.is_null() && !matches!(name.as_str(), "config" | "id" | "name" | "project" | "entity") {
                run.about.insert(name.clone(), value.clone());
            }
        }
        let display = run
            .about
            .get("displayName")
            .cloned()
            .unwrap_or_else(|| "made-up-1".into());
        json!({"upsertBucket": {"inserted": inserted, "bucket": {
            "id": run.storage_id, "name": run.id, "displayName": display, "description": null,
            "config": "{}", "sweepName": null, "historyLineCount": run.history.len(),
            "project": {"id": "P", "name": run.project, "entity": {"id": "E", "name": run.entity}},
        }}})
    }

    fn resume_status(&self, project: &str, id: &str) -> Value {
        let bucket = self.runs.get(&(project.to_owned(), id.to_owned())).map(|run| {
            let tail = |lines: &BTreeMap<u64, String>| {
                json!(lines.values().next_back().into_iter().collect::<Vec<_>>()).to_string()
            };
            let own = run.config["_wandb"]["value"]
                .get("t")
                .map(|t| json!({"t": t}))
                .unwrap_or(json!({}));
            json!({
                "id": run.storage_id, "name": run.id, "summaryMetrics": run.texts[1],
                "displayName": run.about.get("displayName"), "logLineCount": run.output.len(),
                "historyLineCount": run.history.len(), "eventsLineCount": run.events.len(),
                "historyTail": tail(&run.history), "eventsTail": tail(&run.events),
                "config": run.texts[0], "tags": run.about.get("tags"), "notes": run.about.get("notes"),
                "wandbConfig": own.to_string(),
            })
        });
        json!({"model": {"id": "P", "name": project, "entity": {"id": "E", "name": "team"}, "bucket": bucket}})
    }

    fn create_artifact(&mut self, input: &Value) -> Value {
        let same = |other: &StoredArtifact| {
            other.committed
                && other.input["digest"] == input["digest"]
                && other.input["artifactCollectionName"] == input["artifactCollectionName"]
        };
        let at = self.artifacts.iter().position(same).unwrap_or_else(|| {
            self.artifacts.push(StoredArtifact {
                input: input.clone(),
                ..StoredArtifact::default()
            });
            self.artifacts.len() - 1
        });
        let state = if self.artifacts[at].committed {
            "COMMITTED"
        } else {
            "PENDING"
        };
        json!({"createArtifact": {"artifact": {"id": format!("A{at}"), "state": state,
            "artifactSequence": {"id": "Q", "latestArtifact": null}}}})
    }

    fn new_upload(&mut self, base: &str, upload: UploadTarget) -> String {
        let path = format!("/upload/{}", self.uploads.len());
        self.uploads.insert(path.clone(), upload);
        format!("{base}{path}")
    }

    fn put(&mut self, path: &str, bytes: Vec<u8>) -> (u16, Value) {
        match self.uploads.get(path).cloned() {
            Some(UploadTarget::File { run, name }) => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.files.insert(name, bytes);
                }
            }
            Some(UploadTarget::Artifact { at, name }) => drop(self.artifacts[at].files.insert(name, bytes)),
            Some(UploadTarget::Manifest { at }) => {
                self.artifacts[at].manifest = serde_json::from_slice(&bytes).unwrap_or_default();
            }
            None => return (404, json!({})),
        }
        (200, json!({}))
    }

    fn stream(&mut self, path: &str, body: &[u8]) -> (u16, Value) {
        let parts: Vec<_> = path.split('/').collect();
        let Some(run) = self.runs.get_mut(&(parts[3].to_owned(), parts[4].to_owned())) else {
            return (404, json!({"error": "no such run"}));
        };
        let body: Value = serde_json::from_slice(body).unwrap();
        for (name, part) in body["files"].as_object().into_iter().flatten() {
            let offset = part["offset"].as_u64().unwrap();
            for (at, line) in part["content"].as_array().unwrap().iter().enumerate() {
                let (at, line) = (offset + at as u64, line.as_str().unwrap().to_owned());
                let lines = match name.as_str() {
                    "wandb-history.jsonl" => &mut run.history,
                    "wandb-events.jsonl" => &mut run.events,
                    "output.log" => &mut run.output,
                    "wandb-summary.json" => {
                        run.summary = lenient(&line);
                        run.texts[1] = line;
                        continue;
                    }
                    other => panic!("no such file in a stream: {other}"),
                };
                let before = lines.insert(at, line.clone());
                run.changed_lines += usize::from(before.is_some_and(|before| before != line));
            }
        }
        for name in body["uploaded"].as_array().into_iter().flatten() {
            run.announced.push(name.as_str().unwrap().to_owned());
        }
        if body["complete"] == true {
            run.exit_code = body["exitcode"].as_i64();
        }
        (200, json!({"stopped": self.stop, "exitcode": null, "limits": {}}))
    }
}

/// Returns the number in the id of an artifact, `A<number>`.
fn artifact_number(id: &Value) -> usize {
    id.as_str().unwrap_or("A")[1..].parse().unwrap_or_default()
}
