//! The content of files on its way to addresses that the server has signed.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use serde_json::Value;

use crate::upload::client::error::{UploadError, UploadErrorKind};
use crate::upload::client::http::RequestBody;
use crate::upload::client::retry::RetryingClient;
use crate::upload::state::control::{DeliveryControl, Lane};

/// Sends a file, whose name is for people. An address that has expired is worth another try with a new one.
pub(crate) fn put_file(
    client: &RetryingClient,
    url: &str,
    headers: &[(String, String)],
    name: &str,
    mut file: File,
) -> Result<(), UploadError> {
    let unreadable = |error: io::Error| UploadError::last(UploadErrorKind::Unreadable, format!("{name}: {error}"));
    file.rewind().map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let content = MonitoredFile {
        file,
        control: Arc::clone(&client.control),
        last: Instant::now(),
    };
    put(client, url, headers, RequestBody::Reader(Box::new(content), length))
}

/// Sends content in the same way.
pub(crate) fn put(
    client: &RetryingClient,
    url: &str,
    headers: &[(String, String)],
    content: RequestBody,
) -> Result<(), UploadError> {
    client
        .api
        .put(url, headers, content)
        .map_err(|error| match error.trouble {
            UploadErrorKind::NoAccess => UploadError::again(
                UploadErrorKind::NoAccess,
                "the address for an upload is good no more (403)",
            ),
            _ => error,
        })
}

/// Headers come as texts `Name:value`.
pub(crate) fn headers(list: &Value) -> Vec<(String, String)> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts
        .filter_map(|text| text.split_once(':'))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// The MD5 of a file, as base64.
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

/// A file that the network takes part by part. A long way is no failure: meanwhile patience stands still.
struct MonitoredFile {
    file: File,
    control: Arc<DeliveryControl>,
    last: Instant,
}

impl Read for MonitoredFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.control.flowed(Lane::Files, self.last.elapsed());
        self.last = Instant::now();
        self.file.read(buffer)
    }
}
