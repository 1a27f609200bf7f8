//! Files and artifacts go on a thread of their own, so that a large one holds up no rows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use logcore::quiet;
use md5::{Digest as _, Md5};
use reqwest::blocking::Body;
use serde_json::{Value, json};

use super::api::Api;
use super::artifact::upload_artifact;
use super::control::Lane;
use super::failure::{Failure, Trouble};
use super::link::{GivenUp, Identity, Link};
use crate::proto::Artifact;

const CREATE_FILES: &str = "mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) { \
     createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) { \
     runID uploadHeaders files { name uploadUrl } } }";
/// Names in one request.
const MOST_NAMES: usize = 100;

/// The thread that uploads files.
pub(crate) struct Transfers {
    jobs: Sender<Job>,
    results: Receiver<Done>,
    open: usize,
}

enum Job {
    Files(Vec<String>),
    Artifact(Box<Artifact>),
}

/// What has become of a job.
pub(crate) enum Done {
    /// The server has the file, with this digest.
    File {
        name: String,
        digest: String,
    },
    Artifact {
        client_id: String,
    },
    /// A file that is not there (any more), which no trying will change.
    Missing {
        name: String,
    },
    /// A job has ended.
    End,
    /// It was given up; its files stay where they are.
    GivenUp,
}

impl Transfers {
    pub(crate) fn start(link: Link, run: Identity, files: PathBuf, known: BTreeMap<String, String>) -> Option<Self> {
        let (jobs, inbox) = channel();
        let (outbox, results) = channel();
        let worker = Worker {
            link: Link {
                lane: Lane::Files,
                ..link
            },
            run,
            files,
            known,
            outbox,
        };
        thread::Builder::new()
            .name("logcore-wandb-files".to_owned())
            .spawn(move || quiet(|| worker.work(&inbox)))
            .ok()?;
        Some(Self { jobs, results, open: 0 })
    }

    pub(crate) fn files(&mut self, names: BTreeSet<String>) {
        let names: Vec<_> = names.into_iter().collect();
        for names in names.chunks(MOST_NAMES) {
            self.push(Job::Files(names.to_vec()));
        }
    }

    pub(crate) fn artifact(&mut self, artifact: Artifact) {
        self.push(Job::Artifact(Box::new(artifact)));
    }

    /// Jobs that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// What has happened since the last call.
    pub(crate) fn poll(&mut self) -> Vec<Done> {
        let mut all = Vec::new();
        loop {
            match self.results.try_recv() {
                Ok(Done::End) => self.open -= 1,
                Ok(Done::GivenUp) => {
                    self.open -= 1;
                    all.push(Done::GivenUp);
                }
                Ok(done) => all.push(done),
                Err(TryRecvError::Empty) => return all,
                // The thread is gone, and what it had not done it will not do.
                Err(TryRecvError::Disconnected) => {
                    if std::mem::take(&mut self.open) > 0 {
                        all.push(Done::GivenUp);
                    }
                    return all;
                }
            }
        }
    }

    fn push(&mut self, job: Job) {
        self.open += 1;
        // Without the thread it is given up when it is asked for.
        let _ = self.jobs.send(job);
    }
}

struct Worker {
    link: Link,
    run: Identity,
    /// The run's folder `files/`.
    files: PathBuf,
    /// What the server has, by name.
    known: BTreeMap<String, String>,
    outbox: Sender<Done>,
}

impl Worker {
    fn work(mut self, inbox: &Receiver<Job>) {
        while let Ok(job) = inbox.recv() {
            let ended = match job {
                Job::Files(names) => self.upload(&names),
                Job::Artifact(artifact) => upload_artifact(&self.link, &self.run, &artifact).map(|()| {
                    self.tell(Done::Artifact {
                        client_id: artifact.client_id,
                    })
                }),
            };
            self.tell(match ended {
                Ok(()) => Done::End,
                Err(GivenUp) => Done::GivenUp,
            });
        }
    }

    fn upload(&mut self, names: &[String]) -> Result<(), GivenUp> {
        let mut wanted = Vec::new();
        for name in names {
            match digest(&self.files.join(name)) {
                Ok(digest) if self.known.get(name) == Some(&digest) => {}
                Ok(digest) => wanted.push((name.clone(), digest)),
                Err(_) => self.tell(Done::Missing { name: name.clone() }),
            }
        }
        let mut ended = Ok(());
        for (name, digest) in wanted {
            // An address may be good for minutes only; each file gets a fresh one at each try.
            let sent = self.link.until_refused(|api| {
                let data = api.graphql(
                    "CreateRunFiles",
                    CREATE_FILES,
                    json!({"entity": self.run.entity, "project": self.run.project, "run": self.run.run_id, "files": [name]}),
                )?;
                let created = &data["createRunFiles"];
                let files = created["files"].as_array().cloned().unwrap_or_default();
                let url = files
                    .iter()
                    .find(|file| file["name"] == name.as_str())
                    .and_then(|file| file["uploadUrl"].as_str())
                    .ok_or_else(|| Failure::again(Trouble::NotUnderstood, "the reply has no address for the file"))?;
                put(api, url, &headers(&created["uploadHeaders"]), &self.files.join(&name))
            });
            // A file that is refused does not keep the others back.
            match sent {
                Ok(()) => {
                    self.known.insert(name.clone(), digest.clone());
                    self.tell(Done::File { name, digest });
                }
                Err(GivenUp) => ended = Err(GivenUp),
            }
        }
        ended
    }

    fn tell(&self, done: Done) {
        let _ = self.outbox.send(done);
        self.link.control.notify();
    }
}

/// Sends a file. An address that has expired is worth another try with a new one.
pub(crate) fn put(api: &Api, url: &str, headers: &[(String, String)], path: &Path) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| Failure::last(Trouble::Unreadable, format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    put_content(api, url, headers, Body::sized(file, length))
}

/// Sends content in the same way.
pub(crate) fn put_content(api: &Api, url: &str, headers: &[(String, String)], content: Body) -> Result<(), Failure> {
    api.put(url, headers, content).map_err(|failure| Failure {
        again: failure.again || failure.trouble == Trouble::NoAccess,
        ..failure
    })
}

/// Headers come as texts `Name:value`.
pub(crate) fn headers(list: &Value) -> Vec<(String, String)> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts
        .filter_map(|text| text.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// The MD5 of a file, as base64.
pub(crate) fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(STANDARD.encode(hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
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
        transfers.files(["a".to_owned()].into());
        assert!(matches!(transfers.poll().as_slice(), [Done::GivenUp]));
        assert_eq!(transfers.open(), 0);
        assert!(transfers.poll().is_empty());
    }
}
