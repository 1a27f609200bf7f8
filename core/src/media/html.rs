//! HTML pages.

#[cfg(feature = "media")]
use super::{EncodedMedia, MediaContent, MediaError, sealed::Encode};

/// An HTML page.
///
/// ```
/// use logcore::Html;
///
/// assert_ne!(Html::new("<b>good</b>"), Html::new("<b>bad</b>"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Html(String);

impl Html {
    /// Creates a page from its text.
    ///
    /// ```
    /// use logcore::Html;
    ///
    /// assert_eq!(Html::new("<b>x</b>"), Html::new(String::from("<b>x</b>")));
    /// ```
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

#[cfg(feature = "media")]
impl Encode for Html {
    fn encode(self) -> Result<EncodedMedia, MediaError> {
        Ok(EncodedMedia::new(MediaContent::Html).with_file(".html", self.0.into_bytes()))
    }
}
