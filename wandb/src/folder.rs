//! The folder of a run, and the files that are written into it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use logcore_files::Folder;

/// The folder of a run, by descriptor: its log, what stands beside the log, `files/` and `artifacts/`.
///
/// The sender of a folder, or anyone who may write to it, chooses what is in it. So nothing that a log names leads out of the
/// folder, no link in it is followed, and what is replaced is replaced itself and never what a link leads to.
pub(crate) struct RunFolder {
    folder: Mutex<Arc<Folder>>,
    log: OsString,
    path: PathBuf,
}

impl RunFolder {
    /// Of the log at this path.
    pub(crate) fn of(log: &Path) -> io::Result<Self> {
        let name = log.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            folder: Mutex::new(Arc::new(Folder::open(parent_of(log))?)),
            log: name.to_owned(),
            path: log.to_owned(),
        })
    }

    /// The folder; if it was removed and made anew, the new one.
    pub(crate) fn folder(&self) -> Arc<Folder> {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        if folder.is_removed()
            && let Ok(anew) = Folder::open(parent_of(&self.path))
        {
            *folder = Arc::new(anew);
        }
        Arc::clone(&folder)
    }

    /// The path of the log, for people.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something beneath the folder.
    pub(crate) fn place_of(&self, relative: &Path) -> io::Result<PathBuf> {
        std::path::absolute(self.path.with_file_name("").join(relative))
    }

    pub(crate) fn open_log(&self) -> io::Result<File> {
        self.folder().open_file(Path::new(&self.log))
    }

    /// The name of a file beside the log: that of the log with `suffix` behind it.
    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.log.clone();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    /// Replaces a file of ours, and makes the folder that it lies in.
    pub(crate) fn replace(&self, relative: &Path, content: &[u8]) -> io::Result<()> {
        if let Some(parent) = relative.parent().filter(|parent| *parent != Path::new("")) {
            self.folder().create_dir_all(parent)?;
        }
        self.folder().replace(relative, content)
    }
}

fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

/// Where a copy for an artifact lies beneath the run's folder: `artifacts/<id>/<number>`, of whatever place the log names,
/// because the folder may have been moved since. `None` for any other place.
pub(crate) fn staged_copy(local_path: &str) -> Option<PathBuf> {
    let mut parts = local_path.rsplit(['/', std::path::MAIN_SEPARATOR]);
    let (number, id, folder) = (parts.next()?, parts.next()?, parts.next()?);
    let copy = Path::new(ARTIFACTS).join(id).join(number);
    (folder == ARTIFACTS && logcore_files::is_plain_relative(&copy) && copy.components().count() == 3).then_some(copy)
}

/// The folder for copies of an artifact's files.
pub(crate) const ARTIFACTS: &str = "artifacts";
/// The folder of the run's files.
pub(crate) const FILES: &str = "files";

/// A file of a run that is whole before it gets its name: nobody finds a part of it, and what had the name before stays
/// until then.
pub(crate) struct StagedFile {
    files: Arc<RunFolder>,
    path: PathBuf,
}

impl StagedFile {
    /// A new file in the folder of a run, for `fill` to write it.
    pub(crate) fn new<T>(
        files: &Arc<RunFolder>,
        fill: impl FnOnce(&mut LimitedFile<'_>) -> io::Result<T>,
    ) -> io::Result<Self> {
        let folder = Path::new("tmp");
        files.folder().create_dir_all(folder)?;
        let path = folder.join(logcore_files::random_suffix());
        let mut file = files.folder().create_new(&path)?;
        let staged = Self {
            files: Arc::clone(files),
            path,
        };
        fill(&mut LimitedFile::new(&mut file))?;
        Ok(staged)
    }

    /// Gives it its name beneath the folder of the run.
    pub(crate) fn place(self, target: &Path) -> io::Result<()> {
        let folder = self.files.folder();
        if let Some(parent) = target.parent().filter(|parent| *parent != Path::new("")) {
            folder.create_dir_all(parent)?;
        }
        folder.rename(&self.path, target)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // Once it has its name, there is nothing here any more.
        let _ = self.files.folder().remove_file(&self.path);
    }
}

/// A new file, which refuses what is beyond the longest that the process may write (`ulimit -f`): the system would end the process by
/// SIGXFSZ.
pub(crate) struct LimitedFile<'a> {
    file: &'a mut File,
    room: u64,
}

impl<'a> LimitedFile<'a> {
    pub(crate) fn new(file: &'a mut File) -> Self {
        Self {
            file,
            room: longest_file(),
        }
    }
}

impl Write for LimitedFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.room {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = self.file.write(bytes)?;
        self.room -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(unix)]
fn longest_file() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
fn longest_file() -> u64 {
    u64::MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_place_that_a_log_names_leads_out(place in "(/|artifacts|\\.\\.|\\.|\\\\|a|\u{0}|file:|etc){0,8}") {
            if let Some(copy) = staged_copy(&place) {
                prop_assert!(logcore_files::is_plain_relative(&copy), "{copy:?}");
                prop_assert!(copy.starts_with(ARTIFACTS), "{copy:?}");
            }
        }
    }

    #[test]
    fn copies_are_found_wherever_the_folder_lies_now() {
        let copy = Some(PathBuf::from("artifacts/abc/0"));
        for place in ["/run/artifacts/abc/0", "/elsewhere/artifacts/abc/0", "artifacts/abc/0"] {
            assert_eq!(staged_copy(place), copy, "{place}");
        }
        for place in [
            "",
            "/etc/passwd",
            "/artifacts/../passwd",
            "/artifacts/a/..",
            "/artifacts//0",
            "artifacts/0",
        ] {
            assert_eq!(staged_copy(place), None, "{place}");
        }
    }

    #[test]
    fn what_is_beyond_the_limit_is_refused() {
        let mut file = tempfile::tempfile().unwrap();
        let mut bounded = LimitedFile {
            file: &mut file,
            room: 5,
        };
        bounded.write_all(b"hello").unwrap();
        let error = bounded.write_all(b"!").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(file.metadata().unwrap().len(), 5);
    }
}
