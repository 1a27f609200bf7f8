use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::rng::Rng;

/// The bytes to learn from, and those to be judged by. A file is wholly in one of them.
pub(crate) struct Corpus {
    pub(crate) train: Text,
    pub(crate) validation: Text,
}

/// Files one after the other, each ended by a zero byte.
pub(crate) struct Text {
    pub(crate) files: usize,
    bytes: Vec<u8>,
    context: usize,
}

/// One part in this many goes to the validation.
const VALIDATION_PART: usize = 10;

impl Corpus {
    /// Reads all `.rs` and `.md` files below a folder, for a model that looks `context` bytes back.
    pub(crate) fn read(folder: &Path, context: usize, rng: &mut Rng) -> Result<Self> {
        let mut paths = Vec::new();
        collect(folder, &mut paths)?;
        ensure!(
            paths.len() >= 2,
            "{} has {} .rs and .md files, and one to learn from and one to be judged by are needed: \
             name another folder with --data",
            folder.display(),
            paths.len(),
        );
        // The order in which a folder lists its files is not the same everywhere.
        paths.sort();
        rng.shuffle(&mut paths);
        let mut files = Vec::new();
        for path in paths {
            files.push(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
        let corpus = Self::split(files, context);
        ensure!(
            corpus.train.targets() > 0 && corpus.validation.targets() > 0,
            "the files below {} hold too little text: name another folder with --data",
            folder.display(),
        );
        Ok(corpus)
    }

    fn split(files: Vec<Vec<u8>>, context: usize) -> Self {
        let wanted = files.iter().map(Vec::len).sum::<usize>() / VALIDATION_PART;
        let (mut train, mut validation) = (Text::new(context), Text::new(context));
        for file in files {
            // The first file that would be too much for the validation, and at least one, is learned from.
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

    /// How many bytes can be asked for.
    pub(crate) fn targets(&self) -> usize {
        self.bytes.len() - self.context
    }

    /// A byte, and those before it.
    pub(crate) fn example(&self, target: usize) -> (&[u8], u8) {
        let end = target + self.context;
        (&self.bytes[target..end], self.bytes[end])
    }

    /// Examples drawn at random.
    pub(crate) fn batch(&self, size: usize, rng: &mut Rng) -> Vec<(&[u8], u8)> {
        (0..size).map(|_| self.example(rng.below(self.targets()))).collect()
    }

    /// At most `count` examples, evenly spread and always the same.
    pub(crate) fn spread(&self, count: usize) -> Vec<(&[u8], u8)> {
        let stride = self.targets().div_ceil(count);
        (0..self.targets())
            .step_by(stride)
            .map(|target| self.example(target))
            .collect()
    }
}

/// Hidden folders, and those that hold what was made and not written, are left out.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list the folder {}", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list the folder {}", folder.display()))?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry
            .file_type()
            .with_context(|| format!("cannot look at {}", path.display()))?;
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
    fn only_sources_are_read_and_a_seed_is_a_split() {
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
        // Four and two bytes, and the end of each.
        assert_eq!(corpus.train.targets() + corpus.validation.targets(), 8);
        assert_eq!(corpus.train.bytes, read().train.bytes);
    }

    #[test]
    fn an_example_is_a_byte_and_those_before_it() {
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
    fn a_folder_that_cannot_serve_is_named() {
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
