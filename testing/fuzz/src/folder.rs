//! The working folder of a target.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Returns the current folder, which must be empty at first, because each input removes all files
/// in it.
///
/// # Panics
///
/// If the folder is not empty.
pub(crate) fn path() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let here = std::env::current_dir().and_then(|here| here.canonicalize());
        let here = here.expect("there is a current folder");
        let mut entries = fs::read_dir(&here).expect("it can be read");
        assert!(
            entries.next().is_none(),
            "a target works in an empty folder, and {} is none",
            here.display()
        );
        here
    });
    &PATH
}

/// Removes all files.
pub(crate) fn clear() {
    for entry in fs::read_dir(path()).into_iter().flatten().flatten() {
        let path = entry.path();
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
    }
}

/// Returns all files below the folder, by relative path.
pub(crate) fn files() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let (Ok(name), Ok(bytes)) = (path.strip_prefix(self::path()), fs::read(&path)) {
                found.push((name.to_string_lossy().into_owned(), bytes));
            }
        }
    }
    found.sort();
    found
}
