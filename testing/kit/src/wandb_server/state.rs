//! The runs and artifacts that the server keeps, and the requests that change them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fault::{FaultTarget, ServerFault};

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
    pub(super) faults: Vec<(FaultTarget, ServerFault, usize)>,
    pub(super) uploads: BTreeMap<String, UploadTarget>,
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
pub(super) enum UploadTarget {
    File { run: (String, String), name: String },
    Artifact { at: usize, name: String },
    Manifest { at: usize },
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

impl ServerState {
    pub(super) fn graphql(&mut self, operation: &str, variables: &Value, base: &str) -> Value {
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

    pub(super) fn put(&mut self, path: &str, bytes: Vec<u8>) -> (u16, Value) {
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

    pub(super) fn stream(&mut self, path: &str, body: &[u8]) -> (u16, Value) {
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

/// Returns the number in the id of an artifact, `A<number>`.
fn artifact_number(id: &Value) -> usize {
    id.as_str().unwrap_or("A")[1..].parse().unwrap_or_default()
}
