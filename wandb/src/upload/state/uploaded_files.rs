//! The list of uploaded files and artifacts, in a file beside the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use logcore_delivery::{DeliveryError, lock_delivery};
use serde::{Deserialize, Serialize};

use crate::folder::RunFolder;

/// The files and artifacts of a run that the server has, one line each.
///
/// The file is only appended to, so that its cost does not grow with the number of files. Its lock
/// makes sure that there is one delivery of the log.
pub(crate) struct UploadedFiles {
    /// `None` if the file cannot be written. Then a later delivery uploads the same files again.
    file: Option<File>,
    /// Uploaded files, each with the digest of its content.
    files: BTreeMap<String, String>,
    artifacts: BTreeSet<String>,
    /// Uploaded files that the stream has not announced.
    unannounced: BTreeSet<String>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UploadedEntry {
    File { name: String, digest: String },
    Artifact(String),
    Announced(Vec<String>),
}

impl UploadedFiles {
    /// Opens the list of a log.
    ///
    /// # Errors
    ///
    /// If another delivery has the list open.
    pub(crate) fn open(run: &RunFolder) -> Result<Self, DeliveryError> {
        let mut uploaded = Self {
            file: None,
            files: BTreeMap::new(),
            artifacts: BTreeSet::new(),
            unannounced: BTreeSet::new(),
        };
        let Ok(mut file) = run.folder().append(&run.name_with("uploaded")) else {
            return Ok(uploaded);
        };
        lock_delivery(&file)?;
        let mut text = String::new();
        if (&file).take(LONGEST).read_to_string(&mut text).is_err() {
            return Ok(uploaded);
        }
        for line in text.lines() {
            // The file of a truncated line is uploaded again.
            if let Ok(entry) = serde_json::from_str(line) {
                uploaded.apply(entry);
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            let _ = file.write_all(b"\n");
        }
        uploaded.file = Some(file);
        Ok(uploaded)
    }

    /// Returns the digest of an uploaded file.
    pub(crate) fn digest(&self, name: &str) -> Option<&String> {
        self.files.get(name)
    }

    /// Returns `true` if an artifact was uploaded.
    pub(crate) fn has_artifact(&self, client_id: &str) -> bool {
        self.artifacts.contains(client_id)
    }

    /// Returns the files that the stream has to announce.
    pub(crate) fn unannounced(&self) -> Vec<String> {
        self.unannounced.iter().cloned().collect()
    }

    /// Returns `true` if the stream has to announce a file.
    pub(crate) fn has_unannounced(&self) -> bool {
        !self.unannounced.is_empty()
    }

    /// Notes that a file was uploaded.
    pub(crate) fn add_file(&mut self, name: String, digest: String) -> io::Result<()> {
        self.append(UploadedEntry::File { name, digest })
    }

    /// Notes that an artifact was uploaded.
    pub(crate) fn add_artifact(&mut self, client_id: String) -> io::Result<()> {
        self.append(UploadedEntry::Artifact(client_id))
    }

    /// Notes that the stream has announced files.
    pub(crate) fn mark_announced(&mut self, names: Vec<String>) -> io::Result<()> {
        match names.is_empty() {
            true => Ok(()),
            false => self.append(UploadedEntry::Announced(names)),
        }
    }

    /// Appends an entry to the file.
    fn append(&mut self, entry: UploadedEntry) -> io::Result<()> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        let kept = self.file.as_mut().map_or(Ok(()), |file| file.write_all(&line));
        self.apply(entry);
        kept
    }

    /// Applies an entry to the state in memory.
    fn apply(&mut self, entry: UploadedEntry) {
        match entry {
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

/// Bytes that are read of the list: millions of files. The rest is uploaded again.
const LONGEST: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_back_without_a_truncated_line() {
        let folder = tempfile::tempdir().unwrap();
        let log = RunFolder::open(&folder.path().join("run-x.wandb")).unwrap();
        let mut uploaded = UploadedFiles::open(&log).unwrap();
        uploaded.add_file("a".to_owned(), "1".to_owned()).unwrap();
        uploaded.mark_announced(vec!["a".to_owned()]).unwrap();
        uploaded.add_file("b".to_owned(), "2".to_owned()).unwrap();
        uploaded.add_artifact("id".to_owned()).unwrap();
        drop(uploaded);
        let path = folder.path().join(log.name_with("uploaded"));
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let mut uploaded = UploadedFiles::open(&log).unwrap();
        assert_eq!(uploaded.digest("a").unwrap(), "1");
        assert_eq!(uploaded.unannounced(), ["b"]);
        assert!(!uploaded.has_artifact("id"));
        uploaded.add_artifact("id".to_owned()).unwrap();
        drop(uploaded);
        assert!(UploadedFiles::open(&log).unwrap().has_artifact("id"));
    }
}
