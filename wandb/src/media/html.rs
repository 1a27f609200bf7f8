//! HTML pages.

use serde_json::json;

use super::sealed::Prepare;
use super::{MediaError, PreparedFile, PreparedMedia};

/// An HTML page.
///
/// ```
/// use logcore_wandb::Html;
///
/// assert_ne!(Html::new("<b>good</b>"), Html::new("<b>bad</b>"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Html(String);

impl Html {
    /// Creates a page from its text.
    ///
    /// ```
    /// use logcore_wandb::Html;
    ///
    /// assert_eq!(Html::new("<b>x</b>"), Html::new(String::from("<b>x</b>")));
    /// ```
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Prepare for Html {
    fn prepare(self) -> Result<PreparedMedia, MediaError> {
        Ok(PreparedMedia {
            value: json!({"_type": "html-file"}),
            file: Some(PreparedFile {
                folder: "html",
                suffix: ".html",
                bytes: self.0.into_bytes(),
            }),
            artifact: None,
            remark: None,
        })
    }
}
