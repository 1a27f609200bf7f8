//! The folders of runs: ids, names, and making them.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::{Timestamp, ZonedDateTime};
use logcore::{RunManifest, local_time_zone};
use logcore_pipeline::ProcessLock;

/// Number of characters in an id.
const ID_LENGTH: usize = 8;
/// Number of characters of the id in the name of a folder.
const SHORT_ID_LENGTH: usize = 4;
/// Largest number of bytes of the logger's name in the name of a folder.
const MAX_NAME: usize = 64;

/// The folders that a set-up has made, and the file of the lock in the newest. Dropping the value
/// removes them, unless they hold something else or are [kept](Self::keep).
#[derive(Debug, Default)]
pub(super) struct NewFolders(Vec<PathBuf>);

/// An attempt to be the one that begins the run in a folder.
pub(super) enum Claim {
    /// This process begins the run, and has its lock, if the file system has locks.
    Held(Option<ProcessLock>),
    /// Another process has begun the run, or is about to.
    Taken,
}

impl NewFolders {
    /// Makes a folder; returns `false` if there is something of this name.
    pub(super) fn make(&mut self, path: &Path) -> io::Result<bool> {
        match fs::create_dir(path) {
            Ok(()) => {
                self.0.push(path.to_owned());
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder, and all folders above it that are missing.
    pub(super) fn make_all(&mut self, path: &Path) -> io::Result<()> {
        let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let made = match (self.make(path), path.parent()) {
            (Err(error), Some(parent)) if is_missing(&error) => {
                self.make_all(parent)?;
                self.make(path)?
            }
            (made, _) => made?,
        };
        match made || path.is_dir() {
            true => Ok(()),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Makes the folder of a run. A link in `root` leads nowhere: whoever may make one there must
    /// not lead the files of a run elsewhere.
    pub(super) fn make_run(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        if path != root && path.is_symlink() {
            return Err(io::Error::other("it is a link, and the folder of a run is none"));
        }
        self.make_all(path)
    }

    /// Makes the folder of a run that has no `run.json`, and takes the run's lock: of several
    /// processes, one begins the run.
    pub(super) fn claim_run(&mut self, root: &Path, path: &Path) -> io::Result<Claim> {
        self.make_run(root, path)?;
        let lock_path = RunManifest::lock_path(path, 0);
        let is_new = !lock_path.exists();
        let lock = match ProcessLock::acquire(&lock_path) {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Ok(Claim::Taken),
            // Another process, whose set-up was refused, has removed the folder meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Claim::Taken),
            // `RunRecord::begin` says why there is none.
            Err(_) => None,
        };
        if is_run(path) {
            return Ok(Claim::Taken);
        }
        // Without a lock, the file may be another process's.
        let is_own = is_new && lock.is_some();
        self.0.extend(is_own.then_some(lock_path));
        Ok(Claim::Held(lock))
    }

    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        for made in self.0.iter().rev() {
            let _ = fs::remove_dir(made).or_else(|_| fs::remove_file(made));
        }
    }
}

/// Returns `true` if the folder is that of a run.
pub(super) fn is_run(folder: &Path) -> bool {
    folder.join(RunManifest::FILE).is_file()
}

/// Returns a new id: 8 characters from a-z and 0-9 that no other process can predict.
pub(super) fn new_id() -> String {
    const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    // The keys of `RandomState` come from the operating system.
    let mut number = RandomState::new().hash_one(SystemTime::now());
    let mut next = || {
        let digit = DIGITS[(number % 36) as usize];
        number /= 36;
        char::from(digit)
    };
    (0..ID_LENGTH).map(|_| next()).collect()
}

/// Returns the name of a new folder: `<name>-<YYYYMMDD-HHMMSS>-<4 characters of the id>`, in local
/// time.
pub(super) fn new_name(logger: &str, id: &str) -> String {
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX);
    let now = ZonedDateTime::new(now, local_time_zone());
    let time = format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}",
        now.year(),
        now.month(),
        now.day(),
        now.hour(),
        now.minute(),
        now.second()
    );
    let id = id.get(..SHORT_ID_LENGTH).unwrap_or(id);
    format!("{}-{time}-{id}", plain_name(logger))
}

/// Returns the name of the folder of a run whose id the user has chosen: `<name>-<id>`.
pub(super) fn name_with_id(logger: &str, id: &str) -> String {
    format!("{}-{id}", plain_name(logger))
}

/// Returns the name with `_` for all but letters, digits, `.`, `_` and `-`; without leading dots,
/// and at most 64 bytes long.
fn plain_name(name: &str) -> String {
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '_',
    };
    let name: String = name.chars().map(plain).take(MAX_NAME).collect();
    match name.trim_start_matches('.') {
        "" => "run".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_8_characters_and_differ() {
        let ids: std::collections::BTreeSet<String> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| {
            id.len() == ID_LENGTH
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        }));
    }

    #[test]
    fn names_of_folders_are_plain() {
        for (name, plain) in [
            ("my_module", "my_module"),
            ("app::train", "app__train"),
            ("..hidden", "hidden"),
            ("...", "run"),
            ("a/../b c", "a_.._b_c"),
            ("n\u{e4}he", "n_he"),
        ] {
            assert_eq!(plain_name(name), plain);
        }
        assert_eq!(plain_name(&"x".repeat(300)).len(), MAX_NAME);
        let name = new_name("trainer", "k3v9q2ab");
        let digits = name.strip_prefix("trainer-").unwrap().strip_suffix("-k3v9").unwrap();
        assert_eq!(digits.len(), "20261129-101500".len());
        assert_eq!(digits.as_bytes()[8], b'-');
    }

    #[test]
    fn a_run_is_claimed_once() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("x");
        let claim = |folders: &mut NewFolders| folders.claim_run(root.path(), &dir).unwrap();
        let (mut one, mut other) = (NewFolders::default(), NewFolders::default());
        let Claim::Held(held) = claim(&mut one) else {
            panic!("nobody else has it")
        };
        assert!(matches!(claim(&mut other), Claim::Taken));
        drop(other);
        assert!(dir.exists(), "it is the folder of the first");
        drop((one, held));
        assert!(!dir.exists(), "the set-up was refused");

        let mut begun = NewFolders::default();
        assert!(matches!(claim(&mut begun), Claim::Held(Some(_))));
        RunManifest::default().write(&dir).unwrap();
        begun.keep();
        assert!(
            matches!(claim(&mut NewFolders::default()), Claim::Taken),
            "it has begun"
        );
        assert!(dir.join(RunManifest::LOCK).exists());
    }

    #[test]
    fn new_folders_are_removed_unless_kept_or_in_use() {
        let outer = tempfile::tempdir().unwrap();
        let (logs, run) = (outer.path().join("a/logs"), outer.path().join("a/logs/run"));
        let mut folders = NewFolders::default();
        folders.make_all(&run).unwrap();
        assert!(!folders.make(&run).unwrap(), "it is there");
        fs::write(logs.join("precious"), "").unwrap();
        drop(folders);
        assert!(logs.exists() && !run.exists());
        let mut folders = NewFolders::default();
        folders.make_all(&run).unwrap();
        folders.keep();
        assert!(run.exists());
        assert!(NewFolders::default().make_all(&logs.join("precious/run")).is_err());
        #[cfg(unix)]
        {
            let link = logs.join("link");
            std::os::unix::fs::symlink(&run, &link).unwrap();
            let mut folders = NewFolders::default();
            assert!(folders.make_run(&logs, &link).is_err());
            assert!(folders.make_run(&link, &link).is_ok(), "a `log_dir` may be one");
        }
    }
}
