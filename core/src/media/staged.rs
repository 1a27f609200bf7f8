//! The files of media beneath the folder of a run.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{MediaContent, MediaError, MediaFile};
use crate::files::{Folder, LimitedFile, file_size_limit, random_suffix};

/// The folder of all media files in that of the run.
const MEDIA: &str = "media";
/// Number of characters of a digest in the name of a file, as in W&B.
const DIGEST_IN_NAME: usize = 20;
/// The most parts of a key that become folders and a name; the digest tells apart what the others
/// would.
const MOST_FOLDERS: usize = 12;
/// Number of names that are tried if foreign files have the name already.
const MOST_NAMES: u32 = 10;

/// A media file that is written completely before it gets its name, which contains the step. The
/// logger chooses the step last, so that a slow encoder does not delay rows.
///
/// Another file at the name stays as it is: equal content is there once, and other content gets
/// another name.
#[doc(hidden)]
#[derive(Debug)]
pub struct StagedMedia {
    run: Folder,
    temporary: PathBuf,
    /// The lock on this file keeps others from removing it as a leftover of a killed process.
    _file: File,
    digest: String,
    size: u64,
}

impl StagedMedia {
    /// Writes a content beneath the folder of a run.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or would exceed the file size limit of the process.
    pub fn write(run: &Path, content: &[u8]) -> io::Result<Self> {
        let mut staged = Self::create(run)?;
        LimitedFile::new(&mut staged._file).write_all(content)?;
        staged.digest = hex(&Sha256::digest(content));
        staged.size = content.len() as u64;
        Ok(staged)
    }

    /// Copies a regular file beneath the folder of a run. File systems that can share blocks
    /// between files do so.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or copied, or would exceed the file size limit of the process.
    pub fn copy(run: &Path, source: &Path) -> Result<Self, MediaError> {
        let original = crate::files::open(source).map_err(MediaError::Unreadable)?;
        let limit = file_size_limit();
        if original.metadata().map_err(MediaError::Unreadable)?.len() > limit {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge).into());
        }
        let mut staged = Self::create(run)?;
        io::copy(&mut original.take(limit), &mut staged._file)?;
        (staged.digest, staged.size) = digest(staged.run.open_file(&staged.temporary)?)?;
        Ok(staged)
    }

    fn create(run: &Path) -> io::Result<Self> {
        let run = Folder::open(run)?;
        run.create_dir_all(Path::new(MEDIA))?;
        let temporary = Path::new(MEDIA).join(format!(".logcore-{}.tmp", random_suffix()));
        let file = run.create_new(&temporary)?;
        // Without locks, nobody removes leftovers, either.
        let _ = file.try_lock();
        Ok(Self {
            run,
            temporary,
            _file: file,
            digest: String::new(),
            size: 0,
        })
    }

    /// Gives the content a second name beneath another folder.
    ///
    /// # Errors
    ///
    /// If the file system has no such links, or the folders lie in two file systems.
    pub fn link(&self, folder: &Folder, to: &Path) -> io::Result<()> {
        self.run.link(&self.temporary, folder, to)
    }

    /// Opens the content.
    ///
    /// # Errors
    ///
    /// If the file is gone.
    pub fn open(&self) -> io::Result<File> {
        self.run.open_file(&self.temporary)
    }

    /// Returns the SHA-256 of the content in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns the length of the content in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Gives the file its name, `media/<kind>/<key>_<step>_<digest><suffix>`.
    ///
    /// # Errors
    ///
    /// If the file cannot be moved there.
    pub fn persist(self, content: &MediaContent, key: &str, step: u64, suffix: &str) -> io::Result<MediaFile> {
        let path = media_path(content, key, step, &self.digest, suffix);
        let (stem, folder) = (path.strip_suffix(suffix).unwrap_or(&path), Path::new(&path).parent());
        self.run.create_dir_all(folder.unwrap_or(Path::new(MEDIA)))?;
        for number in 1..=MOST_NAMES {
            let path = match number {
                1 => path.clone(),
                number => format!("{stem}-{number}{suffix}"),
            };
            match self.run.rename_new(&self.temporary, Path::new(&path)) {
                Ok(()) => return Ok(MediaFile::new(path, self.size, &self.digest)),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) if self.is_equal(Path::new(&path)) => return Ok(MediaFile::new(path, self.size, &self.digest)),
                Err(_) => {}
            }
        }
        let text = format!("{path} and {MOST_NAMES} names like it belong to other files");
        Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
    }

    /// Returns `true` if a regular file at the path has the same content.
    fn is_equal(&self, path: &Path) -> bool {
        let length = |path| self.run.open_file(path).and_then(|file| Ok(file.metadata()?.len()));
        if length(path).ok() != Some(self.size) {
            return false;
        }
        let found = self.run.open_file(path).and_then(digest);
        found.is_ok_and(|(digest, _)| digest == self.digest)
    }
}

impl Drop for StagedMedia {
    fn drop(&mut self) {
        // A persisted file is not here any more.
        let _ = self.run.remove_file(&self.temporary);
    }
}

/// Returns the relative path of a media file, with `/` between its parts: in the folder of a run,
/// and in W&B's `files/`.
#[doc(hidden)]
#[must_use]
pub fn media_path(content: &MediaContent, key: &str, step: u64, digest: &str, suffix: &str) -> String {
    let digest = &digest[..DIGEST_IN_NAME.min(digest.len())];
    format!("{MEDIA}/{}/{}_{step}_{digest}{suffix}", content.folder(), path_of(key))
}

/// Turns a key into a part of a path. `/` separates folders, and the path stays in its folder.
fn path_of(key: &str) -> String {
    let given = key.split('/').filter(|part| !part.is_empty());
    let parts = given.take(MOST_FOLDERS).map(|part| {
        let safe: String = part
            .chars()
            .map(|c| {
                if c.is_control() || "\\:*?\"<>|".contains(c) {
                    '-'
                } else {
                    c
                }
            })
            .take(60)
            .collect();
        // A name has 255 bytes, with the step and the digest.
        let mut end = safe.len().min(180);
        while !safe.is_char_boundary(end) {
            end -= 1;
        }
        match safe.trim_matches('.').is_empty() {
            true => "-".to_owned(),
            false => safe[..end].to_owned(),
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Returns the digest of the rest of a file, and its length in bytes.
fn digest(mut file: File) -> io::Result<(String, u64)> {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => return Ok((hex(&hasher.finalize()), size)),
            read => {
                hasher.update(&block[..read]);
                size += read as u64;
            }
        }
    }
}

/// Returns bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn persist(folder: &TempDir, content: &[u8], key: &str) -> io::Result<MediaFile> {
        StagedMedia::write(folder.path(), content)?.persist(&MediaContent::Text, key, 3, ".txt")
    }

    /// All files beneath the folder.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.flat_map(|path| match path.symlink_metadata().unwrap().is_dir() {
            true => files(&path),
            false => vec![path],
        });
        files.collect()
    }

    proptest! {
        #[test]
        fn files_of_any_key_stay_in_the_folder(key in "(\\.|/|\\\\|a|\u{0}|ü|\u{1F600}{50}){0,12}") {
            let folder = tempfile::tempdir().unwrap();
            let file = persist(&folder, b"x", &key).unwrap();
            prop_assert!(crate::files::is_plain_relative(Path::new(&file.path)), "{}", file.path);
            prop_assert!(file.path.starts_with("media/text/"), "{}", file.path);
            prop_assert_eq!(fs::read(folder.path().join(&file.path)).unwrap(), b"x");
            prop_assert_eq!(files(folder.path()).len(), 1, "no temporary file is left");
        }
    }

    #[test]
    fn a_file_is_named_for_its_key_step_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = persist(&folder, b"test", "val/note").unwrap();
        // printf test | sha256sum
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let path = format!("media/text/val/note_3_{}.txt", &digest[..20]);
        assert_eq!(file, MediaFile::new(path, 4, digest));
        assert_eq!(
            persist(&folder, b"test", "val/note").unwrap(),
            file,
            "equal content is there once"
        );
        assert_eq!(files(folder.path()).len(), 1);
    }

    #[test]
    fn a_copy_is_independent_of_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("notes.txt");
        fs::write(&source, "test").unwrap();
        let copy = StagedMedia::copy(folder.path(), &source).unwrap();
        fs::write(&source, "changed").unwrap();
        let file = copy.persist(&MediaContent::File, "notes", 0, ".txt").unwrap();
        assert_eq!(fs::read(folder.path().join(&file.path)).unwrap(), b"test");
        assert_eq!(file.path, "media/files/notes_0_9f86d081884c7d659a2f.txt");
        assert_eq!(file.size, 4);
        for unreadable in [folder.path(), &folder.path().join("missing")] {
            let error = StagedMedia::copy(folder.path(), unreadable).unwrap_err();
            assert!(matches!(error, MediaError::Unreadable(_)), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_planted_at_the_path_stays() {
        use std::os::unix::fs::symlink;

        let precious = tempfile::tempdir().unwrap();
        let target = precious.path().join("precious");
        fs::write(&target, "precious").unwrap();
        for plant in [
            (|path: &Path, target: &Path| symlink(target, path).unwrap()) as fn(&Path, &Path),
            |path, _| rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap(),
            |path, _| fs::create_dir(path).unwrap(),
            |path, _| fs::write(path, "diff").unwrap(),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let first = persist(&folder, b"test", "a").unwrap().path;
            fs::remove_file(folder.path().join(&first)).unwrap();
            plant(&folder.path().join(&first), &target);
            let second = persist(&folder, b"test", "a").unwrap().path;
            assert!(second.ends_with("-2.txt"), "{second}");
            assert_eq!(fs::read(folder.path().join(second)).unwrap(), b"test");
            assert_eq!(fs::read(&target).unwrap(), b"precious");
        }
        // A link in place of a folder.
        let folder = tempfile::tempdir().unwrap();
        symlink(precious.path(), folder.path().join("media")).unwrap();
        assert!(persist(&folder, b"test", "a").is_err());
        assert_eq!(files(precious.path()), [target]);
    }
}
