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

use super::artifact::{Progress, missing_copy, upload_artifact};
use super::content::{digest, headers, put_file};
use super::control::Lane;
use super::failure::{Failure, Trouble};
use super::link::{Backoff, Identity, Link};
use crate::proto::Artifact;
use crate::run_files::{FILES, RunFiles};

const CREATE_FILES: &str = "mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) { \
     createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) { \
     runID uploadHeaders files { name uploadUrl } } }";

/// The thread that uploads files.
pub(crate) struct Transfers {
    jobs: Sender<Job>,
    results: Receiver<Done>,
    open: usize,
}

/// Something to upload, for which so many calls asked.
pub(crate) struct Job {
    pub(crate) calls: u64,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// A file of the run; `known` is the digest of what the server has of it.
    File {
        name: String,
        known: Option<String>,
    },
    Artifact(Box<Artifact>),
}

/// A job has ended.
pub(crate) struct Done {
    pub(crate) calls: u64,
    pub(crate) end: End,
}

pub(crate) enum End {
    /// The server has the file, with this digest.
    File {
        name: String,
        digest: String,
    },
    /// The server had the file.
    Known,
    Artifact(Box<Artifact>),
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
    GivenUp(Failure),
}

/// Why a job goes back into the queue, or is given up.
pub(crate) enum Hitch {
    /// The server itself: nothing else would go now.
    Server(Failure),
    /// This content: others may go.
    Content(Failure),
}

impl Transfers {
    pub(crate) fn start(link: Link, run: Identity, files: Arc<RunFiles>) -> Option<Self> {
        let (jobs, inbox) = channel();
        let (outbox, results) = channel();
        let worker = Worker {
            link: Link {
                lane: Lane::Files,
                ..link
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

    pub(crate) fn push(&mut self, job: Job) {
        self.open += 1;
        // Without the thread it is given up when it is asked for.
        let _ = self.jobs.send(job);
    }

    /// Jobs that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// What has ended since the last call.
    pub(crate) fn poll(&mut self) -> Vec<Done> {
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
                        let failure = Failure::last(Trouble::Unreadable, "the thread that uploads files is gone");
                        all.push(Done {
                            calls: 0,
                            end: End::GivenUp(failure),
                        });
                    }
                    return all;
                }
            }
        }
    }
}

struct Worker {
    link: Link,
    run: Identity,
    files: Arc<RunFiles>,
    queue: VecDeque<Task>,
    /// Nothing is asked of the server until then, after this failure.
    rest: Option<(Deadline, Failure)>,
    backoff: Backoff,
    was_ending: bool,
    outbox: Sender<Done>,
}

struct Task {
    job: Job,
    /// When it may be tried again, if it has failed, and how.
    next: Option<(Deadline, Failure)>,
    backoff: Backoff,
    /// Of an artifact.
    progress: Progress,
}

impl Worker {
    fn work(mut self, inbox: &Receiver<Job>) {
        while let Some(mut task) = self.next(inbox) {
            let stored = task.progress.stored();
            match self.turn(&mut task) {
                Ok(end) => self.ended(task.job.calls, end),
                Err(hitch) => {
                    if task.progress.stored() > stored {
                        task.backoff = Backoff::default();
                    }
                    self.failed(task, hitch);
                }
            }
        }
    }

    /// The next task whose time has come. `None` if nobody wants any more.
    fn next(&mut self, inbox: &Receiver<Job>) -> Option<Task> {
        loop {
            match inbox.try_recv() {
                Ok(job) => {
                    self.queue.push_back(Task::new(job));
                    continue;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return None,
            }
            if self.queue.is_empty() {
                self.queue.push_back(Task::new(inbox.recv().ok()?));
                continue;
            }
            if !std::mem::replace(&mut self.was_ending, self.link.control.ending()) && self.was_ending {
                // The end deserves a try of its own, unless the server has named another time.
                self.rest.take_if(|(_, failure)| failure.after.is_none());
                for task in &mut self.queue {
                    task.next.take_if(|(_, failure)| failure.after.is_none());
                }
            }
            self.rest.take_if(|(until, _)| until.passed());
            let wait = match &self.rest {
                Some((until, _)) => until.remaining(),
                None => {
                    if let Some(at) = self.queue.iter().position(|task| task.wait().is_zero()) {
                        return self.queue.remove(at);
                    }
                    self.queue.iter().map(Task::wait).min().unwrap_or_default()
                }
            };
            if self.was_ending && self.link.control.too_late_for(Lane::Files, wait) {
                self.give_up();
                continue;
            }
            match inbox.recv_timeout(wait.min(LONGEST_REST)) {
                Ok(job) => self.queue.push_back(Task::new(job)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// None of what waits has the time that it would need.
    fn give_up(&mut self) {
        let rest = self.rest.take().map(|(_, failure)| failure);
        for task in std::mem::take(&mut self.queue) {
            let failure = task.next.map(|(_, failure)| failure).or_else(|| rest.clone());
            let failure = failure.unwrap_or_else(|| Failure::again(Trouble::Unreachable, "no time was left"));
            self.tell(Done {
                calls: task.job.calls,
                end: End::GivenUp(failure),
            });
        }
    }

    /// Tries a task once.
    fn turn(&self, task: &mut Task) -> Result<End, Hitch> {
        match &task.job.what {
            What::File { name, known } => {
                let opened = self.files.folder().open_file(&Path::new(FILES).join(name));
                let read = opened.and_then(|file| digest(&file).map(|digest| (file, digest)));
                let (file, digest) = match read {
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Ok(End::Missing { name: name.clone() });
                    }
                    Err(error) => {
                        return Ok(End::Omission {
                            what: format!("the file {name}"),
                            why: error.to_string(),
                        });
                    }
                };
                if known.as_ref() == Some(&digest) {
                    return Ok(End::Known);
                }
                self.upload(name, file)?;
                Ok(End::File {
                    name: name.clone(),
                    digest,
                })
            }
            What::Artifact(artifact) => {
                if let Some(why) = missing_copy(artifact, &self.files) {
                    return Ok(End::Omission {
                        what: format!("the artifact {}", artifact.name),
                        why,
                    });
                }
                self.link.control.begin(Lane::Files);
                upload_artifact(&self.link, &self.run, &self.files, artifact, &mut task.progress)?;
                Ok(End::Artifact(artifact.clone()))
            }
        }
    }

    /// An address may be good for minutes only: each try gets a fresh one.
    fn upload(&self, name: &str, file: File) -> Result<(), Hitch> {
        self.link.control.begin(Lane::Files);
        let created = self.link.api.ask(
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
                Hitch::Content(Failure::again(Trouble::NotUnderstood, text))
            })?;
        let headers = headers(&created["uploadHeaders"]);
        put_file(&self.link, address, &headers, name, file).map_err(Hitch::Content)
    }

    fn ended(&mut self, calls: u64, end: End) {
        if matches!(end, End::File { .. } | End::Artifact(_)) {
            self.backoff = Backoff::default();
            // As long as one fails the trouble is not over.
            match self.queue.iter().any(|task| task.next.is_some()) {
                true => self.link.control.goes_on(Lane::Files),
                false => self.link.control.well(Lane::Files),
            }
        }
        self.tell(Done { calls, end });
    }

    /// Back into the queue: behind the others, or, where they would fare no better, before them.
    fn failed(&mut self, mut task: Task, hitch: Hitch) {
        let control = &self.link.control;
        let (failure, whole_server) = match hitch {
            Hitch::Server(failure) => (failure, true),
            Hitch::Content(failure) => (failure, false),
        };
        if !failure.again {
            let calls = task.job.calls;
            return self.tell(Done {
                calls,
                end: End::GivenUp(failure),
            });
        }
        control.trouble(Lane::Files, &failure);
        let ending = control.ending();
        let backoff = if whole_server {
            &mut self.backoff
        } else {
            &mut task.backoff
        };
        let until = Deadline::after(backoff.next(&failure, ending));
        if whole_server {
            task.next = Some((Deadline::after(Duration::ZERO), failure.clone()));
            self.rest = Some((until, failure));
            self.queue.push_front(task);
        } else {
            task.next = Some((until, failure));
            self.queue.push_back(task);
        }
    }

    fn tell(&self, done: Done) {
        let _ = self.outbox.send(done);
        self.link.control.notify();
    }
}

/// Between two looks whether the run has ended meanwhile.
const LONGEST_REST: Duration = Duration::from_millis(100);

impl Task {
    fn new(job: Job) -> Self {
        Self {
            job,
            next: None,
            backoff: Backoff::default(),
            progress: Progress::default(),
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
        let mut transfers = Transfers { jobs, results, open: 0 };
        transfers.push(Job {
            calls: 1,
            what: What::File {
                name: "a".to_owned(),
                known: None,
            },
        });
        let done = transfers.poll();
        assert!(matches!(
            done.as_slice(),
            [Done {
                end: End::GivenUp(_),
                ..
            }]
        ));
        assert_eq!(transfers.open(), 0);
        assert!(transfers.poll().is_empty());
    }
}
