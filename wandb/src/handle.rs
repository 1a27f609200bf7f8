//! What a program says to its run alone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use crate::artifact::{Artifact, ArtifactPlan};
use crate::definition::MetricDefinition;
use crate::folder::StagedFile;
use crate::folder::{FILES, RunFolder};
use crate::media::{Media, MediaError, StoredMedia, store};
use crate::message::Message;
use crate::run::WandbRun;

/// The open run of a logger. Its methods make messages for the sink `wandb`; the facade sends them through the ring.
///
/// ```
/// assert!(logcore_wandb::RunHandle::of("a logger without a run").is_none());
/// ```
pub struct RunHandle(Arc<WandbRun>);

/// A value that only needs a step.
pub struct PreparedValue {
    stored: StoredMedia,
    key: String,
    artifact: Option<ArtifactPlan>,
    remark: Option<String>,
}

/// A file that is kept with the run.
pub struct SavedFile {
    /// A text for [`Sink::message`](logcore::Sink::message).
    pub message: String,
    /// A line that says under which other name it is kept, if it is.
    pub remark: Option<String>,
}

/// A text for [`Sink::message`](logcore::Sink::message).
pub type MessageText = Result<String, MediaError>;

/// When a saved file is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavePolicy {
    /// At once.
    Now,
    /// When the run ends.
    End,
}

/// How grave an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertLevel {
    /// For information.
    Info,
    /// A warning.
    Warn,
    /// An error.
    Error,
}

impl RunHandle {
    /// The run that the logger of this name has open; `None` if it has none.
    pub fn of(logger: &str) -> Option<Self> {
        WandbRun::of(logger).map(Self)
    }

    /// The address of the run's page, once the server has said whose it is.
    pub fn url(&self) -> Option<String> {
        self.0.control.address()
    }

    /// The folder of the run.
    pub fn folder(&self) -> Option<PathBuf> {
        self.0.folder()
    }

    /// Makes a value ready for a row; all that takes time is done when this returns.
    ///
    /// # Errors
    ///
    /// If it is malformed, or its file cannot be written.
    pub fn prepare(&self, key: &str, media: impl Media) -> Result<PreparedValue, MediaError> {
        let prepared = media.prepare()?;
        let run = self.run_files()?;
        let mut stored = store(prepared.value, prepared.file, &run)?;
        let artifact = match prepared.artifact {
            Some(content) => Some(Artifact::plan_table(&self.0.settings.run_id, key, content, &run)?),
            None => None,
        };
        if let Some(plan) = &artifact {
            let [this, newest] = plan.addresses();
            stored.value["artifact_path"] = this.into();
            stored.value["_latest_artifact_path"] = newest.into();
        }
        Ok(PreparedValue {
            stored,
            key: key.to_owned(),
            artifact,
            remark: prepared.remark,
        })
    }

    /// A definition.
    ///
    /// # Errors
    ///
    /// If it is malformed.
    pub fn definition(&self, definition: MetricDefinition) -> MessageText {
        match definition.problem() {
            Some(problem) => Err(MediaError::Malformed(problem)),
            None => text(&Message::Define(definition)),
        }
    }

    /// A value of the summary.
    ///
    /// # Errors
    ///
    /// If it has no form as a message.
    pub fn summary(&self, key: &str, value: Value) -> MessageText {
        text(&Message::Summary {
            key: key.to_owned(),
            value,
        })
    }

    /// A file to keep with the run; it is copied before this returns. Another file of the same name, or a name of ours, stays:
    /// then this one gets a name of its own, and the remark says so.
    ///
    /// # Errors
    ///
    /// If it cannot be read or copied.
    pub fn file(&self, path: &Path, policy: SavePolicy) -> Result<SavedFile, MediaError> {
        let named = |error: io::Error| {
            let text = format!("{}: {error}", path.display());
            MediaError::Io(io::Error::new(error.kind(), text))
        };
        let run = self.run_files()?;
        let mut original = logcore_files::open(path).map_err(named)?;
        let source = path.canonicalize().map_err(named)?;
        let in_place = run.place_of(Path::new(FILES)).and_then(|files| files.canonicalize());
        let (kept, remark) = match in_place.ok().and_then(|files| source.strip_prefix(files).ok()) {
            Some(kept) => (text_of(kept), None),
            None => {
                let wanted = wanted_name(path)?;
                let kept = self.0.name_for(&wanted, &source, &run);
                let copy = StagedFile::new(&run, |place| io::copy(&mut original, place)).map_err(named)?;
                copy.place(&Path::new(FILES).join(&kept)).map_err(named)?;
                let remark = (kept != wanted)
                    .then(|| format!("it is kept as `{kept}`, because the run has another file `{wanted}`"));
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

    /// An artifact; its files are copied before this returns.
    ///
    /// # Errors
    ///
    /// If it is malformed, or a file cannot be read or copied.
    pub fn artifact(&self, artifact: Artifact) -> MessageText {
        text(&Message::Artifact(artifact.plan(&*self.run_files()?)?))
    }

    /// An alert.
    ///
    /// # Errors
    ///
    /// If it has no title.
    pub fn alert(&self, title: &str, body: &str, level: AlertLevel) -> MessageText {
        if title.trim().is_empty() {
            return Err(MediaError::Malformed("an alert without a title".to_owned()));
        }
        text(&Message::Alert {
            title: title.to_owned(),
            text: body.to_owned(),
            level: match level {
                AlertLevel::Info => "INFO",
                AlertLevel::Warn => "WARN",
                AlertLevel::Error => "ERROR",
            }
            .to_owned(),
        })
    }

    fn run_files(&self) -> Result<Arc<RunFolder>, MediaError> {
        self.0.run_files().ok_or(MediaError::NoRun)
    }
}

impl PreparedValue {
    /// A line that says which part of the value was left out, if one was.
    pub fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// Puts the value into the row of `step`.
    ///
    /// # Errors
    ///
    /// If its file cannot get its name.
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

/// A relative path keeps its folders, as long as they lead nowhere else.
fn wanted_name(path: &Path) -> Result<String, MediaError> {
    let name = path
        .file_name()
        .ok_or_else(|| MediaError::Malformed(format!("{} does not name a file", path.display())))?;
    Ok(text_of(match logcore_files::is_plain_relative(path) {
        true => path,
        false => Path::new(name),
    }))
}

/// A path as W&B has it, and as the file is called here, whatever its bytes were.
fn text_of(path: &Path) -> String {
    let text = path.to_string_lossy();
    match std::path::MAIN_SEPARATOR {
        '/' => text.into_owned(),
        other => text.replace(other, "/"),
    }
}

fn text(message: &Message) -> MessageText {
    serde_json::to_string(message).map_err(|error| MediaError::Malformed(error.to_string()))
}
