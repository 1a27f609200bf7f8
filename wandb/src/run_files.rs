use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use logcore_files::Folder;

/// The folder of a run, by descriptor: its log, what stands beside the log, `files/` and `artifacts/`.
///
/// The sender of a folder, or anyone who may write to it, chooses what is in it. So nothing that a log names leads out of the
/// folder, no link in it is followed, and what is replaced is replaced itself and never what a link leads to.
pub(crate) struct RunFiles {
    folder: Mutex<Arc<Folder>>,
    log: OsString,
    path: PathBuf,
}

impl RunFiles {
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
}
