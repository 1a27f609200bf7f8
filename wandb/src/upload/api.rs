//! Single requests to the server; see `persist` for what happens when they fail.

use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Proxy;
use reqwest::blocking::{Body, Client, RequestBuilder, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::{Value, json};

use super::failure::{Failure, Trouble};
use crate::settings::Settings;

/// What `encodeURIComponent` leaves alone, which servers expect in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// How much of a server's own words an error repeats.
const QUOTED: usize = 200;

/// The server of a run.
pub(crate) struct Api {
    client: Client,
    base: String,
    authorization: HeaderValue,
    own_headers: HeaderMap,
    /// The key, only so that a reply that repeats it can be cleaned.
    secret: String,
    timeout: Duration,
}

impl Api {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Failure> {
        let key = settings.key.as_ref().map_or("", |key| key.expose());
        let mut authorization = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("api:{key}"))))
            .map_err(|_| Failure::last(Trouble::KeyRefused, "the API key has characters that no key has"))?;
        authorization.set_sensitive(true);
        let mut builder = Client::builder()
            .user_agent(concat!("logcore/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.http_timeout)
            .timeout(None);
        if let Some(url) = &settings.https_proxy {
            builder = builder.proxy(Proxy::https(url).map_err(|error| Failure::setup(&error))?);
        }
        if let Some(url) = &settings.http_proxy {
            builder = builder.proxy(Proxy::http(url).map_err(|error| Failure::setup(&error))?);
        }
        let client = builder.build().map_err(|error| Failure::setup(&error))?;
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
            client,
            base: settings.base_url.clone(),
            authorization,
            own_headers,
            secret: key.to_owned(),
            timeout: settings.http_timeout,
        })
    }

    /// Asks GraphQL; returns the `data` of the reply.
    pub(crate) fn graphql(&self, operation: &str, query: &str, variables: Value) -> Result<Value, Failure> {
        let body = json!({"query": query, "variables": variables, "operationName": operation});
        let request = self.to_server(self.client.post(format!("{}/graphql", self.base)));
        let reply = self.send(
            request
                .timeout(self.timeout)
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string()),
            operation == "UpsertBucket",
        )?;
        let mut reply = self.json(reply)?;
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
            return Err(Failure::last(Trouble::Refused, self.clean(&messages.join("; "))));
        }
        match reply.get_mut("data").map(Value::take) {
            Some(data @ Value::Object(_)) => Ok(data),
            _ => Err(Failure::again(Trouble::NotUnderstood, "the reply has no `data`")),
        }
    }

    /// Asks GraphQL for a part of the `data`; a reply without it is no answer.
    pub(crate) fn ask(&self, operation: &str, query: &str, variables: &Value, part: &str) -> Result<Value, Failure> {
        let mut data = self.graphql(operation, query, variables.clone())?;
        match data.pointer_mut(part).map(Value::take) {
            Some(Value::Null) | None => Err(Failure::again(
                Trouble::NotUnderstood,
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
    ) -> Result<bool, Failure> {
        let [entity, project, run] = [entity, project, run].map(|part| utf8_percent_encode(part, SEGMENT).to_string());
        let url = format!("{}/files/{entity}/{project}/{run}/file_stream", self.base);
        // The size decides how long it may take.
        let timeout = self.timeout.max(Duration::from_secs(60)) * 3;
        let mut request = self
            .to_server(self.client.post(url))
            .timeout(timeout)
            .header(CONTENT_TYPE, "application/json");
        request = match gzip.then(|| gzipped(body)).flatten() {
            Some(packed) => request.header(CONTENT_ENCODING, "gzip").body(packed),
            None => request.body(body.to_owned()),
        };
        let reply = self.send(request, false)?;
        let text = self.text(reply)?;
        if text.trim().is_empty() {
            return Ok(false);
        }
        // A proxy's page says 200, too, and has not taken the rows.
        let reply: Value = serde_json::from_str(&text).map_err(|_| self.not_understood(&text))?;
        Ok(reply["stopped"] == true)
    }

    /// Puts content at an address that the server has signed. No key goes there.
    pub(crate) fn put(&self, url: &str, headers: &[(String, String)], content: Body) -> Result<(), Failure> {
        let url = if url.starts_with('/') {
            format!("{}{url}", self.base)
        } else {
            url.to_owned()
        };
        let mut request = self.client.put(url).body(content);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        self.send(request, false).map(drop)
    }

    fn to_server(&self, request: RequestBuilder) -> RequestBuilder {
        request
            .headers(self.own_headers.clone())
            .header(AUTHORIZATION, self.authorization.clone())
    }

    fn send(&self, request: RequestBuilder, retry_conflict: bool) -> Result<Response, Failure> {
        let reply = request.send().map_err(|error| Failure::of_transport(&error))?;
        let status = reply.status();
        if status.is_success() {
            return Ok(reply);
        }
        let after = reply
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| retry_after(value.to_str().ok()?));
        let words = reply.text().unwrap_or_default();
        let said = self.clean(&server_words(&words));
        Err(Failure::of_status(status.as_u16(), &said, after, retry_conflict))
    }

    fn json(&self, reply: Response) -> Result<Value, Failure> {
        let text = self.text(reply)?;
        serde_json::from_str(&text).map_err(|_| self.not_understood(&text))
    }

    fn text(&self, reply: Response) -> Result<String, Failure> {
        reply.text().map_err(|error| Failure::of_transport(&error))
    }

    fn not_understood(&self, text: &str) -> Failure {
        let start: String = text.trim().chars().take(60).collect();
        let said = format!("the reply is not JSON; it begins with `{}`", self.clean(&start));
        Failure::again(Trouble::NotUnderstood, said)
    }

    fn clean(&self, text: &str) -> String {
        if self.secret.is_empty() {
            return text.to_owned();
        }
        text.replace(&self.secret, "***")
    }
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
fn server_words(body: &str) -> String {
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
    said.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(QUOTED)
        .collect()
}

/// Seconds, also with a fraction, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    let wait = at.as_second() - Timestamp::now().as_second();
    Some(Duration::from_secs(u64::try_from(wait).unwrap_or(0)))
}

fn gzipped(body: &str) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body.as_bytes()).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("1.5"), Some(Duration::from_millis(1500)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("-1"), None);
    }

    #[test]
    fn the_words_of_a_server_are_found() {
        for (body, said) in [
            (r#"{"error": "no"}"#, "no"),
            (r#"{"error": {"message": "no\n way"}}"#, "no way"),
            (r#"{"errors": [{"message": "no"}]}"#, "no"),
            (r#"{"errors": ["no"]}"#, "no"),
            ("<html><body>Bad gateway</body></html>", ""),
            ("plain", "plain"),
        ] {
            assert_eq!(server_words(body), said);
        }
    }
}
