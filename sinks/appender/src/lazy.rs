//! A file that is created with its first record.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use logcore::{SinkBooks, SinkError};

use crate::appender::resolved;
use crate::{Appender, FilePosition, Rotation};

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
#[derive(Debug)]
pub struct LazyAppender {
    path: PathBuf,
    rotation: Rotation,
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
            appender: None,
            rejected: SinkBooks::default(),
        }
    }

    /// Checks that the file can be appended to. A file that does not exist is created and removed
    /// again.
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
        match OpenOptions::new().append(true).create_new(true).open(&self.path) {
            Ok(_) => {
                // A file that cannot be removed is harmless: it is empty, and the sink will open
                // it.
                let _ = fs::remove_file(&self.path);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.appender = Some(Appender::open(&self.path, self.rotation)?);
                Ok(())
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
        let appender = match self.appender.take() {
            Some(appender) => appender,
            None => Appender::open(&self.path, self.rotation)
                .map_err(|error| SinkError::from(error).doing(format!("open {}", self.path.display())))?,
        };
        Ok(self.appender.insert(appender))
    }

    /// Queues one record, as [`Appender::append`] does, and opens the file before the first one.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened; then the record is counted as dropped.
    pub fn append(&mut self, record: &[u8], weight: u64) -> Result<(), SinkError> {
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
