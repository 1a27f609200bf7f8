use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

/// A file of a run that is whole before it gets its name: nobody finds a part of it, and what had the name before stays
/// until then.
pub(crate) struct Staged {
    path: PathBuf,
}

impl Staged {
    /// The place for a file of the run in `run_folder`, for `fill` to write it.
    pub(crate) fn new<T>(run_folder: &Path, fill: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let folder = run_folder.join("tmp");
        fs::create_dir_all(&folder)?;
        let staged = Self {
            path: folder.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string()),
        };
        fill(&staged.path)?;
        Ok(staged)
    }

    /// Gives it its name.
    pub(crate) fn place(self, target: &Path) -> io::Result<()> {
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(&self.path, target)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Once it has its name, there is nothing here any more.
        let _ = fs::remove_file(&self.path);
    }
}
