//! The HTTP client, with a thread of its own.
//!
//! A request has no total timeout, because a large file takes as long as it takes. Instead a
//! request fails after a time without progress. The kernel buffers content unseen, so that large
//! requests get more time before the reply.

use std::convert::Infallible;
use std::future::Future;
use std::io::Read;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use logcore::suppress_logging;
use logcore::sync::lock;
use logcore_delivery::{DeliveryError, DeliveryErrorKind};
use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::{Client, Request, RequestBuilder, StatusCode};
use tokio::runtime::{self, Handle};
use tokio::sync::{mpsc as parts, oneshot};
use tokio::time::{Instant, timeout_at};

/// Bytes of the longest reply.
const LONGEST_REPLY: usize = 64 << 20;
/// Bytes of an error reply that are read.
const LONGEST_ERROR: usize = 64 << 10;
/// Bytes that are handed to the operating system at once.
const PART: usize = 64 << 10;
/// MiB that the operating system may buffer unseen. Each may take as long as a reply.
const UNSEEN_MIB: u64 = 4;

/// The HTTP client. Its thread discards the log output of the libraries below.
pub(crate) struct HttpClient {
    /// The client of reqwest.
    client: Client,
    /// The runtime on the thread of the client.
    runtime: Handle,
    /// The thread ends when this is dropped.
    _end: oneshot::Sender<()>,
}

/// A complete reply.
pub(crate) struct HttpReply {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body. Invalid UTF-8 is replaced.
    pub(crate) body: String,
}

/// The content of a request.
pub(crate) enum RequestBody {
    Bytes(Bytes),
    /// A reader on the sending thread, and its number of bytes.
    Reader(Box<dyn Read + Send>, u64),
}

impl RequestBody {
    /// Returns the number of bytes.
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Reader(_, length) => *length,
        }
    }
}

impl HttpClient {
    /// Starts the thread of the client.
    pub(crate) fn start(client: Client) -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("logcore-wandb-http".to_owned()).spawn(|| {
            suppress_logging(|| {
                let _ = runtime.block_on(ended);
                // Do not wait for a name server that hangs.
                runtime.shutdown_background();
            });
        })?;
        Ok(Self {
            client,
            runtime: handle,
            _end: end,
        })
    }

    /// Returns the client, to build requests.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request. The total time is unlimited, but the request fails after `silence` without
    /// progress.
    pub(crate) fn send(
        &self,
        request: RequestBuilder,
        content: RequestBody,
        silence: Duration,
    ) -> Result<HttpReply, DeliveryError> {
        let length = content.length();
        let flow = StallWatch::new(silence, length);
        let mut body = MonitoredBody {
            ready: Bytes::new(),
            left: length,
            flow: Arc::clone(&flow),
        };
        let mut source = None;
        match content {
            RequestBody::Bytes(bytes) => body.ready = bytes,
            RequestBody::Reader(reader, length) => {
                let (sender, receiver) = parts::channel(1);
                lock(&flow.state).more = Some(receiver);
                source = Some((sender, reader.take(length)));
            }
        }
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
    Ok(HttpReply {
        status,
        headers: reply.headers().clone(),
        body: String::from_utf8_lossy(&body).into_owned(),
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

/// Detects a request without progress.
struct StallWatch {
    /// The longest time without progress.
    silence: Duration,
    /// Start of the request.
    started: Instant,
    state: Mutex<StallState>,
}

/// The progress of a request.
struct StallState {
    /// Time of the last progress.
    last: Instant,
    /// Parts to come. They are dropped when the request fails: the connection may keep the body for
    /// longer, and the reading thread must not wait for it.
    more: Option<parts::Receiver<Bytes>>,
}

impl StallWatch {
    fn new(silence: Duration, length: u64) -> Arc<Self> {
        let started = Instant::now();
        let unseen = (length >> 20).min(UNSEEN_MIB) as u32;
        Arc::new(Self {
            silence: silence.saturating_mul(1 + unseen),
            started,
            state: Mutex::new(StallState {
                last: started,
                more: None,
            }),
        })
    }

    /// Notes that a part of the content was sent.
    fn record_progress(&self) {
        lock(&self.state).last = Instant::now();
    }

    /// Returns the time at which the request fails. A buffering proxy needs as long again as the
    /// upload took.
    fn deadline(&self) -> Instant {
        let last = lock(&self.state).last;
        last + self.silence + (last - self.started)
    }

    /// Runs a request until it ends or makes no progress.
    async fn watch<T>(&self, exchange: impl Future<Output = Result<T, DeliveryError>>) -> Result<T, DeliveryError> {
        let mut exchange = pin!(exchange);
        let outcome = loop {
            let deadline = self.deadline();
            match timeout_at(deadline, exchange.as_mut()).await {
                Ok(answer) => break answer,
                Err(_) if self.deadline() > deadline => {}
                Err(_) => {
                    break Err(DeliveryError::temporary(
                        DeliveryErrorKind::Unreachable,
                        "no reply in time",
                    ));
                }
            }
        };
        lock(&self.state).more = None;
        outcome
    }
}

/// A request body that records its progress.
struct MonitoredBody {
    /// The rest of the current part.
    ready: Bytes,
    /// Number of bytes that were not taken yet.
    left: u64,
    /// The detector that is told about progress.
    flow: Arc<StallWatch>,
}

impl Body for MonitoredBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ready.is_empty() {
            let polled = match &mut lock(&self.flow.state).more {
                Some(more) => more.poll_recv(context),
                None => Poll::Ready(None),
            };
            match polled {
                Poll::Ready(Some(part)) => self.ready = part,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.flow.record_progress();
        let count = self.ready.len().min(PART);
        self.left -= count as u64;
        Poll::Ready(Some(Ok(Frame::data(self.ready.split_to(count)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    const SILENCE: Duration = Duration::from_millis(400);

    fn put(listener: &TcpListener, content: RequestBody) -> Result<HttpReply, DeliveryError> {
        let http = HttpClient::start(Client::new()).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        http.send(http.client().put(url), content, SILENCE)
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
            let reply = put(&listener, RequestBody::Reader(Box::new(SlowReader(8)), 80)).unwrap();
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
            RequestBody::Bytes(Bytes::from_static(b"{}")),
            RequestBody::Bytes(vec![0; 20 << 20].into()),
            RequestBody::Reader(Box::new(io::repeat(0)), 1 << 30),
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
                let error = put(&listener, RequestBody::Bytes(Bytes::from_static(b"{}")))
                    .err()
                    .unwrap();
                assert!(error.is_temporary(), "{error:?}");
            });
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        }
    }

    #[test]
    fn logging_is_suppressed_on_the_client_thread() {
        let http = HttpClient::start(Client::new()).unwrap();
        let (sender, suppressed) = mpsc::channel();
        http.runtime
            .spawn(async move { sender.send(logcore::is_logging_suppressed()) });
        assert!(suppressed.recv().unwrap());
    }
}
