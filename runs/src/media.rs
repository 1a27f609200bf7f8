//! The media of a run: the index, and the files that it names.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use logcore::files::Folder;
use logcore::{StoredMedia, StoredRow};

use crate::run_file::open_lines;
use crate::{RunError, StoredRun};

/// The most values that are kept, and the most bytes of their lines; of more, the newest ones.
const MOST_VALUES: usize = 100_000;
const MOST_BYTES: usize = 64 << 20;

/// The media values of a run; made by [`StoredRun::media`].
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct RunMedia {
    /// The values with their ranks, rank by rank in the order of the index. A value that a later
    /// attempt has superseded is left out.
    pub values: Vec<(u32, StoredMedia)>,
    /// The number of lines that are left out: those that are no media values, and all but the
    /// newest 100,000 values or 64 MiB.
    pub left_out: u64,
}

impl StoredRun {
    /// Returns the index files of media, by rank.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn media_files(&self) -> Result<BTreeMap<u32, PathBuf>, RunError> {
        self.files_of(MEDIA_INDEX)
    }

    /// Reads the index of the run's media.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// let line = r#"{"time":1.5,"logger":"trainer","key":"note","step":12,"kind":"text"}"#;
    /// fs::write(folder.path().join("media.jsonl"), format!("{line}\n")).unwrap();
    /// fs::write(folder.path().join("run.json"), "{}").unwrap();
    /// let media = StoredRun::open(folder.path())?.media()?;
    /// let (rank, note) = &media.values[0];
    /// assert_eq!((*rank, note.description.key.as_str(), note.description.step), (0, "note", 12));
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If an index cannot be read.
    pub fn media(&self) -> Result<RunMedia, RunError> {
        let superseded = self.manifest.superseded_rows();
        let (mut values, mut left_out) = (VecDeque::new(), 0);
        let mut bytes = 0;
        for (rank, path) in self.media_files()? {
            let mut lines = open_lines(&path)?;
            while let Some(line) = lines.next_line()? {
                let Ok(value) = serde_json::from_slice::<StoredMedia>(line) else {
                    left_out += 1;
                    continue;
                };
                let mut row = StoredRow::new(value.description.step, value.time, &*value.logger);
                row.attempt = value.attempt;
                if superseded.contains(&row) {
                    continue;
                }
                bytes += line.len();
                values.push_back((rank, value, line.len()));
                while values.len() > MOST_VALUES || (bytes > MOST_BYTES && values.len() > 1) {
                    bytes -= values.pop_front().map_or(0, |(.., length)| length);
                    left_out += 1;
                }
            }
        }
        Ok(RunMedia {
            values: values.into_iter().map(|(rank, value, _)| (rank, value)).collect(),
            left_out,
        })
    }

    /// Reads the file of a media value, which lies beneath `media/` in the folder of the run.
    /// `path` is that of [`MediaFile`](logcore::MediaFile), and may come from anybody: a path that
    /// leads elsewhere, or over a link, is refused.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// fs::create_dir_all(folder.path().join("media/text")).unwrap();
    /// fs::write(folder.path().join("media/text/note_12.txt"), "hello").unwrap();
    /// fs::write(folder.path().join("run.json"), "{}").unwrap();
    /// let run = StoredRun::open(folder.path())?;
    /// assert_eq!(run.read_media("media/text/note_12.txt", 100).unwrap(), b"hello");
    /// assert!(run.read_media("media/text/note_12.txt", 4).is_err(), "it is longer");
    /// assert!(run.read_media("media/../run.json", 100).is_err());
    /// assert!(run.read_media("run.json", 100).is_err());
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the path is refused, the file is longer than `limit` bytes, or it cannot be read.
    pub fn read_media(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let path = Path::new(path);
        if !path.starts_with("media") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path does not lead to media",
            ));
        }
        Folder::open(&self.dir)?.read(path, limit)
    }
}

/// The index of media.
pub(crate) const MEDIA_INDEX: &str = "media.jsonl";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn run(manifest: &str, index: &str) -> (tempfile::TempDir, StoredRun) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run.json"), manifest).unwrap();
        fs::write(folder.path().join(MEDIA_INDEX), index).unwrap();
        let run = StoredRun::open(folder.path()).unwrap();
        (folder, run)
    }

    fn line(step: u64, attempt: u32) -> String {
        format!(
            "{{\"time\":1,\"logger\":\"a\",\"attempt\":{attempt},\"key\":\"k\",\"step\":{step},\"kind\":\"text\"}}\n"
        )
    }

    #[test]
    fn values_that_a_later_attempt_superseded_are_left_out() {
        let manifest = r#"{"attempts":[{"first_step":{}},{"first_step":{"a":3}}]}"#;
        let index: String = [(1, 1), (2, 1), (3, 1), (4, 1), (3, 2)]
            .map(|(step, at)| line(step, at))
            .concat();
        let (_folder, run) = run(manifest, &index);
        let media = run.media().unwrap();
        let steps: Vec<_> = media.values.iter().map(|(_, value)| value.description.step).collect();
        assert_eq!((steps, media.left_out), (vec![1, 2, 3], 0));
    }

    #[test]
    fn odd_lines_are_counted() {
        let index = format!("{}nonsense\n{{\"kind\":\"hologram\"}}\n{}", line(1, 1), line(2, 1));
        let (folder, run) = run("{}", &index);
        fs::write(folder.path().join("media.rank3.jsonl"), line(9, 1)).unwrap();
        let media = run.media().unwrap();
        let ranks: Vec<_> = media.values.iter().map(|(rank, _)| *rank).collect();
        assert_eq!((ranks, media.left_out), (vec![0, 0, 3], 2));
    }

    #[cfg(unix)]
    #[test]
    fn no_path_leads_out_of_the_folder() {
        let (folder, run) = run("{}", "");
        let secret = tempfile::tempdir().unwrap();
        fs::write(secret.path().join("key"), "secret").unwrap();
        fs::create_dir(folder.path().join("media")).unwrap();
        std::os::unix::fs::symlink(secret.path(), folder.path().join("media/way")).unwrap();
        std::os::unix::fs::symlink(secret.path().join("key"), folder.path().join("media/key")).unwrap();
        for path in [
            "media/way/key",
            "media/key",
            "media/../media/key",
            "/media/key",
            "media",
            "media/\0",
            "mediator/key",
        ] {
            assert!(run.read_media(path, 1000).is_err(), "{path}");
        }
    }
}
