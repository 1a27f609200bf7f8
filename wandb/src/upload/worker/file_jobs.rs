//! Queues the files and artifacts of the log, and writes the run's own files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use logcore_delivery::{FinishedTransfer, Lane, TransferQueue};

use super::Uploader;
use super::transfer::{RunTarget, RunTransfer, TransferItem, TransferOutcome};
use crate::folder::{ARTIFACTS, FILES, RunFolder, staged_copy};
use crate::log_format::proto::ArtifactRecord;
use crate::upload::client::RetryingClient;

/// `FilesItem::policy` of a file that is uploaded when the run ends.
const AT_END: i32 = 1;
/// `FilesItem::policy` of a file that is uploaded whenever it changes.
const LIVE: i32 = 2;

impl Uploader {
    /// Queues the files and artifacts that were read from the log.
    pub(super) fn queue_transfers(&mut self) {
        let mut now = BTreeMap::<String, u64>::new();
        for file in std::mem::take(&mut self.assembler.files) {
            self.missing += 1;
            match file.policy {
                AT_END => *self.at_end.entry(file.path).or_default() += 1,
                policy => {
                    // A live file is uploaded again at the end if it has changed.
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
                self.push(1, TransferItem::Artifact(Box::new(artifact)));
            }
        }
    }

    /// Queues files, each with the number of its calls.
    pub(super) fn push_files(&mut self, files: impl IntoIterator<Item = (String, u64)>) {
        for (name, calls) in files {
            let known = self.uploaded.digest(&name).cloned();
            self.push(calls, TransferItem::File { name, known });
        }
    }

    /// Queues an item for `calls` calls, and starts the thread for the first one.
    fn push(&mut self, calls: u64, what: TransferItem) {
        if self.transfers.is_none() {
            let to = RunTarget {
                client: RetryingClient {
                    lane: Lane::Files,
                    ..self.client.clone()
                },
                run: self.identity.clone(),
                files: Arc::clone(&self.plan.files),
            };
            let queue = TransferQueue::start("wandb", &self.client.control, Lane::Files);
            self.transfers = queue.ok().map(|queue| (queue, Arc::new(to)));
        }
        match &mut self.transfers {
            Some((queue, to)) => queue.push(RunTransfer::new(calls, what, to)),
            None => self.refused = true,
        }
    }

    /// Takes over the results of the finished transfers.
    pub(super) fn finish_transfers(&mut self) {
        let queue = self.transfers.as_mut().map(|(queue, _)| queue);
        for FinishedTransfer { transfer, result } in queue.map(TransferQueue::poll).unwrap_or_default() {
            let calls = transfer.map_or(0, |transfer| transfer.calls);
            let outcome = match result {
                Ok(outcome) => outcome,
                Err(error) => {
                    self.refused = true;
                    self.client.control.report_permanent(&error);
                    continue;
                }
            };
            self.missing -= calls;
            match outcome {
                TransferOutcome::Known => {}
                TransferOutcome::File { name, digest } => {
                    let saved = self.uploaded.add_file(name, digest);
                    self.report_unsaved(saved);
                }
                TransferOutcome::Artifact(artifact) => {
                    let saved = self.uploaded.add_artifact(artifact.client_id.clone());
                    self.report_unsaved(saved);
                    remove_copies(&artifact, &self.plan.files);
                }
                TransferOutcome::Missing { name } => {
                    self.client.control.drop_calls("file not there", calls);
                    let text = format!("skipping the file {name}: it does not exist in the folder of the run");
                    self.client.control.skip(&text);
                }
                TransferOutcome::Skipped { what, why } => {
                    self.client.control.drop_calls("no file of the run", calls);
                    self.client.control.skip(&format!("skipping {what}: {why}"));
                }
            }
        }
    }

    /// Returns the number of unfinished transfers.
    pub(super) fn open_transfers(&self) -> usize {
        self.transfers.as_ref().map_or(0, |(queue, _)| queue.open())
    }

    /// Writes the files for the page of the run, and returns the names of the written files.
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
        names.retain(|name| !self.plan.ignore_globs.matches(name));
        names
    }

    /// Appends the console lines to `files/output.log`.
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
            // An error is harmless: the log and the stream have the lines, and the file is a copy
            // for downloads.
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// Removes the copies of the files of an uploaded artifact.
fn remove_copies(artifact: &ArtifactRecord, files: &RunFolder) {
    let entries = artifact.manifest.iter().flat_map(|manifest| &manifest.contents);
    let copies: BTreeSet<_> = entries.filter_map(|entry| staged_copy(&entry.local_path)).collect();
    for copy in &copies {
        let _ = files.folder().remove_file(copy);
    }
    let folders: BTreeSet<_> = copies.iter().filter_map(|copy| copy.parent()).collect();
    // A folder is only removed once it is empty.
    for folder in folders.into_iter().chain([Path::new(ARTIFACTS)]) {
        let _ = files.folder().remove_dir(folder);
    }
}
