//! The public handles of a file, one of which opens the file with its first record, and the table
//! of the files that are open.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use logcore::sync::lock;
use logcore::{PerProcess, SinkBooks, SinkError};

use crate::file_writer::{FileWriter, RecordSource};
use crate::{FilePosition, Rotation};

/// Returns the form of a record for the beginning of a file, such as a row with more columns. A
/// record that is in this form already stays as it is.
pub type FirstForm = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// A handle to the single writer of a file.
///
/// Opening the same path again returns another handle to the same writer. A writer lives as long as
/// its handles.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use logcore_appender::{Appender, Rotation};
///
/// let path = folder.path().join("training.log");
/// let mut first = Appender::open(&path, Rotation::default()).unwrap();
/// let mut second = Appender::open(&path, Rotation::default()).unwrap();
/// first.append(b"one\n", 1);
/// second.append(b"two\n", 1);
/// first.deliver_now().unwrap();
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
/// assert_eq!(second.books().delivered, 1);
/// ```
pub struct Appender {
    writer: Arc<Mutex<FileWriter>>,
    handle: usize,
    path: PathBuf,
}

/// The writers of the files that are open, per process: a writer that a fork copied may be in the
/// middle of a write.
static OPEN: PerProcess<Mutex<HashMap<PathBuf, Weak<Mutex<FileWriter>>>>> = PerProcess::new(|_| Mutex::default());

impl Appender {
    /// Opens `path` for appending. Creates the file and its folder if they do not exist.
    ///
    /// If the path is open already, the new `rotation` replaces the old one.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_appender::{Appender, Rotation};
    ///
    /// let path = folder.path().join("outputs/training.log");
    /// let appender = Appender::open(&path, Rotation::default()).unwrap();
    /// assert!(path.exists());
    /// ```
    ///
    /// # Errors
    ///
    /// If the folder cannot be created, or the file cannot be opened.
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let path = resolved(path)?;
        Self::share(
            path.clone(),
            RecordSource::Live,
            || FileWriter::open(path, rotation),
            |writer| {
                writer.set_rotation(rotation);
                Ok(())
            },
        )
    }

    /// Continues at the position of a killed process.
    ///
    /// The caller appends all records since that position again. A record that is in the file
    /// already is skipped, and one that is there in part is completed. [`FilePosition`] has an
    /// example.
    ///
    /// # Errors
    ///
    /// If the bytes after the position cannot be read, or the file cannot be opened.
    pub fn recover(position: &FilePosition) -> io::Result<Self> {
        let position = FilePosition {
            path: resolved(&position.path)?,
            ..position.clone()
        };
        Self::share(
            position.path.clone(),
            RecordSource::Recovery,
            || FileWriter::recover(&position),
            |writer| writer.recover_also(&position),
        )
    }

    /// Returns a handle to the writer of `path`: one that is open and that `join` prepares, or a
    /// new one from `open`.
    fn share(
        path: PathBuf,
        source: RecordSource,
        open: impl FnOnce() -> io::Result<FileWriter>,
        join: impl FnOnce(&mut FileWriter) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut all = lock(OPEN.get());
        let writer = match all.get(&path).and_then(Weak::upgrade) {
            Some(writer) => {
                join(&mut lock(&writer))?;
                writer
            }
            None => {
                let writer = Arc::new(Mutex::new(open()?));
                all.insert(path.clone(), Arc::downgrade(&writer));
                writer
            }
        };
        let handle = lock(&writer).add_handle(source);
        Ok(Self { writer, handle, path })
    }

    /// Sets the form in which a record of this handle is written if it is the first of a file,
    /// whether the file is new, or takes the place of one that was rotated or moved away.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_appender::{Appender, Rotation};
    ///
    /// let path = folder.path().join("rows.csv");
    /// let mut rows = Appender::open(&path, Rotation::default()).unwrap();
    /// rows.set_first_form(std::sync::Arc::new(|row| match row.starts_with(b"step") {
    ///     true => row.to_vec(),
    ///     false => [b"step,loss\n", row].concat(),
    /// }));
    /// rows.append(b"1,0.5\n", 1);
    /// rows.append(b"2,0.4\n", 1);
    /// rows.deliver_now().unwrap();
    /// assert_eq!(std::fs::read_to_string(&path).unwrap(), "step,loss\n1,0.5\n2,0.4\n");
    /// ```
    pub fn set_first_form(&mut self, first_form: FirstForm) {
        lock(&self.writer).set_first_form(self.handle, first_form);
    }

    /// Returns the position behind the newest record in the file, and `true` if no appended record
    /// is still in memory.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_appender::{Appender, Rotation};
    ///
    /// let mut appender = Appender::open(&folder.path().join("training.log"), Rotation::default()).unwrap();
    /// appender.append(b"one\n", 1);
    /// let (_, complete) = appender.position();
    /// assert!(!complete);
    /// ```
    #[must_use]
    pub fn position(&self) -> (FilePosition, bool) {
        lock(&self.writer).position()
    }

    /// Queues one record, including its line end. The record counts as `weight` in the
    /// [`books`](Self::books).
    ///
    /// The next successful [`deliver`](Self::deliver) writes the record; from 128 KiB on, this call
    /// writes. While the disk fails, up to 16 MiB are kept. Records beyond that are dropped and
    /// counted.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_appender::{Appender, Rotation};
    ///
    /// let path = folder.path().join("metrics.jsonl");
    /// let mut appender = Appender::open(&path, Rotation::default()).unwrap();
    /// appender.append(b"{\"step\":1}\n", 3); // One row for three calls.
    /// appender.deliver().unwrap();
    /// assert_eq!(appender.books().delivered, 3);
    /// ```
    #[inline]
    pub fn append(&mut self, record: &[u8], weight: u64) {
        lock(&self.writer).append(self.handle, record, weight);
    }

    /// Writes the queued records of all handles of the file. After a failure, the next attempt is
    /// made a second later.
    ///
    /// # Errors
    ///
    /// If records are still queued because they cannot be written. The error names the path.
    pub fn deliver(&mut self) -> Result<(), SinkError> {
        lock(&self.writer).deliver()
    }

    /// Writes the queued records at once, even right after a failure. A full pipe is waited for up
    /// to 2 seconds.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    pub fn deliver_now(&mut self) -> Result<(), SinkError> {
        lock(&self.writer).deliver_now()
    }

    /// Writes the queued records, and drops and counts the records of this handle that cannot be
    /// written.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_appender::{Appender, Rotation};
    ///
    /// let mut appender = Appender::open(&folder.path().join("training.log"), Rotation::default()).unwrap();
    /// appender.append(b"one\n", 1);
    /// appender.finish().unwrap();
    /// assert!(appender.books().balanced());
    /// ```
    ///
    /// # Errors
    ///
    /// If records were dropped.
    pub fn finish(&mut self) -> Result<(), SinkError> {
        let mut writer = lock(&self.writer);
        writer.write_held();
        let result = writer.deliver_now();
        if let Err(error) = &result {
            writer.give_up(self.handle, error.reason());
        }
        result
    }

    /// Returns the counts of the records that were appended through this handle.
    #[must_use]
    pub fn books(&self) -> SinkBooks {
        lock(&self.writer).books(self.handle)
    }

    /// Returns the path, with links in its folder resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        let _ = lock(&self.writer).deliver_now();
        let mut all = lock(OPEN.get());
        let listed = all.get(&self.path).map(Weak::as_ptr);
        if listed == Some(Arc::as_ptr(&self.writer)) && Arc::strong_count(&self.writer) == 1 {
            all.remove(&self.path);
        }
    }
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// An [`Appender`] that opens its file when the first record comes.
///
/// A sink uses it for files that a run may never need, and because
/// [`Sink::start`](logcore::Sink::start) is the first moment at which a sink may create files.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use logcore_appender::{LazyAppender, Rotation};
///
/// let path = folder.path().join("metrics.jsonl");
/// let mut file = LazyAppender::new(path.clone(), Rotation::default());
/// assert!(!path.exists());
/// file.append(b"{\"step\":1}\n", 1).unwrap();
/// file.finish().unwrap();
/// assert_eq!(std::fs::read_to_string(path).unwrap(), "{\"step\":1}\n");
/// ```
pub struct LazyAppender {
    path: PathBuf,
    rotation: Rotation,
    first_form: Option<FirstForm>,
    appender: Option<Appender>,
    /// Records that did not reach an appender.
    rejected: SinkBooks,
}

impl LazyAppender {
    /// Prepares a file at `path`, without touching the disk.
    #[must_use]
    pub fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self {
            path,
            rotation,
            first_form: None,
            appender: None,
            rejected: SinkBooks::default(),
        }
    }

    /// Sets the form of a record that is the first of a file, as [`Appender::set_first_form`] does.
    #[must_use]
    pub fn with_first_form(mut self, first_form: FirstForm) -> Self {
        if let Some(appender) = &mut self.appender {
            appender.set_first_form(Arc::clone(&first_form));
        }
        self.first_form = Some(first_form);
        self
    }

    /// Checks that the file can be appended to. For a file that does not exist, a temporary file in
    /// its folder is created and removed again.
    ///
    /// An existing file is opened and stays open: closing a pipe would end its reader.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_appender::{LazyAppender, Rotation};
    ///
    /// let path = folder.path().join("training.log");
    /// LazyAppender::new(path.clone(), Rotation::default()).check().unwrap();
    /// assert!(!path.exists());
    /// std::fs::create_dir(&path).unwrap();
    /// LazyAppender::new(path.clone(), Rotation::default()).check().unwrap_err();
    /// ```
    ///
    /// # Errors
    ///
    /// If the folder cannot be created, or the file cannot be opened.
    pub fn check(&mut self) -> io::Result<()> {
        self.path = resolved(&self.path)?;
        match fs::symlink_metadata(&self.path) {
            Ok(_) => {
                self.appender = Some(self.open_appender()?);
                Ok(())
            }
            // Another process may create and open the file at any moment, so the file itself is
            // never created here and removed again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                logcore::files::Replacement::begin(&self.path).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the file, if it is not open; creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened. The error names the path.
    pub fn open(&mut self) -> Result<&mut Appender, SinkError> {
        if self.appender.is_none() {
            let opened = self.open_appender();
            let appender =
                opened.map_err(|error| SinkError::from(error).doing(format!("open {}", self.path.display())))?;
            self.appender = Some(appender);
        }
        Ok(self
            .appender
            .get_or_insert_with(|| unreachable!("the file was just opened")))
    }

    fn open_appender(&self) -> io::Result<Appender> {
        let mut appender = Appender::open(&self.path, self.rotation)?;
        if let Some(first_form) = &self.first_form {
            appender.set_first_form(Arc::clone(first_form));
        }
        Ok(appender)
    }

    /// Queues one record, as [`Appender::append`] does, and opens the file before the first one.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened; then the record is counted as dropped.
    #[inline]
    pub fn append(&mut self, record: &[u8], weight: u64) -> Result<(), SinkError> {
        if let Some(appender) = &mut self.appender {
            appender.append(record, weight);
            return Ok(());
        }
        match self.open() {
            Ok(appender) => {
                appender.append(record, weight);
                Ok(())
            }
            Err(error) => {
                self.reject(weight, error.reason());
                Err(error)
            }
        }
    }

    /// Counts a record as dropped that the caller could not even format.
    ///
    /// ```
    /// use logcore_appender::{LazyAppender, Rotation};
    ///
    /// let mut file = LazyAppender::new("metrics.jsonl".into(), Rotation::default());
    /// file.reject(1, "no form in JSON");
    /// assert_eq!(file.books().dropped["no form in JSON"], 1);
    /// ```
    pub fn reject(&mut self, weight: u64, reason: &str) {
        self.rejected.accepted += weight;
        self.rejected.drop_for(reason, weight);
    }

    /// Returns the position, as [`Appender::position`] does. The position of a file that is not
    /// open is its end.
    #[must_use]
    pub fn position(&self) -> (FilePosition, bool) {
        match &self.appender {
            Some(appender) => appender.position(),
            None => {
                let position = FilePosition {
                    rotation: self.rotation,
                    ..FilePosition::end_of(&self.path)
                };
                (position, true)
            }
        }
    }

    /// Writes the queued records, as [`Appender::deliver`] does.
    ///
    /// # Errors
    ///
    /// If records are still queued because they cannot be written.
    pub fn deliver(&mut self) -> Result<(), SinkError> {
        self.appender.as_mut().map_or(Ok(()), Appender::deliver)
    }

    /// Writes the queued records at once, as [`Appender::deliver_now`] does.
    ///
    /// # Errors
    ///
    /// If records are still queued because they cannot be written.
    pub fn deliver_now(&mut self) -> Result<(), SinkError> {
        self.appender.as_mut().map_or(Ok(()), Appender::deliver_now)
    }

    /// Writes the queued records, and drops and counts those that cannot be written.
    ///
    /// # Errors
    ///
    /// If records were dropped.
    pub fn finish(&mut self) -> Result<(), SinkError> {
        self.appender.as_mut().map_or(Ok(()), Appender::finish)
    }

    /// Returns the counts of all records.
    #[must_use]
    pub fn books(&self) -> SinkBooks {
        let mut books = self.rejected.clone();
        if let Some(appender) = &self.appender {
            books.add(&appender.books());
        }
        books
    }

    /// Returns the path; after [`check`](Self::check), with links in its folder resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for LazyAppender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyAppender")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl From<Appender> for LazyAppender {
    /// Wraps an open appender, such as one that recovers a file.
    fn from(appender: Appender) -> Self {
        let (position, _) = appender.position();
        Self {
            appender: Some(appender),
            ..Self::new(position.path, position.rotation)
        }
    }
}

/// Resolves the folder of a path, so that a file has one path however it was written.
pub(crate) fn resolved(path: &Path) -> io::Result<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    Ok(folder.canonicalize()?.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appender_is_send_and_sync() {
        fn assert_send_sync<T: Send + Sync>() {}
        assert_send_sync::<Appender>();
    }
}
