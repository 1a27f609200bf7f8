//! What a program says to the run alone, on its way through the ring.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::ArtifactPlan;
use crate::definition::MetricDefinition;
use crate::log_format::proto::{AlertRecord, FilesItem, FilesRecord, MEDIA, RecordKind};
use crate::run_log::{CallRejection, RunLog};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// A value that is no number, for the row of a step; its file lies in the run's folder already.
    Value {
        step: u64,
        /// Of the call, so that a message that is given again after a crash makes the same row.
        #[serde(with = "logcore::signed_time")]
        time: SystemTime,
        key: String,
        json: String,
        file: Option<String>,
        artifact: Option<ArtifactPlan>,
    },
    Define(MetricDefinition),
    Summary {
        key: String,
        value: Value,
    },
    /// A file of the run; `policy` as W&B numbers it.
    File {
        path: String,
        policy: i32,
    },
    Artifact(ArtifactPlan),
    Alert {
        title: String,
        text: String,
        level: String,
    },
}

impl Message {
    /// Writes it into the log of the run.
    pub(crate) fn write_to(self, log: &mut RunLog) -> Result<(), CallRejection> {
        match self {
            Self::Value {
                step,
                time,
                key,
                json,
                file,
                artifact,
            } => {
                log.value(step, time, &key, &json)?;
                if let Some(plan) = artifact {
                    log.artifact(plan.record())?;
                }
                file.map_or(Ok(()), |path| log.record(one_file(path, 0, MEDIA)))
            }
            Self::Define(definition) => log.define(definition.records()),
            Self::Summary { key, value } => log.set_summary(&key, &value),
            Self::File { path, policy } => log.record(one_file(path, policy, 0)),
            Self::Artifact(plan) => log.artifact(plan.record()),
            Self::Alert { title, text, level } => log.record(RecordKind::Alert(AlertRecord {
                title,
                text,
                level,
                // The pause between equal alerts that the official client asks for.
                wait_duration: 60_000,
            })),
        }
    }
}

fn one_file(path: String, policy: i32, kind: i32) -> RecordKind {
    RecordKind::Files(FilesRecord {
        files: vec![FilesItem {
            path,
            policy,
            r#type: kind,
        }],
    })
}
