//! The entries that lead from the root of a log to the rings in its run folders.
//!
//! The *root* is the `log_dir` of the user. Each run has a folder beneath the root, which holds a
//! name of the ring. `.logcore/rings/<pid>-<nonce>` in the root is the entry of that name: a line
//! with the run folder, relative to the root. A start reads the entries alone, because a root may
//! hold thousands of run folders. A run whose folder is the root itself needs no entry.
//!
//! An entry is made before the name and removed after the name, so a killed process leaves no name
//! without an entry. The process holds a lock on the entry until the name is there: an entry
//! without a lock and without a name belongs to no live process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};
use std::thread;

use logcore::kill_point::kill_point;

use super::file::{PREFIX, SUFFIX, create_private_file};

/// The folders of the entries, from the root on.
const FOLDERS: [&str; 2] = [".logcore", "rings"];
/// Number of times that an entry is made again, because another start has taken it for one of a
/// dead process.
const MAX_ATTEMPTS: usize = 16;

/// An entry whose name is not made yet. Its drop removes the entry.
pub(super) struct UnsettledEntry {
    file: File,
    path: PathBuf,
    is_settled: bool,
}

impl UnsettledEntry {
    /// Creates the entry of the name `ring` in `folder`, the ring's folder of this `number`. `None`
    /// if the folder is the root.
    ///
    /// # Errors
    ///
    /// If the folder does not lie in the root, or the root takes no entry.
    pub(super) fn create(root: &Path, folder: &Path, ring: &OsStr, number: usize) -> io::Result<Option<Self>> {
        let root = root.canonicalize()?;
        if root == folder {
            return Ok(None);
        }
        let relative = folder
            .strip_prefix(&root)
            .ok()
            .filter(|relative| is_run_folder(relative));
        let relative = relative.ok_or_else(|| io::Error::other("the folder of the run does not lie in it"))?;
        let name = ring.to_str().and_then(|ring| entry_name(ring, number));
        let name = name.ok_or(io::ErrorKind::InvalidFilename)?;
        let mut entry = Self::lock_new(create_entries(root)?.join(name))?;
        kill_point("entry begun");
        let line = [relative.as_os_str().as_encoded_bytes(), b"\n"].concat();
        entry.file.write_all(&line)?;
        kill_point("entry made");
        Ok(Some(entry))
    }

    /// Creates the file and locks it, before another start can take it for that of a dead process.
    fn lock_new(path: PathBuf) -> io::Result<Self> {
        for _ in 0..MAX_ATTEMPTS {
            let entry = match create_private_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    thread::yield_now();
                    continue;
                }
                created => Self {
                    file: created?,
                    path: path.clone(),
                    is_settled: false,
                },
            };
            match entry.file.try_lock() {
                Ok(()) if !is_removed(&entry.file)? => return Ok(entry),
                Ok(()) | Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Releases the lock, because the name is there. Returns the path of the entry.
    pub(super) fn settle(mut self) -> PathBuf {
        self.is_settled = true;
        // A child of a fork may still have a copy of the descriptor.
        let _ = self.file.unlock();
        std::mem::take(&mut self.path)
    }
}

impl Drop for UnsettledEntry {
    fn drop(&mut self) {
        if !self.is_settled {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Creates the folder of the entries, unless it exists.
fn create_entries(root: PathBuf) -> io::Result<PathBuf> {
    let mut path = root;
    for part in FOLDERS {
        path.push(part);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            // Somebody else may have put a link there, which would lead out of the root.
            _ if !path.symlink_metadata()?.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
            _ => {}
        }
    }
    Ok(path)
}

/// Returns the folder of the entries; `None` if it does not exist or a link leads there.
pub(crate) fn entries_of(root: &Path) -> Option<PathBuf> {
    let mut path = root.to_owned();
    for part in FOLDERS {
        path.push(part);
        path.symlink_metadata().ok().filter(fs::Metadata::is_dir)?;
    }
    Some(path)
}

/// Reads the contents of an entry: a run folder, relative to the root. `None` if the process died
/// before the entry was complete.
pub(crate) fn parse_entry(text: &[u8]) -> Option<PathBuf> {
    let folder = crate::writer::checkpoint::path_from_bytes(text.strip_suffix(b"\n")?)?;
    is_run_folder(&folder).then_some(folder)
}

/// Returns the name of the ring that an entry of this file name leads to.
pub(crate) fn ring_of_entry(entry: &str) -> Option<String> {
    let stem = match entry.rsplit_once('.') {
        Some((stem, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => stem,
        _ => entry,
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (!stem.is_empty() && stem.bytes().all(is_plain)).then(|| format!("{PREFIX}{stem}{SUFFIX}"))
}

/// Returns the file name of an entry. A ring may have names in several folders of one root.
fn entry_name(ring: &str, number: usize) -> Option<String> {
    let stem = ring.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    Some(match number {
        0 => stem.to_owned(),
        number => format!("{stem}.{number}"),
    })
}

/// Returns `true` for the name of a folder that lies directly in the root.
fn is_run_folder(relative: &Path) -> bool {
    let mut components = relative.components();
    matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(_)), None)
    )
}

#[cfg(unix)]
fn is_removed(file: &File) -> io::Result<bool> {
    Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) == 0)
}

#[cfg(not(unix))]
fn is_removed(_: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use logcore::LogConfig;

    use super::*;

    #[test]
    fn an_entry_leads_to_the_ring_it_is_named_after() {
        for ring in [".logcore-12-0abc.ring", ".logcore-12-0abc.rank3.ring"] {
            for number in [0, 1, 12] {
                let entry = entry_name(ring, number).unwrap();
                assert_eq!(ring_of_entry(&entry).as_deref(), Some(ring), "{entry}");
                assert_eq!(
                    super::super::file::rank_of(&entry),
                    super::super::file::rank_of(ring),
                    "{entry}"
                );
            }
        }
        assert_eq!(ring_of_entry("a/b"), None);
    }

    #[test]
    fn an_entry_leads_to_a_folder_directly_in_the_root() {
        assert_eq!(parse_entry(b"run-1\n"), Some("run-1".into()));
        for wrong in [
            &b""[..],
            b"run",
            b"\n",
            b"../run\n",
            b"a/b\n",
            b"/etc\n",
            b".\n",
            b"..\n",
        ] {
            assert_eq!(parse_entry(wrong), None, "{wrong:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn no_entry_is_made_through_a_link() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = root.path().canonicalize().unwrap().join("run");
        fs::create_dir(&folder).unwrap();
        let create = || UnsettledEntry::create(root.path(), &folder, ".logcore-1-a.ring".as_ref(), 0);
        for part in [".logcore", ".logcore/rings"] {
            let link = root.path().join(part);
            std::os::unix::fs::symlink(outside.path(), &link).unwrap();
            assert!(create().is_err());
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
            fs::remove_file(&link).unwrap();
            fs::create_dir(&link).unwrap();
        }
        assert!(create().unwrap().is_some());
    }

    #[test]
    fn another_start_does_not_take_an_entry_away_while_it_is_made() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().canonicalize().unwrap().join("run");
        fs::create_dir(&folder).unwrap();
        let config = LogConfig {
            log_dir: root.path().into(),
            ..LogConfig::default()
        };
        thread::scope(|scope| {
            let other =
                scope.spawn(|| (0..500).for_each(|_| drop(crate::recover_ranks(&config, None, &|_| true, &|_| {}))));
            for count in 0.. {
                if other.is_finished() {
                    break;
                }
                let ring = format!(".logcore-1-{count}.ring");
                let entry = UnsettledEntry::create(root.path(), &folder, ring.as_ref(), 0)
                    .unwrap()
                    .unwrap();
                let name = create_private_file(&folder.join(&ring)).unwrap();
                name.try_lock().unwrap();
                let path = entry.settle();
                assert!(path.exists());
                fs::remove_file(folder.join(ring)).unwrap();
                let _ = fs::remove_file(path);
            }
        });
    }
}
