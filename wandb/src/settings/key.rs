//! The API key.

use std::fmt;

/// An API key. `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiKey(String);

impl ApiKey {
    /// Parses a key: at least 40 letters, digits, `_` and `-` after the first `-` (or in all), or
    /// three base64url parts joined by dots. The error is a remedy.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.trim() != text {
            return Err("remove the white space around it");
        }
        let of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let parts: Vec<_> = text.split('.').collect();
        let token = parts.len() == 3 && parts.iter().all(|part| !part.is_empty() && part.chars().all(of_key));
        let secret = text.split_once('-').map_or(text, |(_, secret)| secret);
        if token || (secret.len() >= 40 && text.chars().all(of_key)) {
            return Ok(Self(text.to_owned()));
        }
        Err("an API key has at least 40 letters, digits, `_` and `-`; copy it from the page `authorize` of your server")
    }

    /// Returns the key itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plausible_keys_are_accepted() {
        let forty = "a".repeat(40);
        for good in [
            forty.clone(),
            format!("local-{forty}"),
            "a.b-c.d_e".to_owned(),
            "a".repeat(86),
        ] {
            assert!(ApiKey::parse(&good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "short",
            &format!(" {forty}"),
            &format!("{forty}!"),
            &format!("x-{}", "a".repeat(39)),
            "a.b.",
        ] {
            assert!(ApiKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_does_not_show_the_key() {
        assert_eq!(format!("{:?}", ApiKey::parse(&"a".repeat(40)).unwrap()), "Key(***)");
    }
}
