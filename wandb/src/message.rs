//! Messages of a program to its run, in the form in which they pass the ring.
//!
//! A message is JSON text in the ring, so that another process can recover it after a crash.

use std::time::SystemTime;

use logcore::SinkError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::ArtifactPlan;
use crate::definition::MetricDefinition;
use crate::log_format::proto::{FilesItem, FilesRecord, MEDIA, RecordKind};
use crate::run_log::{CallRejection, RunLog};

/// A call of [`RunHandle`](crate::RunHandle).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// A JSON value for the row of a step. The file of the value is in the folder of the run
    /// already.
    Value {
        step: u64,
        /// Time of the call, so that a message that is repeated after a crash writes the same row.
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
    /// A file of the run. `policy` is W&B's number of a policy.
    File {
        path: String,
        policy: i32,
    },
    Artifact(ArtifactPlan),
}

/// Parses a message of the program.
pub(crate) fn parse(text: &str) -> Result<Message, SinkError> {
    serde_json::from_str(text)
        .map_err(|error| SinkError::new(format!("cannot parse a message: {error}")).with_reason("not understood"))
}

impl Message {
    /// Writes the message into the log of the run.
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
        }
    }
}

/// Returns the record of one file.
fn one_file(path: String, policy: i32, kind: i32) -> RecordKind {
    RecordKind::Files(FilesRecord {
        files: vec![FilesItem {
            path,
            policy,
            r#type: kind,
        }],
    })
}
