//! Params and tags of a run, from the files in its folder.

use std::collections::BTreeMap;
use std::path::Path;

use logcore::files::Folder;
use logcore::{RunFacts, RunManifest, RunState};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::names::clean_name;
use crate::settings::MlflowSettings;

/// The hyper-parameters, the environment and the end of a run.
pub(crate) const CONFIG: &str = "config.json";
/// The closing summary of a run.
pub(crate) const SUMMARY: &str = "summary.json";
/// The tag that tells which run of ours a run of MLflow is.
pub(crate) const RUN_TAG: &str = "logcore.run";
/// The longest file of documents, in bytes.
const LONGEST_FILE: u64 = 16 << 20;
/// Most characters of a value.
const LONGEST_PARAM: usize = 6000;
const LONGEST_TAG: usize = 5000;

/// The documents of a run, read anew when they have changed.
#[derive(Debug, Default)]
pub(crate) struct RunDocuments {
    config: ConfigDocument,
    /// `run.json`; `None` in a folder of several runs.
    pub(crate) manifest: Option<RunManifest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigDocument {
    config: Map<String, Value>,
    environment: RunFacts,
}

impl RunDocuments {
    /// Reads the documents. A file that is missing, or that somebody has damaged, has nothing to
    /// deliver.
    pub(crate) fn read(folder: &Folder) -> Self {
        let text = |name: &str| folder.read(Path::new(name), LONGEST_FILE).ok();
        let config = text(CONFIG).and_then(|text| serde_json::from_slice(&text).ok());
        let manifest = text(RunManifest::FILE).and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            config: config.unwrap_or_default(),
            manifest,
        }
    }

    /// Returns the id of the run; `""` if the run has none.
    pub(crate) fn run_id(&self) -> &str {
        self.manifest.as_ref().map_or("", |manifest| &manifest.id)
    }

    /// Returns the number of attempts of the run.
    pub(crate) fn attempts(&self) -> usize {
        self.manifest.as_ref().map_or(0, |manifest| manifest.attempts.len())
    }

    /// Returns the name of the logger whose metrics have no prefix.
    pub(crate) fn first_logger(&self) -> Option<&str> {
        self.manifest.as_ref()?.loggers.first().map(String::as_str)
    }

    /// Returns the state that the run has ended with.
    pub(crate) fn end(&self, dir: &Path) -> RunState {
        let manifest = self.manifest.as_ref();
        manifest.map_or(RunState::Unknown, |manifest| manifest.read_state(dir))
    }

    /// Returns the params: the hyper-parameters, `model.width` for `{"model": {"width": 3}}`.
    pub(crate) fn params(&self) -> BTreeMap<String, String> {
        let mut params = BTreeMap::new();
        for (name, value) in &self.config.config {
            flatten(name, value, 0, &mut params);
        }
        params
    }

    /// Returns the tags: those that the UI of MLflow shows in places of their own, those of the
    /// settings, and the run's id.
    pub(crate) fn tags(&self, settings: &MlflowSettings) -> BTreeMap<String, String> {
        // `config.json` gets the facts at once, `run.json` the few that are known at its start.
        let facts = match (&self.config.environment, &self.manifest) {
            (facts, Some(manifest)) if facts.argv.is_empty() => &manifest.facts,
            (facts, _) => facts,
        };
        let git = facts.git.clone().unwrap_or_default();
        let source = match facts.argv.first() {
            Some(program) => program.clone(),
            None => facts.executable.to_string_lossy().into_owned(),
        };
        let is_known = !facts.host.is_empty();
        let attempts = self.attempts();
        let own = [
            ("mlflow.runName", settings.run_name.clone()),
            ("mlflow.note.content", settings.note.clone()),
            ("mlflow.parentRunId", settings.parent_run_id.clone()),
            ("mlflow.user", Some(facts.user.clone())),
            ("mlflow.source.name", Some(source)),
            ("mlflow.source.type", is_known.then(|| "LOCAL".to_owned())),
            ("mlflow.source.git.commit", git.commit),
            ("mlflow.source.git.branch", git.branch),
            ("mlflow.source.git.repoURL", git.remote),
            (RUN_TAG, Some(self.run_id().to_owned())),
            ("logcore.host", Some(facts.host.clone())),
            ("logcore.attempts", (attempts > 1).then(|| attempts.to_string())),
        ];
        let own = own
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let chosen = settings
            .tags
            .iter()
            .map(|(name, value)| (clean_name(name), value.clone()));
        let all = own.filter(|(_, value)| !value.is_empty()).chain(chosen);
        all.map(|(name, value)| (name, cut(&value, LONGEST_TAG))).collect()
    }
}

/// The tag for a hyper-parameter whose value MLflow does not take as a param.
pub(crate) fn tag_of_param(name: &str, value: &str) -> (String, String) {
    (clean_name(&format!("config.{name}")), cut(value, LONGEST_TAG))
}

/// Deepest object that is flattened. A deeper one is a value.
const DEEPEST: usize = 16;

fn flatten(name: &str, value: &Value, depth: usize, params: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(members) if !members.is_empty() && depth < DEEPEST => {
            for (key, member) in members {
                flatten(&format!("{name}.{key}"), member, depth + 1, params);
            }
            return;
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    params.insert(clean_name(name), cut(&text, LONGEST_PARAM));
}

/// Cuts a text to a number of characters.
fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some(_) => text.chars().take(longest - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn documents(config: &Value, manifest: &Value) -> RunDocuments {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), config.to_string()).unwrap();
        std::fs::write(dir.path().join(RunManifest::FILE), manifest.to_string()).unwrap();
        RunDocuments::read(&Folder::open(dir.path()).unwrap())
    }

    #[test]
    fn hyper_parameters_are_flat_params() {
        let config = json!({"config": {
            "lr": 0.1, "name": "gpt", "model": {"width": 3, "act": null, "layers": [1, 2], "empty": {}},
            "top@1": true, "long": "x".repeat(7000),
        }});
        let mut params = documents(&config, &json!({})).params();
        let long = params.remove("long").unwrap();
        assert_eq!((long.chars().count(), long.ends_with("x…")), (6000, true));
        let expected = [
            ("lr", "0.1"),
            ("model.act", "null"),
            ("model.empty", "{}"),
            ("model.layers", "[1,2]"),
            ("model.width", "3"),
            ("name", "gpt"),
            ("top_x40_1", "true"),
        ];
        assert_eq!(
            params,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        );
    }

    #[test]
    fn tags_are_those_of_the_official_client() {
        let manifest = json!({
            "id": "k3v9q2ab", "host": "node7", "user": "ann", "argv": ["./train", "--lr", "1"],
            "git": {"commit": "0c9", "branch": "main", "remote": null}, "attempts": [{}, {}],
        });
        let settings = MlflowSettings {
            tags: [("team/a".to_owned(), "vision".to_owned())].into(),
            note: Some("a *first* try".to_owned()),
            ..crate::settings::tests_support::settings("http://host")
        };
        let tags = documents(&json!({}), &manifest).tags(&settings);
        let expected = [
            ("logcore.attempts", "2"),
            ("logcore.host", "node7"),
            ("logcore.run", "k3v9q2ab"),
            ("mlflow.note.content", "a *first* try"),
            ("mlflow.source.git.branch", "main"),
            ("mlflow.source.git.commit", "0c9"),
            ("mlflow.source.name", "./train"),
            ("mlflow.source.type", "LOCAL"),
            ("mlflow.user", "ann"),
            ("team/a", "vision"),
        ];
        assert_eq!(
            tags,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        );
    }

    #[test]
    fn damaged_documents_have_nothing_to_deliver() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(CONFIG), "{\"config\":").unwrap();
        std::fs::create_dir(dir.path().join(RunManifest::FILE)).unwrap();
        let documents = RunDocuments::read(&Folder::open(dir.path()).unwrap());
        assert!(documents.params().is_empty() && documents.run_id().is_empty());
        assert_eq!(documents.end(dir.path()), RunState::Unknown);
    }
}
