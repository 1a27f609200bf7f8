//! The position of a delivery in its spool, in a file that is replaced as a whole.

use std::io;
use std::path::Path;

use logcore::files::Folder;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of the longest file. A position may list every writer of a run.
const LONGEST: u64 = 16 << 20;

/// Reads the position of a delivery from a file of JSON beneath a folder, without following links;
/// `None` if there is no file.
///
/// The reader may not trust the content: everybody who can write into the folder may have changed
/// the file.
///
/// ```
/// use std::path::Path;
///
/// use logcore::files::Folder;
/// use logcore_delivery::{load_position, save_position};
///
/// let outside = tempfile::tempdir().unwrap();
/// let folder = Folder::open(outside.path()).unwrap();
/// let name = Path::new("mlflow.json");
/// assert_eq!(load_position::<u64>(&folder, name).unwrap(), None);
/// save_position(&folder, name, &7_u64).unwrap();
/// assert_eq!(load_position::<u64>(&folder, name).unwrap(), Some(7));
/// ```
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] if the content is no such position,
/// [`io::ErrorKind::FileTooLarge`] beyond 16 MiB, and the errors of [`Folder::read`].
pub fn load_position<T: DeserializeOwned>(folder: &Folder, name: &Path) -> io::Result<Option<T>> {
    match folder.read(name, LONGEST) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(position) => Ok(Some(position)),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the file with the position of a delivery. After a kill at any moment, the file has the
/// earlier position or this one, and never a part.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] if the position has no form in JSON, and the errors of
/// [`Folder::replace`].
pub fn save_position<T: Serialize>(folder: &Folder, name: &Path, position: &T) -> io::Result<()> {
    folder.replace(name, &serde_json::to_vec(position)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_an_error_and_not_a_new_start() {
        let outside = tempfile::tempdir().unwrap();
        let folder = Folder::open(outside.path()).unwrap();
        let name = Path::new("position.json");
        for damaged in ["", "{", "\"seven\"", "[7]"] {
            folder.replace(name, damaged.as_bytes()).unwrap();
            let error = load_position::<u64>(&folder, name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{damaged}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_followed_and_its_target_stays() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("run");
        std::fs::create_dir(&folder).unwrap();
        let target = outside.path().join("mine");
        std::fs::write(&target, "7").unwrap();
        std::os::unix::fs::symlink(&target, folder.join("position.json")).unwrap();
        let (folder, name) = (Folder::open(&folder).unwrap(), Path::new("position.json"));
        load_position::<u64>(&folder, name).unwrap_err();
        save_position(&folder, name, &8_u64).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "7");
        assert_eq!(load_position::<u64>(&folder, name).unwrap(), Some(8));
    }
}
