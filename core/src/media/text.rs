//! Texts.

#[cfg(feature = "media")]
use super::{EncodedMedia, MediaContent, MediaError, sealed::Encode};

/// A text of a step, such as a sample of a language model.
///
/// ```
/// use logcore::Text;
///
/// assert_ne!(Text::new("a good answer"), Text::new("a bad answer"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Text(String);

impl Text {
    /// Creates a text document.
    ///
    /// ```
    /// use logcore::Text;
    ///
    /// assert_eq!(Text::new("once"), Text::new(String::from("once")));
    /// ```
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

#[cfg(feature = "media")]
impl Encode for Text {
    fn encode(self) -> Result<EncodedMedia, MediaError> {
        Ok(EncodedMedia::new(MediaContent::Text).with_file(".txt", self.0.into_bytes()))
    }
}
