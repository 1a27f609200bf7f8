//! The content of a request, and the watch over its progress.

use std::convert::Infallible;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek as _};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use logcore::sync::lock;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};

use super::PART;
use crate::control::{DeliveryControl, Lane};
use crate::error::{DeliveryError, DeliveryErrorKind};

/// MiB that the operating system may buffer unseen. Each may take as long as a reply.
const UNSEEN_MIB: u64 = 4;

/// The content of a request: bytes, or a reader.
///
/// ```
/// use logcore_delivery::RequestBody;
///
/// assert_eq!(RequestBody::from("{}").length(), 2);
/// assert_eq!(RequestBody::reader(std::io::repeat(0), 1 << 30).length(), 1 << 30);
/// ```
pub struct RequestBody(pub(super) Content);

/// The form of a content.
pub(super) enum Content {
    Bytes(Bytes),
    /// A reader on the sending thread, and its number of bytes.
    Reader(Box<dyn Read + Send>, u64),
}

impl RequestBody {
    /// Creates the content that a reader has, of `length` bytes. The thread that sends the request
    /// reads it in parts, so that a large file is never in memory as a whole. A reader that ends
    /// before makes the request fail, and further bytes are not read.
    #[must_use]
    pub fn reader(reader: impl Read + Send + 'static, length: u64) -> Self {
        Self(Content::Reader(Box::new(reader), length))
    }

    /// Creates the content of a whole file. While it is being sent in `lane`, the retry limit of a
    /// sync is extended: a large file on a slow connection is no failing server.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use logcore_delivery::{DeliveryControl, Lane, RequestBody};
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("model.bin");
    /// std::fs::write(&path, "weights").unwrap();
    /// let control = Arc::new(DeliveryControl::new("MLflow", None));
    /// let content = RequestBody::file(std::fs::File::open(&path).unwrap(), &control, Lane::Files).unwrap();
    /// assert_eq!(content.length(), 7);
    /// ```
    ///
    /// # Errors
    ///
    /// If the file has no length or no beginning, such as a pipe.
    pub fn file(mut file: File, control: &Arc<DeliveryControl>, lane: Lane) -> io::Result<Self> {
        file.rewind()?;
        let length = file.metadata()?.len();
        let content = MonitoredFile {
            file,
            control: Arc::clone(control),
            lane,
            last: Instant::now(),
        };
        Ok(Self::reader(content, length))
    }

    /// Returns the number of bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match &self.0 {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Reader(_, length) => *length,
        }
    }
}

/// Shares the bytes, so that a request can be repeated without a copy.
impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self(Content::Bytes(bytes))
    }
}

impl From<Vec<u8>> for RequestBody {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for RequestBody {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&'static str> for RequestBody {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

/// Shows the length, because the content may hold secrets.
impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}

/// A file that extends the retry limit of a sync while its content is being sent.
struct MonitoredFile {
    file: File,
    control: Arc<DeliveryControl>,
    lane: Lane,
    last: Instant,
}

impl Read for MonitoredFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.control.extend_retry_limit(self.lane, self.last.elapsed());
        self.last = Instant::now();
        self.file.read(buffer)
    }
}

/// Detects a request without progress.
pub(super) struct StallWatch {
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
    more: Option<Receiver<Bytes>>,
}

impl StallWatch {
    pub(super) fn new(silence: Duration, length: u64) -> Arc<Self> {
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

    /// Sets the receiver of the parts of a content that a reader has.
    pub(super) fn take_parts_from(&self, parts: Receiver<Bytes>) {
        lock(&self.state).more = Some(parts);
    }

    /// Runs a request until it ends or makes no progress.
    pub(super) async fn watch<T>(
        &self,
        exchange: impl Future<Output = Result<T, DeliveryError>>,
    ) -> Result<T, DeliveryError> {
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
pub(super) struct MonitoredBody {
    /// The rest of the current part.
    ready: Bytes,
    /// Number of bytes that were not taken yet.
    left: u64,
    /// The detector that is told about progress.
    flow: Arc<StallWatch>,
}

impl MonitoredBody {
    /// Creates the body of a request with `length` bytes. `ready` has them, unless they come in
    /// parts.
    pub(super) fn new(ready: Bytes, length: u64, flow: &Arc<StallWatch>) -> Self {
        Self {
            ready,
            left: length,
            flow: Arc::clone(flow),
        }
    }
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
