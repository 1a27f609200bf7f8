//! Uploads content to addresses that the server has signed.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use logcore_delivery::{DeliveryControl, DeliveryError, DeliveryErrorKind, Lane, RequestBody};
use md5::{Digest as _, Md5};

use super::RetryingClient;

/// Uploads a file. `name` is the name in errors. An expired address is a temporary error: a new one
/// may be good.
pub(crate) fn put_file(
    client: &RetryingClient,
    url: &str,
    headers: &[(String, String)],
    name: &str,
    mut file: File,
) -> Result<(), DeliveryError> {
    let unreadable =
        |error: io::Error| DeliveryError::permanent(DeliveryErrorKind::Unreadable, format!("{name}: {error}"));
    file.rewind().map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let content = MonitoredFile {
        file,
        control: Arc::clone(&client.control),
        last: Instant::now(),
    };
    put(client, url, headers, RequestBody::reader(content, length))
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

/// A file that extends the retry limit of a sync while its content is being sent.
struct MonitoredFile {
    file: File,
    control: Arc<DeliveryControl>,
    last: Instant,
}

impl Read for MonitoredFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.control.extend_retry_limit(Lane::Files, self.last.elapsed());
        self.last = Instant::now();
        self.file.read(buffer)
    }
}
