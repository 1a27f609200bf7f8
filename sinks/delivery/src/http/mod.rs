//! The HTTP client, with a thread of its own.
//!
//! A request has no total timeout, because a large file takes as long as it takes. Instead a
//! request fails after a time without progress. The kernel buffers content unseen, so that large
//! requests get more time before the reply.

mod body;
mod reply;
mod settings;
mod tls;

use std::fmt;
use std::io::Read;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use logcore::suppress_logging;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Client, Request, RequestBuilder};
use tokio::runtime::{self, Handle};
use tokio::sync::{mpsc as parts, oneshot};

pub use self::body::RequestBody;
use self::body::{Content, MonitoredBody, StallWatch};
pub use self::reply::{HttpReply, parse_retry_after, quote};
pub use self::settings::HttpSettings;
use crate::error::{DeliveryError, DeliveryErrorKind};

/// Bytes of the longest reply.
const LONGEST_REPLY: usize = 64 << 20;
/// Bytes of an error reply that are read.
const LONGEST_ERROR: usize = 64 << 10;
/// Bytes that are handed to the operating system at once.
const PART: usize = 64 << 10;

/// An HTTP client, with a thread of its own. That thread discards the log output of the libraries
/// below. A redirect is not followed.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpListener;
/// use std::thread;
/// use std::time::Duration;
///
/// use logcore_delivery::{DeliveryError, HttpClient, HttpSettings};
///
/// // A server that has no time.
/// let listener = TcpListener::bind("127.0.0.1:0").unwrap();
/// let url = format!("http://{}", listener.local_addr().unwrap());
/// let server = thread::spawn(move || {
///     let (mut stream, _) = listener.accept().unwrap();
///     let _ = stream.read(&mut [0; 4096]).unwrap();
///     let reply = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy";
///     stream.write_all(reply.as_bytes()).unwrap();
/// });
///
/// let http = HttpClient::start("example", &HttpSettings::new(&url, Duration::from_secs(20)))?;
/// let reply = http.send(http.client().get(&url), "")?;
/// assert_eq!((reply.status.as_u16(), reply.body.as_str()), (429, "busy"));
/// let error = DeliveryError::from_status(429, None, &reply.body, reply.retry_after());
/// assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
/// # server.join().unwrap();
/// # Ok::<(), DeliveryError>(())
/// ```
pub struct HttpClient {
    /// The client of reqwest.
    client: Client,
    /// The longest time of a request without progress.
    silence: Duration,
    /// The runtime on the thread of the client.
    runtime: Handle,
    /// The thread ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl HttpClient {
    /// Starts the thread of the client, `logcore-<name>-http`.
    ///
    /// # Errors
    ///
    /// - [`DeliveryErrorKind::Unverified`] if the certificate authorities of the machine cannot be
    ///   read, and the server needs them
    /// - [`DeliveryErrorKind::Refused`] if a proxy has no valid address
    /// - [`DeliveryErrorKind::Unreadable`] if the system starts no thread
    pub fn start(name: &str, settings: &HttpSettings) -> Result<Self, DeliveryError> {
        let client = settings.client()?;
        let no_thread = |error: std::io::Error| {
            let text = format!("cannot start the thread of the HTTP client: {error}");
            DeliveryError::permanent(DeliveryErrorKind::Unreadable, text)
        };
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(no_thread)?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("logcore-{name}-http"));
        thread
            .spawn(|| {
                suppress_logging(|| {
                    let _ = runtime.block_on(ended);
                    // Do not wait for a name server that hangs.
                    runtime.shutdown_background();
                });
            })
            .map_err(no_thread)?;
        Ok(Self {
            client,
            silence: settings.timeout(),
            runtime: handle,
            _end: end,
        })
    }

    /// Returns the client of reqwest, to build requests.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the longest time of a request without progress.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.silence
    }

    /// Sends a request, and waits for the complete reply, whose status may be an error. The total
    /// time is unlimited, but the request fails after a time without progress: the timeout of the
    /// settings, and longer for a long content, of which the system buffers a part unseen. A
    /// timeout of the request itself (`RequestBuilder::timeout`) holds, too.
    ///
    /// # Errors
    ///
    /// - [`DeliveryErrorKind::Unreachable`] without a connection, a reply in time, or its end
    /// - [`DeliveryErrorKind::Unverified`] if the certificate of the server is not trusted
    /// - [`DeliveryErrorKind::Refused`] if the request is invalid, or the proxy asks for a login
    /// - [`DeliveryErrorKind::NotUnderstood`] if the reply has more than 64 MiB
    /// - [`DeliveryErrorKind::Unreadable`] if the content cannot be read
    ///
    /// # Panics
    ///
    /// If the content is a reader, and the caller is a task of an asynchronous runtime. Deliveries
    /// have threads of their own.
    pub fn send(&self, request: RequestBuilder, content: impl Into<RequestBody>) -> Result<HttpReply, DeliveryError> {
        let content = content.into();
        let length = content.length();
        let flow = StallWatch::new(self.silence, length);
        let (ready, source) = match content.0 {
            Content::Bytes(bytes) => (bytes, None),
            Content::Reader(reader, length) => {
                let (sender, receiver) = parts::channel(1);
                flow.take_parts_from(receiver);
                (Bytes::new(), Some((sender, reader.take(length))))
            }
        };
        let body = MonitoredBody::new(ready, length, &flow);
        let request = request.header(CONTENT_LENGTH, length).body(reqwest::Body::wrap(body));
        let request = request.build().map_err(|error| DeliveryError::from_transport(&error))?;
        let (answered, answer) = mpsc::channel();
        let client = self.client.clone();
        self.runtime.spawn(async move {
            let _ = answered.send(flow.watch(exchange(&client, request)).await);
        });
        if let Some((sender, reader)) = source {
            feed(&sender, reader)?;
        }
        answer.recv().unwrap_or_else(|_| {
            Err(DeliveryError::temporary(
                DeliveryErrorKind::Unreachable,
                "the HTTP client has stopped",
            ))
        })
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("silence", &self.silence)
            .finish_non_exhaustive()
    }
}

/// Sends a request and reads the reply.
async fn exchange(client: &Client, request: Request) -> Result<HttpReply, DeliveryError> {
    let mut reply = client
        .execute(request)
        .await
        .map_err(|error| DeliveryError::from_transport(&error))?;
    let status = reply.status();
    let longest = if status.is_success() {
        LONGEST_REPLY
    } else {
        LONGEST_ERROR
    };
    let mut body = Vec::new();
    loop {
        match reply.chunk().await {
            Ok(Some(part)) => body.extend_from_slice(&part),
            Ok(None) => break,
            // The status of an error matters more than its body.
            Err(_) if !status.is_success() => break,
            Err(error) => return Err(DeliveryError::from_transport(&error)),
        }
        if body.len() > longest {
            if !status.is_success() {
                break;
            }
            let text = format!("the reply has more than {longest} bytes");
            return Err(DeliveryError::temporary(DeliveryErrorKind::NotUnderstood, text));
        }
    }
    let headers = reply.headers().clone();
    let (body, raw) = match String::from_utf8(body) {
        Ok(body) => (body, None),
        Err(error) => (
            String::from_utf8_lossy(error.as_bytes()).into_owned(),
            Some(error.into_bytes()),
        ),
    };
    Ok(HttpReply {
        status,
        headers,
        body,
        raw,
    })
}

/// Reads the content and hands it to the connection, until the connection has enough.
fn feed(sender: &parts::Sender<Bytes>, mut reader: impl Read) -> Result<(), DeliveryError> {
    loop {
        let mut part = vec![0; PART];
        let count = reader
            .read(&mut part)
            .map_err(|error| DeliveryError::permanent(DeliveryErrorKind::Unreadable, error.to_string()))?;
        part.truncate(count);
        if count == 0 || sender.blocking_send(part.into()).is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    const SILENCE: Duration = Duration::from_millis(400);

    fn put(listener: &TcpListener, content: RequestBody) -> Result<HttpReply, DeliveryError> {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let http = HttpClient::start("test", &HttpSettings::new(&url, SILENCE)).unwrap();
        http.send(http.client().put(url), content)
    }

    /// A slow source.
    struct SlowReader(u32);

    impl Read for SlowReader {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            thread::sleep(SILENCE / 4);
            self.0 -= 1;
            buffer[..10].fill(b'x');
            Ok(10)
        }
    }

    #[test]
    fn a_slow_upload_with_progress_succeeds() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        thread::scope(|scope| {
            let server = || {
                let mut reader = BufReader::new(listener.accept().unwrap().0);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    reader.read_line(&mut head).unwrap();
                }
                let mut body = [0; 80];
                reader.read_exact(&mut body).unwrap();
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
                reader.get_mut().write_all(answer).unwrap();
                (head, body)
            };
            let server = thread::Builder::new().spawn_scoped(scope, server).unwrap();
            let reply = put(&listener, RequestBody::reader(SlowReader(8), 80)).unwrap();
            assert_eq!((reply.status.as_u16(), &*reply.body), (200, "done"));
            let (head, body) = server.join().unwrap();
            assert!(head.to_lowercase().contains("content-length: 80\r\n"), "{head}");
            assert_eq!(body, [b'x'; 80]);
        });
    }

    /// The operating system accepts the connections, and nobody reads from them.
    #[test]
    fn an_upload_without_progress_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for content in [
            RequestBody::from("{}"),
            RequestBody::from(vec![0; 20 << 20]),
            RequestBody::reader(io::repeat(0), 1 << 30),
        ] {
            let start = Instant::now();
            let error = put(&listener, content).err().unwrap();
            // The connection itself fails after half a minute, and the client must not wait for
            // that.
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
            assert!(
                error.is_temporary() && error.to_string() == "no reply in time",
                "{error:?}"
            );
        }
    }

    /// A reply that trickles, and a reply without an end.
    #[test]
    fn an_endless_reply_fails() {
        for (pause, part) in [(SILENCE / 8, " "), (Duration::ZERO, "{\"data\": ")] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let start = Instant::now();
            thread::scope(|scope| {
                let server = || {
                    let mut stream = listener.accept().unwrap().0;
                    let part = part.repeat(if pause.is_zero() { 8 << 10 } else { 1 });
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
                    let mut sent = stream.write_all(head.as_bytes());
                    while sent.is_ok() {
                        thread::sleep(pause);
                        sent = stream.write_all(part.as_bytes());
                    }
                };
                thread::Builder::new().spawn_scoped(scope, server).unwrap();
                let error = put(&listener, RequestBody::from("{}")).err().unwrap();
                assert!(error.is_temporary(), "{error:?}");
            });
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        }
    }

    #[test]
    fn a_binary_reply_keeps_its_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        thread::scope(|scope| {
            let server = || {
                let mut stream = listener.accept().unwrap().0;
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\x08\xff\x01")
                    .unwrap();
            };
            thread::Builder::new().spawn_scoped(scope, server).unwrap();
            let reply = put(&listener, RequestBody::from("{}")).unwrap();
            assert_eq!(
                (reply.bytes(), &*reply.body),
                (&b"\x08\xff\x01"[..], "\u{8}\u{fffd}\u{1}")
            );
        });
    }

    #[test]
    fn logging_is_suppressed_on_the_client_thread() {
        let http = HttpClient::start("test", &HttpSettings::new("http://127.0.0.1", SILENCE)).unwrap();
        let (sender, suppressed) = mpsc::channel();
        http.runtime
            .spawn(async move { sender.send(logcore::is_logging_suppressed()) });
        assert!(suppressed.recv().unwrap());
    }
}
