//! Files and artifacts: those that the log names, and the run's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use super::Uploader;
use crate::proto::Artifact;
use crate::upload::transfer::{Done, End, Job, Transfers, What};

const AT_END: i32 = 1;
const LIVE: i32 = 2;

impl Uploader {
    pub(super) fn begin_transfers(&mut self) {
        let mut now = BTreeMap::<String, u64>::new();
        for file in std::mem::take(&mut self.assembler.files) {
            self.missing += 1;
            match file.policy {
                AT_END => *self.at_end.entry(file.path).or_default() += 1,
                policy => {
                    // One that is sent whenever it changes is sent again at the end, if it has.
                    if policy == LIVE {
                        self.at_end.entry(file.path.clone()).or_default();
                    }
                    *now.entry(file.path).or_default() += 1;
                }
            }
        }
        self.push_files(now);
        for artifact in std::mem::take(&mut self.assembler.artifacts) {
            if !self.receipts.has_artifact(&artifact.client_id) {
                self.missing += 1;
                self.push(Job {
                    calls: 1,
                    what: What::Artifact(Box::new(artifact)),
                });
            }
        }
    }

    pub(super) fn push_files(&mut self, files: impl IntoIterator<Item = (String, u64)>) {
        for (name, calls) in files {
            let known = self.receipts.digest(&name).cloned();
            self.push(Job {
                calls,
                what: What::File { name, known },
            });
        }
    }

    fn push(&mut self, job: Job) {
        if self.transfers.is_none() {
            self.transfers = Transfers::start(self.link.clone(), self.identity.clone(), self.files_folder());
        }
        match &mut self.transfers {
            Some(transfers) => transfers.push(job),
            None => self.refused = true,
        }
    }

    pub(super) fn end_transfers(&mut self) {
        let done = self.transfers.as_mut().map(Transfers::poll).unwrap_or_default();
        for Done { calls, end } in done {
            self.missing -= calls;
            match end {
                End::Known => {}
                End::File { name, digest } => {
                    let kept = self.receipts.file(name, digest);
                    self.said_if_not_kept(kept);
                }
                End::Artifact(artifact) => {
                    let kept = self.receipts.artifact(artifact.client_id.clone());
                    self.said_if_not_kept(kept);
                    forget_copies(&artifact, &self.run_folder());
                }
                End::Missing { name } => {
                    self.link.control.drop_for("file not there", calls);
                    let text = format!("W&B: the file {name} of the run is not there and is left out");
                    self.link.control.say("file missing", &text);
                }
                End::GivenUp(failure) => {
                    self.missing += calls;
                    self.refused = true;
                    self.link.control.lasting(&failure);
                }
            }
        }
    }

    pub(super) fn open_transfers(&self) -> usize {
        self.transfers.as_ref().map_or(0, Transfers::open)
    }

    /// Writes the files that W&B's page looks for; returns the names of those that could be.
    pub(super) fn write_own_files(&mut self) -> Vec<String> {
        self.write_console();
        let folder = self.files_folder();
        let mut texts = vec![
            ("config.yaml", self.assembler.config_yaml()),
            ("wandb-summary.json", self.assembler.summary_text()),
        ];
        texts.extend(self.assembler.metadata().map(|text| ("wandb-metadata.json", text)));
        let mut names: Vec<String> = texts
            .into_iter()
            .filter(|(name, text)| {
                fs::create_dir_all(&folder)
                    .and_then(|()| fs::write(folder.join(name), text))
                    .is_ok()
            })
            .map(|(name, _)| name.to_owned())
            .collect();
        if self.console.is_some() {
            names.push("output.log".to_owned());
        }
        names.retain(|name| !self.plan.ignored.has(name));
        names
    }

    pub(super) fn write_console(&mut self) {
        if self.assembler.console.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.assembler.console);
        if self.console.is_none() {
            let folder = self.files_folder();
            let open = || {
                fs::create_dir_all(&folder)?;
                OpenOptions::new()
                    .create(true)
                    .write(true)
                    .truncate(true)
                    .open(folder.join("output.log"))
            };
            self.console = open().ok();
        }
        if let Some(file) = &mut self.console {
            // The lines themselves are in the log and in the stream; the file is a copy for downloads.
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// The copies of an artifact's files have served their purpose.
fn forget_copies(artifact: &Artifact, run: &Path) {
    let staging = std::path::absolute(run.join("artifacts")).unwrap_or_default();
    let entries = artifact.manifest.iter().flat_map(|manifest| &manifest.contents);
    let folders: BTreeSet<_> = entries
        .filter_map(|entry| Path::new(&entry.local_path).parent())
        .collect();
    // A log that somebody else wrote may name any place.
    for folder in folders.into_iter().filter(|folder| folder.parent() == Some(&*staging)) {
        let _ = fs::remove_dir_all(folder);
    }
    // It goes when the last one has gone.
    let _ = fs::remove_dir(staging);
}
