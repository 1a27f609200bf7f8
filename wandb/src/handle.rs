//! The calls of a program that only a W&B run accepts.
//!
//! Values are encoded and files are copied on the thread of the caller. A small message
//! passes the ring.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use logcore::{EncodedMedia, MediaError, StagedMedia};
use serde_json::Value;

use crate::artifact::{Artifact, ArtifactPlan};
use crate::definition::MetricDefinition;
use crate::folder::StagedFile;
use crate::folder::{FILES, RunFolder};
use crate::media::{StoredMedia, table_artifact, table_remark};
use crate::message::Message;
use crate::run::WandbRun;

/// The open run of a logger.
///
/// The methods create messages for the sink `wandb`. The facade sends these messages through the
/// ring.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use logcore::{BuildContext, EncodedMedia, Image, LogConfig, Notices, StopFlag, registry};
/// use logcore_wandb::{Artifact, MetricDefinition, RunHandle, SavePolicy};
/// use serde_json::json;
///
/// let config = LogConfig { log_dir: folder.path().into(), name: "trainer".into(), ..LogConfig::default() };
/// let stop = StopFlag::default();
/// let mut sink = registry::build_sink("wandb", &json!({"mode": "offline"}), &BuildContext::new(&config, &stop))?;
/// sink.start(&Notices::new(|_, line| println!("{line}")))?;
///
/// let run = RunHandle::of("trainer").unwrap();
/// sink.message(&run.definition(MetricDefinition::new("loss").summary(["min"]))?)?;
/// sink.message(&run.summary("best", json!(0.91))?)?;
/// let image = EncodedMedia::of(Image::rgb(1, 1, [255, 0, 0]))?;
/// sink.message(&run.prepare("sample", &image, None)?.message(0)?)?;
///
/// let weights = folder.path().join("weights.bin");
/// std::fs::write(&weights, "x")?;
/// let saved = run.file(&weights, SavePolicy::End)?;
/// assert_eq!(saved.remark, None);
/// sink.message(&saved.message)?;
/// sink.message(&run.artifact(Artifact::new("model", "model").file(&weights))?)?;
/// sink.deliver()?;
///
/// assert!(run.folder().unwrap().join("files/weights.bin").is_file());
/// assert_eq!(run.url(), None, "the run is offline");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RunHandle(Arc<WandbRun>);

impl fmt::Debug for RunHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle")
            .field("folder", &self.folder())
            .finish_non_exhaustive()
    }
}

/// A value whose file is written, and that only needs a step.
pub struct PreparedValue {
    stored: StoredMedia,
    key: String,
    artifact: Option<ArtifactPlan>,
    remark: Option<String>,
}

impl fmt::Debug for PreparedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedValue")
            .field("key", &self.key)
            .field("remark", &self.remark)
            .finish_non_exhaustive()
    }
}

/// A file that was copied into the folder of the run.
#[derive(Debug)]
#[non_exhaustive]
pub struct SavedFile {
    /// A text for [`Sink::message`](logcore::Sink::message).
    pub message: String,
    /// A notice if the copy has another name than the file.
    pub remark: Option<String>,
}

/// A text for [`Sink::message`](logcore::Sink::message).
pub type MessageText = Result<String, MediaError>;

/// The time at which a saved file is uploaded.
///
/// ```
/// use logcore_wandb::SavePolicy;
///
/// assert_ne!(SavePolicy::Now, SavePolicy::End);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SavePolicy {
    /// At once.
    Now,
    /// When the run ends.
    End,
}

impl RunHandle {
    /// Returns the open run of a logger; `None` if the logger has no run.
    #[must_use]
    pub fn of(logger: &str) -> Option<Self> {
        WandbRun::open_of(logger).map(Self)
    }

    /// Returns the address of the run's page, once the server has named the owner of the run.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.0.control.address()
    }

    /// Returns the folder of the run.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        self.0.folder()
    }

    /// Writes the file of a value, as a link to `staged` if that has the same content. Adding the
    /// value to a row takes no more time.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn prepare(
        &self,
        key: &str,
        media: &EncodedMedia,
        staged: Option<&StagedMedia>,
    ) -> Result<PreparedValue, MediaError> {
        let run = self.run_files()?;
        let mut stored = StoredMedia::new(media, staged, &run)?;
        let plan = |table| Artifact::plan_table(&self.0.settings.run_id, key, table_artifact(table)?, &run);
        let artifact = media.table.as_ref().map(plan).transpose()?;
        if let Some(plan) = &artifact {
            let [this, newest] = plan.addresses();
            stored.value["artifact_path"] = this.into();
            stored.value["_latest_artifact_path"] = newest.into();
        }
        Ok(PreparedValue {
            stored,
            key: key.to_owned(),
            artifact,
            remark: media.table.as_ref().and_then(table_remark),
        })
    }

    /// Creates the message of a definition.
    ///
    /// # Errors
    ///
    /// If the definition is malformed.
    pub fn definition(&self, definition: MetricDefinition) -> MessageText {
        match definition.check() {
            Err(problem) => Err(MediaError::Malformed(problem)),
            Ok(()) => text(&Message::Define(definition)),
        }
    }

    /// Creates the message of a summary value.
    ///
    /// # Errors
    ///
    /// If the value cannot be serialized.
    pub fn summary(&self, key: &str, value: Value) -> MessageText {
        text(&Message::Summary {
            key: key.to_owned(),
            value,
        })
    }

    /// Copies a file into the folder of the run. If another file has the same name, the copy gets a
    /// numbered name, and [`SavedFile::remark`] names it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or copied.
    pub fn file(&self, path: &Path, policy: SavePolicy) -> Result<SavedFile, MediaError> {
        let named = |error: io::Error| {
            let text = format!("{}: {error}", path.display());
            MediaError::Io(io::Error::new(error.kind(), text))
        };
        let run = self.run_files()?;
        let mut original = logcore::files::open(path).map_err(named)?;
        let source = path.canonicalize().map_err(named)?;
        let in_place = run.absolute(Path::new(FILES)).and_then(|files| files.canonicalize());
        let (kept, remark) = match in_place.ok().and_then(|files| source.strip_prefix(files).ok()) {
            Some(kept) => (text_of(kept), None),
            None => {
                let wanted = wanted_name(path)?;
                let kept = self.0.name_for(&wanted, &source, &run);
                let copy = StagedFile::new(&run, |copy| io::copy(&mut original, copy)).map_err(named)?;
                copy.persist(&Path::new(FILES).join(&kept)).map_err(named)?;
                let remark = (kept != wanted)
                    .then(|| format!("the copy is kept as `{kept}`, because the run has another file `{wanted}`"));
                (kept, remark)
            }
        };
        let message = text(&Message::File {
            path: kept,
            policy: match policy {
                SavePolicy::Now => 0,
                SavePolicy::End => 1,
            },
        })?;
        Ok(SavedFile { message, remark })
    }

    /// Copies the files of an artifact into the folder of the run, and creates the message.
    ///
    /// # Errors
    ///
    /// If the artifact is malformed, or a file cannot be read or copied.
    pub fn artifact(&self, artifact: Artifact) -> MessageText {
        text(&Message::Artifact(artifact.plan(&*self.run_files()?)?))
    }

    /// Returns the folder of the run.
    fn run_files(&self) -> Result<Arc<RunFolder>, MediaError> {
        self.0.run_files().ok_or(MediaError::NoRun)
    }
}

impl PreparedValue {
    /// Returns a notice about the part of the value that was dropped, if any.
    #[must_use]
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// Creates the message that adds the value to the row of `step`.
    ///
    /// # Errors
    ///
    /// If the file cannot be moved to its path.
    pub fn message(self, step: u64) -> MessageText {
        let (value, file) = self.stored.name(&self.key, step)?;
        text(&Message::Value {
            step,
            time: SystemTime::now(),
            key: self.key,
            json: value.to_string(),
            file,
            artifact: self.artifact,
        })
    }
}

/// Returns the name of a saved file. A relative path keeps its folders, unless they lead out of the
/// run.
fn wanted_name(path: &Path) -> Result<String, MediaError> {
    let name = path
        .file_name()
        .ok_or_else(|| MediaError::Malformed(format!("{} does not name a file", path.display())))?;
    Ok(text_of(match logcore::files::is_plain_relative(path) {
        true => path,
        false => Path::new(name),
    }))
}

/// Returns a path with `/` as separator. Invalid UTF-8 is replaced, in the name of the copy, too.
fn text_of(path: &Path) -> String {
    let text = path.to_string_lossy();
    match std::path::MAIN_SEPARATOR {
        '/' => text.into_owned(),
        other => text.replace(other, "/"),
    }
}

/// Serializes a message.
fn text(message: &Message) -> MessageText {
    serde_json::to_string(message).map_err(|error| MediaError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_can_be_shared_and_sent_between_threads() {
        fn is_shared<T: Send + Sync>() {}
        fn is_sent<T: Send>() {}
        is_shared::<RunHandle>();
        is_shared::<Artifact>();
        is_shared::<MetricDefinition>();
        is_sent::<PreparedValue>();
        is_sent::<crate::WandbSink>();
    }
}
