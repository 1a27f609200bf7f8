//! Safe access to files in folders that others can change.
//!
//! A log directory may be shared, copied or sent by somebody, and a path may name a pipe, a device
//! or a link. All crates of the workspace open such files through this module:
//!
//! - `open` and `read` never wait, and fail for everything but regular files.
//! - `Lines` are the complete lines of a file and its rotated parts.
//! - `lock_within` waits a moment for a lock.
//! - `replace` writes a new file under a random name and renames it.
//! - A `Folder` (feature `folder`) refuses paths that lead out of the folder or over a link.
//!
//! The module is hidden from the documentation: its interface may change in any version.

#[cfg(feature = "folder")]
mod folder;
#[cfg(feature = "folder")]
mod limit;
mod lines;
mod lock;
mod open;
mod replace;

#[cfg(feature = "folder")]
pub use self::folder::{EntryKind, Folder, FolderEntry};
#[cfg(feature = "folder")]
pub use self::limit::{LimitedFile, file_size_limit};
pub use self::lines::{LineError, Lines};
pub use self::lock::lock_within;
pub use self::open::{
    append_no_follow, check_regular, describe_file_type, identity, open, open_no_follow, read, read_no_follow,
    read_to_string,
};
pub use self::replace::{
    Replacement, list_unfinished, random_suffix, remove_stale_replacements, remove_unfinished, replace,
};

use std::path::{Component, Path};

/// Returns `true` for a relative path without `..`, `.` and NUL bytes.
///
/// ```
/// use std::path::Path;
///
/// assert!(logcore::files::is_plain_relative(Path::new("media/images/a.png")));
/// for path in ["", "/etc/passwd", "../a", "media/../../a", "./a", "a\0b"] {
///     assert!(!logcore::files::is_plain_relative(Path::new(path)), "{path:?}");
/// }
/// ```
#[must_use]
pub fn is_plain_relative(path: &Path) -> bool {
    !path.as_os_str().is_empty()
        && !path.as_os_str().as_encoded_bytes().contains(&0)
        && path
            .components()
            .all(|component| matches!(component, Component::Normal(_)))
}
