//! What a program says to its run alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use std::{fs, io};

use serde_json::Value;

use crate::artifact::Artifact;
use crate::definition::MetricDefinition;
use crate::media::{Media, MediaError, store};
use crate::message::Message;
use crate::run::Run;

/// The open run of a logger. Its methods make messages for the sink `wandb`; the facade sends them through the ring.
pub struct RunHandle(Arc<Run>);

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

    /// A value for the row of `step`. Its file is in the run's folder when this returns.
    ///
    /// # Errors
    ///
    /// If it is malformed, or its file cannot be written.
    pub fn value(&self, step: u64, key: &str, media: impl Media) -> MessageText {
        let files = self.files()?;
        let prepared = media.prepare()?;
        let artifact = match prepared.artifact {
            Some(content) => Some(Artifact::plan_table(
                &self.0.settings.run_id,
                key,
                &content,
                &self.staging()?,
            )?),
            None => None,
        };
        let (mut value, file) = store(prepared.value, prepared.file, &files, key, step)?;
        if let Some(plan) = &artifact {
            let [this, newest] = plan.addresses();
            value["artifact_path"] = this.into();
            value["_latest_artifact_path"] = newest.into();
        }
        text(&Message::Value {
            step,
            time: SystemTime::now(),
            key: key.to_owned(),
            json: value.to_string(),
            file,
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
    /// None at present.
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
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(path, &target).map_err(|error| {
            let text = format!("{}: {error}", path.display());
            MediaError::Io(io::Error::new(error.kind(), text))
        })?;
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
        Ok(self.folder().ok_or(MediaError::NoRun)?.join("artifacts"))
    }

    fn files(&self) -> Result<PathBuf, MediaError> {
        self.0.files().ok_or(MediaError::NoRun)
    }
}

fn text(message: &Message) -> MessageText {
    serde_json::to_string(message).map_err(|error| MediaError::Malformed(error.to_string()))
}
