//! Uploads files and artifacts on a thread of their own, so that a large file does not delay the
//! rows.
//!
//! An error of the server pauses all tasks, an error of a file only that task. A file is compared
//! with the uploaded digest first, so that an unchanged file is not sent again.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use logcore::{Deadline, suppress_logging};
use logcore_delivery::{Backoff, DeliveryError, DeliveryErrorKind, Lane};
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

/// The queue of the thread that uploads files.
pub(crate) struct TransferQueue {
    /// Jobs for the thread.
    jobs: Sender<TransferJob>,
    /// Results of the thread.
    results: Receiver<FinishedTransfer>,
    /// Number of jobs without a result.
    open: usize,
}

/// A file or artifact to upload, and the number of calls for it.
pub(crate) struct TransferJob {
    pub(crate) calls: u64,
    pub(crate) what: TransferItem,
}

/// The file or artifact of a job.
pub(crate) enum TransferItem {
    /// A file of the run. `known` is the digest of the content that the server has.
    File {
        name: String,
        known: Option<String>,
    },
    Artifact(Box<ArtifactRecord>),
}

/// A job that has ended.
pub(crate) struct FinishedTransfer {
    pub(crate) calls: u64,
    pub(crate) outcome: TransferOutcome,
}

/// The result of a job.
pub(crate) enum TransferOutcome {
    /// The file was uploaded.
    File {
        name: String,
        digest: String,
    },
    /// The server had the content already.
    Known,
    Artifact(Box<ArtifactRecord>),
    /// The file does not exist (any more).
    Missing {
        name: String,
    },
    /// The log names something that is not a file in the folder of the run, such as a link or a
    /// pipe.
    Skipped {
        what: String,
        why: String,
    },
    /// The server refused, or no time is left. The file stays on disk.
    Failed(DeliveryError),
}

impl TransferQueue {
    /// Starts the thread.
    pub(crate) fn start(client: RetryingClient, run: RunIdentity, files: Arc<RunFolder>) -> Option<Self> {
        let (jobs, inbox) = channel();
        let (outbox, results) = channel();
        let worker = TransferWorker {
            client: RetryingClient {
                lane: Lane::Files,
                ..client
            },
            run,
            files,
            queue: VecDeque::new(),
            server_wait: None,
            backoff: Backoff::default(),
            was_ending: false,
            outbox,
        };
        thread::Builder::new()
            .name("logcore-wandb-files".to_owned())
            .spawn(move || suppress_logging(|| worker.run(&inbox)))
            .ok()?;
        Some(Self { jobs, results, open: 0 })
    }

    /// Adds a job.
    pub(crate) fn push(&mut self, job: TransferJob) {
        self.open += 1;
        // If the thread has stopped, `poll` reports the failure.
        let _ = self.jobs.send(job);
    }

    /// Returns the number of jobs that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Returns the jobs that have ended since the last call.
    pub(crate) fn poll(&mut self) -> Vec<FinishedTransfer> {
        let mut all = Vec::new();
        loop {
            match self.results.try_recv() {
                Ok(done) => {
                    self.open -= 1;
                    all.push(done);
                }
                Err(TryRecvError::Empty) => return all,
                Err(TryRecvError::Disconnected) => {
                    if std::mem::take(&mut self.open) > 0 {
                        let error = DeliveryError::permanent(
                            DeliveryErrorKind::Unreadable,
                            "the thread that uploads files has stopped",
                        );
                        all.push(FinishedTransfer {
                            calls: 0,
                            outcome: TransferOutcome::Failed(error),
                        });
                    }
                    return all;
                }
            }
        }
    }
}

/// The thread that uploads files.
struct TransferWorker {
    client: RetryingClient,
    run: RunIdentity,
    files: Arc<RunFolder>,
    queue: VecDeque<TransferTask>,
    /// The server is not asked until this deadline, because of this error.
    server_wait: Option<(Deadline, DeliveryError)>,
    backoff: Backoff,
    was_ending: bool,
    outbox: Sender<FinishedTransfer>,
}

/// A job with the state of its tries.
struct TransferTask {
    job: TransferJob,
    /// The deadline of the wait after an error.
    retry: Option<(Deadline, DeliveryError)>,
    backoff: Backoff,
    /// The progress of an artifact.
    progress: ArtifactProgress,
}

impl TransferWorker {
    /// Works on the jobs until the uploader stops.
    fn run(mut self, inbox: &Receiver<TransferJob>) {
        while let Some(mut task) = self.next_task(inbox) {
            let stored = task.progress.stored();
            match self.attempt(&mut task) {
                Ok(outcome) => self.finish(task.job.calls, outcome),
                Err(error) => {
                    if task.progress.stored() > stored {
                        task.backoff = Backoff::default();
                    }
                    self.requeue(task, error);
                }
            }
        }
    }

    /// Returns the next task that is due. `None` if the uploader has stopped.
    fn next_task(&mut self, inbox: &Receiver<TransferJob>) -> Option<TransferTask> {
        loop {
            match inbox.try_recv() {
                Ok(job) => {
                    self.queue.push_back(TransferTask::new(job));
                    continue;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return None,
            }
            if self.queue.is_empty() {
                self.queue.push_back(TransferTask::new(inbox.recv().ok()?));
                continue;
            }
            if !std::mem::replace(&mut self.was_ending, self.client.control.is_ending()) && self.was_ending {
                // The end of the run allows one immediate try, unless the server has named another
                // time.
                self.server_wait.take_if(|(_, error)| error.retry_after().is_none());
                for task in &mut self.queue {
                    task.retry.take_if(|(_, error)| error.retry_after().is_none());
                }
            }
            self.server_wait.take_if(|(until, _)| until.has_passed());
            let wait = match &self.server_wait {
                Some((until, _)) => until.remaining(),
                None => {
                    if let Some(at) = self.queue.iter().position(|task| task.wait().is_zero()) {
                        return self.queue.remove(at);
                    }
                    self.queue.iter().map(TransferTask::wait).min().unwrap_or_default()
                }
            };
            if self.was_ending && self.client.control.is_out_of_time_after(Lane::Files, wait) {
                self.fail_all();
                continue;
            }
            match inbox.recv_timeout(wait.min(LONGEST_WAIT)) {
                Ok(job) => self.queue.push_back(TransferTask::new(job)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Fails all waiting tasks, because no time is left for them.
    fn fail_all(&mut self) {
        let server_error = self.server_wait.take().map(|(_, error)| error);
        for task in std::mem::take(&mut self.queue) {
            let error = task.retry.map(|(_, error)| error).or_else(|| server_error.clone());
            let error = error.unwrap_or_else(DeliveryError::gave_up);
            self.report(FinishedTransfer {
                calls: task.job.calls,
                outcome: TransferOutcome::Failed(error),
            });
        }
    }

    /// Tries a task once.
    fn attempt(&self, task: &mut TransferTask) -> Result<TransferOutcome, DeliveryError> {
        match &task.job.what {
            TransferItem::File { name, known } => {
                let opened = self.files.folder().open_file(&Path::new(FILES).join(name));
                let read = opened.and_then(|file| digest(&file).map(|digest| (file, digest)));
                let (file, digest) = match read {
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Ok(TransferOutcome::Missing { name: name.clone() });
                    }
                    Err(error) => {
                        return Ok(TransferOutcome::Skipped {
                            what: format!("the file {name}"),
                            why: error.to_string(),
                        });
                    }
                };
                if known.as_ref() == Some(&digest) {
                    return Ok(TransferOutcome::Known);
                }
                self.upload(name, file)?;
                Ok(TransferOutcome::File {
                    name: name.clone(),
                    digest,
                })
            }
            TransferItem::Artifact(artifact) => {
                if let Some(why) = missing_copy(artifact, &self.files) {
                    return Ok(TransferOutcome::Skipped {
                        what: format!("the artifact {}", artifact.name),
                        why,
                    });
                }
                self.client.control.request_started(Lane::Files);
                upload_artifact(&self.client, &self.run, &self.files, artifact, &mut task.progress)?;
                Ok(TransferOutcome::Artifact(artifact.clone()))
            }
        }
    }

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

    /// Reports the result of a task.
    fn finish(&mut self, calls: u64, outcome: TransferOutcome) {
        if matches!(outcome, TransferOutcome::File { .. } | TransferOutcome::Artifact(_)) {
            self.backoff = Backoff::default();
            match self.queue.iter().any(|task| task.retry.is_some()) {
                true => self.client.control.renew_retry_limit(Lane::Files),
                false => self.client.control.request_succeeded(Lane::Files),
            }
        }
        self.report(FinishedTransfer { calls, outcome });
    }

    /// Puts a failed task back: behind the others, or first if the error concerns all of them.
    fn requeue(&mut self, mut task: TransferTask, error: DeliveryError) {
        let control = &self.client.control;
        let is_of_server = !error.is_of_item();
        if !error.is_temporary() {
            let calls = task.job.calls;
            return self.report(FinishedTransfer {
                calls,
                outcome: TransferOutcome::Failed(error),
            });
        }
        control.request_failed(Lane::Files, &error);
        let is_ending = control.is_ending();
        let backoff = if is_of_server {
            &mut self.backoff
        } else {
            &mut task.backoff
        };
        let until = Deadline::after(backoff.next(&error, is_ending));
        if is_of_server {
            task.retry = Some((Deadline::after(Duration::ZERO), error.clone()));
            self.server_wait = Some((until, error));
            self.queue.push_front(task);
        } else {
            task.retry = Some((until, error));
            self.queue.push_back(task);
        }
    }

    /// Sends a result to the uploader.
    fn report(&self, done: FinishedTransfer) {
        let _ = self.outbox.send(done);
        self.client.control.notify();
    }
}

/// The longest wait before the end of the run is checked again.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

impl TransferTask {
    fn new(job: TransferJob) -> Self {
        Self {
            job,
            retry: None,
            backoff: Backoff::default(),
            progress: ArtifactProgress::default(),
        }
    }

    /// Returns the time until the next try.
    fn wait(&self) -> Duration {
        self.retry
            .as_ref()
            .map_or(Duration::ZERO, |(until, _)| until.remaining())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_a_stopped_thread_fail() {
        let (jobs, _) = channel();
        let (_, results) = channel();
        let mut transfers = TransferQueue { jobs, results, open: 0 };
        transfers.push(TransferJob {
            calls: 1,
            what: TransferItem::File {
                name: "a".to_owned(),
                known: None,
            },
        });
        let done = transfers.poll();
        assert!(matches!(
            done.as_slice(),
            [FinishedTransfer {
                outcome: TransferOutcome::Failed(_),
                ..
            }]
        ));
        assert_eq!(transfers.open(), 0);
        assert!(transfers.poll().is_empty());
    }
}
