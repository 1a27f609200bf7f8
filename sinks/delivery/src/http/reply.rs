//! A reply, and the texts in it.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};

/// A complete reply of a server, with any status.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpReply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body: at most 64 MiB, and for an error the first 64 KiB or a little more. Invalid UTF-8
    /// is replaced.
    pub body: String,
    /// The body as it came, if it is no UTF-8.
    pub(super) raw: Option<Vec<u8>>,
}

impl HttpReply {
    /// Returns the body as it came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.raw.as_deref().unwrap_or(self.body.as_bytes())
    }

    /// Returns `true` if the reply is a page for people. A proxy answers with a page and status
    /// 200, too, and drops the content of the request.
    #[must_use]
    pub fn is_page(&self) -> bool {
        let kind = self.headers.get(CONTENT_TYPE);
        kind.and_then(|kind| kind.to_str().ok())
            .is_some_and(|kind| kind.trim_start().starts_with("text/html"))
    }

    /// Returns the time after which the server accepts another try, if the reply names one: the
    /// header `Retry-After`, of any length.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        parse_retry_after(self.headers.get(RETRY_AFTER)?.to_str().ok()?)
    }
}

/// Parses a header `Retry-After`: seconds, also with a fraction, or a date (RFC 9110, section
/// 10.2.3). A date that has passed is no time at all.
///
/// ```
/// use std::time::Duration;
///
/// use logcore_delivery::parse_retry_after;
///
/// assert_eq!(parse_retry_after("1.5"), Some(Duration::from_millis(1500)));
/// assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
/// assert_eq!(parse_retry_after("soon"), None);
/// ```
#[must_use]
pub fn parse_retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    let wait = at.as_second()
        - Timestamp::try_from(SystemTime::now())
            .unwrap_or(Timestamp::MAX)
            .as_second();
    Some(Duration::from_secs(u64::try_from(wait).unwrap_or(0)))
}

/// Number of characters of a server's message that an error repeats.
const QUOTED: usize = 200;

/// Returns the first 200 characters of a message on one line, for an error. Hidden characters and
/// terminal commands are replaced.
///
/// ```
/// use logcore_delivery::quote;
///
/// assert_eq!(quote("no\n such\trun \u{1b}[31m"), "no such run \u{fffd}[31m");
/// assert_eq!(quote(&"x".repeat(1000)).len(), 200);
/// ```
#[must_use]
pub fn quote(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = line.chars().take(QUOTED);
    shown
        .map(|c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// Returns `true` for control characters, characters without width, and changes of the writing
/// direction.
fn is_hidden(c: char) -> bool {
    let invisible = matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    c.is_control() || invisible
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon"), None);
        assert_eq!(parse_retry_after("-1"), None);
    }

    #[test]
    fn only_html_is_a_page() {
        for (kind, is_page) in [("text/html; charset=utf-8", true), ("application/json", false)] {
            let reply = HttpReply {
                status: StatusCode::OK,
                headers: [(CONTENT_TYPE, kind.parse().unwrap())].into_iter().collect(),
                body: String::new(),
                raw: None,
            };
            assert_eq!(reply.is_page(), is_page);
            assert_eq!(reply.retry_after(), None);
        }
    }

    proptest! {
        #[test]
        fn quoted_messages_have_no_hidden_characters(
            text in "(\\x1b|\\u{9b}|\\u{202e}|\\u{200b}|\\n|\\[31m|a| ){0,40}|\\PC*",
        ) {
            let shown = quote(&text);
            prop_assert!(!shown.chars().any(is_hidden), "{shown:?}");
            prop_assert!(shown.chars().count() <= QUOTED);
        }
    }
}
