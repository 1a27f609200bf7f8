use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use logcore::{PerProcess, SinkBooks, SinkError};

use crate::file_writer::FileWriter;
use crate::{FilePosition, Rotation};

/// A handle to the one writer of a file.
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
/// first.deliver(true).unwrap();
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
/// assert_eq!(second.books().delivered, 1);
/// ```
pub struct Appender {
    writer: Arc<Mutex<FileWriter>>,
    handle: usize,
    path: PathBuf,
}

/// The owners of the files that are open. An writer that a child of a fork has from its parent may be in the middle of a
/// write.
static OPEN: PerProcess<Mutex<HashMap<PathBuf, Weak<Mutex<FileWriter>>>>> = PerProcess::new(|_| Mutex::default());

impl Appender {
    /// Opens `path` for appending, and makes its folder and itself if they are not there. If it is open already, the
    /// newest rotation holds.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made, or the file cannot be opened.
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let path = resolved(path)?;
        Self::of_path(
            path.clone(),
            false,
            || FileWriter::open(path, rotation),
            |writer| {
                writer.set_rotation(rotation);
                Ok(())
            },
        )
    }

    /// Goes on from where a killed process stood: of the records that are appended next, those which it has written already
    /// are found in the file and not written again, and one that it has begun is completed.
    ///
    /// # Errors
    ///
    /// If what it has written cannot be read, or the file cannot be opened.
    pub fn recover(place: &FilePosition) -> io::Result<Self> {
        let place = FilePosition {
            path: resolved(&place.path)?,
            ..place.clone()
        };
        Self::of_path(
            place.path.clone(),
            true,
            || FileWriter::recover(&place),
            |writer| writer.recover_also(&place),
        )
    }

    fn of_path(
        path: PathBuf,
        recovers: bool,
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
        let handle = lock(&writer).add_handle(recovers);
        Ok(Self { writer, handle, path })
    }

    /// Where the file stands, and whether all that was appended is in it.
    pub fn position(&self) -> (FilePosition, bool) {
        lock(&self.writer).position()
    }

    /// Takes a whole record, line end included, which stands for `weight` things in the books.
    ///
    /// It is in the file after the next successful [`deliver`](Self::deliver); a good amount is written at once. While
    /// the disk is in trouble up to 16 MiB are kept; what comes beyond is dropped and counted.
    pub fn append(&mut self, record: &[u8], weight: u64) {
        lock(&self.writer).append(self.handle, record, weight);
    }

    /// Writes out what is kept. After a failure it is tried again at most once a second, unless `at_once`.
    ///
    /// # Errors
    ///
    /// If something is still kept because it could not be written. The error names the path.
    pub fn deliver(&mut self, at_once: bool) -> Result<(), SinkError> {
        lock(&self.writer).deliver(at_once)
    }

    /// Writes out what is kept and gives up what cannot be written.
    ///
    /// # Errors
    ///
    /// If something was given up.
    pub fn finish(&mut self) -> Result<(), SinkError> {
        let mut writer = lock(&self.writer);
        writer.write_held();
        let result = writer.deliver(true);
        if let Err(error) = &result {
            writer.give_up(self.handle, error.reason());
        }
        result
    }

    /// The account of what came through this handle.
    pub fn books(&self) -> SinkBooks {
        lock(&self.writer).books(self.handle)
    }

    /// The path, with its folder resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        let _ = lock(&self.writer).deliver(true);
        let mut all = lock(OPEN.get());
        let known = all.get(&self.path).map(Weak::as_ptr);
        if known == Some(Arc::as_ptr(&self.writer)) && Arc::strong_count(&self.writer) == 1 {
            all.remove(&self.path);
        }
    }
}

/// A panic elsewhere leaves the writer whole: it changes its state after each write, not before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same file under one name, however its folder was written.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    Ok(folder.canonicalize()?.join(name))
}
