//! The replies of the server.
//!
//! Servers of different versions leave fields out, or send them as null. So a field that is missing
//! or has another type is read as its default, and the code that needs the field decides whether
//! that is an error.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reply to any GraphQL request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GraphqlReply {
    /// The result, by operation.
    pub(crate) data: Value,
    /// The errors. An empty list means success.
    #[serde(deserialize_with = "lenient_list")]
    pub(crate) errors: Vec<Value>,
}

/// Reply to a request of the file stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamReply {
    /// `true` if a user stops the run on its page.
    #[serde(deserialize_with = "lenient")]
    pub(crate) stopped: bool,
}

/// Reply to `ServerFeaturesQuery`, below `serverInfo`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ServerInfo {
    #[serde(deserialize_with = "lenient_list")]
    pub(crate) features: Vec<ServerFeature>,
}

/// An optional feature of a server.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ServerFeature {
    #[serde(deserialize_with = "lenient")]
    name: String,
    #[serde(deserialize_with = "lenient")]
    is_enabled: bool,
}

impl ServerInfo {
    /// Returns `true` if a feature is enabled.
    pub(crate) fn has(&self, feature: &str) -> bool {
        self.features
            .iter()
            .any(|known| known.name == feature && known.is_enabled)
    }
}

/// Reply to `UpsertBucket`, below `upsertBucket`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UpsertReply {
    #[serde(deserialize_with = "lenient")]
    pub(crate) bucket: UpsertedBucket,
}

/// The run that the server created or found.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct UpsertedBucket {
    #[serde(deserialize_with = "lenient")]
    pub(crate) id: String,
    #[serde(deserialize_with = "lenient")]
    pub(crate) name: String,
    /// Number of rows that the server has.
    #[serde(deserialize_with = "lenient")]
    pub(crate) history_line_count: u64,
    #[serde(deserialize_with = "lenient")]
    pub(crate) project: ReplyProject,
}

/// The project of a run.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplyProject {
    #[serde(deserialize_with = "lenient")]
    pub(crate) name: String,
    #[serde(deserialize_with = "lenient")]
    pub(crate) entity: ReplyEntity,
}

/// The user or team that owns a project.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplyEntity {
    #[serde(deserialize_with = "lenient")]
    pub(crate) name: Option<String>,
}

/// Reply to `RunResumeStatus`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ResumeReply {
    #[serde(deserialize_with = "lenient")]
    pub(crate) model: ResumeModel,
}

/// The project of a run that is resumed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ResumeModel {
    #[serde(deserialize_with = "lenient")]
    pub(crate) entity: ReplyEntity,
    /// `None` if the server has no such run.
    #[serde(deserialize_with = "lenient_unless_null")]
    pub(crate) bucket: Option<ResumeBucket>,
}

/// The state of a run on the server. Texts that hold JSON stay texts.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ResumeBucket {
    #[serde(deserialize_with = "lenient")]
    pub(crate) id: String,
    /// Number of rows.
    #[serde(deserialize_with = "lenient")]
    pub(crate) history_line_count: Option<u64>,
    /// Number of readings of the machine.
    #[serde(deserialize_with = "lenient")]
    pub(crate) events_line_count: Option<u64>,
    /// Number of console lines.
    #[serde(deserialize_with = "lenient")]
    pub(crate) log_line_count: Option<u64>,
    /// The last rows: a JSON array of JSON texts.
    #[serde(deserialize_with = "lenient")]
    pub(crate) history_tail: String,
    /// The last readings, in the same form.
    #[serde(deserialize_with = "lenient")]
    pub(crate) events_tail: String,
    /// The summary.
    #[serde(deserialize_with = "lenient")]
    pub(crate) summary_metrics: String,
    /// The config, with each value in an object of its own.
    #[serde(deserialize_with = "lenient")]
    pub(crate) config: String,
    /// W&B's internal part of the config. A started run has the key `t`.
    #[serde(deserialize_with = "lenient")]
    pub(crate) wandb_config: String,
    #[serde(deserialize_with = "lenient_list")]
    pub(crate) tags: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    pub(crate) notes: String,
}

/// Reply to `CreateRunFiles`, below `createRunFiles`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct CreatedRunFiles {
    /// Headers of the upload, as `Name:value`.
    #[serde(deserialize_with = "lenient_list")]
    pub(crate) upload_headers: Vec<String>,
    #[serde(deserialize_with = "lenient_list")]
    pub(crate) files: Vec<CreatedRunFile>,
}

/// A file of the run, and the address for its content.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct CreatedRunFile {
    #[serde(deserialize_with = "lenient")]
    pub(crate) name: String,
    /// Signed address for the content.
    #[serde(deserialize_with = "lenient")]
    pub(crate) upload_url: Option<String>,
}

/// Reply to `CreateArtifact`, below `createArtifact.artifact`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CreatedArtifact {
    #[serde(deserialize_with = "lenient")]
    pub(crate) id: Option<String>,
    /// `COMMITTED` if the server has the content already.
    #[serde(deserialize_with = "lenient")]
    pub(crate) state: String,
}

/// Reply to `CreateArtifactManifest`, below `createArtifactManifest.artifactManifest`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CreatedManifest {
    #[serde(deserialize_with = "lenient")]
    pub(crate) id: String,
    #[serde(deserialize_with = "lenient")]
    pub(crate) file: UploadAddress,
}

/// An address for content. There is no address if the server has the content already.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct UploadAddress {
    /// Signed address for the content.
    #[serde(deserialize_with = "lenient")]
    pub(crate) upload_url: Option<String>,
    /// Headers of the upload, as `Name:value`.
    #[serde(deserialize_with = "lenient_list")]
    pub(crate) upload_headers: Vec<String>,
}

/// Reply to `CreateArtifactFiles`: an item below `createArtifactFiles.files.edges`. The reply has
/// all files, in the order of the request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ArtifactFileEdge {
    #[serde(deserialize_with = "lenient")]
    pub(crate) node: ArtifactFileNode,
}

/// A file of an artifact.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ArtifactFileNode {
    #[serde(flatten)]
    pub(crate) target: UploadAddress,
    /// The artifact in which the file was first stored.
    #[serde(deserialize_with = "lenient")]
    pub(crate) artifact: CreatedArtifact,
}

/// Reads an object, a text or a number of a reply. A part of another form becomes the default.
pub(crate) fn from_part<T: DeserializeOwned + Default>(part: Value) -> T {
    match part {
        // Serde would read the items as the fields of a struct.
        Value::Array(_) => T::default(),
        part => serde_json::from_value(part).unwrap_or_default(),
    }
}

/// Reads a list of a reply. Anything else becomes an empty list.
pub(crate) fn list_from_part<T: DeserializeOwned + Default>(part: Value) -> Vec<T> {
    match part {
        Value::Array(items) => items.into_iter().map(from_part).collect(),
        _ => Vec::new(),
    }
}

/// Deserializes a field with [`from_part`].
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    Value::deserialize(deserializer).map(from_part)
}

/// Deserializes a field with [`list_from_part`].
fn lenient_list<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Value::deserialize(deserializer).map(list_from_part)
}

/// Deserializes a field with [`from_part`]; `None` for null.
fn lenient_unless_null<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Null => None,
        part => Some(from_part(part)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_of_another_type_become_defaults() {
        let odd = json!({"bucket": {"id": 5, "name": "x", "historyLineCount": "many", "project": {"entity": []}}});
        let bucket = from_part::<UpsertReply>(odd).bucket;
        assert_eq!((&*bucket.id, &*bucket.name, bucket.history_line_count), ("", "x", 0));
        assert_eq!(bucket.project.entity.name, None);
        let files: CreatedRunFiles = from_part(json!({"uploadHeaders": ["a:b", 1], "files": [5, {"name": "x"}]}));
        assert_eq!(files.upload_headers, ["a:b", ""]);
        assert_eq!((files.files.len(), &*files.files[1].name), (2, "x"));
    }

    #[test]
    fn a_missing_run_differs_from_a_malformed_run() {
        for (bucket, is_some) in [(json!(null), false), (json!(5), true), (json!({}), true)] {
            let reply: ResumeReply = from_part(json!({"model": {"bucket": bucket}}));
            assert_eq!(reply.model.bucket.is_some(), is_some);
        }
        assert!(from_part::<ResumeReply>(json!([])).model.bucket.is_none());
    }

    #[test]
    fn the_upload_address_of_an_artifact_file_is_optional() {
        let edges = json!([{"node": {"artifact": {"id": "A"}}}, {"node": {"uploadUrl": "u", "uploadHeaders": null}}]);
        let edges = list_from_part::<ArtifactFileEdge>(edges);
        assert_eq!(edges[0].node.artifact.id.as_deref(), Some("A"));
        assert_eq!(edges[1].node.target.upload_url.as_deref(), Some("u"));
    }
}
