//! Removes secrets from texts.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::Url;

/// The secrets of a request, in each form in which a reply could repeat them.
///
/// ```
/// use logcore_delivery::{SecretFilter, basic_credentials};
///
/// let credentials = basic_credentials("ann", "hunter22");
/// let filter = SecretFilter::new(["hunter22".to_owned(), credentials.clone()]).with_proxy("http://me:p%40ss@proxy:3128");
/// let reply = format!("no user for Basic {credentials}, not hunter22, and no p@ss");
/// assert_eq!(filter.hide(&reply), "no user for Basic ***, not ***, and no ***");
/// ```
#[derive(Default)]
pub struct SecretFilter {
    forms: Vec<String>,
}

impl SecretFilter {
    /// Collects secrets: keys, passwords, and the values of headers that hold them. A text of fewer
    /// than four bytes is not replaced, because it occurs everywhere.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut filter = Self::default();
        filter.add(secrets);
        filter
    }

    /// Adds the login in the address of a proxy, in each form of the password. An address without a
    /// login, or without the form of a URL, adds nothing.
    #[must_use]
    pub fn with_proxy(mut self, url: &str) -> Self {
        if let Ok(url) = Url::parse(url) {
            let password = url.password().unwrap_or_default();
            let plain = percent_decode_str(password).decode_utf8_lossy().into_owned();
            if !url.username().is_empty() || !password.is_empty() {
                self.add([basic_credentials(url.username(), &plain), password.to_owned(), plain]);
            }
        }
        self
    }

    /// Replaces the secrets in a text by `***`.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        let hide = |text: String, form: &String| text.replace(form.as_str(), "***");
        self.forms.iter().fold(text.to_owned(), hide)
    }

    fn add(&mut self, forms: impl IntoIterator<Item = String>) {
        self.forms
            .extend(forms.into_iter().filter(|form| form.len() >= SHORTEST));
    }
}

/// Shows no secret.
impl fmt::Debug for SecretFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFilter")
            .field("forms", &self.forms.len())
            .finish_non_exhaustive()
    }
}

/// Bytes of the shortest secret that is replaced.
const SHORTEST: usize = 4;

/// Returns the credentials of the header `Authorization`, without the word `Basic` (RFC 7617).
///
/// ```
/// use logcore_delivery::basic_credentials;
///
/// assert_eq!(basic_credentials("Aladdin", "open sesame"), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
/// ```
#[must_use]
pub fn basic_credentials(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Replies repeat a secret anywhere.
        #[test]
        fn no_text_shows_a_secret(secret in "[a-z]{4,12}", before in "[A-Z ]{0,9}", after in "[A-Z ]{0,9}") {
            let filter = SecretFilter::new([secret.clone()]);
            prop_assert_eq!(filter.hide(&format!("{before}{secret}{after}")), format!("{before}***{after}"));
            let shown = format!("{filter:?}");
            prop_assert!(!shown.contains(&secret), "{shown}");
        }
    }

    #[test]
    fn short_and_missing_secrets_hide_nothing() {
        let filter = SecretFilter::new(["".to_owned(), "abc".to_owned()])
            .with_proxy("http://proxy:3128")
            .with_proxy("no address");
        assert_eq!(filter.hide("abc me: Og=="), "abc me: Og==");
    }
}
