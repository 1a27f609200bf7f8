//! The text to learn from: the sources below a folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::rng::Rng;

/// The text for training and the text for validation. Each file is in one of them.
pub(crate) struct Corpus {
    pub(crate) train: Text,
    pub(crate) validation: Text,
}

/// The bytes of several files, each followed by a zero byte.
pub(crate) struct Text {
    pub(crate) files: usize,
    bytes: Vec<u8>,
    context: usize,
}

/// One part in this many is for validation.
const VALIDATION_PART: usize = 10;

impl Corpus {
    /// Reads all `.rs` and `.md` files below a folder, for a model that predicts a byte from
    /// `context` bytes.
    pub(crate) fn read(folder: &Path, context: usize, rng: &mut Rng) -> Result<Self> {
        let mut paths = Vec::new();
        collect(folder, &mut paths)?;
        ensure!(
            paths.len() >= 2,
            "{} has {} .rs and .md files, but training and validation need one each. Name another folder with --data",
            folder.display(),
            paths.len(),
        );
        // Systems list the files of a folder in different orders.
        paths.sort();
        rng.shuffle(&mut paths);
        let mut files = Vec::new();
        for path in paths {
            files.push(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
        let corpus = Self::split(files, context);
        ensure!(
            corpus.train.targets() > 0 && corpus.validation.targets() > 0,
            "the files below {} have too little text. Name another folder with --data",
            folder.display(),
        );
        Ok(corpus)
    }

    fn split(files: Vec<Vec<u8>>, context: usize) -> Self {
        let wanted = files.iter().map(Vec::len).sum::<usize>() / VALIDATION_PART;
        let (mut train, mut validation) = (Text::new(context), Text::new(context));
        for file in files {
            // Validation gets at least one file, and more as long as they fit into its part.
            if validation.files == 0 || validation.targets() + file.len() <= wanted {
                validation.push(&file);
            } else {
                train.push(&file);
            }
        }
        Self { train, validation }
    }
}

impl Text {
    pub(crate) fn new(context: usize) -> Self {
        Self {
            files: 0,
            bytes: vec![0; context],
            context,
        }
    }

    pub(crate) fn push(&mut self, file: &[u8]) {
        if file.is_empty() {
            return;
        }
        self.files += 1;
        self.bytes.extend_from_slice(file);
        self.bytes.push(0);
    }

    /// Returns the number of bytes that can be predicted.
    pub(crate) fn targets(&self) -> usize {
        self.bytes.len() - self.context
    }

    /// Returns the bytes before a target, and the target.
    pub(crate) fn example(&self, target: usize) -> (&[u8], u8) {
        let end = target + self.context;
        (&self.bytes[target..end], self.bytes[end])
    }

    /// Draws examples at random.
    pub(crate) fn batch(&self, size: usize, rng: &mut Rng) -> Vec<(&[u8], u8)> {
        (0..size).map(|_| self.example(rng.below(self.targets()))).collect()
    }

    /// Returns at most `count` examples, evenly distributed and the same in each call.
    pub(crate) fn spread(&self, count: usize) -> Vec<(&[u8], u8)> {
        let stride = self.targets().div_ceil(count);
        (0..self.targets())
            .step_by(stride)
            .map(|target| self.example(target))
            .collect()
    }
}

/// Collects source files. Hidden folders and folders of generated files are skipped.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list the folder {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list the folder {}", folder.display()))?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry
            .file_type()
            .with_context(|| format!("cannot read the type of {}", path.display()))?;
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if kind.is_dir() && !hidden && name != "target" && name != "outputs" {
            collect(&path, paths)?;
        } else if kind.is_file() && path.extension().is_some_and(|ending| ending == "rs" || ending == "md") {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_skips_generated_files_and_splits_by_the_seed() {
        let folder = tempfile::tempdir().unwrap();
        for skipped in ["target", "outputs", ".git"] {
            fs::create_dir(folder.path().join(skipped)).unwrap();
            fs::write(folder.path().join(skipped).join("a.rs"), "skipped").unwrap();
        }
        fs::create_dir(folder.path().join("src")).unwrap();
        for (name, text) in [("src/a.rs", "aaaa"), ("src/b.md", "bb"), ("c.txt", "ccc")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let read = || Corpus::read(folder.path(), 3, &mut Rng::new(7)).unwrap();
        let corpus = read();
        assert_eq!((corpus.train.files, corpus.validation.files), (1, 1));
        // Four and two bytes, and a zero byte after each.
        assert_eq!(corpus.train.targets() + corpus.validation.targets(), 8);
        assert_eq!(corpus.train.bytes, read().train.bytes);
    }

    #[test]
    fn example_returns_a_byte_and_the_bytes_before_it() {
        let mut text = Text::new(3);
        text.push(b"ab");
        text.push(b"c");
        assert_eq!(text.example(0), (&[0, 0, 0][..], b'a'));
        assert_eq!(text.example(2), (&b"\0ab"[..], 0));
        assert_eq!(text.example(3), (&b"ab\0"[..], b'c'));
        assert_eq!(text.targets(), 5);
        assert_eq!(text.spread(2), [text.example(0), text.example(3)]);
        assert_eq!(text.spread(100).len(), 5);
    }

    #[test]
    fn read_names_a_folder_that_is_unsuitable() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &Path| format!("{:#}", Corpus::read(path, 3, &mut Rng::new(1)).err().unwrap());
        assert!(read(folder.path()).contains("has 0 .rs and .md files"));
        assert!(read(&folder.path().join("absent")).contains("cannot list the folder"));
        for name in ["a.rs", "b.rs"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(read(folder.path()).contains("too little text"));
    }
}
