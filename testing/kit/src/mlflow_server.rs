//! An MLflow server on loopback, with the limits of the real one, which keeps all that it receives
//! and can be told to misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::wandb_server::ServerFault;

/// An MLflow server on loopback; it ends when it is dropped.
pub struct MlflowServer {
    address: SocketAddr,
    shared: Arc<SharedState>,
    end: Option<oneshot::Sender<()>>,
}

/// All that the server has received.
#[derive(Debug, Default)]
pub struct MlflowState {
    /// The names of experiments by id.
    pub experiments: BTreeMap<String, String>,
    /// Runs by id.
    pub runs: BTreeMap<String, MlflowRun>,
    /// Methods and paths of all requests with the status of the answer; 0 if there was none.
    pub requests: Vec<(String, u16)>,
    /// The login that the server wants, as in the header.
    pub authorization: Option<String>,
    /// Metrics that the server refuses, whatever their form.
    pub refused_metrics: BTreeSet<String>,
    /// `true` if artifacts are kept elsewhere.
    pub has_no_proxy: bool,
    faults: Vec<(String, ServerFault, usize)>,
}

/// A run of the server.
#[derive(Debug, Clone, Default)]
pub struct MlflowRun {
    /// The id of its experiment.
    pub experiment: String,
    /// Its display name.
    pub name: String,
    /// `RUNNING`, `FINISHED`, `FAILED` or `KILLED`.
    pub status: String,
    /// Milliseconds since 1970.
    pub end_time: Option<u64>,
    /// `true` after a user has deleted the run.
    pub is_deleted: bool,
    /// Params by name.
    pub params: BTreeMap<String, String>,
    /// Tags by name.
    pub tags: BTreeMap<String, String>,
    /// Different points of each metric: step, time in milliseconds, and value as JSON.
    pub metrics: BTreeMap<String, BTreeSet<(u64, u64, String)>>,
    /// Number of points that the server had already.
    pub repeated: usize,
    /// Files by path.
    pub artifacts: BTreeMap<String, Vec<u8>>,
}

impl MlflowRun {
    /// Returns the steps and values of a metric, in the order of the steps.
    pub fn points(&self, metric: &str) -> Vec<(u64, Value)> {
        let points = self.metrics.get(metric).into_iter().flatten();
        points
            .map(|(step, _, value)| (*step, serde_json::from_str(value).unwrap()))
            .collect()
    }
}

#[derive(Default)]
struct SharedState {
    state: Mutex<MlflowState>,
    changed: Condvar,
}

impl MlflowServer {
    /// Starts at a free port.
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Starts at this address, for example that of a server that is gone.
    pub fn start_on(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<SharedState>::default();
        shared.lock().experiments.insert("0".to_owned(), "Default".to_owned());
        let (end, ended) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = thread::Builder::new().name("mlflow-server".to_owned());
        thread.spawn(move || serve(listener, &served, ended)).unwrap();
        Self {
            address,
            shared,
            end: Some(end),
        }
    }

    /// Returns the address for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the socket address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Locks and returns the state.
    pub fn state(&self) -> MutexGuard<'_, MlflowState> {
        self.shared.lock()
    }

    /// Returns a copy of the only run.
    ///
    /// # Panics
    ///
    /// If there is not exactly one run.
    pub fn run(&self) -> MlflowRun {
        let state = self.state();
        assert_eq!(state.runs.len(), 1, "{:?}", state.runs.keys());
        state.runs.values().next().unwrap().clone()
    }

    /// Has the next `times` requests with this text in their path meet a fault.
    pub fn fault(&self, path: &str, fault: ServerFault, times: usize) {
        self.state().faults.push((path.to_owned(), fault, times));
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
    pub fn wait_until(&self, is_reached: impl Fn(&MlflowState) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut state = self.state();
        while !is_reached(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the server waited in vain: {:?}", state.requests);
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for MlflowServer {
    fn drop(&mut self) {
        let _ = self.end.take().map(|end| end.send(()));
    }
}

impl SharedState {
    fn lock(&self) -> MutexGuard<'_, MlflowState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(listener: TcpListener, shared: &Arc<SharedState>, ended: oneshot::Receiver<()>) {
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
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
                    // A connection ends in an error if it is cut on purpose.
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        };
        tokio::select! { () = accept => {}, _ = ended => {} }
    });
}

type Answer = Response<Full<Bytes>>;

/// The error that cuts a connection.
#[derive(Debug)]
struct CutConnection;

impl std::fmt::Display for CutConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is cut on purpose")
    }
}

impl std::error::Error for CutConnection {}

async fn answer(request: Request<Incoming>, shared: Arc<SharedState>) -> Result<Answer, CutConnection> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| CutConnection)?.to_bytes();
    let path = parts.uri.path().to_owned();
    let login = parts
        .headers
        .get("authorization")
        .map(|value| value.to_str().unwrap().to_owned());
    let fault = shared.lock().take_fault(&path);
    if let Some(ServerFault::Slow(time)) = fault {
        tokio::time::sleep(time).await;
    }
    let mut state = shared.lock();
    let mut effect = || match state
        .authorization
        .as_ref()
        .is_some_and(|wanted| login.as_ref() != Some(wanted))
    {
        true => (401, "{}".to_owned()),
        false => state.handle(&parts.method, &path, parts.uri.query().unwrap_or_default(), &body),
    };
    let answer = match fault {
        None | Some(ServerFault::Pass | ServerFault::Slow(_)) => {
            let (status, text) = effect();
            Ok(reply(status, text))
        }
        Some(ServerFault::LostReply) => {
            effect();
            Err(CutConnection)
        }
        Some(ServerFault::Status(status)) => Ok(reply(status, String::new())),
        Some(ServerFault::StatusWith(status, header, value)) => {
            let mut answer = reply(status, String::new());
            answer.headers_mut().insert(header, value.parse().unwrap());
            Ok(answer)
        }
        Some(ServerFault::StatusWithBody(status, body)) => Ok(reply(status, body)),
        Some(ServerFault::Html) => {
            let mut answer = reply(200, "<html>log in</html>".to_owned());
            answer
                .headers_mut()
                .insert("content-type", "text/html".parse().unwrap());
            Ok(answer)
        }
        Some(ServerFault::Body(body)) => Ok(reply(200, body.to_owned())),
        Some(_) => Err(CutConnection),
    };
    let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
    state.requests.push((format!("{} {path}", parts.method), status));
    drop(state);
    shared.changed.notify_all();
    answer
}

fn reply(status: u16, text: String) -> Answer {
    let answer = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    answer.body(Full::new(Bytes::from(text))).unwrap()
}

/// An error of the server: its status, its code, its message.
struct Refusal(u16, &'static str, String);

fn invalid<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(400, "INVALID_PARAMETER_VALUE", message.into()))
}

fn missing<T>(what: &str) -> Result<T, Refusal> {
    Err(Refusal(404, "RESOURCE_DOES_NOT_EXIST", format!("{what} not found")))
}

impl MlflowState {
    fn take_fault(&mut self, path: &str) -> Option<ServerFault> {
        let at = self.faults.iter().position(|(part, ..)| path.contains(&**part))?;
        let (_, fault, times) = &mut self.faults[at];
        let fault = fault.clone();
        *times -= 1;
        if *times == 0 {
            self.faults.remove(at);
        }
        Some(fault)
    }

    fn handle(&mut self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, String) {
        if let Some(path) = path.strip_prefix("/api/2.0/mlflow-artifacts/artifacts/") {
            return self.store_artifact(method, path, body);
        }
        let Some(call) = path.strip_prefix("/api/2.0/mlflow/") else {
            return (404, "<h1>Not Found</h1>".to_owned());
        };
        // The official client names a run twice, under an old name and a new one.
        let first = query.split('&').next().unwrap_or_default();
        let argument = first.split_once('=').map_or("", |(_, value)| value);
        let answered = match (serde_json::from_slice(body), call) {
            (_, "experiments/get-by-name") => self.experiment(|_, name| name == argument),
            (_, "experiments/get") => self.experiment(|id, _| id == argument),
            (_, "runs/get") => self.run_json(argument).map(|run| json!({"run": run})),
            // Bare `NaN` is no JSON.
            (Err(error), _) => invalid(error.to_string()),
            (Ok(request), _) => self.post(call, &request, body.len()),
        };
        match answered {
            Ok(reply) => (200, reply.to_string()),
            Err(Refusal(status, code, message)) => {
                (status, json!({"error_code": code, "message": message}).to_string())
            }
        }
    }

    fn post(&mut self, call: &str, request: &Value, length: usize) -> Result<Value, Refusal> {
        let text = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
        match call {
            "experiments/create" => {
                if self.experiments.values().any(|name| *name == text("name")) {
                    return Err(Refusal(
                        400,
                        "RESOURCE_ALREADY_EXISTS",
                        "the experiment exists".to_owned(),
                    ));
                }
                let id = self.experiments.len().to_string();
                self.experiments.insert(id.clone(), text("name"));
                Ok(json!({"experiment_id": id}))
            }
            "runs/create" => {
                if !self.experiments.contains_key(&text("experiment_id")) {
                    return missing("the experiment");
                }
                let id = format!("{:032x}", self.runs.len() + 1);
                let run = MlflowRun {
                    experiment: text("experiment_id"),
                    name: text("run_name"),
                    status: "RUNNING".to_owned(),
                    tags: pairs(&request["tags"])?.into_iter().collect(),
                    ..MlflowRun::default()
                };
                self.runs.insert(id.clone(), run);
                Ok(json!({"run": self.run_json(&id)?}))
            }
            "runs/search" => {
                let filter = text("filter");
                let (tag, value) = filter.split_once(" = ").unwrap();
                let tag = tag.trim_start_matches("tags.`").trim_end_matches('`');
                let found = self.runs.iter().find(|(_, run)| {
                    !run.is_deleted && run.tags.get(tag).is_some_and(|own| format!("'{own}'") == value)
                });
                match found.map(|(id, _)| id.clone()) {
                    Some(id) => Ok(json!({"runs": [self.run_json(&id)?]})),
                    None => Ok(json!({})),
                }
            }
            "runs/update" => {
                let run = self.active_run(&text("run_id"))?;
                run.status = text("status");
                run.end_time = request["end_time"].as_u64().or(run.end_time);
                Ok(json!({}))
            }
            "runs/log-batch" => self.log_batch(request, length),
            _ => missing("the method"),
        }
    }

    fn log_batch(&mut self, request: &Value, length: usize) -> Result<Value, Refusal> {
        let (params, tags) = (pairs(&request["params"])?, pairs(&request["tags"])?);
        let metrics = request["metrics"].as_array().cloned().unwrap_or_default();
        if length > 1_000_000 || metrics.len() > 1000 || params.len() > 100 || tags.len() > 100 {
            return invalid("a batch logging request can contain at most 1000 metrics");
        }
        let refused_metrics = self.refused_metrics.clone();
        let run = self.active_run(request["run_id"].as_str().unwrap_or_default())?;
        for (key, value) in &params {
            if run.params.get(key).is_some_and(|own| own != value) {
                return invalid(format!("Changing param values is not allowed. Param with key='{key}'"));
            }
            if value.chars().count() > 6000 {
                return invalid(format!("the value of {key} is too long"));
            }
        }
        for metric in &metrics {
            let key = metric["key"].as_str().unwrap_or_default();
            check_name(key)?;
            let is_number = metric["value"].is_number() || metric["value"].is_string();
            if !is_number || !metric["step"].is_u64() || !metric["timestamp"].is_u64() || refused_metrics.contains(key)
            {
                return invalid(format!("Got invalid value for metric '{key}'"));
            }
        }
        // All of it or nothing.
        run.params.extend(params);
        run.tags.extend(tags);
        for metric in metrics {
            let points = run
                .metrics
                .entry(metric["key"].as_str().unwrap().to_owned())
                .or_default();
            let point = (
                metric["step"].as_u64().unwrap(),
                metric["timestamp"].as_u64().unwrap(),
                metric["value"].to_string(),
            );
            run.repeated += usize::from(!points.insert(point));
        }
        Ok(json!({}))
    }

    fn active_run(&mut self, id: &str) -> Result<&mut MlflowRun, Refusal> {
        match self.runs.get_mut(id) {
            Some(run) if !run.is_deleted => Ok(run),
            Some(_) => invalid(format!(
                "The run {id} must be in the 'active' state. Current state is deleted."
            )),
            None => missing("the run"),
        }
    }

    fn experiment(&self, is_wanted: impl Fn(&str, &str) -> bool) -> Result<Value, Refusal> {
        match self.experiments.iter().find(|(id, name)| is_wanted(id, name)) {
            Some((id, name)) => Ok(json!({"experiment": {
                "experiment_id": id, "name": name, "lifecycle_stage": "active",
            }})),
            None => missing("the experiment"),
        }
    }

    fn run_json(&self, id: &str) -> Result<Value, Refusal> {
        let Some(run) = self.runs.get(id) else {
            return missing("the run");
        };
        let list = |pairs: &BTreeMap<String, String>| -> Value {
            pairs
                .iter()
                .map(|(key, value)| json!({"key": key, "value": value}))
                .collect()
        };
        let scheme = if self.has_no_proxy {
            "s3://bucket"
        } else {
            "mlflow-artifacts:"
        };
        Ok(json!({
            "info": {
                "run_id": id, "experiment_id": run.experiment, "status": run.status,
                "lifecycle_stage": if run.is_deleted { "deleted" } else { "active" },
                "artifact_uri": format!("{scheme}/{}/{id}/artifacts", run.experiment),
            },
            "data": {"params": list(&run.params), "tags": list(&run.tags)},
        }))
    }

    fn store_artifact(&mut self, method: &Method, path: &str, body: &[u8]) -> (u16, String) {
        let parts: Vec<_> = path.splitn(4, '/').collect();
        match (method, &*parts) {
            (&Method::PUT, [_, run, "artifacts", name]) if self.runs.contains_key(*run) => {
                let run = self.runs.get_mut(*run).unwrap();
                run.artifacts.insert((*name).to_owned(), body.to_owned());
                (200, "{}".to_owned())
            }
            _ => (404, "{}".to_owned()),
        }
    }
}

/// The rule of MLflow for names.
fn check_name(name: &str) -> Result<(), Refusal> {
    let has_form = name.chars().all(|c| c.is_alphanumeric() || "_-. :/".contains(c));
    let is_path = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    match has_form && is_path && name.chars().count() <= 250 {
        true => Ok(()),
        false => invalid(format!("Invalid value \"{name}\" for parameter 'name'")),
    }
}

fn pairs(list: &Value) -> Result<Vec<(String, String)>, Refusal> {
    let text = |pair: &Value, key: &str| pair[key].as_str().unwrap_or_default().to_owned();
    let pairs = list.as_array().into_iter().flatten();
    let pairs: Vec<_> = pairs.map(|pair| (text(pair, "key"), text(pair, "value"))).collect();
    for (key, _) in &pairs {
        check_name(key)?;
    }
    Ok(pairs)
}
