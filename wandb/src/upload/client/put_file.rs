//! Uploads content to addresses that the server has signed.

use std::fs::File;
use std::io::{self, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use logcore_delivery::{DeliveryError, DeliveryErrorKind, Lane, RequestBody};
use md5::{Digest as _, Md5};

use super::RetryingClient;

/// Uploads a file. `name` is the name in errors. An expired address is a temporary error: a new one
/// may be good.
pub(crate) fn put_file(
    client: &RetryingClient,
    url: &str,
    headers: &[(String, String)],
    name: &str,
    file: File,
) -> Result<(), DeliveryError> {
    let unreadable =
        |error: io::Error| DeliveryError::permanent(DeliveryErrorKind::Unreadable, format!("{name}: {error}"));
    let content = RequestBody::file(file, &client.control, Lane::Files).map_err(unreadable)?;
    put(client, url, headers, content)
}

/// Uploads content in the same way.
pub(crate) fn put(
    client: &RetryingClient,
    url: &str,
    headers: &[(String, String)],
    content: RequestBody,
) -> Result<(), DeliveryError> {
    client
        .api
        .put(url, headers, content)
        .map_err(|error| match error.kind() {
            DeliveryErrorKind::NoAccess => DeliveryError::temporary(
                DeliveryErrorKind::NoAccess,
                "the address for the upload has expired (403)",
            ),
            _ => error,
        })
}

/// Splits headers of the form `Name:value`.
pub(crate) fn split_headers(list: &[String]) -> Vec<(String, String)> {
    list.iter()
        .filter_map(|text| text.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// Returns the MD5 digest of a file in base64.
pub(crate) fn digest(mut file: &File) -> io::Result<String> {
    let mut hash = Md5::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(STANDARD.encode(hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
