use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::thread;
use std::time::Duration;

use logcore::Deadline;
use serde::{Deserialize, Serialize};

use crate::folder::RunFolder;

/// What the server has of a run besides its lines: a file beside the log, with a line for each.
///
/// It only grows, so that a run of many files costs no more for each. Whoever has it open is the one delivery of the log.
pub(crate) struct UploadedFiles {
    /// `None` where it cannot be written: then a later delivery sends again what this one has sent.
    file: Option<File>,
    /// Delivered files, with the digest of what was delivered.
    files: BTreeMap<String, String>,
    artifacts: BTreeSet<String>,
    /// Delivered files that the stream has not announced.
    unannounced: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UploadedEntry {
    File { name: String, digest: String },
    Artifact(String),
    Announced(Vec<String>),
}

/// Another delivery of the same log is on.
#[derive(Debug)]
pub(crate) struct InUse;

impl UploadedFiles {
    /// Of the log of a run.
    pub(crate) fn open(run: &RunFolder) -> Result<Self, InUse> {
        let mut uploaded = Self {
            file: None,
            files: BTreeMap::new(),
            artifacts: BTreeSet::new(),
            unannounced: BTreeSet::new(),
        };
        let Ok(mut file) = run.folder().append(&run.beside("uploaded")) else {
            return Ok(uploaded);
        };
        // One that was given up in this process needs a moment to end.
        let deadline = Deadline::after(LONGEST_WAIT);
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if deadline.has_passed() {
                return Err(InUse);
            }
            thread::sleep(Duration::from_millis(20));
        }
        let mut text = String::new();
        if (&file).take(LONGEST).read_to_string(&mut text).is_err() {
            return Ok(uploaded);
        }
        for line in text.lines() {
            // A line that was cut is of something that is sent again.
            if let Ok(receipt) = serde_json::from_str(line) {
                uploaded.take(receipt);
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            let _ = file.write_all(b"\n");
        }
        uploaded.file = Some(file);
        Ok(uploaded)
    }

    /// The digest of what the server has of a file.
    pub(crate) fn digest(&self, name: &str) -> Option<&String> {
        self.files.get(name)
    }

    pub(crate) fn has_artifact(&self, client_id: &str) -> bool {
        self.artifacts.contains(client_id)
    }

    /// Files that the stream has to announce.
    pub(crate) fn unannounced(&self) -> Vec<String> {
        self.unannounced.iter().cloned().collect()
    }

    pub(crate) fn any_unannounced(&self) -> bool {
        !self.unannounced.is_empty()
    }

    pub(crate) fn file(&mut self, name: String, digest: String) -> io::Result<()> {
        self.keep(UploadedEntry::File { name, digest })
    }

    pub(crate) fn artifact(&mut self, client_id: String) -> io::Result<()> {
        self.keep(UploadedEntry::Artifact(client_id))
    }

    pub(crate) fn announced(&mut self, names: Vec<String>) -> io::Result<()> {
        match names.is_empty() {
            true => Ok(()),
            false => self.keep(UploadedEntry::Announced(names)),
        }
    }

    fn keep(&mut self, receipt: UploadedEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(&receipt)?;
        line.push(b'\n');
        let kept = self.file.as_mut().map_or(Ok(()), |file| file.write_all(&line));
        self.take(receipt);
        kept
    }

    fn take(&mut self, receipt: UploadedEntry) {
        match receipt {
            UploadedEntry::File { name, digest } => {
                self.unannounced.insert(name.clone());
                self.files.insert(name, digest);
            }
            UploadedEntry::Artifact(client_id) => drop(self.artifacts.insert(client_id)),
            UploadedEntry::Announced(names) => {
                for name in names {
                    self.unannounced.remove(&name);
                }
            }
        }
    }
}

const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Millions of files; what is beyond is sent again.
const LONGEST: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_known_again_also_behind_a_line_that_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let log = RunFolder::of(&folder.path().join("run-x.wandb")).unwrap();
        let mut uploaded = UploadedFiles::open(&log).unwrap();
        uploaded.file("a".to_owned(), "1".to_owned()).unwrap();
        uploaded.announced(vec!["a".to_owned()]).unwrap();
        uploaded.file("b".to_owned(), "2".to_owned()).unwrap();
        uploaded.artifact("id".to_owned()).unwrap();
        drop(uploaded);
        let path = folder.path().join(log.beside("uploaded"));
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let mut uploaded = UploadedFiles::open(&log).unwrap();
        assert_eq!(uploaded.digest("a").unwrap(), "1");
        assert_eq!(uploaded.unannounced(), ["b"]);
        assert!(!uploaded.has_artifact("id"));
        uploaded.artifact("id".to_owned()).unwrap();
        drop(uploaded);
        assert!(UploadedFiles::open(&log).unwrap().has_artifact("id"));
    }
}
