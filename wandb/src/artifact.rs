//! Artifacts: versioned files of a run.
//!
//! The files are copied into `artifacts/<id>/<number>` when the artifact is logged, and the copies
//! are removed after the upload.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use logcore::MediaError;
use logcore::files::LimitedFile;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::folder::{ARTIFACTS, RunFolder};
use crate::log_format::proto;
use crate::media::hex;
use crate::upload::digest;

/// Named files of which W&B keeps every version, such as a checkpoint or a data set.
///
/// ```
/// use logcore_wandb::Artifact;
/// use serde_json::json;
///
/// let checkpoint = Artifact::new("model", "model")
///     .file("out/weights.safetensors")
///     .file_as("out/config.json", "config/model.json")
///     .alias("best")
///     .metadata(json!({"loss": 0.5}));
/// assert_eq!(checkpoint.name(), "model");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Name of the artifact.
    name: String,
    /// Type of the artifact.
    kind: String,
    /// Description for people.
    description: String,
    /// A JSON object, or null.
    metadata: Value,
    /// Names of this version.
    aliases: Vec<String>,
    /// The files, each with its name in the artifact.
    files: Vec<(FileSource, String)>,
}

/// The content of a file of an artifact.
#[derive(Debug, Clone, PartialEq)]
enum FileSource {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Artifact {
    /// Creates an artifact without files. `kind` is the type in W&B: `model`, `dataset`, …
    ///
    /// ```
    /// use logcore_wandb::Artifact;
    ///
    /// assert_eq!(Artifact::new("digits", "dataset").name(), "digits");
    /// ```
    #[must_use]
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            description: String::new(),
            metadata: Value::Null,
            aliases: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Returns the name.
    ///
    /// ```
    /// use logcore_wandb::Artifact;
    ///
    /// assert_eq!(Artifact::new("model", "model").alias("best").name(), "model");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a file under its own name.
    ///
    /// ```
    /// use logcore_wandb::Artifact;
    ///
    /// let short = Artifact::new("model", "model").file("out/weights.bin");
    /// assert_eq!(short, Artifact::new("model", "model").file_as("out/weights.bin", "weights.bin"));
    /// ```
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.file_as(path, name.unwrap_or_default())
    }

    /// Adds a file under another name. `/` separates folders.
    ///
    /// ```
    /// use logcore_wandb::Artifact;
    ///
    /// let model = Artifact::new("model", "model").file_as("/tmp/a.json", "config/model.json");
    /// assert_ne!(model, Artifact::new("model", "model").file("/tmp/a.json"));
    /// ```
    #[must_use]
    pub fn file_as(mut self, path: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        self.files.push((FileSource::File(path.into()), name.into()));
        self
    }

    /// Adds a name of this version. The newest version is also named `latest`.
    ///
    /// ```
    /// use logcore_wandb::Artifact;
    ///
    /// let model = Artifact::new("model", "model");
    /// assert_ne!(model.clone().alias("best"), model);
    /// ```
    #[must_use]
    pub fn alias(mut self, alias: impl Into<String>) -> Self {
        self.aliases.push(alias.into());
        self
    }

    /// Sets the description.
    ///
    /// ```
    /// use logcore_wandb::Artifact;
    ///
    /// let model = Artifact::new("model", "model");
    /// assert_ne!(model.clone().description("after 10 epochs"), model);
    /// ```
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// Sets the metadata, which must be a JSON object.
    ///
    /// ```
    /// use logcore_wandb::Artifact;
    /// use serde_json::json;
    ///
    /// let model = Artifact::new("model", "model");
    /// assert_ne!(model.clone().metadata(json!({"epoch": 10})), model);
    /// ```
    #[must_use]
    pub fn metadata(mut self, metadata: Value) -> Self {
        self.metadata = metadata;
        self
    }

    /// Copies the files into the folder of the run, so that later changes of the originals do not
    /// matter, and computes their digests.
    pub(crate) fn plan(self, run: &RunFolder) -> Result<ArtifactPlan, MediaError> {
        self.check()?;
        let client_id = random_id()?;
        let folder = Path::new(ARTIFACTS).join(&client_id[..16]);
        let mut entries = self.copy_to(run, &folder).inspect_err(|_| {
            for at in 0..self.files.len() {
                let _ = run.folder().remove_file(&folder.join(at.to_string()));
            }
            let _ = run.folder().remove_dir(&folder);
        })?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let mut aliases = self.aliases;
        if !aliases.iter().any(|alias| alias == "latest") {
            aliases.insert(0, "latest".to_owned());
        }
        Ok(ArtifactPlan {
            name: self.name,
            kind: self.kind,
            description: self.description,
            metadata: match self.metadata {
                Value::Null => "{}".to_owned(),
                metadata => metadata.to_string(),
            },
            aliases,
            digest: artifact_digest(&entries),
            client_id,
            sequence_client_id: random_id()?,
            entries,
        })
    }

    /// Creates the artifact of a table that the run logs under `key`.
    pub(crate) fn plan_table(
        run_id: &str,
        key: &str,
        content: Vec<u8>,
        run: &RunFolder,
    ) -> Result<ArtifactPlan, MediaError> {
        let known = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let plain: String = key.chars().filter(known).take(80).collect();
        // Keys that differ only in dropped characters get different names.
        let suffix = match plain == key {
            true => String::new(),
            false => format!("-{}", &hex(&Md5::digest(key))[..6]),
        };
        let parts = key.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
        let name = parts.collect::<Vec<_>>().join("/").replace(['\\', '\0'], "-");
        let mut artifact = Self::new(format!("run-{run_id}-{plain}{suffix}"), "run_table");
        artifact
            .files
            .push((FileSource::Bytes(content), format!("{name}.table.json")));
        Ok(ArtifactPlan {
            // As in the official client, the artifact of a table has no metadata.
            metadata: String::new(),
            ..artifact.plan(run)?
        })
    }

    /// Copies the files into a folder, numbered in their order.
    fn copy_to(&self, run: &RunFolder, folder: &Path) -> Result<Vec<PlannedFile>, MediaError> {
        let mut entries: Vec<PlannedFile> = Vec::new();
        run.folder().create_dir_all(folder)?;
        for (at, (source, name)) in self.files.iter().enumerate() {
            let copy = folder.join(at.to_string());
            let mut file = run.folder().create_new(&copy)?;
            let mut file = LimitedFile::new(&mut file);
            let size = match source {
                FileSource::Bytes(bytes) => file.write_all(bytes).map(|()| bytes.len() as u64)?,
                FileSource::File(path) => logcore::files::open(path)
                    .and_then(|mut original| io::copy(&mut original, &mut file))
                    .map_err(|error| {
                        MediaError::Malformed(format!("cannot copy {} into an artifact: {error}", path.display()))
                    })?,
            };
            let digest = digest(&run.folder().open_file(&copy)?)?;
            match entries.iter().find(|entry| entry.path == *name) {
                // Equal files of one name are stored once.
                Some(entry) if entry.digest == digest => run.folder().remove_file(&copy)?,
                Some(_) => {
                    let what =
                        format!("an artifact has two files `{name}`; give one of them another name with `file_as`");
                    return Err(MediaError::Malformed(what));
                }
                None => entries.push(PlannedFile {
                    path: name.clone(),
                    digest,
                    size,
                    local_path: run.absolute(&copy)?.to_string_lossy().into_owned(),
                }),
            }
        }
        if entries.is_empty() {
            run.folder().remove_dir(folder)?;
        }
        Ok(entries)
    }

    /// Checks names, aliases and metadata.
    fn check(&self) -> Result<(), MediaError> {
        let refuse = |what: String| Err(MediaError::Malformed(format!("an artifact {what}")));
        let plain = |text: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            (1..=128).contains(&text.len()) && text.chars().all(known)
        };
        if !plain(&self.name) {
            return refuse(format!(
                "named `{}`; a name has 1 to 128 letters, digits, `_`, `-` and `.`",
                self.name
            ));
        }
        if !plain(&self.kind) {
            return refuse(format!(
                "of type `{}`; a type has letters, digits, `_`, `-` and `.`",
                self.kind
            ));
        }
        if let Some(alias) = self
            .aliases
            .iter()
            .find(|alias| alias.is_empty() || alias.contains(['/', ':']))
        {
            return refuse(format!(
                "with the alias `{alias}`; an alias is not empty and has no `/` and `:`"
            ));
        }
        if !self.metadata.is_null() && !self.metadata.is_object() {
            return refuse("whose metadata is not an object".to_owned());
        }
        let is_invalid = |name: &str| {
            let parts = Path::new(name).components();
            name.is_empty()
                || name.contains(['\\', '\0'])
                || !parts
                    .into_iter()
                    .all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        match self.files.iter().find(|(_, name)| is_invalid(name)) {
            Some((_, name)) => refuse(format!("with a file `{name}`; write a relative path without `..`")),
            None => Ok(()),
        }
    }
}

/// An artifact whose files have been copied.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ArtifactPlan {
    name: String,
    kind: String,
    description: String,
    metadata: String,
    aliases: Vec<String>,
    digest: String,
    client_id: String,
    sequence_client_id: String,
    entries: Vec<PlannedFile>,
}

/// A copied file of an artifact.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PlannedFile {
    path: String,
    digest: String,
    size: u64,
    local_path: String,
}

impl ArtifactPlan {
    /// Returns the address of the only file of the artifact, in this version and in the newest.
    pub(crate) fn addresses(&self) -> [String; 2] {
        let path = self.entries.first().map_or("", |entry| entry.path.as_str());
        [
            format!("wandb-client-artifact://{}/{path}", self.client_id),
            format!("wandb-client-artifact://{}:latest/{path}", self.sequence_client_id),
        ]
    }

    /// Returns the record of the artifact.
    pub(crate) fn record(&self) -> proto::ArtifactRecord {
        let contents = self.entries.iter().map(|entry| proto::ManifestEntry {
            path: entry.path.clone(),
            digest: entry.digest.clone(),
            size: i64::try_from(entry.size).unwrap_or(i64::MAX),
            local_path: entry.local_path.clone(),
        });
        proto::ArtifactRecord {
            r#type: self.kind.clone(),
            name: self.name.clone(),
            digest: self.digest.clone(),
            description: self.description.clone(),
            metadata: self.metadata.clone(),
            digest_algorithm: "MANIFEST_MD5".to_owned(),
            aliases: self.aliases.clone(),
            manifest: Some(proto::ManifestRecord {
                version: 1,
                storage_policy: "wandb-storage-policy-v1".to_owned(),
                storage_policy_config: vec![proto::StoragePolicyItem {
                    key: "storageLayout".to_owned(),
                    value_json: "\"V2\"".to_owned(),
                }],
                contents: contents.collect(),
            }),
            finalize: true,
            client_id: self.client_id.clone(),
            sequence_client_id: self.sequence_client_id.clone(),
            ..proto::ArtifactRecord::default()
        }
    }
}

/// Returns the digest of an artifact, computed from the sorted paths and the digests of the files.
fn artifact_digest(entries: &[PlannedFile]) -> String {
    let mut hash = Md5::new();
    hash.update(b"wandb-artifact-manifest-v1\n");
    for entry in entries {
        hash.update(format!("{}:{}\n", entry.path, entry.digest));
    }
    hex(&hash.finalize())
}

/// Returns a random id of 128 letters and digits.
fn random_id() -> Result<String, MediaError> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
    let mut bytes = [0_u8; 128];
    getrandom::fill(&mut bytes).map_err(|error| {
        MediaError::Malformed(format!("cannot draw random numbers for the id of an artifact: {error}"))
    })?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(byte % 32)]))
        .collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn copies_of_a_failed_artifact_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (there, staging) = (folder.path().join("there"), folder.path().join("artifacts"));
        let run = RunFolder::open(&folder.path().join("run-x.wandb")).unwrap();
        fs::write(&there, "x").unwrap();
        let whole = Artifact::new("a", "model").file(&there).plan(&run).unwrap();
        assert_eq!(fs::read(&whole.entries[0].local_path).unwrap(), b"x");
        let missing = folder.path().join("missing");
        for (bad, word) in [
            (&missing, "missing"),
            (&folder.path().to_owned(), "a folder"),
            (&PathBuf::from("/dev/zero"), "a device"),
        ] {
            let error = Artifact::new("a", "model")
                .file(&there)
                .file_as(bad, "b")
                .plan(&run)
                .unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert_eq!(fs::read_dir(&staging).unwrap().count(), 1);
    }

    #[test]
    fn two_different_files_of_one_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::open(&folder.path().join("run-x.wandb")).unwrap();
        let [one, equal, other] = ["one", "equal", "other"].map(|name| {
            fs::create_dir(folder.path().join(name)).unwrap();
            let path = folder.path().join(name).join("weights");
            fs::write(&path, if name == "other" { "y" } else { "x" }).unwrap();
            path
        });
        let twice = Artifact::new("a", "model").file(&one).file(&equal).plan(&run).unwrap();
        assert_eq!(twice.entries.len(), 1);
        let error = Artifact::new("a", "model")
            .file(&one)
            .file(&other)
            .plan(&run)
            .unwrap_err();
        assert!(error.to_string().contains("two files `weights`"), "{error}");
        assert_eq!(fs::read_dir(folder.path().join("artifacts")).unwrap().count(), 1);
    }
}
