//! Single requests to an MLflow server: its REST API 2.0.
//!
//! The requests are those of <https://mlflow.org/docs/latest/rest-api.html>.

use std::collections::BTreeMap;

use logcore_delivery::{
    DeliveryError, DeliveryErrorKind, HttpClient, HttpReply, RequestBody, SecretFilter, basic_credentials, quote,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::settings::{Credentials, ServerSettings};

/// A server.
pub(crate) struct MlflowApi {
    http: HttpClient,
    uri: String,
    /// The header with the credentials.
    authorization: Option<HeaderValue>,
    /// The secrets that are removed from messages.
    secrets: SecretFilter,
}

/// A run as the server has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RemoteRun {
    pub(crate) id: String,
    pub(crate) experiment: String,
    /// `false` for a run that a user has deleted.
    pub(crate) is_active: bool,
    pub(crate) artifact_uri: String,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// An experiment as the server has it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct RemoteExperiment {
    #[serde(rename = "experiment_id")]
    pub(crate) id: String,
    lifecycle_stage: String,
}

impl RemoteExperiment {
    /// Returns `false` for an experiment that a user has deleted.
    pub(crate) fn is_active(&self) -> bool {
        self.lifecycle_stage != DELETED
    }
}

/// The state of a run, as MLflow has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunStatus {
    Running,
    Finished,
    Failed,
    Killed,
}

impl RunStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Killed => "KILLED",
        }
    }
}

/// The content of one `log-batch`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Batch<'a> {
    /// The metrics, each as JSON.
    pub(crate) metrics: &'a [&'a str],
    pub(crate) params: &'a [(String, String)],
    pub(crate) tags: &'a [(String, String)],
}

/// The state of a run or an experiment that a user has deleted.
const DELETED: &str = "deleted";
/// The characters of a segment of a path that stay as they are.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl MlflowApi {
    /// Starts the HTTP client of a server.
    ///
    /// # Errors
    ///
    /// If the credentials have invalid characters, or the client cannot be set up.
    pub(crate) fn start(server: &ServerSettings) -> Result<Self, DeliveryError> {
        let mut secrets = Vec::new();
        let authorization = server.credentials.as_ref().map(|credentials| match credentials {
            Credentials::Basic { username, password } => {
                let basic = basic_credentials(username, password);
                secrets.extend([password.clone(), basic.clone()]);
                format!("Basic {basic}")
            }
            Credentials::Bearer(token) => {
                secrets.push(token.clone());
                format!("Bearer {token}")
            }
        });
        let authorization = authorization.map(|text| HeaderValue::from_str(&text)).transpose();
        let mut authorization = authorization
            .map_err(|_| DeliveryError::permanent(DeliveryErrorKind::KeyRefused, "the token has invalid characters"))?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Self {
            http: HttpClient::start("mlflow", &server.http)?,
            uri: server.uri.clone(),
            authorization,
            secrets: SecretFilter::new(secrets),
        })
    }

    /// Returns the experiment of a name.
    pub(crate) fn experiment_named(&self, name: &str) -> Result<Option<RemoteExperiment>, DeliveryError> {
        let request = self.get("experiments/get-by-name", "experiment_name", name);
        found(self.experiment(request))
    }

    /// Returns the experiment of an id.
    pub(crate) fn experiment_with_id(&self, id: &str) -> Result<Option<RemoteExperiment>, DeliveryError> {
        let request = self.get("experiments/get", "experiment_id", id);
        found(self.experiment(request))
    }

    fn experiment(&self, request: RequestBuilder) -> Result<RemoteExperiment, DeliveryError> {
        #[derive(Deserialize)]
        struct Reply {
            experiment: RemoteExperiment,
        }
        Ok(self
            .request::<Reply>(request, RequestBody::from(String::new()))?
            .experiment)
    }

    /// Creates an experiment, and returns its id. The tag has the UI show it as one of trainings,
    /// and not as one of language models.
    pub(crate) fn create_experiment(&self, name: &str) -> Result<String, DeliveryError> {
        #[derive(Deserialize)]
        struct Reply {
            experiment_id: String,
        }
        let kind = json!({"key": "mlflow.experimentKind", "value": "custom_model_development"});
        let request = json!({"name": name, "tags": [kind]});
        Ok(self.post::<Reply>("experiments/create", &request)?.experiment_id)
    }

    /// Returns the run of an id.
    pub(crate) fn run(&self, id: &str) -> Result<Option<RemoteRun>, DeliveryError> {
        let request = self.get("runs/get", "run_id", id);
        let reply = found(self.request::<RunReply>(request, RequestBody::from(String::new())))?;
        Ok(reply.map(|reply| reply.run.into()))
    }

    /// Returns the run of an experiment that has a tag with a value.
    pub(crate) fn run_with_tag(
        &self,
        experiment: &str,
        tag: &str,
        value: &str,
    ) -> Result<Option<RemoteRun>, DeliveryError> {
        #[derive(Deserialize)]
        struct Reply {
            #[serde(default)]
            runs: Vec<RunParts>,
        }
        // A value with a quote would end the text of the filter.
        let value = value.replace(['\'', '"', '\\'], "_");
        let search = json!({
            "experiment_ids": [experiment], "filter": format!("tags.`{tag}` = '{value}'"), "max_results": 1,
        });
        let reply: Reply = self.post("runs/search", &search)?;
        Ok(reply.runs.into_iter().next().map(RemoteRun::from))
    }

    /// Creates a run with tags. `started` in milliseconds since 1970.
    pub(crate) fn create_run(
        &self,
        experiment: &str,
        name: &str,
        started: u64,
        tags: &[(String, String)],
    ) -> Result<RemoteRun, DeliveryError> {
        let request = json!({
            "experiment_id": experiment, "run_name": name, "start_time": started, "tags": pairs(tags),
        });
        Ok(self.post::<RunReply>("runs/create", &request)?.run.into())
    }

    /// Changes the state of a run. `ended` in milliseconds since 1970.
    pub(crate) fn update_run(&self, id: &str, status: RunStatus, ended: Option<u64>) -> Result<(), DeliveryError> {
        let mut request = json!({"run_id": id, "status": status.name()});
        if let Some(ended) = ended {
            request["end_time"] = ended.into();
        }
        self.post::<Value>("runs/update", &request).map(drop)
    }

    /// Adds metrics, params and tags to a run: all of them or none.
    pub(crate) fn log_batch(&self, id: &str, batch: Batch<'_>) -> Result<(), DeliveryError> {
        let mut body = json!({"run_id": id, "params": pairs(batch.params), "tags": pairs(batch.tags)}).to_string();
        // The metrics are JSON already.
        body.truncate(body.len() - 1);
        body.push_str(",\"metrics\":[");
        body.push_str(&batch.metrics.join(","));
        body.push_str("]}");
        let reply = self.send(self.request_to("runs/log-batch"), body.into())?;
        self.parse::<Value>(&reply).map(drop)
    }

    /// Uploads a file through the server's proxy for artifacts. `root` is the segments of the
    /// run's folder there.
    pub(crate) fn put_artifact(&self, root: &[String], name: &str, content: RequestBody) -> Result<(), DeliveryError> {
        let segments = root.iter().map(String::as_str).chain(name.split('/'));
        let path: Vec<_> = segments
            .map(|segment| utf8_percent_encode(segment, SEGMENT).to_string())
            .collect();
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{}", self.uri, path.join("/"));
        let request = self
            .http
            .client()
            .put(url)
            .header(CONTENT_TYPE, "application/octet-stream");
        self.send(request, content).map(drop)
    }

    fn get(&self, method: &str, key: &str, value: &str) -> RequestBuilder {
        let value = utf8_percent_encode(value, SEGMENT);
        self.http
            .client()
            .get(format!("{}/api/2.0/mlflow/{method}?{key}={value}", self.uri))
    }

    fn request_to(&self, method: &str) -> RequestBuilder {
        let request = self.http.client().post(format!("{}/api/2.0/mlflow/{method}", self.uri));
        request.header(CONTENT_TYPE, "application/json")
    }

    fn post<T: DeserializeOwned>(&self, method: &str, body: &Value) -> Result<T, DeliveryError> {
        self.request(self.request_to(method), body.to_string().into())
    }

    fn request<T: DeserializeOwned>(&self, request: RequestBuilder, content: RequestBody) -> Result<T, DeliveryError> {
        let reply = self.send(request, content)?;
        self.parse(&reply)
    }

    /// Sends a request with the credentials. A status that tells of a failure is an error.
    fn send(&self, request: RequestBuilder, content: RequestBody) -> Result<HttpReply, DeliveryError> {
        let request = match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        };
        let reply = self.http.send(request, content)?;
        match reply.status.is_success() {
            true => Ok(reply),
            false => Err(self.error_of(&reply)),
        }
    }

    /// Returns the error of a reply.
    fn error_of(&self, reply: &HttpReply) -> DeliveryError {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Refusal {
            error_code: String,
            message: String,
        }
        let refusal: Refusal = serde_json::from_str(&reply.body).unwrap_or_default();
        if reply.status.as_u16() == 404 && refusal.error_code != "RESOURCE_DOES_NOT_EXIST" {
            // Else a wrong address would look like a server without the run.
            let text = format!("there is no MLflow server at {} (404); check the address", self.uri);
            return DeliveryError::permanent(DeliveryErrorKind::NotUnderstood, text);
        }
        let text = match &*refusal.message {
            "" if reply.is_page() => "",
            "" => &*reply.body,
            message => message,
        };
        let message = quote(&self.secrets.hide(text));
        let meaning = match reply.status.as_u16() {
            401 => Some("the server does not accept the login (401); set MLFLOW_TRACKING_USERNAME and …_PASSWORD"),
            _ => None,
        };
        DeliveryError::from_status(reply.status.as_u16(), meaning, &message, reply.retry_after())
    }

    /// Parses the body of a reply. A proxy may answer with a page of its own and status 200.
    fn parse<T: DeserializeOwned>(&self, reply: &HttpReply) -> Result<T, DeliveryError> {
        serde_json::from_str(&reply.body).map_err(|_| {
            let text = format!(
                "the reply is not that of an MLflow server: {}",
                quote(&self.secrets.hide(&reply.body))
            );
            DeliveryError::temporary(DeliveryErrorKind::NotUnderstood, text)
        })
    }
}

/// A run in a reply.
#[derive(Deserialize)]
struct RunReply {
    run: RunParts,
}

#[derive(Deserialize)]
struct RunParts {
    info: InfoPart,
    #[serde(default)]
    data: DataPart,
}

#[derive(Deserialize)]
#[serde(default)]
struct InfoPart {
    run_id: String,
    experiment_id: String,
    lifecycle_stage: String,
    artifact_uri: String,
}

impl Default for InfoPart {
    fn default() -> Self {
        Self {
            run_id: String::new(),
            experiment_id: String::new(),
            lifecycle_stage: "active".to_owned(),
            artifact_uri: String::new(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DataPart {
    params: Vec<Pair>,
    tags: Vec<Pair>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pair {
    key: String,
    value: String,
}

impl From<RunParts> for RemoteRun {
    fn from(parts: RunParts) -> Self {
        let map = |pairs: Vec<Pair>| pairs.into_iter().map(|pair| (pair.key, pair.value)).collect();
        Self {
            id: parts.info.run_id,
            experiment: parts.info.experiment_id,
            is_active: parts.info.lifecycle_stage != DELETED,
            artifact_uri: parts.info.artifact_uri,
            params: map(parts.data.params),
            tags: map(parts.data.tags),
        }
    }
}

/// Returns `None` for a thing that the server does not have.
fn found<T>(reply: Result<T, DeliveryError>) -> Result<Option<T>, DeliveryError> {
    match reply {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == DeliveryErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn pairs(pairs: &[(String, String)]) -> Value {
    pairs
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect()
}
