//! Files and artifacts go on a thread of their own, so that a large one holds up no rows.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use logcore::{Deadline, suppress_logging};
use serde_json::json;

use crate::folder::{FILES, RunFolder};
use crate::log_format::proto::ArtifactRecord;
use crate::upload::client::error::{UploadError, UploadErrorKind};
use crate::upload::client::put_file::{digest, headers, put_file};
use crate::upload::client::retry::{Backoff, RetryingClient, RunIdentity};
use crate::upload::state::control::Lane;
use crate::upload::worker::artifact::{ArtifactProgress, missing_copy, upload_artifact};

const CREATE_FILES: &str = "mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) { \
     createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) { \
     runID uploadHeaders files { name uploadUrl } } }";

/// The thread that uploads files.
pub(crate) struct TransferQueue {
    jobs: Sender<TransferJob>,
    results: Receiver<FinishedTransfer>,
    open: usize,
}

/// Something to upload, for which so many calls asked.
pub(crate) struct TransferJob {
    pub(crate) calls: u64,
    pub(crate) what: TransferItem,
}

pub(crate) enum TransferItem {
    /// A file of the run; `known` is the digest of what the server has of it.
    File {
        name: String,
        known: Option<String>,
    },
    Artifact(Box<ArtifactRecord>),
}

/// A job has ended.
pub(crate) struct FinishedTransfer {
    pub(crate) calls: u64,
    pub(crate) end: TransferOutcome,
}

pub(crate) enum TransferOutcome {
    /// The server has the file, with this digest.
    File {
        name: String,
        digest: String,
    },
    /// The server had the file.
    Known,
    Artifact(Box<ArtifactRecord>),
    /// A file that is not there (any more), which no trying will change.
    Missing {
        name: String,
    },
    /// Something that the log names and that is no file of the run: a link, a pipe, a place outside of the run's folder.
    Omission {
        what: String,
        why: String,
    },
    /// It is refused, or there is no time left; what was to be sent stays where it is.
    GivenUp(UploadError),
}

/// Why a job goes back into the queue, or is given up.
pub(crate) enum Hitch {
    /// The server itself: nothing else would go now.
    Server(UploadError),
    /// This content: others may go.
    Content(UploadError),
}

impl TransferQueue {
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
            rest: None,
            backoff: Backoff::default(),
            was_ending: false,
            outbox,
        };
        thread::Builder::new()
            .name("logcore-wandb-files".to_owned())
            .spawn(move || suppress_logging(|| worker.work(&inbox)))
            .ok()?;
        Some(Self { jobs, results, open: 0 })
    }

    pub(crate) fn push(&mut self, job: TransferJob) {
        self.open += 1;
        // Without the thread it is given up when it is asked for.
        let _ = self.jobs.send(job);
    }

    /// Jobs that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// What has ended since the last call.
    pub(crate) fn poll(&mut self) -> Vec<FinishedTransfer> {
        let mut all = Vec::new();
        loop {
            match self.results.try_recv() {
                Ok(done) => {
                    self.open -= 1;
                    all.push(done);
                }
                Err(TryRecvError::Empty) => return all,
                // The thread is gone, and what it had not done it will not do.
                Err(TryRecvError::Disconnected) => {
                    if std::mem::take(&mut self.open) > 0 {
                        let error =
                            UploadError::last(UploadErrorKind::Unreadable, "the thread that uploads files is gone");
                        all.push(FinishedTransfer {
                            calls: 0,
                            end: TransferOutcome::GivenUp(error),
                        });
                    }
                    return all;
                }
            }
        }
    }
}

struct TransferWorker {
    client: RetryingClient,
    run: RunIdentity,
    files: Arc<RunFolder>,
    queue: VecDeque<TransferTask>,
    /// Nothing is asked of the server until then, after this failure.
    rest: Option<(Deadline, UploadError)>,
    backoff: Backoff,
    was_ending: bool,
    outbox: Sender<FinishedTransfer>,
}

struct TransferTask {
    job: TransferJob,
    /// When it may be tried again, if it has failed, and how.
    next: Option<(Deadline, UploadError)>,
    backoff: Backoff,
    /// Of an artifact.
    progress: ArtifactProgress,
}

impl TransferWorker {
    fn work(mut self, inbox: &Receiver<TransferJob>) {
        while let Some(mut task) = self.next(inbox) {
            let stored = task.progress.stored();
            match self.turn(&mut task) {
                Ok(end) => self.ended(task.job.calls, end),
                Err(error) => {
                    if task.progress.stored() > stored {
                        task.backoff = Backoff::default();
                    }
                    self.failed(task, error);
                }
            }
        }
    }

    /// The next task whose time has come. `None` if nobody wants any more.
    fn next(&mut self, inbox: &Receiver<TransferJob>) -> Option<TransferTask> {
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
            if !std::mem::replace(&mut self.was_ending, self.client.control.ending()) && self.was_ending {
                // The end deserves a try of its own, unless the server has named another time.
                self.rest.take_if(|(_, error)| error.after.is_none());
                for task in &mut self.queue {
                    task.next.take_if(|(_, error)| error.after.is_none());
                }
            }
            self.rest.take_if(|(until, _)| until.has_passed());
            let wait = match &self.rest {
                Some((until, _)) => until.remaining(),
                None => {
                    if let Some(at) = self.queue.iter().position(|task| task.wait().is_zero()) {
                        return self.queue.remove(at);
                    }
                    self.queue.iter().map(TransferTask::wait).min().unwrap_or_default()
                }
            };
            if self.was_ending && self.client.control.too_late_for(Lane::Files, wait) {
                self.give_up();
                continue;
            }
            match inbox.recv_timeout(wait.min(LONGEST_REST)) {
                Ok(job) => self.queue.push_back(TransferTask::new(job)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// None of what waits has the time that it would need.
    fn give_up(&mut self) {
        let rest = self.rest.take().map(|(_, error)| error);
        for task in std::mem::take(&mut self.queue) {
            let error = task.next.map(|(_, error)| error).or_else(|| rest.clone());
            let error = error.unwrap_or_else(|| UploadError::again(UploadErrorKind::Unreachable, "no time was left"));
            self.tell(FinishedTransfer {
                calls: task.job.calls,
                end: TransferOutcome::GivenUp(error),
            });
        }
    }

    /// Tries a task once.
    fn turn(&self, task: &mut TransferTask) -> Result<TransferOutcome, Hitch> {
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
                        return Ok(TransferOutcome::Omission {
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
                    return Ok(TransferOutcome::Omission {
                        what: format!("the artifact {}", artifact.name),
                        why,
                    });
                }
                self.client.control.begin(Lane::Files);
                upload_artifact(&self.client, &self.run, &self.files, artifact, &mut task.progress)?;
                Ok(TransferOutcome::Artifact(artifact.clone()))
            }
        }
    }

    /// An address may be good for minutes only: each try gets a fresh one.
    fn upload(&self, name: &str, file: File) -> Result<(), Hitch> {
        self.client.control.begin(Lane::Files);
        let created = self.client.api.ask(
            "CreateRunFiles",
            CREATE_FILES,
            &json!({"entity": self.run.entity, "project": self.run.project, "run": self.run.run_id, "files": [name]}),
            "/createRunFiles",
        );
        let created = created.map_err(Hitch::Server)?;
        let mut files = created["files"].as_array().into_iter().flatten();
        let address = files
            .find(|file| file["name"] == name)
            .and_then(|file| file["uploadUrl"].as_str())
            .ok_or_else(|| {
                let text = format!("the reply has no address for the file {name}");
                Hitch::Content(UploadError::again(UploadErrorKind::NotUnderstood, text))
            })?;
        let headers = headers(&created["uploadHeaders"]);
        put_file(&self.client, address, &headers, name, file).map_err(Hitch::Content)
    }

    fn ended(&mut self, calls: u64, end: TransferOutcome) {
        if matches!(end, TransferOutcome::File { .. } | TransferOutcome::Artifact(_)) {
            self.backoff = Backoff::default();
            // As long as one fails the trouble is not over.
            match self.queue.iter().any(|task| task.next.is_some()) {
                true => self.client.control.goes_on(Lane::Files),
                false => self.client.control.well(Lane::Files),
            }
        }
        self.tell(FinishedTransfer { calls, end });
    }

    /// Back into the queue: behind the others, or, where they would fare no better, before them.
    fn failed(&mut self, mut task: TransferTask, error: Hitch) {
        let control = &self.client.control;
        let (error, whole_server) = match error {
            Hitch::Server(error) => (error, true),
            Hitch::Content(error) => (error, false),
        };
        if !error.again {
            let calls = task.job.calls;
            return self.tell(FinishedTransfer {
                calls,
                end: TransferOutcome::GivenUp(error),
            });
        }
        control.trouble(Lane::Files, &error);
        let ending = control.ending();
        let backoff = if whole_server {
            &mut self.backoff
        } else {
            &mut task.backoff
        };
        let until = Deadline::after(backoff.next(&error, ending));
        if whole_server {
            task.next = Some((Deadline::after(Duration::ZERO), error.clone()));
            self.rest = Some((until, error));
            self.queue.push_front(task);
        } else {
            task.next = Some((until, error));
            self.queue.push_back(task);
        }
    }

    fn tell(&self, done: FinishedTransfer) {
        let _ = self.outbox.send(done);
        self.client.control.notify();
    }
}

/// Between two looks whether the run has ended meanwhile.
const LONGEST_REST: Duration = Duration::from_millis(100);

impl TransferTask {
    fn new(job: TransferJob) -> Self {
        Self {
            job,
            next: None,
            backoff: Backoff::default(),
            progress: ArtifactProgress::default(),
        }
    }

    fn wait(&self) -> Duration {
        self.next
            .as_ref()
            .map_or(Duration::ZERO, |(until, _)| until.remaining())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_a_thread_that_is_gone_are_given_up() {
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
                end: TransferOutcome::GivenUp(_),
                ..
            }]
        ));
        assert_eq!(transfers.open(), 0);
        assert!(transfers.poll().is_empty());
    }
}
