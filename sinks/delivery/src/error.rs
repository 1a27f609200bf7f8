//! The error of everything between a spool and a server.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Display};
use std::time::Duration;

/// Cause of a failed request or delivery.
///
/// An error is temporary if repeating the request may help, and permanent otherwise. The kinds
/// [`GaveUp`](DeliveryErrorKind::GaveUp), [`InUse`](DeliveryErrorKind::InUse) and
/// [`Unreadable`](DeliveryErrorKind::Unreadable) stop a delivery; the data stays on disk.
///
/// `Display` has the text for notices, without secrets and without the causes of a library, whose
/// texts repeat each other.
///
/// ```
/// use logcore_delivery::{DeliveryError, DeliveryErrorKind};
///
/// let busy = DeliveryError::from_status(503, None, "try later", None);
/// assert_eq!(busy.kind(), DeliveryErrorKind::ServerError);
/// assert!(busy.is_temporary());
/// assert_eq!(busy.to_string(), "the server answered 503: try later");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryError {
    kind: DeliveryErrorKind,
    text: String,
    is_temporary: bool,
    retry_after: Option<Duration>,
    is_of_item: bool,
}

/// Kind of a [`DeliveryError`]. Each kind is printed once until a request succeeds.
///
/// ```
/// use logcore_delivery::DeliveryErrorKind;
///
/// assert_eq!(DeliveryErrorKind::RateLimited.reason(), "rate limited");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeliveryErrorKind {
    /// No connection, or no complete reply.
    Unreachable,
    /// The certificate of the server is not trusted.
    Unverified,
    /// The server does not accept the key or the password.
    KeyRefused,
    /// The key has no access to the destination.
    NoAccess,
    /// The destination does not exist on the server.
    NotFound,
    /// The server limits the rate of requests.
    RateLimited,
    /// The server has failed.
    ServerError,
    /// The reply has another form than expected.
    NotUnderstood,
    /// The server understood the request and does not accept it.
    Refused,
    /// The spool cannot be read.
    Unreadable,
    /// Another delivery of the same spool is running.
    InUse,
    /// There was no time left, or the run had ended and the server still refused. The data stays on
    /// disk.
    GaveUp,
}

/// A server that asks for less is asked no sooner.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);
/// A server with a wrong clock does not keep a run on disk for ever.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

impl DeliveryErrorKind {
    /// Returns the name in books and notices.
    #[must_use]
    pub fn reason(self) -> &'static str {
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

impl DeliveryError {
    /// Creates an error that another try will not remove soon.
    ///
    /// ```
    /// use logcore_delivery::{DeliveryError, DeliveryErrorKind};
    ///
    /// let error = DeliveryError::permanent(DeliveryErrorKind::Refused, "no such metric");
    /// assert!(!error.is_temporary());
    /// ```
    #[must_use]
    pub fn permanent(kind: DeliveryErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            is_temporary: false,
            retry_after: None,
            is_of_item: false,
        }
    }

    /// Creates an error that another try may remove.
    ///
    /// ```
    /// use logcore_delivery::{DeliveryError, DeliveryErrorKind};
    ///
    /// let error = DeliveryError::temporary(DeliveryErrorKind::NotUnderstood, "the reply has no `run`");
    /// assert!(error.is_temporary());
    /// ```
    #[must_use]
    pub fn temporary(kind: DeliveryErrorKind, text: impl Into<String>) -> Self {
        Self::permanent(kind, text).into_temporary()
    }

    /// Creates the error of a delivery that stops.
    ///
    /// ```
    /// use logcore_delivery::{DeliveryError, DeliveryErrorKind};
    ///
    /// assert_eq!(DeliveryError::gave_up().kind(), DeliveryErrorKind::GaveUp);
    /// ```
    #[must_use]
    pub fn gave_up() -> Self {
        Self::permanent(DeliveryErrorKind::GaveUp, "no time was left")
    }

    /// Creates the error of a reply with an error status (RFC 9110, section 15). `meaning` replaces
    /// the general words for the status by those of a server, `message` is the server's own text or
    /// empty, and `retry_after` is the time that the server names: at least one second, or else
    /// ignored, and at most one hour.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use logcore_delivery::{DeliveryError, DeliveryErrorKind};
    ///
    /// let error = DeliveryError::from_status(404, Some("the server has no such experiment (404)"), "", None);
    /// assert_eq!(error.kind(), DeliveryErrorKind::NotFound);
    /// assert_eq!(error.to_string(), "the server has no such experiment (404)");
    /// assert!(!error.is_temporary());
    ///
    /// let limited = |seconds| DeliveryError::from_status(429, None, "", Some(Duration::from_secs(seconds)));
    /// assert_eq!(limited(0).retry_after(), None);
    /// assert_eq!(limited(7).retry_after(), Some(Duration::from_secs(7)));
    /// assert_eq!(limited(86_400).retry_after(), Some(Duration::from_secs(3600)));
    /// ```
    #[must_use]
    pub fn from_status(status: u16, meaning: Option<&str>, message: &str, retry_after: Option<Duration>) -> Self {
        let kind = match status {
            401 => DeliveryErrorKind::KeyRefused,
            402 | 403 => DeliveryErrorKind::NoAccess,
            404 | 410 => DeliveryErrorKind::NotFound,
            429 => DeliveryErrorKind::RateLimited,
            400 | 405..=428 | 430..=499 => DeliveryErrorKind::Refused,
            _ => DeliveryErrorKind::ServerError,
        };
        let meaning = meaning.map_or_else(|| describe_status(status), Cow::Borrowed);
        let text = match message {
            "" => meaning.into_owned(),
            message => format!("{meaning}: {message}"),
        };
        Self {
            kind,
            text,
            is_temporary: !matches!(status, 400..=404 | 409 | 410 | 413 | 422 | 501),
            // A shorter time is no time, and is left to the backoff, which grows.
            retry_after: retry_after
                .filter(|after| *after >= SHORTEST_RETRY_AFTER)
                .map(|after| after.min(LONGEST_RETRY_AFTER)),
            is_of_item: false,
        }
    }

    /// Creates the error of a client that cannot be set up.
    pub(crate) fn from_setup(error: &(dyn Error + 'static)) -> Self {
        let cause = innermost(error).map_or_else(|| error.to_string(), |cause| cause.to_string());
        let text = format!("cannot set up the HTTP client: {cause}");
        match text.contains("certificate") {
            true => Self::permanent(
                DeliveryErrorKind::Unverified,
                format!("{text}; set SSL_CERT_FILE to a file of trusted authorities"),
            ),
            false => Self::permanent(DeliveryErrorKind::Refused, text),
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
                DeliveryErrorKind::Unverified,
                format!("{text}; if the server has a private CA, set SSL_CERT_FILE to its file"),
            );
        }
        if text.contains("proxy authorization required") {
            return Self::from_status(407, None, "", None);
        }
        match error.is_builder() || error.is_redirect() {
            true => Self::permanent(DeliveryErrorKind::Refused, text),
            false => Self::temporary(DeliveryErrorKind::Unreachable, text),
        }
    }

    /// Restricts the error to a single file or other item, so that others may succeed.
    ///
    /// ```
    /// use logcore_delivery::DeliveryError;
    ///
    /// let expired = DeliveryError::from_status(403, None, "", None).into_temporary().of_item();
    /// assert!(expired.is_of_item() && expired.is_temporary());
    /// ```
    #[must_use]
    pub fn of_item(self) -> Self {
        Self {
            is_of_item: true,
            ..self
        }
    }

    /// Makes the error one that another try may remove.
    ///
    /// ```
    /// use logcore_delivery::DeliveryError;
    ///
    /// let conflict = DeliveryError::from_status(409, None, "", None);
    /// assert!(!conflict.is_temporary());
    /// assert!(conflict.into_temporary().is_temporary());
    /// ```
    #[must_use]
    pub fn into_temporary(self) -> Self {
        Self {
            is_temporary: true,
            ..self
        }
    }

    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> DeliveryErrorKind {
        self.kind
    }

    /// Returns `true` if another try may succeed soon.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.is_temporary
    }

    /// Returns the time after which the server accepts another try: from one second to one hour.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns `true` if the error concerns a single file or other item.
    #[must_use]
    pub fn is_of_item(&self) -> bool {
        self.is_of_item
    }
}

impl Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for DeliveryError {}

/// Describes a status in general words.
fn describe_status(status: u16) -> Cow<'static, str> {
    match status {
        401 => "the server does not accept the credentials (401)".into(),
        403 => "the credentials have no access (403)".into(),
        407 => "the proxy requires a login (407): http://user:password@host:port".into(),
        429 => "the server limits the rate of requests (429)".into(),
        other => format!("the server answered {other}").into(),
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
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let mut cause = error.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause)
}
