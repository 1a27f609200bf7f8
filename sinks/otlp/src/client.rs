//! The requests to a receiver.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use logcore_delivery::{DeliveryError, DeliveryErrorKind, HttpClient, HttpSettings, SecretFilter, quote};
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::message::{ErrorStatus, ExportReply, PartialSuccess};
use crate::settings::Endpoint;

/// The client of one signal.
pub(crate) struct OtlpClient {
    http: HttpClient,
    endpoint: Endpoint,
    secrets: SecretFilter,
}

impl OtlpClient {
    /// Starts the client. `name` is a part of the name of its thread.
    pub(crate) fn start(name: &str, endpoint: &Endpoint) -> Result<Self, DeliveryError> {
        let mut settings = HttpSettings::new(endpoint.url.as_str(), endpoint.timeout);
        if let Some(pem) = &endpoint.certificates {
            settings = settings.authorities(pem.clone());
        }
        Ok(Self {
            http: HttpClient::start(name, &settings)?,
            secrets: collect_secrets(endpoint),
            endpoint: endpoint.clone(),
        })
    }

    /// Sends a request once, and returns what the receiver has refused of it.
    pub(crate) fn send(&self, request: &impl Message) -> Result<PartialSuccess, DeliveryError> {
        let post = self.http.client().post(self.endpoint.url.clone());
        let mut post = post
            .headers(self.endpoint.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf");
        let mut body = request.encode_to_vec();
        if self.endpoint.has_gzip {
            post = post.header(CONTENT_ENCODING, "gzip");
            body = compress(&body)?;
        }
        let reply = self.http.send(post, body)?;
        if reply.status.is_success() {
            // A proxy answers with a page for people, and drops the request.
            if reply.is_page() {
                let text = "the reply is a page for people, perhaps of a proxy that asks for a login";
                return Err(DeliveryError::temporary(DeliveryErrorKind::NotUnderstood, text));
            }
            let reply = ExportReply::decode(reply.bytes()).unwrap_or_default();
            let refused = reply.partial_success.unwrap_or_default();
            return Ok(PartialSuccess {
                error_message: self.secrets.hide(&refused.error_message),
                ..refused
            });
        }
        let status = reply.status.as_u16();
        if reply.status.is_redirection() {
            let text = format!("the server redirects ({status}), which is not followed: use the address that it names");
            return Err(DeliveryError::permanent(DeliveryErrorKind::Refused, text));
        }
        let message = match ErrorStatus::decode(reply.bytes()) {
            Ok(status) if !status.message.is_empty() => status.message,
            _ => reply.body.clone(),
        };
        let message = quote(&self.secrets.hide(&message));
        let error = DeliveryError::from_status(status, None, &message, reply.retry_after());
        Err(match status {
            // A fault of the credentials or the address holds for all requests; 429 is temporary.
            401..=404 | 407 | 408 | 429 => error,
            // Another request may be accepted.
            400..=499 => error.of_item(),
            _ => error,
        })
    }
}

/// Returns the values of the headers, also without the scheme of `Bearer abc`, and the login in the
/// address. A receiver may repeat each of them in a reply.
fn collect_secrets(endpoint: &Endpoint) -> SecretFilter {
    let values = endpoint.headers.values().filter_map(|value| value.to_str().ok());
    let forms = values.flat_map(|value| {
        let without_scheme = value.trim().split_once(' ').map(|(_, rest)| rest.trim_start());
        [Some(value), without_scheme].into_iter().flatten().map(str::to_owned)
    });
    // The login in an address has one form, whether the address is that of a proxy or not.
    SecretFilter::new(forms).with_proxy(endpoint.url.as_str())
}

fn compress(body: &[u8]) -> Result<Vec<u8>, DeliveryError> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let compressed = encoder.write_all(body).and_then(|()| encoder.finish());
    compressed.map_err(|error| DeliveryError::permanent(DeliveryErrorKind::Unreadable, error.to_string()))
}
