//! Symbolic links at the path of a log file, and the ones that are refused.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// Maximum length of a chain of links; the system follows no longer one.
const MOST_LINKS: usize = 40;

/// Kind of the way from a path to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathKind {
    /// The path is the name of the file.
    Direct,
    /// The path leads over links.
    Linked,
}

/// Follows the links at a path. The file need not exist.
///
/// # Errors
///
/// If a link was made by a user who owns neither its folder nor this process: in a folder that
/// several users may write to, such a link is a trap. Linux has the same rule for sticky folders
/// (`fs.protected_symlinks`).
pub(crate) fn follow(path: &Path) -> io::Result<PathKind> {
    let mut at = path.to_owned();
    for count in 0..MOST_LINKS {
        let link = match at.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => metadata,
            _ if count == 0 => return Ok(PathKind::Direct),
            _ => return Ok(PathKind::Linked),
        };
        check_owner(&at, &link)?;
        at = folder_of(&at).join(fs::read_link(&at)?);
    }
    Ok(PathKind::Linked)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => ".".into(),
    }
}

#[cfg(unix)]
fn check_owner(path: &Path, link: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    const ROOT: u32 = 0;
    let folder = folder_of(path);
    let owner = link.uid();
    if owner == ROOT || owner == folder.metadata()?.uid() || owner == own_user(&folder)? {
        return Ok(());
    }
    let text = format!(
        "{} is a link made by user {owner}, who owns neither its folder nor this process. Remove the link, or use another \
         folder",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

#[cfg(not(unix))]
fn check_owner(_: &Path, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Returns the user who owns the files that this process creates.
#[cfg(unix)]
fn own_user(folder: &Path) -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let temporary = logcore::files::Replacement::begin(&folder.join("owner"))?;
    Ok(temporary.file().metadata()?.uid())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;

    #[test]
    fn follow_accepts_links_of_the_user_wherever_they_lead() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("two", path("one")).unwrap();
        symlink("three", path("two")).unwrap();
        symlink("round", path("round")).unwrap();
        symlink("/dev/stdout", path("stdout")).unwrap();
        for (name, kind) in [
            ("one", PathKind::Linked),
            ("round", PathKind::Linked),
            ("stdout", PathKind::Linked),
            ("three", PathKind::Direct),
        ] {
            assert_eq!(follow(&path(name)).unwrap(), kind, "{name}");
        }
    }

    #[test]
    fn follow_accepts_a_link_of_another_user_only_in_their_own_folder() {
        const OTHER: u32 = 4321;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("target", path("trap")).unwrap();
        symlink("trap", path("mine")).unwrap();
        if lchown(path("trap"), Some(OTHER), None).is_err() {
            // Only root can give a link to another user.
            return;
        }
        for name in ["trap", "mine"] {
            let error = follow(&path(name)).unwrap_err();
            assert!(error.to_string().contains("user 4321"), "{error}");
        }
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            2,
            "`follow` left a file behind"
        );
        chown(folder.path(), Some(OTHER), None).unwrap();
        assert_eq!(follow(&path("trap")).unwrap(), PathKind::Linked);
    }
}
