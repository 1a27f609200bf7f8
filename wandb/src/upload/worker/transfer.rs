//! Uploads a file or an artifact of a run.
//!
//! A file is compared with the uploaded digest first, so that an unchanged file is not sent again.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use logcore_delivery::{Attempt, DeliveryError, DeliveryErrorKind, Lane, Transfer};
use serde_json::json;

use super::artifact::{ArtifactProgress, missing_copy, upload_artifact};
use crate::folder::{FILES, RunFolder};
use crate::log_format::proto::ArtifactRecord;
use crate::upload::client::RetryingClient;
use crate::upload::client::put_file::{digest, put_file, split_headers};
use crate::upload::client::replies::CreatedRunFiles;
use crate::upload::client::run_identity::RunIdentity;

const CREATE_FILES: &str = "mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, \
     $files: [String!]!) { createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, \
     files: $files}) { runID uploadHeaders files { name uploadUrl } } }";

/// A file or artifact to upload, and the number of calls for it.
pub(crate) struct RunTransfer {
    pub(crate) calls: u64,
    what: TransferItem,
    to: Arc<RunTarget>,
    /// The progress of an artifact.
    progress: ArtifactProgress,
}

/// The run on the server, and its folder.
pub(crate) struct RunTarget {
    pub(crate) client: RetryingClient,
    pub(crate) run: RunIdentity,
    pub(crate) files: Arc<RunFolder>,
}

/// The file or artifact of a transfer.
pub(crate) enum TransferItem {
    /// A file of the run. `known` is the digest of the content that the server has.
    File {
        name: String,
        known: Option<String>,
    },
    Artifact(Box<ArtifactRecord>),
}

/// The result of a transfer.
pub(crate) enum TransferOutcome {
    /// The file was uploaded.
    File { name: String, digest: String },
    /// The server had the content already.
    Known,
    /// The artifact was uploaded.
    Artifact(Box<ArtifactRecord>),
    /// The file does not exist (any more).
    Missing { name: String },
    /// The log names something that is not a file in the folder of the run, such as a link or a
    /// pipe.
    Skipped { what: String, why: String },
}

impl RunTransfer {
    /// Creates the transfer of an item for `calls` calls.
    pub(crate) fn new(calls: u64, what: TransferItem, to: &Arc<RunTarget>) -> Self {
        Self {
            calls,
            what,
            to: Arc::clone(to),
            progress: ArtifactProgress::default(),
        }
    }
}

impl Transfer for RunTransfer {
    type Outcome = TransferOutcome;

    fn attempt(&mut self) -> Result<Attempt<TransferOutcome>, DeliveryError> {
        match &self.what {
            TransferItem::File { name, known } => {
                let opened = self.to.files.folder().open_file(&Path::new(FILES).join(name));
                let read = opened.and_then(|file| digest(&file).map(|digest| (file, digest)));
                let (file, digest) = match read {
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Ok(Attempt::Unsent(TransferOutcome::Missing { name: name.clone() }));
                    }
                    Err(error) => {
                        return Ok(Attempt::Unsent(TransferOutcome::Skipped {
                            what: format!("the file {name}"),
                            why: error.to_string(),
                        }));
                    }
                };
                if known.as_ref() == Some(&digest) {
                    return Ok(Attempt::Unsent(TransferOutcome::Known));
                }
                self.to.upload(name, file)?;
                Ok(Attempt::Sent(TransferOutcome::File {
                    name: name.clone(),
                    digest,
                }))
            }
            TransferItem::Artifact(artifact) => {
                if let Some(why) = missing_copy(artifact, &self.to.files) {
                    return Ok(Attempt::Unsent(TransferOutcome::Skipped {
                        what: format!("the artifact {}", artifact.name),
                        why,
                    }));
                }
                let RunTarget { client, run, files } = &*self.to;
                client.control.request_started(Lane::Files);
                upload_artifact(client, run, files, artifact, &mut self.progress)?;
                Ok(Attempt::Sent(TransferOutcome::Artifact(artifact.clone())))
            }
        }
    }

    fn parts_done(&self) -> usize {
        self.progress.stored()
    }
}

impl RunTarget {
    /// Uploads a file. Addresses may expire within minutes, so that each try asks for a new one.
    fn upload(&self, name: &str, file: File) -> Result<(), DeliveryError> {
        self.client.control.request_started(Lane::Files);
        let created: CreatedRunFiles = self.client.api.query(
            "CreateRunFiles",
            CREATE_FILES,
            &json!({"entity": self.run.entity, "project": self.run.project, "run": self.run.run_id, "files": [name]}),
            "/createRunFiles",
        )?;
        let address = created
            .files
            .into_iter()
            .find(|file| file.name == name)
            .and_then(|file| file.upload_url)
            .ok_or_else(|| {
                let text = format!("the reply has no address for the file {name}");
                DeliveryError::temporary(DeliveryErrorKind::NotUnderstood, text).of_item()
            })?;
        let headers = split_headers(&created.upload_headers);
        put_file(&self.client, &address, &headers, name, file).map_err(DeliveryError::of_item)
    }
}
