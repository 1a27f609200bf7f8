//! A media value as a sink gets it.

#[cfg(feature = "folder")]
use std::io;
#[cfg(feature = "folder")]
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// A media value of one step, as [`Sink::media`](crate::Sink::media) gets it. The content of its
/// file lies beneath the folder of the run.
///
/// ```
/// use logcore::{MediaContent, MediaDescription, MediaItem};
/// use std::time::SystemTime;
///
/// let description = MediaDescription::new("note", 12, MediaContent::Text);
/// let item = MediaItem::new(SystemTime::now(), "trainer", &description);
/// assert_eq!((item.logger(), item.key(), item.step()), ("trainer", "note", 12));
/// assert_eq!((item.content().kind(), item.file()), ("text", None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MediaItem<'a> {
    time: SystemTime,
    logger: &'a str,
    description: &'a MediaDescription,
}

/// Everything about a media value but its logger and time; in `media.jsonl` and in the ring a JSON
/// object.
///
/// ```
/// use logcore::{MediaContent, MediaDescription, serde_json};
///
/// let content = MediaContent::Histogram { counts: vec![3, 1], edges: vec![0.0, 0.5, 1.0] };
/// let description = MediaDescription::new("grad", 12, content);
/// let json = r#"{"key":"grad","step":12,"kind":"histogram","counts":[3,1],"edges":[0.0,0.5,1.0]}"#;
/// assert_eq!(serde_json::to_string(&description).unwrap(), json);
/// assert_eq!(serde_json::from_str::<MediaDescription>(json).unwrap(), description);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MediaDescription {
    /// The name under which the program logged the value.
    pub key: String,
    /// The step.
    pub step: u64,
    /// The caption of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// The file, if the value has one.
    #[serde(flatten)]
    pub file: Option<MediaFile>,
    /// The kind of the value, and what only this kind has.
    #[serde(flatten)]
    pub content: MediaContent,
}

/// The file of a media value.
///
/// ```
/// use logcore::{MediaContent, MediaDescription, MediaFile};
///
/// let mut description = MediaDescription::new("note", 12, MediaContent::Text);
/// description.file = Some(MediaFile::new("media/text/note_12_9f86d081884c7d659a2f.txt", 4, "9f86d081"));
/// assert_eq!(description.file.unwrap().size, 4);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MediaFile {
    /// The path relative to the folder of the run, with `/` between its parts.
    pub path: String,
    /// The length in bytes.
    pub size: u64,
    /// The SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

/// The kind of a media value, with the facts that only this kind has.
///
/// ```
/// use logcore::MediaContent;
///
/// assert_eq!(MediaContent::Table { columns: 2, rows: 10 }.kind(), "table");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum MediaContent {
    /// An image: a PNG or JPEG file.
    Image {
        /// `png` or `jpg`.
        format: String,
        /// The width in pixels.
        width: u64,
        /// The height in pixels.
        height: u64,
    },
    /// A histogram, which has no file.
    Histogram {
        /// The number of values in each range.
        counts: Vec<u64>,
        /// The limits of the ranges in rising order, one more than `counts`.
        edges: Vec<f64>,
    },
    /// A table: a JSON file `{"columns": […], "data": [[…], …]}`.
    Table {
        /// The number of columns.
        columns: u64,
        /// The number of rows.
        rows: u64,
    },
    /// An HTML page.
    Html,
    /// A text in UTF-8.
    Text,
    /// A copy of a file of the program.
    File,
}

impl<'a> MediaItem<'a> {
    /// Creates an item.
    ///
    /// ```
    /// use logcore::{MediaContent, MediaDescription, MediaItem};
    /// use std::time::UNIX_EPOCH;
    ///
    /// let description = MediaDescription::new("page", 1, MediaContent::Html);
    /// let item = MediaItem::new(UNIX_EPOCH, "trainer", &description);
    /// assert_eq!((item.time(), item.caption()), (UNIX_EPOCH, None));
    /// ```
    #[must_use]
    pub fn new(time: SystemTime, logger: &'a str, description: &'a MediaDescription) -> Self {
        Self {
            time,
            logger,
            description,
        }
    }

    /// Returns the time of the call.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// Returns the name of the logger.
    #[must_use]
    pub fn logger(&self) -> &'a str {
        self.logger
    }

    /// Returns the name under which the program logged the value.
    #[must_use]
    pub fn key(&self) -> &'a str {
        &self.description.key
    }

    /// Returns the step.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.description.step
    }

    /// Returns the caption of an image.
    #[must_use]
    pub fn caption(&self) -> Option<&'a str> {
        self.description.caption.as_deref()
    }

    /// Returns the file of the value; a histogram has none.
    #[must_use]
    pub fn file(&self) -> Option<&'a MediaFile> {
        self.description.file.as_ref()
    }

    /// Returns the kind of the value, and what only this kind has.
    #[must_use]
    pub fn content(&self) -> &'a MediaContent {
        &self.description.content
    }

    /// Reads the file of the value beneath the folder of the run, over no link. Fails if the file
    /// is longer than `limit` bytes.
    ///
    /// # Errors
    ///
    /// If the value has no file, or the file cannot be read.
    #[cfg(feature = "folder")]
    #[doc(hidden)]
    pub fn read(&self, run: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.file().ok_or(io::ErrorKind::NotFound)?;
        crate::files::Folder::open(run)?.read(Path::new(&file.path), limit)
    }

    /// Returns everything but the logger and the time.
    #[must_use]
    pub fn description(&self) -> &'a MediaDescription {
        self.description
    }
}

impl MediaDescription {
    /// Creates a description without a caption and a file.
    ///
    /// ```
    /// use logcore::{MediaContent, MediaDescription};
    ///
    /// let description = MediaDescription::new("note", 12, MediaContent::Text);
    /// assert_eq!((description.caption, description.file), (None, None));
    /// ```
    #[must_use]
    pub fn new(key: impl Into<String>, step: u64, content: MediaContent) -> Self {
        Self {
            key: key.into(),
            step,
            caption: None,
            file: None,
            content,
        }
    }
}

impl MediaFile {
    /// Creates the facts of a file: its path relative to the folder of the run, its length in
    /// bytes, and its SHA-256 in hexadecimal.
    ///
    /// ```
    /// use logcore::MediaFile;
    ///
    /// assert_eq!(MediaFile::new("media/text/note_12.txt", 4, "9f86d081").path, "media/text/note_12.txt");
    /// ```
    #[must_use]
    pub fn new(path: impl Into<String>, size: u64, sha256: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            size,
            sha256: sha256.into(),
        }
    }
}

impl MediaContent {
    /// Returns the name of the kind, as `media.jsonl` has it.
    ///
    /// ```
    /// assert_eq!(logcore::MediaContent::File.kind(), "file");
    /// ```
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Image { .. } => "image",
            Self::Histogram { .. } => "histogram",
            Self::Table { .. } => "table",
            Self::Html => "html",
            Self::Text => "text",
            Self::File => "file",
        }
    }

    /// Returns the folder of the kind's files beneath `media/`; those of W&B where W&B has the
    /// kind.
    #[cfg(feature = "media")]
    pub(crate) fn folder(&self) -> &'static str {
        match self {
            Self::Image { .. } => "images",
            Self::File => "files",
            other => other.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content() -> impl Strategy<Value = MediaContent> {
        let edge = any::<f64>().prop_filter("an edge is finite", |edge| edge.is_finite());
        prop_oneof![
            (
                prop::collection::vec(any::<u64>(), 0..20),
                prop::collection::vec(edge, 0..20)
            )
                .prop_map(|(counts, edges)| MediaContent::Histogram { counts, edges }),
            (any::<u64>(), any::<u64>()).prop_map(|(columns, rows)| MediaContent::Table { columns, rows }),
            (any::<u64>(), any::<u64>()).prop_map(|(width, height)| MediaContent::Image {
                format: "jpg".to_owned(),
                width,
                height
            }),
            Just(MediaContent::Html),
            Just(MediaContent::Text),
            Just(MediaContent::File),
        ]
    }

    proptest! {
        /// The ring and the index carry JSON.
        #[test]
        fn a_description_is_read_back_to_the_last_bit(
            key: String,
            step: u64,
            caption: Option<String>,
            file: Option<(String, u64, String)>,
            content in content(),
        ) {
            let mut description = MediaDescription::new(key, step, content);
            description.caption = caption;
            description.file = file.map(|(path, size, sha256)| MediaFile::new(path, size, sha256));
            let json = serde_json::to_string(&description).unwrap();
            prop_assert_eq!(serde_json::from_str::<MediaDescription>(&json).unwrap(), description);
        }

        #[test]
        fn any_json_is_read_or_refused(text in r#"[{}\[\]",:0-9a-z]{0,60}"#) {
            let _ = serde_json::from_str::<MediaDescription>(&text);
        }
    }
}
