//! The error of everything between the log and the server.
//!
//! An error is temporary if repeating the request may help, and permanent otherwise. `GaveUp`,
//! `InUse` and `Unreadable` stop a delivery; the data stays on disk.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt::{self, Display};
use std::time::Duration;

/// Cause of a failed request or delivery.
#[derive(Debug, Clone)]
pub(crate) struct UploadError {
    /// Kind of the error.
    pub(crate) kind: UploadErrorKind,
    /// Text for notices, without secrets.
    pub(crate) text: String,
    /// `true` if another try may succeed soon.
    pub(crate) is_temporary: bool,
    /// Time after which the server accepts another try.
    pub(crate) retry_after: Option<Duration>,
    /// `true` if the error concerns a single file or artifact, so that others may succeed.
    pub(crate) is_of_item: bool,
}

/// Kind of an [`UploadError`]. Each kind is printed once until a request succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadErrorKind {
    /// No connection, or no complete reply.
    Unreachable,
    /// The certificate of the server is not trusted.
    Unverified,
    /// The server does not accept the API key.
    KeyRefused,
    /// The key has no access to the project.
    NoAccess,
    /// There is no such project or run.
    NotFound,
    /// The server limits the rate of requests.
    RateLimited,
    /// The server has failed.
    ServerError,
    /// The reply has another form than expected.
    NotUnderstood,
    /// The server understood the request and does not accept it.
    Refused,
    /// The files of the run cannot be read.
    Unreadable,
    /// Another delivery of the same log is running.
    InUse,
    /// There was no time left, or the run had ended and the server still refused. The data stays on
    /// disk.
    GaveUp,
}

/// A server that asks for less is asked no sooner.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);
/// A server with a wrong clock does not keep a run on disk for ever.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

impl UploadErrorKind {
    /// Returns the name in accounts and notices.
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
            Self::GaveUp => "gave up",
        }
    }
}

impl UploadError {
    /// Creates an error that another try will not remove soon.
    pub(crate) fn permanent(kind: UploadErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            is_temporary: false,
            retry_after: None,
            is_of_item: false,
        }
    }

    /// Creates an error that another try may remove.
    pub(crate) fn temporary(kind: UploadErrorKind, text: impl Into<String>) -> Self {
        Self {
            is_temporary: true,
            ..Self::permanent(kind, text)
        }
    }

    /// Creates the error of a delivery that stops.
    pub(crate) fn gave_up() -> Self {
        Self::permanent(UploadErrorKind::GaveUp, "no time was left")
    }

    /// Restricts the error to a single file or artifact.
    pub(crate) fn of_item(self) -> Self {
        Self {
            is_of_item: true,
            ..self
        }
    }

    /// Creates the error of a client that cannot be set up.
    pub(crate) fn from_setup(error: &reqwest::Error) -> Self {
        let cause = innermost(error).map_or_else(|| error.to_string(), |cause| cause.to_string());
        let text = format!("cannot set up the HTTP client: {cause}");
        match text.contains("certificate") {
            true => Self::permanent(
                UploadErrorKind::Unverified,
                format!("{text}; set SSL_CERT_FILE to a file of trusted authorities"),
            ),
            false => Self::permanent(UploadErrorKind::Refused, text),
        }
    }

    /// Creates the error of a request without a reply.
    pub(crate) fn from_transport(error: &reqwest::Error) -> Self {
        let text = describe_transport(error);
        let is_certificate = ["certificate", "UnknownIssuer", "CertificateError"]
            .iter()
            .any(|word| text.contains(word));
        if is_certificate {
            return Self::permanent(
                UploadErrorKind::Unverified,
                format!("{text}; if the server has a private CA, set SSL_CERT_FILE to its file"),
            );
        }
        if text.contains("proxy authorization required") {
            return Self::from_status(407, "", None, false);
        }
        match error.is_builder() || error.is_redirect() {
            true => Self::permanent(UploadErrorKind::Refused, text),
            false => Self::temporary(UploadErrorKind::Unreachable, text),
        }
    }

    /// Creates the error of a reply with an error status. A conflict is temporary only while a run
    /// is created.
    pub(crate) fn from_status(status: u16, message: &str, retry_after: Option<Duration>, retry_conflict: bool) -> Self {
        let kind = match status {
            401 => UploadErrorKind::KeyRefused,
            402 | 403 => UploadErrorKind::NoAccess,
            404 | 410 => UploadErrorKind::NotFound,
            429 => UploadErrorKind::RateLimited,
            400 | 405..=428 | 430..=499 => UploadErrorKind::Refused,
            _ => UploadErrorKind::ServerError,
        };
        let what: Cow<'_, str> = match status {
            401 => "the server does not accept this API key (401)".into(),
            403 => "the key has no access to this project (403)".into(),
            404 => "the server has no such project or run (404)".into(),
            407 => "the proxy requires a login (407): http://user:password@host:port".into(),
            429 => "the server limits the rate of requests (429)".into(),
            other => format!("the server answered {other}").into(),
        };
        let text = match message {
            "" => what.into_owned(),
            message => format!("{what}: {message}"),
        };
        let is_permanent = matches!(status, 400..=404 | 409 | 410 | 413 | 422 | 501);
        Self {
            kind,
            text,
            is_temporary: !is_permanent || (status == 409 && retry_conflict),
            // A shorter time is no time, and is left to the backoff, which grows.
            retry_after: retry_after
                .filter(|after| *after >= SHORTEST_RETRY_AFTER)
                .map(|after| after.min(LONGEST_RETRY_AFTER)),
            is_of_item: false,
        }
    }
}

impl Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Describes an error without the address, which may hold a signature.
fn describe_transport(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "no reply in time".to_owned()
    } else if error.is_connect() {
        "no connection".to_owned()
    } else {
        "incomplete reply".to_owned()
    };
    if let Some(cause) = innermost(error) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}

/// Returns the last cause, which is the only specific one.
fn innermost(error: &reqwest::Error) -> Option<&dyn std::error::Error> {
    let mut cause = error.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause)
}
