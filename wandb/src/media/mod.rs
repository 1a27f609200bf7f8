//! Values that are no numbers: images, histograms, tables, pages.

mod histogram;
mod html;
mod image;
mod table;

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use logcore::escape::EscapingFormatter;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use self::histogram::Histogram;
pub use self::html::Html;
pub use self::image::Image;
pub use self::table::Table;
use crate::folder::StagedFile;
use crate::folder::{FILES, RunFolder};

/// A value that a row can hold beside numbers.
pub trait Media: sealed::Prepare {}

impl<M: sealed::Prepare> Media for M {}

pub(crate) mod sealed {
    use super::{MediaError, PreparedMedia};

    pub trait Prepare {
        /// Makes the value and its file.
        fn prepare(self) -> Result<PreparedMedia, MediaError>;
    }
}

/// Why a value cannot be logged.
#[derive(Debug)]
#[non_exhaustive]
pub enum MediaError {
    /// It is not what it should be.
    Malformed(String),
    /// Its file cannot be written.
    Io(io::Error),
    /// The logger has no W&B run that it could go to.
    NoRun,
}

impl Display for MediaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        match self {
            Self::Malformed(what) => f.write_str(what),
            Self::Io(error) => write!(f, "its file cannot be written: {error}"),
            Self::NoRun => f.write_str("there is no W&B run"),
        }
    }
}

impl std::error::Error for MediaError {}

impl From<io::Error> for MediaError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A value and its file, neither of which has its name yet.
#[doc(hidden)]
pub struct PreparedMedia {
    pub(crate) value: Value,
    pub(crate) file: Option<PreparedFile>,
    /// The content of an artifact that the value needs beside its file: W&B's page of a table reads it from there.
    pub(crate) artifact: Option<Vec<u8>>,
    /// A part of it was left out: a line that says so.
    pub(crate) remark: Option<String>,
}

pub(crate) struct PreparedFile {
    /// The folder under `media/`.
    pub(crate) folder: &'static str,
    pub(crate) ending: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// A value whose file is written, and which has neither a name nor a step yet.
pub(crate) struct StoredMedia {
    pub(crate) value: Value,
    file: Option<StoredMediaFile>,
}

struct StoredMediaFile {
    content: StagedFile,
    folder: &'static str,
    ending: &'static str,
    digest: String,
    size: usize,
}

/// Writes the file of a value.
pub(crate) fn store(value: Value, file: Option<PreparedFile>, run: &Arc<RunFolder>) -> Result<StoredMedia, MediaError> {
    let stored = file.map(|file| {
        Ok::<_, MediaError>(StoredMediaFile {
            content: StagedFile::new(run, |place| place.write_all(&file.bytes))?,
            folder: file.folder,
            ending: file.ending,
            digest: hex(&Sha256::digest(&file.bytes)),
            size: file.bytes.len(),
        })
    });
    Ok(StoredMedia {
        value,
        file: stored.transpose()?,
    })
}

impl StoredMedia {
    /// Names the file under the run's `files/`, and returns the value as the row has it, and the file's path.
    pub(crate) fn name(mut self, key: &str, step: u64) -> Result<(Value, Option<String>), MediaError> {
        let Some(file) = self.file else {
            return Ok((self.value, None));
        };
        let path = format!(
            "media/{}/{}_{step}_{}{}",
            file.folder,
            path_of(key),
            &file.digest[..20],
            file.ending
        );
        file.content.place(&Path::new(FILES).join(&path))?;
        self.value["path"] = path.as_str().into();
        self.value["sha256"] = file.digest.into();
        self.value["size"] = json!(file.size);
        Ok((self.value, Some(path)))
    }
}

/// A key as part of a path: `/` makes folders, and nothing leads out of them.
fn path_of(key: &str) -> String {
    let parts = key.split('/').filter(|part| !part.is_empty()).map(|part| {
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
        match safe.trim_matches('.').is_empty() {
            true => "-".to_owned(),
            false => safe,
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::fs;

    use super::sealed::Prepare as _;
    use super::*;

    fn run(folder: &Path) -> Arc<RunFolder> {
        Arc::new(RunFolder::of(&folder.join("run-x.wandb")).unwrap())
    }

    proptest! {
        #[test]
        fn no_key_leads_out_of_the_folder(key in "(\\.|/|\\\\|a|\u{0}|ü){0,12}") {
            let folder = tempfile::tempdir().unwrap();
            let files = folder.path().join("files");
            let page = Html::new("x").prepare().unwrap();
            let stored = store(page.value, page.file, &run(folder.path())).unwrap();
            let (_, path) = stored.name(&key, 1).unwrap();
            let path = path.unwrap();
            prop_assert!(Path::new(&path).components().all(|part| matches!(part, std::path::Component::Normal(_))));
            prop_assert!(files.join("media/html").exists());
            prop_assert_eq!(fs::read(files.join(path)).unwrap(), b"x");
        }
    }

    #[test]
    fn a_file_is_named_for_its_key_step_and_content() {
        let folder = tempfile::tempdir().unwrap();
        let page = Html::new("<b>x</b>").prepare().unwrap();
        let stored = store(page.value, page.file, &run(folder.path())).unwrap();
        let (value, path) = stored.name("val/note", 3).unwrap();
        let path = path.unwrap();
        assert!(
            path.starts_with("media/html/val/note_3_") && path.ends_with(".html"),
            "{path}"
        );
        assert_eq!(value["path"], path.as_str());
        assert_eq!(value["_type"], "html-file");
        assert_eq!(value["size"], 8);
        assert!(path.contains(&value["sha256"].as_str().unwrap()[..20]));
        assert_eq!(fs::read(folder.path().join("files").join(path)).unwrap(), b"<b>x</b>");
    }
}
