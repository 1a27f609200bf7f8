//! Media: the values of a step besides numbers.
//!
//! The caller encodes a value ([`Media`]) and writes its file beneath `media/` in the folder of the
//! run ([`StagedMedia`]). A [`MediaItem`] with what describes the value then passes the ring, and
//! each sink takes what it understands. The types are always there; the feature `media` adds the
//! encoders and the files.

mod error;
mod histogram;
mod html;
mod image;
mod item;
#[cfg(feature = "media")]
mod staged;
mod stored;
mod table;
mod text;

pub use self::error::MediaError;
pub use self::histogram::Histogram;
pub use self::html::Html;
pub use self::image::Image;
pub use self::item::{MediaContent, MediaDescription, MediaFile, MediaItem};
#[cfg(feature = "media")]
pub use self::staged::{StagedMedia, media_path};
pub use self::stored::StoredMedia;
pub use self::table::Table;
pub use self::text::Text;

/// A value that a step can have besides numbers: an [`Image`], a [`Histogram`], a [`Table`], an
/// [`Html`] page or a [`Text`].
///
/// The trait is sealed.
///
/// ```
/// use logcore::{Html, Image, Media};
///
/// fn is_media(_: &impl Media) -> bool {
///     true
/// }
///
/// assert!(is_media(&Html::new("<b>good</b>")) && is_media(&Image::grey(1, 1, [0])));
/// ```
#[cfg(feature = "media")]
pub trait Media: sealed::Encode {}

#[cfg(feature = "media")]
impl<M: sealed::Encode> Media for M {}

#[cfg(feature = "media")]
pub(crate) mod sealed {
    use super::{EncodedMedia, MediaError};

    /// A value that can be encoded.
    pub trait Encode {
        /// Encodes the value and the content of its file.
        fn encode(self) -> Result<EncodedMedia, MediaError>;
    }
}

/// A value in the form in which files and sinks have it, without a key and a step.
#[cfg(feature = "media")]
#[doc(hidden)]
#[derive(Debug)]
#[non_exhaustive]
pub struct EncodedMedia {
    pub content: MediaContent,
    pub caption: Option<String>,
    pub file: Option<EncodedFile>,
    /// The table itself, of which W&B gets a second form.
    pub table: Option<Table>,
}

/// The content of a file of a value.
#[cfg(feature = "media")]
#[doc(hidden)]
#[derive(Debug)]
#[non_exhaustive]
pub struct EncodedFile {
    /// The end of the file's name, with the dot.
    pub suffix: &'static str,
    pub bytes: Vec<u8>,
}

#[cfg(feature = "media")]
impl EncodedMedia {
    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// If the value is malformed.
    pub fn of(media: impl Media) -> Result<Self, MediaError> {
        media.encode()
    }

    fn new(content: MediaContent) -> Self {
        Self {
            content,
            caption: None,
            file: None,
            table: None,
        }
    }

    fn with_file(mut self, suffix: &'static str, bytes: Vec<u8>) -> Self {
        self.file = Some(EncodedFile { suffix, bytes });
        self
    }
}
