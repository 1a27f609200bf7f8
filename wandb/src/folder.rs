//! The folder of a run, and the files that are written into it.
//!
//! All access goes through the descriptor of the folder and never follows a link, because the
//! folder may have been sent by somebody else.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use logcore::files::{Folder, LimitedFile};
use logcore::sync::lock;

/// The open folder of a run: the log, the files beside the log, `files/` and `artifacts/`.
///
/// Anybody may have written the content of a folder. So paths in a log never lead out of the
/// folder, links in the folder are not followed, and a replaced link is replaced itself and not its
/// target.
pub(crate) struct RunFolder {
    folder: Mutex<Arc<Folder>>,
    log: OsString,
    path: PathBuf,
}

impl RunFolder {
    /// Opens the folder of a log.
    pub(crate) fn open(log: &Path) -> io::Result<Self> {
        let name = log.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            folder: Mutex::new(Arc::new(Folder::open(parent_of(log))?)),
            log: name.to_owned(),
            path: log.to_owned(),
        })
    }

    /// Returns the folder. A folder that was removed and created again is reopened.
    pub(crate) fn folder(&self) -> Arc<Folder> {
        let mut folder = lock(&self.folder);
        if folder.is_removed()
            && let Ok(anew) = Folder::open(parent_of(&self.path))
        {
            *folder = Arc::new(anew);
        }
        Arc::clone(&folder)
    }

    /// Returns the path of the log, for notices.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the absolute path of a file in the folder.
    pub(crate) fn absolute(&self, relative: &Path) -> io::Result<PathBuf> {
        std::path::absolute(self.path.with_file_name("").join(relative))
    }

    /// Opens the log for reading.
    pub(crate) fn open_log(&self) -> io::Result<File> {
        self.folder().open_file(Path::new(&self.log))
    }

    /// Returns the name of a file beside the log: the name of the log, a dot and `suffix`.
    pub(crate) fn name_with(&self, suffix: &str) -> PathBuf {
        let mut name = self.log.clone();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    /// Replaces a file, and creates the folder of the file.
    pub(crate) fn replace(&self, relative: &Path, content: &[u8]) -> io::Result<()> {
        if let Some(parent) = relative.parent().filter(|parent| *parent != Path::new("")) {
            self.folder().create_dir_all(parent)?;
        }
        self.folder().replace(relative, content)
    }
}

/// Returns the folder of a path.
fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

/// Returns the relative path of a copy for an artifact: `artifacts/<id>/<number>`. Only the end of
/// the path in the log counts, because the folder may have been moved. `None` for any other path.
pub(crate) fn staged_copy(local_path: &str) -> Option<PathBuf> {
    let mut parts = local_path.rsplit(['/', std::path::MAIN_SEPARATOR]);
    let (number, id, folder) = (parts.next()?, parts.next()?, parts.next()?);
    let copy = Path::new(ARTIFACTS).join(id).join(number);
    (folder == ARTIFACTS && logcore::files::is_plain_relative(&copy) && copy.components().count() == 3).then_some(copy)
}

/// The folder for copies of the files of artifacts.
pub(crate) const ARTIFACTS: &str = "artifacts";
/// The folder of the run's files.
pub(crate) const FILES: &str = "files";

/// A file of a run that is written completely before it gets its name. Until then, an older file
/// keeps the name.
pub(crate) struct StagedFile {
    files: Arc<RunFolder>,
    path: PathBuf,
}

impl StagedFile {
    /// Creates a file in the folder of a run, and has `fill` write the content.
    pub(crate) fn new<T>(
        files: &Arc<RunFolder>,
        fill: impl FnOnce(&mut LimitedFile<'_>) -> io::Result<T>,
    ) -> io::Result<Self> {
        let folder = Path::new("tmp");
        files.folder().create_dir_all(folder)?;
        let path = folder.join(logcore::files::random_suffix());
        let mut file = files.folder().create_new(&path)?;
        let staged = Self {
            files: Arc::clone(files),
            path,
        };
        fill(&mut LimitedFile::new(&mut file))?;
        Ok(staged)
    }

    /// Has `link` make a link in the folder of a run, at the path that it gets.
    pub(crate) fn link(
        files: &Arc<RunFolder>,
        link: impl FnOnce(&Folder, &Path) -> io::Result<()>,
    ) -> io::Result<Self> {
        let folder = Path::new("tmp");
        files.folder().create_dir_all(folder)?;
        let path = folder.join(logcore::files::random_suffix());
        link(&files.folder(), &path)?;
        Ok(Self {
            files: Arc::clone(files),
            path,
        })
    }

    /// Moves the file to its path in the folder of the run.
    pub(crate) fn persist(self, target: &Path) -> io::Result<()> {
        let folder = self.files.folder();
        if let Some(parent) = target.parent().filter(|parent| *parent != Path::new("")) {
            folder.create_dir_all(parent)?;
        }
        folder.rename(&self.path, target)
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // A persisted file is not here any more.
        let _ = self.files.folder().remove_file(&self.path);
    }
}

/// Returns the folder of all runs: `wandb`, or `.wandb` if that exists.
pub(crate) fn wandb_folder(dir: &Path) -> PathBuf {
    let hidden = dir.join(".wandb");
    match hidden.is_dir() {
        true => hidden,
        false => dir.join("wandb"),
    }
}

/// Makes the link `latest-run` point to a folder. An error is ignored.
pub(crate) fn point_latest_to(folder: &Path) {
    #[cfg(unix)]
    if let (Some(root), Some(name)) = (folder.parent(), folder.file_name()) {
        let fresh = root.join(format!(".latest-run-{}", logcore::files::random_suffix()));
        if std::os::unix::fs::symlink(name, &fresh).is_ok() && fs::rename(&fresh, root.join("latest-run")).is_err() {
            let _ = fs::remove_file(&fresh);
        }
    }
    #[cfg(not(unix))]
    let _ = folder;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_path_of_a_log_leads_out_of_the_folder(path in "(/|artifacts|\\.\\.|\\.|\\\\|a|\u{0}|file:|etc){0,8}") {
            if let Some(copy) = staged_copy(&path) {
                prop_assert!(logcore::files::is_plain_relative(&copy), "{copy:?}");
                prop_assert!(copy.starts_with(ARTIFACTS), "{copy:?}");
            }
        }
    }

    #[test]
    fn copies_are_found_after_the_folder_was_moved() {
        let copy = Some(PathBuf::from("artifacts/abc/0"));
        for path in ["/run/artifacts/abc/0", "/elsewhere/artifacts/abc/0", "artifacts/abc/0"] {
            assert_eq!(staged_copy(path), copy, "{path}");
        }
        for path in [
            "",
            "/etc/passwd",
            "/artifacts/../passwd",
            "/artifacts/a/..",
            "/artifacts//0",
            "artifacts/0",
        ] {
            assert_eq!(staged_copy(path), None, "{path}");
        }
    }
}
