//! A W&B server on loopback, which keeps what it is told and can be told to misbehave.

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

/// The one key that the server knows.
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    end: Option<oneshot::Sender<()>>,
}

/// Which requests a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Any,
    /// The operation of that name.
    GraphQl(&'static str),
    Stream,
    Put,
    /// The content of the file of that name.
    PutOf(&'static str),
}

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// None: the request meets no later one.
    Pass,
    Status(u16),
    /// A status with one header.
    StatusWith(u16, &'static str, String),
    /// The connection is closed without an answer; the request has no effect.
    Reset,
    /// The same, but the request has its effect.
    LostReply,
    /// The answer breaks off in the middle; the request has its effect.
    Truncated,
    /// A proxy's page; the request has no effect.
    Html,
    /// Another answer that says 200; the request has no effect.
    Body(&'static str),
    /// A status with words; the request has no effect.
    Says(u16, String),
    /// An answer that never ends; the request has its effect.
    Endless,
    /// The address for an upload is good no more.
    Expired,
    /// The answer comes late.
    Slow(Duration),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub runs: BTreeMap<(String, String), Run>,
    pub artifacts: Vec<Artifact>,
    pub features: Vec<String>,
    pub requests: Vec<Seen>,
    pub stop: bool,
    faults: Vec<(On, Fault, usize)>,
    uploads: BTreeMap<String, Upload>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub path: String,
    pub gzip: bool,
    /// The status that it was answered with; 0 if the connection was cut.
    pub status: u16,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub id: String,
    pub storage_id: String,
    pub entity: String,
    pub project: String,
    /// The other members of the upsert that made or changed it, as they came last.
    pub about: Map<String, Value>,
    pub config: Value,
    /// By line number.
    pub history: BTreeMap<u64, String>,
    pub events: BTreeMap<u64, String>,
    pub output: BTreeMap<u64, String>,
    pub summary: Value,
    /// Config and summary as they came.
    texts: [String; 2],
    pub exit_code: Option<i64>,
    pub files: BTreeMap<String, Vec<u8>>,
    pub announced: Vec<String>,
    pub alerts: Vec<Value>,
    /// Lines that were sent again with another content.
    pub changed_lines: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Artifact {
    pub input: Value,
    pub committed: bool,
    pub files: BTreeMap<String, Vec<u8>>,
    pub manifest: Value,
}

#[derive(Debug, Clone)]
enum Upload {
    File { run: (String, String), name: String },
    Artifact { at: usize, name: String },
    Manifest { at: usize },
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Starts at an address, such as that of a server that has gone.
    pub(crate) fn start_on(address: &str) -> Self {
        Self::start_with(address, None)
    }

    /// Starts behind TLS.
    pub(crate) fn start_tls(identity: TlsAcceptor) -> Self {
        Self::start_with("127.0.0.1:0", Some(identity))
    }

    fn start_with(address: &str, identity: Option<TlsAcceptor>) -> Self {
        let scheme = if identity.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
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

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    /// The only run there is.
    pub(crate) fn run(&self) -> Run {
        let state = self.state();
        assert_eq!(state.runs.len(), 1, "{:?}", state.runs.keys());
        state.runs.values().next().unwrap().clone()
    }

    /// The next `times` requests of a kind meet a fault.
    pub(crate) fn fault(&self, on: On, fault: Fault, times: usize) {
        self.state().faults.push((on, fault, times));
    }

    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    pub(crate) fn wait_until(&self, what: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut state = self.state();
        while !what(&state) {
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

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.end.take().map(|end| end.send(()));
    }
}

impl Run {
    /// The rows in the order of their lines; what JSON has no number for is a text.
    pub(crate) fn rows(&self) -> Vec<Map<String, Value>> {
        self.history
            .values()
            .map(|line| lenient(line).as_object().unwrap().clone())
            .collect()
    }

    pub(crate) fn steps(&self) -> Vec<i64> {
        self.rows().iter().map(|row| row["_step"].as_i64().unwrap()).collect()
    }

    /// The messages of the console, without their times.
    pub(crate) fn console(&self) -> Vec<String> {
        let without_time = |line: &String| line.split_once(' ').unwrap().1.to_owned();
        self.output.values().map(without_time).collect()
    }

    /// The config as the user gave it.
    pub(crate) fn user_config(&self) -> Value {
        let all = self.config.as_object().unwrap().iter();
        all.filter(|(key, _)| *key != "_wandb")
            .map(|(key, wrapped)| (key.clone(), wrapped["value"].clone()))
            .collect()
    }

    /// Lines have numbers without gaps.
    pub(crate) fn is_whole(&self) -> bool {
        let whole = |lines: &BTreeMap<u64, String>| lines.keys().copied().eq(0..lines.len() as u64);
        whole(&self.history) && whole(&self.events) && whole(&self.output) && self.changed_lines == 0
    }
}

/// Reads JSON in which numbers may be the words that it has not; they become texts.
pub(crate) fn lenient(text: &str) -> Value {
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Answer = Response<body::Chunks>;

/// A body that is sent in parts, of which the last may be missing.
mod body {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::{Bytes, Frame};

    pub(super) struct Chunks {
        pub(super) parts: Vec<Result<Bytes, std::io::Error>>,
        pub(super) endless: bool,
    }

    impl hyper::body::Body for Chunks {
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
    shared: &Arc<Shared>,
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
                    // A connection that is cut on purpose, or that nobody trusts, ends in an error.
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

/// Why a connection is cut.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is cut on purpose")
    }
}

impl std::error::Error for Cut {}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>, base: String) -> Result<Answer, Cut> {
    let (head, body) = request.into_parts();
    let mut body = body.collect().await.map_err(|_| Cut)?.to_bytes().to_vec();
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
            .map_err(|_| Cut)?;
        body = plain;
    }
    let path = head.uri.path().to_owned();
    let kind = match (head.method.as_str(), path.as_str()) {
        ("POST", "/graphql") => Kind::GraphQl,
        ("POST", path) if path.ends_with("/file_stream") => Kind::Stream,
        ("PUT", _) => Kind::Put,
        _ => Kind::Other,
    };
    let graphql: Value = match kind {
        Kind::GraphQl => serde_json::from_slice(&body).unwrap_or_default(),
        _ => Value::Null,
    };
    let operation = operation_of(&graphql);
    let known = header("authorization") == format!("Basic {}", STANDARD.encode(format!("api:{KEY}")));
    let fault = shared.lock().take_fault(kind, &operation, &path);
    if matches!(fault, Some(Fault::Expired)) {
        shared.lock().uploads.remove(&path);
    }

    let apply = |state: &mut State| match kind {
        Kind::Put if !header("authorization").is_empty() => (400, json!({"error": "no key belongs here"})),
        Kind::Put => state.put(&path, body.clone()),
        Kind::GraphQl | Kind::Stream if !known => (401, json!({"error": "user is not logged in"})),
        Kind::GraphQl => (200, state.graphql(&operation, &graphql["variables"], &base)),
        Kind::Stream => state.stream(&path, &body),
        // Where a captive portal leads.
        Kind::Other if path == "/portal" => (200, json!("sign in")),
        Kind::Other => (404, json!({})),
    };
    let effect = !matches!(
        &fault,
        Some(
            Fault::Status(_)
                | Fault::StatusWith(..)
                | Fault::Reset
                | Fault::Html
                | Fault::Body(_)
                | Fault::Says(..)
                | Fault::Expired
        )
    );
    let (status, reply) = match effect {
        true => apply(&mut shared.lock()),
        false => (0, Value::Null),
    };
    let (status, text, extra) = match &fault {
        Some(Fault::Status(status)) => (
            *status,
            json!({"error": format!("told to say {status}")}).to_string(),
            None,
        ),
        Some(Fault::StatusWith(status, name, value)) => (*status, "{}".to_owned(), Some((*name, value.clone()))),
        Some(Fault::Html) => (200, "<html><body>Sign in to the hotel</body></html>".to_owned(), None),
        Some(Fault::Expired) => (403, "<Error>Request has expired</Error>".to_owned(), None),
        Some(Fault::Says(status, text)) => (*status, text.clone(), None),
        Some(Fault::Body(text)) => (200, (*text).to_owned(), None),
        _ => (status, reply.to_string(), None),
    };
    shared.lock().requests.push(Seen {
        path: path.clone(),
        gzip,
        status: if matches!(&fault, Some(Fault::Reset | Fault::LostReply)) {
            0
        } else {
            status
        },
    });
    shared.changed.notify_all();
    let mut parts = vec![Ok(Bytes::from(text.clone()))];
    match &fault {
        Some(Fault::Reset | Fault::LostReply) => return Err(Cut),
        Some(Fault::Truncated) => {
            let half = text.as_bytes()[..text.len() / 2].to_vec();
            parts = vec![Ok(Bytes::from(half)), Err(std::io::Error::other("cut"))];
        }
        Some(Fault::Slow(time)) => tokio::time::sleep(*time).await,
        _ => {}
    }
    let kind = if matches!(fault, Some(Fault::Html)) {
        "text/html"
    } else {
        "application/json"
    };
    let endless = matches!(fault, Some(Fault::Endless));
    let mut response = Response::builder().status(status).header("content-type", kind);
    if !endless {
        response = response.header("content-length", text.len());
    }
    if let Some((name, value)) = extra {
        response = response.header(name, value);
    }
    response.body(body::Chunks { parts, endless }).map_err(|_| Cut)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
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

impl State {
    fn take_fault(&mut self, kind: Kind, operation: &str, path: &str) -> Option<Fault> {
        let meets = |on: &On| match on {
            On::Any => true,
            On::GraphQl(name) => kind == Kind::GraphQl && *name == operation,
            On::Stream => kind == Kind::Stream,
            On::Put => kind == Kind::Put,
            On::PutOf(wanted) => match self.uploads.get(path) {
                Some(Upload::File { name, .. } | Upload::Artifact { name, .. }) => name == wanted,
                _ => false,
            },
        };
        let at = self.faults.iter().position(|(on, _, times)| *times > 0 && meets(on))?;
        self.faults[at].2 -= 1;
        Some(self.faults[at].1.clone()).filter(|fault| !matches!(fault, Fault::Pass))
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
                        let upload = Upload::File {
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
                let url = self.new_upload(base, Upload::Manifest { at });
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
                        let url = self.new_upload(base, Upload::Artifact { at, name: name.clone() });
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
                json!({"commitArtifact": {"artifact": {"id": format!("A{at}"), "digest": self.artifacts[at].input["digest"]}}})
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
        let run = self.runs.entry(key.clone()).or_insert_with(|| Run {
            id: key.1.clone(),
            storage_id: format!("S:{}:{}", key.0, key.1),
            entity: text("entity").unwrap_or_else(|| "team".to_owned()),
            project: key.0.clone(),
            ..Run::default()
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
        let same = |other: &Artifact| {
            other.committed
                && other.input["digest"] == input["digest"]
                && other.input["artifactCollectionName"] == input["artifactCollectionName"]
        };
        let at = self.artifacts.iter().position(same).unwrap_or_else(|| {
            self.artifacts.push(Artifact {
                input: input.clone(),
                ..Artifact::default()
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

    fn new_upload(&mut self, base: &str, upload: Upload) -> String {
        let path = format!("/upload/{}", self.uploads.len());
        self.uploads.insert(path.clone(), upload);
        format!("{base}{path}")
    }

    fn put(&mut self, path: &str, bytes: Vec<u8>) -> (u16, Value) {
        match self.uploads.get(path).cloned() {
            Some(Upload::File { run, name }) => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.files.insert(name, bytes);
                }
            }
            Some(Upload::Artifact { at, name }) => drop(self.artifacts[at].files.insert(name, bytes)),
            Some(Upload::Manifest { at }) => {
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

/// Ids of artifacts are `A<number>`.
fn artifact_number(id: &Value) -> usize {
    id.as_str().unwrap_or("A")[1..].parse().unwrap_or_default()
}
