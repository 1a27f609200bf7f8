use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bounded::Bounded;
use crate::run_files::RunFiles;

/// A file of a run that is whole before it gets its name: nobody finds a part of it, and what had the name before stays
/// until then.
pub(crate) struct Staged {
    files: Arc<RunFiles>,
    path: PathBuf,
}

impl Staged {
    /// A new file in the folder of a run, for `fill` to write it.
    pub(crate) fn new<T>(
        files: &Arc<RunFiles>,
        fill: impl FnOnce(&mut Bounded<'_>) -> io::Result<T>,
    ) -> io::Result<Self> {
        let folder = Path::new("tmp");
        files.folder().create_dir_all(folder)?;
        let path = folder.join(logcore_files::random_suffix());
        let mut file = files.folder().create_new(&path)?;
        let staged = Self {
            files: Arc::clone(files),
            path,
        };
        fill(&mut Bounded::new(&mut file))?;
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

impl Drop for Staged {
    fn drop(&mut self) {
        // Once it has its name, there is nothing here any more.
        let _ = self.files.folder().remove_file(&self.path);
    }
}
