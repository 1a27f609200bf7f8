//! The position of a writer in its file, for recovery, and the identity of a file, whatever its
//! name is.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::Rotation;

/// Position of an [`Appender`](crate::Appender) in its file: with it, another process can continue
/// after a kill.
///
/// A sink saves the position in its resume point, usually without the folder
/// ([`file_name_only`](Self::file_name_only)), because the folder may be moved before the recovery.
/// [`Appender::recover`](crate::Appender::recover) continues from it.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use logcore_appender::{Appender, FilePosition, Rotation};
///
/// let path = folder.path().join("training.log");
/// let mut killed = Appender::open(&path, Rotation::default()).unwrap();
/// let (position, complete) = killed.position();
/// assert!(complete);
/// killed.append(b"one\n", 1);
/// killed.deliver().unwrap();
/// drop(killed); // Here the process is killed. The next one has the position, and all records since then.
///
/// let mut next = Appender::recover(&position).unwrap();
/// next.append(b"one\n", 1);
/// next.append(b"two\n", 1);
/// next.finish().unwrap();
/// assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilePosition {
    pub(crate) path: PathBuf,
    pub(crate) rotation: Rotation,
    pub(crate) file: Option<FileId>,
    /// Offset behind our newest record in that file.
    pub(crate) end: u64,
}

impl FilePosition {
    /// Returns the path of the file.
    ///
    /// ```
    /// use logcore_appender::FilePosition;
    /// use std::path::Path;
    ///
    /// let position = FilePosition::end_of(Path::new("outputs/training.log"));
    /// assert_eq!(position.path(), Path::new("outputs/training.log"));
    /// ```
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the path.
    ///
    /// ```
    /// use logcore_appender::FilePosition;
    /// use std::path::Path;
    ///
    /// let position = FilePosition::end_of(Path::new("training.log")).with_path("moved/training.log".into());
    /// assert_eq!(position.path(), Path::new("moved/training.log"));
    /// ```
    #[must_use]
    pub fn with_path(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// Reduces the path to the name of the file.
    ///
    /// ```
    /// use logcore_appender::FilePosition;
    /// use std::path::Path;
    ///
    /// let position = FilePosition::end_of(Path::new("outputs/training.log")).file_name_only();
    /// assert_eq!(position.path(), Path::new("training.log"));
    /// ```
    #[must_use]
    pub fn file_name_only(self) -> Self {
        let name = self.path.file_name().map(PathBuf::from);
        self.with_path(name.unwrap_or_default())
    }

    /// Returns the end of a file that is not open; the file need not exist.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_appender::{Appender, FilePosition};
    ///
    /// let path = folder.path().join("metrics.jsonl");
    /// let mut appender = Appender::recover(&FilePosition::end_of(&path)).unwrap();
    /// appender.append(b"{}\n", 1);
    /// appender.finish().unwrap();
    /// assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
    /// ```
    #[must_use]
    pub fn end_of(path: &Path) -> Self {
        let metadata = fs::metadata(path).ok();
        Self {
            path: path.to_owned(),
            rotation: Rotation::default(),
            file: metadata.as_ref().and_then(FileId::of),
            end: metadata.map_or(0, |metadata| metadata.len()),
        }
    }
}

/// Device and inode number of a file, where the system has them, and its creation time: inode
/// numbers are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileId {
    device: u64,
    number: u64,
    /// Nanoseconds since 1970, where the file system records the creation.
    made: Option<u64>,
}

impl FileId {
    #[cfg(unix)]
    pub(crate) fn of(metadata: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        Some(Self {
            device: metadata.dev(),
            number: metadata.ino(),
            made: creation_nanos(metadata),
        })
    }

    #[cfg(not(unix))]
    pub(crate) fn of(metadata: &Metadata) -> Option<Self> {
        Some(Self {
            device: 0,
            number: 0,
            made: creation_nanos(metadata),
        })
    }
}

fn creation_nanos(metadata: &Metadata) -> Option<u64> {
    let since = metadata.created().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}
