//! Media values of a row: images, histograms, tables, HTML pages.
//!
//! The file of a value is written before its name is known: the name contains the step, which the
//! logger chooses last, so that a slow encoder does not delay rows.

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

/// A value that a row can have besides numbers: an [`Image`], a [`Histogram`], a [`Table`] or an
/// [`Html`] page.
///
/// The trait is sealed.
///
/// ```
/// use logcore_wandb::{Html, Image, Media};
///
/// fn is_media(_: &impl Media) -> bool {
///     true
/// }
///
/// assert!(is_media(&Html::new("<b>good</b>")) && is_media(&Image::grey(1, 1, [0])));
/// ```
pub trait Media: sealed::Prepare {}

impl<M: sealed::Prepare> Media for M {}

pub(crate) mod sealed {
    use super::{MediaError, PreparedMedia};

    /// A value that can be encoded.
    pub trait Prepare {
        /// Encodes the value and the content of its file.
        fn prepare(self) -> Result<PreparedMedia, MediaError>;
    }
}

/// Cause for which a value, a file or an artifact cannot be logged.
///
/// ```
/// use logcore_wandb::MediaError;
///
/// let error = MediaError::from(std::io::Error::from(std::io::ErrorKind::StorageFull));
/// assert_eq!(error.to_string(), "cannot write the file: no storage space");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum MediaError {
    /// The value is malformed, with a description.
    Malformed(String),
    /// The file of the value cannot be written.
    Io(io::Error),
    /// The logger has no W&B run.
    NoRun,
}

impl Display for MediaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        match self {
            Self::Malformed(what) => f.write_str(what),
            Self::Io(error) => write!(f, "cannot write the file: {error}"),
            Self::NoRun => f.write_str("the logger has no W&B run"),
        }
    }
}

impl std::error::Error for MediaError {}

impl From<io::Error> for MediaError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A value and the content of its file, without a name.
#[doc(hidden)]
#[derive(Debug)]
pub struct PreparedMedia {
    pub(crate) value: Value,
    pub(crate) file: Option<PreparedFile>,
    /// The content of the artifact of a table, from which W&B's page reads the table.
    pub(crate) artifact: Option<Vec<u8>>,
    /// A notice if a part of the value was dropped.
    pub(crate) remark: Option<String>,
}

/// The content of a file of a value.
#[derive(Debug)]
pub(crate) struct PreparedFile {
    /// The folder under `media/`.
    pub(crate) folder: &'static str,
    pub(crate) suffix: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// A value whose file is written, without a name and a step.
pub(crate) struct StoredMedia {
    pub(crate) value: Value,
    file: Option<StoredMediaFile>,
}

/// A written file without its final name.
struct StoredMediaFile {
    content: StagedFile,
    folder: &'static str,
    suffix: &'static str,
    digest: String,
    size: usize,
}

/// Writes the file of a value.
pub(crate) fn store(value: Value, file: Option<PreparedFile>, run: &Arc<RunFolder>) -> Result<StoredMedia, MediaError> {
    let stored = file.map(|file| {
        Ok::<_, MediaError>(StoredMediaFile {
            content: StagedFile::new(run, |staged| staged.write_all(&file.bytes))?,
            folder: file.folder,
            suffix: file.suffix,
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
    /// Moves the file to its path in `files/`. Returns the value for the row and the path.
    pub(crate) fn name(mut self, key: &str, step: u64) -> Result<(Value, Option<String>), MediaError> {
        let Some(file) = self.file else {
            return Ok((self.value, None));
        };
        let path = format!(
            "media/{}/{}_{step}_{}{}",
            file.folder,
            path_of(key),
            &file.digest[..20],
            file.suffix
        );
        file.content.persist(&Path::new(FILES).join(&path))?;
        self.value["path"] = path.as_str().into();
        self.value["sha256"] = file.digest.into();
        self.value["size"] = json!(file.size);
        Ok((self.value, Some(path)))
    }
}

/// Turns a key into a part of a path. `/` separates folders, and the path stays in `files/`.
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

/// Returns bytes in hexadecimal.
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
        Arc::new(RunFolder::open(&folder.join("run-x.wandb")).unwrap())
    }

    proptest! {
        #[test]
        fn files_of_any_key_stay_in_the_folder(key in "(\\.|/|\\\\|a|\u{0}|ü){0,12}") {
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
