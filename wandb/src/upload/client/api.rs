//! Single requests to the server; see `persist` for what happens when they fail.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use logcore::Deadline;
use percent_encoding::utf8_percent_encode;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Proxy, RequestBuilder, redirect};
use serde_json::{Value, json};

use crate::settings::{RunSettings, SEGMENT};
use crate::upload::client::error::{UploadError, UploadErrorKind};
use crate::upload::client::http::{HttpClient, HttpReply, RequestBody};
use crate::upload::client::secret::{SecretFilter, credentials};

/// How much of a server's own words an error repeats.
const QUOTED: usize = 200;
/// A client that waits longer has a clock that cannot.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The server of a run.
pub(crate) struct Api {
    http: HttpClient,
    base: String,
    authorization: HeaderValue,
    own_headers: HeaderMap,
    secret: SecretFilter,
    timeout: Duration,
    /// No request to GraphQL goes beyond it.
    deadline: Option<Deadline>,
}

impl Api {
    pub(crate) fn new(settings: &RunSettings) -> Result<Self, UploadError> {
        let key = settings.key.as_ref().map_or("", |key| key.expose());
        let mut authorization = HeaderValue::from_str(&format!("Basic {}", credentials(key))).map_err(|_| {
            UploadError::last(
                UploadErrorKind::KeyRefused,
                "the API key has characters that no key has",
            )
        })?;
        authorization.set_sensitive(true);
        let http = HttpClient::start(client(settings)?).map_err(|error| {
            UploadError::last(
                UploadErrorKind::Unreadable,
                format!("no thread for the HTTP client: {error}"),
            )
        })?;
        let mut own_headers = HeaderMap::new();
        for (name, value) in &settings.extra_headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
                own_headers.insert(name, value);
            }
        }
        for (name, value) in [
            ("x-wandb-username", &settings.username),
            ("x-wandb-user-email", &settings.user_email),
        ] {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                own_headers.insert(name, value);
            }
        }
        Ok(Self {
            http,
            base: settings.base_url.clone(),
            authorization,
            own_headers,
            secret: SecretFilter::of(settings),
            timeout: settings.http_timeout.min(LONGEST_TIMEOUT),
            deadline: None,
        })
    }

    /// A text without the secrets that requests carry.
    pub(crate) fn clean(&self, text: &str) -> String {
        self.secret.clean(text)
    }

    /// The address of the server.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The same for requests that somebody waits for.
    pub(crate) fn until(self, deadline: Deadline) -> Self {
        Self {
            deadline: Some(deadline),
            ..self
        }
    }

    /// Asks GraphQL; returns the `data` of the reply.
    pub(crate) fn graphql(&self, operation: &str, query: &str, variables: Value) -> Result<Value, UploadError> {
        let body = json!({"query": query, "variables": variables, "operationName": operation});
        let request = self.to_server(self.http.client().post(format!("{}/graphql", self.base)));
        let reply = self.send(
            request
                .timeout(self.time_left())
                .header(CONTENT_TYPE, "application/json"),
            RequestBody::Bytes(body.to_string().into()),
            operation == "UpsertBucket",
        )?;
        let mut reply: Value = serde_json::from_str(&reply.body).map_err(|_| self.not_understood(&reply.body))?;
        if let Some(errors) = reply["errors"].as_array().filter(|errors| !errors.is_empty()) {
            let messages: Vec<_> = errors
                .iter()
                .map(|error| {
                    error["message"]
                        .as_str()
                        .or(error.as_str())
                        .unwrap_or("an error without a message")
                })
                .collect();
            let said = quoted(&self.secret.clean(&messages.join("; ")));
            return Err(UploadError::last(UploadErrorKind::Refused, said));
        }
        match reply.get_mut("data").map(Value::take) {
            Some(data @ Value::Object(_)) => Ok(data),
            _ => Err(UploadError::again(
                UploadErrorKind::NotUnderstood,
                "the reply has no `data`",
            )),
        }
    }

    /// Asks GraphQL for a part of the `data`; a reply without it is no answer.
    pub(crate) fn ask(
        &self,
        operation: &str,
        query: &str,
        variables: &Value,
        part: &str,
    ) -> Result<Value, UploadError> {
        let mut data = self.graphql(operation, query, variables.clone())?;
        match data.pointer_mut(part).map(Value::take) {
            Some(Value::Null) | None => Err(UploadError::again(
                UploadErrorKind::NotUnderstood,
                format!("the reply to {operation} has no {part}"),
            )),
            Some(found) => Ok(found),
        }
    }

    /// Sends a part of the file stream; returns whether the run was asked to stop.
    pub(crate) fn stream(
        &self,
        entity: &str,
        project: &str,
        run: &str,
        body: &str,
        gzip: bool,
    ) -> Result<bool, UploadError> {
        let [entity, project, run] = [entity, project, run].map(|part| utf8_percent_encode(part, SEGMENT).to_string());
        let url = format!("{}/files/{entity}/{project}/{run}/file_stream", self.base);
        let mut request = self
            .to_server(self.http.client().post(url))
            .header(CONTENT_TYPE, "application/json");
        let content = match gzip.then(|| gzipped(body)).flatten() {
            Some(packed) => {
                request = request.header(CONTENT_ENCODING, "gzip");
                packed.into()
            }
            None => body.to_owned().into(),
        };
        let reply = self.send(request, RequestBody::Bytes(content), false)?;
        // A proxy's page says 200, too, and has not taken the rows. Whatever else a server says, it has.
        if is_page(&reply) || reply.body.trim_start().starts_with('<') {
            return Err(self.not_understood(&reply.body));
        }
        let reply: Value = serde_json::from_str(&reply.body).unwrap_or_default();
        Ok(reply["stopped"] == true)
    }

    /// Puts content at an address that the server has signed. No key goes there.
    pub(crate) fn put(&self, url: &str, headers: &[(String, String)], content: RequestBody) -> Result<(), UploadError> {
        let url = if url.starts_with('/') {
            format!("{}{url}", self.base)
        } else {
            url.to_owned()
        };
        let mut request = self.http.client().put(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let reply = self.send(request, content, false)?;
        match is_page(&reply) {
            true => Err(self.not_understood(&reply.body)),
            false => Ok(()),
        }
    }

    fn time_left(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.remaining());
        left.map_or(self.timeout, |left| left.min(self.timeout))
    }

    fn to_server(&self, request: RequestBuilder) -> RequestBuilder {
        request
            .headers(self.own_headers.clone())
            .header(AUTHORIZATION, self.authorization.clone())
    }

    fn send(
        &self,
        request: RequestBuilder,
        content: RequestBody,
        retry_conflict: bool,
    ) -> Result<HttpReply, UploadError> {
        let reply = self.http.send(request, content, self.timeout)?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        let after = reply
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| retry_after(value.to_str().ok()?));
        let said = quoted(&server_words(&self.secret.clean(&reply.body)));
        Err(UploadError::of_status(
            reply.status.as_u16(),
            &said,
            after,
            retry_conflict,
        ))
    }

    fn not_understood(&self, text: &str) -> UploadError {
        let start: String = quoted(&self.secret.clean(text)).chars().take(60).collect();
        UploadError::again(
            UploadErrorKind::NotUnderstood,
            format!("the reply is not JSON; it begins with `{start}`"),
        )
    }
}

fn client(settings: &RunSettings) -> Result<Client, UploadError> {
    let setup = |error: reqwest::Error| UploadError::setup(&error);
    match builder(settings).map_err(setup)?.build() {
        // Where the machine knows no authorities, a server without TLS needs none; any other is not trusted.
        Err(_) if settings.base_url.starts_with("http://") => {
            let builder = builder(settings).map_err(setup)?;
            builder.tls_certs_only([]).build().map_err(setup)
        }
        built => built.map_err(setup),
    }
}

fn builder(settings: &RunSettings) -> reqwest::Result<ClientBuilder> {
    let mut builder = Client::builder()
        .user_agent(concat!("logcore/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.http_timeout.min(LONGEST_TIMEOUT))
        // The key goes to the server that was named, and a page to sign in on has taken no file.
        .redirect(redirect::Policy::none());
    if let Some(url) = &settings.https_proxy {
        builder = builder.proxy(Proxy::https(url)?);
    }
    if let Some(url) = &settings.http_proxy {
        builder = builder.proxy(Proxy::http(url)?);
    }
    Ok(builder)
}

/// Whether a reply is a page for people.
fn is_page(reply: &HttpReply) -> bool {
    let kind = reply.headers.get(CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.trim_start().starts_with("text/html"))
}

/// The beginning of what a server says, on one line, without what a terminal would obey or a reader would not see.
pub(crate) fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = line.chars().take(QUOTED);
    shown
        .map(|c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// Control characters, those of no width, and those that turn the direction of writing.
fn is_hidden(c: char) -> bool {
    let invisible = matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    c.is_control() || invisible
}

/// A text of a reply; an empty one, if it is something else.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An empty text is sent as null.
pub(crate) fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// What a server says in an error's body, which comes in several forms.
pub(crate) fn server_words(body: &str) -> String {
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    let said = parsed["error"]
        .as_str()
        .or(parsed["error"]["message"].as_str())
        .or(parsed["errors"][0].as_str())
        .or(parsed["errors"][0]["message"].as_str());
    let said = match said {
        Some(said) => said,
        // A page for people says nothing here.
        None if body.trim_start().starts_with('<') => "",
        None => body,
    };
    said.to_owned()
}

/// Seconds, also with a fraction, or a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(value: &str) -> Option<Duration> {
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

fn gzipped(body: &str) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body.as_bytes()).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("-1"), None);
    }

    proptest! {
        #[test]
        fn no_words_of_a_server_reach_the_terminal_as_commands(text in "(\\x1b|\\u{9b}|\\u{202e}|\\u{200b}|\\n|\\[31m|a| ){0,40}|\\PC*") {
            let shown = quoted(&text);
            prop_assert!(!shown.chars().any(is_hidden), "{shown:?}");
            prop_assert!(shown.chars().count() <= QUOTED);
        }
    }

    #[test]
    fn the_words_of_a_server_are_found() {
        for (body, said) in [
            (r#"{"error": "no"}"#, "no"),
            (r#"{"error": {"message": "no\n way"}}"#, "no\n way"),
            (r#"{"errors": [{"message": "no"}]}"#, "no"),
            (r#"{"errors": ["no"]}"#, "no"),
            ("<html><body>Bad gateway</body></html>", ""),
            ("plain", "plain"),
        ] {
            assert_eq!(server_words(body), said);
        }
    }
}
