//! The error of an invalid config.

use std::error::Error;
use std::fmt::{self, Display, Write as _};

use crate::escape::EscapingFormatter;
use crate::secret::{HIDDEN, hide_in_text, is_secret_name};

/// An invalid value in a config, refused before anything starts.
///
/// ```
/// use logcore::ConfigError;
///
/// let error = ConfigError::new("metrics_window", 0, "use at least 1");
/// assert_eq!(error.to_string(), "invalid metrics_window = 0: use at least 1");
/// assert_eq!(error.field, "metrics_window");
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// Field of the config, with the path to the field: `sinks.file.rotate_mb`.
    pub field: String,
    /// The refused value as text, or `***` if the value may be a secret.
    pub value: String,
    /// Cause and remedy: `use at least 1`.
    pub remedy: String,
}

impl ConfigError {
    /// Refuses `value` for `field` and tells the user the remedy.
    ///
    /// The error hides the value of a field whose name suggests a secret (`api_key`, `token`, …).
    /// It also hides secrets inside other values, such as the password in a URL.
    ///
    /// ```
    /// use logcore::ConfigError;
    ///
    /// let error = ConfigError::new("sinks.slack.token", "xoxb-123", "use a token of at least 20 characters");
    /// assert_eq!(error.value, "***");
    /// ```
    #[must_use]
    pub fn new(field: impl Display, value: impl Display, remedy: impl Display) -> Self {
        let field = field.to_string();
        let hidden = is_secret_name(&field);
        let value = value.to_string();
        let error = Self {
            value: hide_in_text(&value).into_owned(),
            remedy: remedy.to_string(),
            field,
        };
        match hidden {
            true => error.without(&value),
            false => error,
        }
    }

    /// Puts `prefix` and a dot before the field, for options inside a table.
    ///
    /// ```
    /// use logcore::ConfigError;
    ///
    /// let error = ConfigError::new("keep", 0, "use at least 1").within("sinks.file");
    /// assert_eq!(error.field, "sinks.file.keep");
    /// ```
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        self.field = if self.field.is_empty() {
            prefix.to_owned()
        } else {
            format!("{prefix}.{}", self.field)
        };
        self
    }

    /// Removes the value from the whole error.
    pub(crate) fn hidden(self) -> Self {
        let value = self.value.clone();
        self.without(&value)
    }

    /// Removes the value unless it is a number, a switch, or an empty list or table, which hold no
    /// secret.
    pub(crate) fn without_text(self) -> Self {
        let is_harmless =
            self.value.parse::<f64>().is_ok() || matches!(&*self.value, "true" | "false" | "null" | "" | "[]" | "{}");
        match is_harmless {
            true => self,
            false => self.hidden(),
        }
    }

    /// Removes `value` from the whole error. The remedy keeps values of up to three letters:
    /// replacing them would mutilate other words.
    pub(crate) fn without(mut self, value: &str) -> Self {
        let bare = value.trim_matches('"');
        if bare.len() > 3 && bare != HIDDEN {
            self.remedy = self.remedy.replace(bare, HIDDEN);
        }
        self.value = HIDDEN.to_owned();
        self
    }

    /// Adds the file and line of the value.
    pub(crate) fn read_from(mut self, location: impl Display) -> Self {
        self.remedy = format!("{} (in {location})", self.remedy);
        self
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            EscapingFormatter(f),
            "invalid {} = {}: {}",
            self.field,
            self.value,
            self.remedy
        )
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl Error for ConfigError {}
