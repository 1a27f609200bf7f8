//! Files and artifacts: those that the log names, and the run's own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::Uploader;
use crate::folder::{ARTIFACTS, FILES, RunFolder, staged_copy};
use crate::log_format::proto::ArtifactRecord;
use crate::upload::worker::transfer::{FinishedTransfer, TransferItem, TransferJob, TransferOutcome, TransferQueue};

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
            if !self.uploaded.has_artifact(&artifact.client_id) {
                self.missing += 1;
                self.push(TransferJob {
                    calls: 1,
                    what: TransferItem::Artifact(Box::new(artifact)),
                });
            }
        }
    }

    pub(super) fn push_files(&mut self, files: impl IntoIterator<Item = (String, u64)>) {
        for (name, calls) in files {
            let known = self.uploaded.digest(&name).cloned();
            self.push(TransferJob {
                calls,
                what: TransferItem::File { name, known },
            });
        }
    }

    fn push(&mut self, job: TransferJob) {
        if self.transfers.is_none() {
            self.transfers =
                TransferQueue::start(self.client.clone(), self.identity.clone(), Arc::clone(&self.plan.files));
        }
        match &mut self.transfers {
            Some(transfers) => transfers.push(job),
            None => self.refused = true,
        }
    }

    pub(super) fn end_transfers(&mut self) {
        let done = self.transfers.as_mut().map(TransferQueue::poll).unwrap_or_default();
        for FinishedTransfer { calls, end } in done {
            self.missing -= calls;
            match end {
                TransferOutcome::Known => {}
                TransferOutcome::File { name, digest } => {
                    let kept = self.uploaded.file(name, digest);
                    self.said_if_not_kept(kept);
                }
                TransferOutcome::Artifact(artifact) => {
                    let kept = self.uploaded.artifact(artifact.client_id.clone());
                    self.said_if_not_kept(kept);
                    forget_copies(&artifact, &self.plan.files);
                }
                TransferOutcome::Missing { name } => {
                    self.client.control.drop_for("file not there", calls);
                    let text = format!("the file {name} of the run is not there and is left out");
                    self.client.control.leave_out(&text);
                }
                TransferOutcome::Omission { what, why } => {
                    self.client.control.drop_for("no file of the run", calls);
                    self.client.control.leave_out(&format!("{what} is left out: {why}"));
                }
                TransferOutcome::GivenUp(error) => {
                    self.missing += calls;
                    self.refused = true;
                    self.client.control.lasting(&error);
                }
            }
        }
    }

    pub(super) fn open_transfers(&self) -> usize {
        self.transfers.as_ref().map_or(0, TransferQueue::open)
    }

    /// Writes the files that W&B's page looks for; returns the names of those that could be.
    pub(super) fn write_own_files(&mut self) -> Vec<String> {
        self.write_console();
        let mut texts = vec![
            ("config.yaml", self.assembler.config_yaml()),
            ("wandb-summary.json", self.assembler.summary_text()),
        ];
        texts.extend(self.assembler.metadata().map(|text| ("wandb-metadata.json", text)));
        let mut names: Vec<String> = texts
            .into_iter()
            .filter(|(name, text)| {
                let name = Path::new(FILES).join(name);
                self.plan.files.replace(&name, text.as_bytes()).is_ok()
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
            let name = Path::new(FILES).join("output.log");
            let files = &self.plan.files;
            let opened = files.replace(&name, b"").and_then(|()| files.folder().append(&name));
            self.console = opened.ok();
        }
        if let Some(file) = &mut self.console {
            // The lines themselves are in the log and in the stream; the file is a copy for downloads.
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// The copies of an artifact's files have served their purpose.
fn forget_copies(artifact: &ArtifactRecord, files: &RunFolder) {
    let entries = artifact.manifest.iter().flat_map(|manifest| &manifest.contents);
    let copies: BTreeSet<_> = entries.filter_map(|entry| staged_copy(&entry.local_path)).collect();
    for copy in &copies {
        let _ = files.folder().remove_file(copy);
    }
    let folders: BTreeSet<_> = copies.iter().filter_map(|copy| copy.parent()).collect();
    // Each goes when the last file in it has gone.
    for folder in folders.into_iter().chain([Path::new(ARTIFACTS)]) {
        let _ = files.folder().remove_dir(folder);
    }
}
