//! What a program says to its run alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use std::{fs, io};

use serde_json::Value;

use crate::artifact::{Artifact, Plan};
use crate::definition::MetricDefinition;
use crate::media::{Media, MediaError, Stored, store};
use crate::message::Message;
use crate::run::Run;
use crate::staged::Staged;

/// The open run of a logger. Its methods make messages for the sink `wandb`; the facade sends them through the ring.
///
/// ```
/// assert!(logcore_wandb::RunHandle::of("a logger without a run").is_none());
/// ```
pub struct RunHandle(Arc<Run>);

/// A value that only needs a step.
pub struct PreparedValue {
    stored: Stored,
    files: PathBuf,
    key: String,
    artifact: Option<Plan>,
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
        Run::of(logger).map(Self)
    }

    /// The address of the run's page, once the server has said whose it is.
    pub fn url(&self) -> Option<String> {
        self.0.control.address()
    }

    /// The folder of the run.
    pub fn folder(&self) -> Option<PathBuf> {
        Some(self.0.files()?.parent()?.to_owned())
    }

    /// Makes a value ready for a row; all that takes time is done when this returns.
    ///
    /// # Errors
    ///
    /// If it is malformed, or its file cannot be written.
    pub fn prepare(&self, key: &str, media: impl Media) -> Result<PreparedValue, MediaError> {
        let prepared = media.prepare()?;
        let mut stored = store(prepared.value, prepared.file, &self.run_folder()?)?;
        let artifact = match prepared.artifact {
            Some(content) => Some(Artifact::plan_table(
                &self.0.settings.run_id,
                key,
                &content,
                &self.staging()?,
            )?),
            None => None,
        };
        if let Some(plan) = &artifact {
            let [this, newest] = plan.addresses();
            stored.value["artifact_path"] = this.into();
            stored.value["_latest_artifact_path"] = newest.into();
        }
        Ok(PreparedValue {
            stored,
            files: self.files()?,
            key: key.to_owned(),
            artifact,
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

    /// A file to keep with the run; it is copied before this returns.
    ///
    /// # Errors
    ///
    /// If it cannot be read or copied.
    pub fn file(&self, path: &Path, policy: SavePolicy) -> MessageText {
        let name = path
            .file_name()
            .ok_or_else(|| MediaError::Malformed(format!("{} does not name a file", path.display())))?;
        // A relative path keeps its folders, as long as they lead nowhere else.
        let inside = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        let kept = if inside { path } else { Path::new(name) };
        let target = self.files()?.join(kept);
        if !is_same(path, &target) {
            let named = |error: io::Error| {
                let text = format!("{}: {error}", path.display());
                MediaError::Io(io::Error::new(error.kind(), text))
            };
            let copy = Staged::new(&self.run_folder()?, |place| fs::copy(path, place)).map_err(named)?;
            copy.place(&target).map_err(named)?;
        }
        text(&Message::File {
            path: kept.to_string_lossy().replace('\\', "/"),
            policy: match policy {
                SavePolicy::Now => 0,
                SavePolicy::End => 1,
            },
        })
    }

    /// An artifact; its files are copied before this returns.
    ///
    /// # Errors
    ///
    /// If it is malformed, or a file cannot be read or copied.
    pub fn artifact(&self, artifact: Artifact) -> MessageText {
        text(&Message::Artifact(artifact.plan(&self.staging()?)?))
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

    /// Where the files of artifacts lie until they are uploaded.
    fn staging(&self) -> Result<PathBuf, MediaError> {
        Ok(self.run_folder()?.join("artifacts"))
    }

    fn run_folder(&self) -> Result<PathBuf, MediaError> {
        self.folder().ok_or(MediaError::NoRun)
    }

    fn files(&self) -> Result<PathBuf, MediaError> {
        self.0.files().ok_or(MediaError::NoRun)
    }
}

impl PreparedValue {
    /// Puts the value into the row of `step`.
    ///
    /// # Errors
    ///
    /// If its file cannot get its name.
    pub fn message(self, step: u64) -> MessageText {
        let (value, file) = self.stored.name(&self.files, &self.key, step)?;
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

/// Whether both lead to one file, which is there.
fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn text(message: &Message) -> MessageText {
    serde_json::to_string(message).map_err(|error| MediaError::Malformed(error.to_string()))
}
