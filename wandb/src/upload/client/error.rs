use std::borrow::Cow;
use std::error::Error as _;
use std::fmt::{self, Display};
use std::time::Duration;

/// Why a request did not succeed.
#[derive(Debug, Clone)]
pub(crate) struct UploadError {
    pub(crate) trouble: UploadErrorKind,
    pub(crate) text: String,
    /// Trying again soon may help.
    pub(crate) again: bool,
    /// The server said when.
    pub(crate) after: Option<Duration>,
}

/// The kinds of trouble with a server; each is said once until it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadErrorKind {
    Unreachable,
    Unverified,
    KeyRefused,
    NoAccess,
    NotFound,
    RateLimited,
    ServerError,
    NotUnderstood,
    Refused,
    /// The run's own files cannot be read.
    Unreadable,
    /// Another delivery of the same log is on.
    InUse,
}

/// No server is asked more often because it says so.
const SHORTEST_NAMED: Duration = Duration::from_secs(1);
/// A server whose clock or arithmetic is wrong does not keep a run on disk for ever.
const LONGEST_NAMED: Duration = Duration::from_secs(3600);

impl UploadErrorKind {
    /// The name under which the books and the terminal have it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Unreachable => "server unreachable",
            Self::Unverified => "certificate not verified",
            Self::KeyRefused => "key refused",
            Self::NoAccess => "access refused",
            Self::NotFound => "not found",
            Self::RateLimited => "rate limited",
            Self::ServerError => "server error",
            Self::NotUnderstood => "reply not understood",
            Self::Refused => "refused",
            Self::Unreadable => "log unreadable",
            Self::InUse => "log in use",
        }
    }
}

impl UploadError {
    /// One that will not go away soon by trying again.
    pub(crate) fn last(trouble: UploadErrorKind, text: impl Into<String>) -> Self {
        Self {
            trouble,
            text: text.into(),
            again: false,
            after: None,
        }
    }

    /// One that may.
    pub(crate) fn again(trouble: UploadErrorKind, text: impl Into<String>) -> Self {
        Self {
            again: true,
            ..Self::last(trouble, text)
        }
    }

    pub(crate) fn setup(error: &reqwest::Error) -> Self {
        let cause = innermost(error).map_or_else(|| error.to_string(), |cause| cause.to_string());
        let text = format!("the HTTP client cannot be set up: {cause}");
        match text.contains("certificate") {
            true => Self::last(
                UploadErrorKind::Unverified,
                format!("{text}; name the file of the authorities to trust in SSL_CERT_FILE"),
            ),
            false => Self::last(UploadErrorKind::Refused, text),
        }
    }

    /// No answer came.
    pub(crate) fn of_transport(error: &reqwest::Error) -> Self {
        let text = chain(error);
        let certificate = ["certificate", "UnknownIssuer", "CertificateError"]
            .iter()
            .any(|word| text.contains(word));
        if certificate {
            return Self::last(
                UploadErrorKind::Unverified,
                format!("{text}; if the server has a CA of its own, name its file in SSL_CERT_FILE"),
            );
        }
        if text.contains("proxy authorization required") {
            return Self::of_status(407, "", None, false);
        }
        match error.is_builder() || error.is_redirect() {
            true => Self::last(UploadErrorKind::Refused, text),
            false => Self::again(UploadErrorKind::Unreachable, text),
        }
    }

    /// The server refused. A conflict is worth another try only where runs are made.
    pub(crate) fn of_status(status: u16, said: &str, after: Option<Duration>, retry_conflict: bool) -> Self {
        let trouble = match status {
            401 => UploadErrorKind::KeyRefused,
            402 | 403 => UploadErrorKind::NoAccess,
            404 | 410 => UploadErrorKind::NotFound,
            429 => UploadErrorKind::RateLimited,
            400 | 405..=428 | 430..=499 => UploadErrorKind::Refused,
            _ => UploadErrorKind::ServerError,
        };
        let what: Cow<'_, str> = match status {
            401 => "the server does not know this API key (401)".into(),
            403 => "the key has no access to this project (403)".into(),
            404 => "the server has no such project or run (404)".into(),
            407 => "the proxy wants a login (407): http://user:password@host:port".into(),
            429 => "the server asks for patience (429)".into(),
            other => format!("the server answered {other}").into(),
        };
        let text = match said {
            "" => what.into_owned(),
            said => format!("{what}: {said}"),
        };
        let last = matches!(status, 400..=404 | 409 | 410 | 413 | 422 | 501);
        Self {
            trouble,
            text,
            again: !last || (status == 409 && retry_conflict),
            // "At once" is no time, and is left to the ordinary waits, which grow.
            after: after
                .filter(|after| *after >= SHORTEST_NAMED)
                .map(|after| after.min(LONGEST_NAMED)),
        }
    }
}

impl Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An error with its causes, without the address, which may hold a signature.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() {
        "no connection".to_owned()
    } else {
        "no whole answer".to_owned()
    };
    if let Some(cause) = innermost(error) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}

/// Only this says what happened.
fn innermost(error: &reqwest::Error) -> Option<&dyn std::error::Error> {
    let mut cause = error.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause)
}
