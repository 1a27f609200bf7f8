//! The identity of a file, whatever its name is.

use std::fs::Metadata;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

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
