//! Single requests to the server. [`RetryingClient`](super::RetryingClient) repeats them.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use logcore::Deadline;
use logcore_delivery::{
    DeliveryError, DeliveryErrorKind, HttpClient, HttpReply, HttpSettings, RequestBody, SecretFilter, quote,
};
use percent_encoding::utf8_percent_encode;
use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::replies::{GraphqlReply, StreamReply, from_part, list_from_part};
use super::secret::{credentials, secrets_of};
use crate::settings::{SEGMENT, ServerConfig};

/// The status of a request that contradicts another one. While a run is created, another try helps.
const CONFLICT: u16 = 409;

/// The server of a run.
pub(crate) struct Api {
    /// The HTTP client.
    http: HttpClient,
    base_url: String,
    /// The header with the API key.
    authorization: HeaderValue,
    extra_headers: HeaderMap,
    /// The secrets that are removed from messages.
    secrets: SecretFilter,
    /// The deadline of every GraphQL request.
    deadline: Option<Deadline>,
}

impl Api {
    /// Starts the HTTP client of a server.
    ///
    /// # Errors
    ///
    /// If the key has invalid characters, or the client cannot be set up.
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, DeliveryError> {
        let key = config.key.as_ref().map_or("", |key| key.expose());
        let mut authorization = HeaderValue::from_str(&format!("Basic {}", credentials(key))).map_err(|_| {
            DeliveryError::permanent(DeliveryErrorKind::KeyRefused, "the API key has invalid characters")
        })?;
        authorization.set_sensitive(true);
        let http = HttpClient::start("wandb", &http_settings(config))?;
        let mut extra_headers = HeaderMap::new();
        for (name, value) in &config.extra_headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
                extra_headers.insert(name, value);
            }
        }
        for (name, value) in [
            ("x-wandb-username", &config.username),
            ("x-wandb-user-email", &config.user_email),
        ] {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                extra_headers.insert(name, value);
            }
        }
        Ok(Self {
            http,
            base_url: config.base_url.clone(),
            authorization,
            extra_headers,
            secrets: secrets_of(config),
            deadline: None,
        })
    }

    /// Replaces the secrets of requests in a text.
    pub(crate) fn hide_secrets(&self, text: &str) -> String {
        self.secrets.hide(text)
    }

    /// Returns the address of the server.
    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Limits all GraphQL requests to a deadline.
    pub(crate) fn with_deadline(self, deadline: Deadline) -> Self {
        Self {
            deadline: Some(deadline),
            ..self
        }
    }

    /// Sends a GraphQL request, and returns the `data` of the reply.
    pub(crate) fn graphql(&self, operation: &str, query: &str, variables: Value) -> Result<Value, DeliveryError> {
        let body = json!({"query": query, "variables": variables, "operationName": operation});
        let request = self.to_server(self.http.client().post(format!("{}/graphql", self.base_url)));
        let reply = self.send(
            request
                .timeout(self.time_left())
                .header(CONTENT_TYPE, "application/json"),
            body.to_string().into(),
            operation == "UpsertBucket",
        )?;
        let reply: Value = serde_json::from_str(&reply.body).map_err(|_| self.not_understood(&reply.body))?;
        let reply: GraphqlReply = from_part(reply);
        if !reply.errors.is_empty() {
            let messages: Vec<_> = reply.errors.iter().map(error_message).collect();
            let message = quote(&self.secrets.hide(&messages.join("; ")));
            return Err(DeliveryError::permanent(DeliveryErrorKind::Refused, message));
        }
        match reply.data {
            data @ Value::Object(_) => Ok(data),
            _ => Err(DeliveryError::temporary(
                DeliveryErrorKind::NotUnderstood,
                "the reply has no `data`",
            )),
        }
    }

    /// Sends a GraphQL request, and returns a part of the `data`, given as a JSON pointer.
    ///
    /// # Errors
    ///
    /// As [`graphql`](Self::graphql), and if the reply does not have the part.
    pub(crate) fn query<T: DeserializeOwned + Default>(
        &self,
        operation: &str,
        query: &str,
        variables: &Value,
        part: &str,
    ) -> Result<T, DeliveryError> {
        self.query_part(operation, query, variables, part).map(from_part)
    }

    /// As [`query`](Self::query), for a list.
    pub(crate) fn query_list<T: DeserializeOwned + Default>(
        &self,
        operation: &str,
        query: &str,
        variables: &Value,
        part: &str,
    ) -> Result<Vec<T>, DeliveryError> {
        self.query_part(operation, query, variables, part).map(list_from_part)
    }

    /// Sends a GraphQL request, and returns a part of the reply that is not null.
    fn query_part(&self, operation: &str, query: &str, variables: &Value, part: &str) -> Result<Value, DeliveryError> {
        let mut data = self.graphql(operation, query, variables.clone())?;
        match data.pointer_mut(part).map(Value::take) {
            Some(Value::Null) | None => Err(DeliveryError::temporary(
                DeliveryErrorKind::NotUnderstood,
                format!("the reply to {operation} has no {part}"),
            )),
            Some(found) => Ok(found),
        }
    }

    /// Sends a part of the file stream. Returns `true` if a user asks the run to stop.
    pub(crate) fn stream(
        &self,
        entity: &str,
        project: &str,
        run: &str,
        body: &Bytes,
        gzip: bool,
    ) -> Result<bool, DeliveryError> {
        let [entity, project, run] = [entity, project, run].map(|part| utf8_percent_encode(part, SEGMENT).to_string());
        let url = format!("{}/files/{entity}/{project}/{run}/file_stream", self.base_url);
        let mut request = self
            .to_server(self.http.client().post(url))
            .header(CONTENT_TYPE, "application/json");
        let content = match gzip.then(|| gzipped(body)).flatten() {
            Some(packed) => {
                request = request.header(CONTENT_ENCODING, "gzip");
                RequestBody::from(packed)
            }
            None => RequestBody::from(body.clone()),
        };
        let reply = self.send(request, content, false)?;
        // A proxy answers with a page and status 200, too, and drops the rows. Any other body is a
        // success.
        if reply.is_page() || reply.body.trim_start().starts_with('<') {
            return Err(self.not_understood(&reply.body));
        }
        let reply: StreamReply = from_part(serde_json::from_str(&reply.body).unwrap_or_default());
        Ok(reply.stopped)
    }

    /// Uploads content to an address that the server has signed. The request does not carry the
    /// key.
    pub(crate) fn put(
        &self,
        url: &str,
        headers: &[(String, String)],
        content: RequestBody,
    ) -> Result<(), DeliveryError> {
        let url = if url.starts_with('/') {
            format!("{}{url}", self.base_url)
        } else {
            url.to_owned()
        };
        let mut request = self.http.client().put(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let reply = self.send(request, content, false)?;
        match reply.is_page() {
            true => Err(self.not_understood(&reply.body)),
            false => Ok(()),
        }
    }

    /// Returns the timeout of a GraphQL request.
    fn time_left(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.remaining());
        let longest = self.http.timeout();
        left.map_or(longest, |left| left.min(longest))
    }

    /// Adds the headers that only the server itself may see.
    fn to_server(&self, request: RequestBuilder) -> RequestBuilder {
        request
            .headers(self.extra_headers.clone())
            .header(AUTHORIZATION, self.authorization.clone())
    }

    /// Sends a request, and turns error statuses into errors.
    fn send(
        &self,
        request: RequestBuilder,
        content: RequestBody,
        retry_conflict: bool,
    ) -> Result<HttpReply, DeliveryError> {
        let reply = self.http.send(request, content)?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        let message = quote(&server_message(&self.secrets.hide(&reply.body)));
        let status = reply.status.as_u16();
        let error = DeliveryError::from_status(status, meaning_of(status), &message, reply.retry_after());
        Err(match status == CONFLICT && retry_conflict {
            true => error.into_temporary(),
            false => error,
        })
    }

    /// Returns the error of a reply that is not JSON.
    fn not_understood(&self, text: &str) -> DeliveryError {
        let start: String = quote(&self.secrets.hide(text)).chars().take(60).collect();
        DeliveryError::temporary(
            DeliveryErrorKind::NotUnderstood,
            format!("the reply is not JSON; it begins with `{start}`"),
        )
    }
}

/// Returns the meaning of a status for a W&B run.
fn meaning_of(status: u16) -> Option<&'static str> {
    match status {
        401 => Some("the server does not accept this API key (401)"),
        403 => Some("the key has no access to this project (403)"),
        404 => Some("the server has no such project or run (404)"),
        _ => None,
    }
}

/// Returns the settings of the HTTP client of a server.
fn http_settings(config: &ServerConfig) -> HttpSettings {
    let mut settings = HttpSettings::new(&config.base_url, config.timeout);
    if let Some(url) = &config.https_proxy {
        settings = settings.https_proxy(url);
    }
    if let Some(url) = &config.http_proxy {
        settings = settings.http_proxy(url);
    }
    settings
}

/// Returns the message of one GraphQL error.
fn error_message(error: &Value) -> &str {
    error["message"]
        .as_str()
        .or(error.as_str())
        .unwrap_or("an error without a message")
}

/// Returns `None` for an empty text, which is sent as null.
pub(crate) fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Returns the message in the body of an error, which has one of several forms.
pub(crate) fn server_message(body: &str) -> String {
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    let message = parsed["error"]
        .as_str()
        .or(parsed["error"]["message"].as_str())
        .or(parsed["errors"][0].as_str())
        .or(parsed["errors"][0]["message"].as_str());
    let message = match message {
        Some(message) => message,
        // The page of a proxy is no message.
        None if body.trim_start().starts_with('<') => "",
        None => body,
    };
    message.to_owned()
}

/// Compresses a body.
fn gzipped(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_found_in_every_form_of_an_error() {
        for (body, message) in [
            (r#"{"error": "no"}"#, "no"),
            (r#"{"error": {"message": "no\n way"}}"#, "no\n way"),
            (r#"{"errors": [{"message": "no"}]}"#, "no"),
            (r#"{"errors": ["no"]}"#, "no"),
            ("<html><body>Bad gateway</body></html>", ""),
            ("plain", "plain"),
        ] {
            assert_eq!(server_message(body), message);
        }
    }
}
