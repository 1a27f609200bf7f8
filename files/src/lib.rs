//! How files are opened and replaced whose place others can change.
//!
//! A log directory may be shared, copied or sent by somebody, and a path may name a pipe, a device or a link. So every crate
//! of the workspace opens files through these functions:
//!
//! - opening never waits, and what is not a regular file is an error that says what it is;
//! - a file that is replaced is written under a random name that nobody had, and renamed;
//! - beneath a [`Folder`] no path leads out of it, and no link is followed.

#[cfg(feature = "folder")]
mod folder;
mod open;
mod replace;

#[cfg(feature = "folder")]
pub use self::folder::Folder;
pub use self::open::{check_regular, describe_file_type, open, open_no_follow, read, read_no_follow, read_to_string};
pub use self::replace::{Replacement, random_suffix, remove_stale_replacements, replace};

use std::path::{Component, Path};

/// Whether a path has nothing but normal components: it is relative, has no `..`, and no byte that ends it early.
///
/// ```
/// use std::path::Path;
///
/// assert!(logcore_files::is_plain_relative(Path::new("media/images/a.png")));
/// for path in ["", "/etc/passwd", "../a", "media/../../a", "./a", "a\0b"] {
///     assert!(!logcore_files::is_plain_relative(Path::new(path)), "{path:?}");
/// }
/// ```
pub fn is_plain_relative(path: &Path) -> bool {
    !path.as_os_str().is_empty()
        && !path.as_os_str().as_encoded_bytes().contains(&0)
        && path
            .components()
            .all(|component| matches!(component, Component::Normal(_)))
}
