//! An HTTP server on loopback that keeps what it receives, and answers as a test wants.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A server that ends when it is dropped.
pub struct HttpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A request that has arrived completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Method and path: `POST /v1/logs`.
    pub target: String,
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
    /// `true` if the answer was a success.
    pub accepted: bool,
}

/// An answer to a request.
#[derive(Debug, Clone)]
pub enum HttpAnswer {
    /// A status, a further header or `""`, and a body.
    Reply(u16, &'static str, Vec<u8>),
    /// The connection is cut without a reply.
    Cut,
    /// There is no reply for this time, and then the connection is cut.
    Hang(Duration),
}

type Answer = Box<dyn Fn(usize, &HttpRequest) -> HttpAnswer + Send + Sync>;

struct Shared {
    answer: Mutex<Answer>,
    requests: Mutex<Vec<HttpRequest>>,
    arrived: Condvar,
    ended: AtomicBool,
}

impl HttpServer {
    /// Starts a server on any port. `answer` gets the number of earlier requests.
    pub fn start(answer: impl Fn(usize, &HttpRequest) -> HttpAnswer + Send + Sync + 'static) -> Self {
        Self::start_on("127.0.0.1:0", answer)
    }

    /// Starts a server on an address.
    pub fn start_on(address: &str, answer: impl Fn(usize, &HttpRequest) -> HttpAnswer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(Box::new(answer)),
            requests: Mutex::default(),
            arrived: Condvar::new(),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        let accept = move || {
            for stream in listener.incoming() {
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&serving)) else {
                    continue;
                };
                let connection = thread::Builder::new().name("http-connection".to_owned());
                connection.spawn(move || serve(stream, &shared)).unwrap();
            }
        };
        thread::Builder::new()
            .name("http-server".to_owned())
            .spawn(accept)
            .unwrap();
        Self { address, shared }
    }

    /// Starts a server that accepts everything.
    pub fn accepting() -> Self {
        Self::start(|_, _| HttpAnswer::ok())
    }

    /// Returns the address: `http://127.0.0.1:4711`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the socket address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, answer: impl Fn(usize, &HttpRequest) -> HttpAnswer + Send + Sync + 'static) {
        *self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(answer);
    }

    /// Returns the requests.
    pub fn requests(&self) -> Vec<HttpRequest> {
        self.shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the requests that were answered with success.
    pub fn accepted(&self) -> Vec<HttpRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.accepted);
        requests
    }

    /// Waits until the requests are as a test wants, and returns them.
    pub fn wait_until(&self, is_reached: impl Fn(&[HttpRequest]) -> bool) -> Vec<HttpRequest> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        while !is_reached(&requests) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the server waited in vain: {requests:?}");
            let waited = self.shared.arrived.wait_timeout(requests, left);
            requests = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        requests.clone()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts connections.
        let _ = TcpStream::connect(self.address);
    }
}

impl HttpAnswer {
    /// An empty success.
    pub fn ok() -> Self {
        Self::Reply(200, "", Vec::new())
    }

    /// A status with a text.
    pub fn status(status: u16, body: &str) -> Self {
        Self::Reply(status, "", body.as_bytes().to_vec())
    }
}

/// Serves a connection until it ends.
fn serve(stream: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Ok(Some(mut request)) = read_request(&mut reader) {
        if shared.ended.load(Ordering::SeqCst) {
            break;
        }
        let earlier = shared.requests.lock().unwrap_or_else(PoisonError::into_inner).len();
        let answer = (shared.answer.lock().unwrap_or_else(PoisonError::into_inner))(earlier, &request);
        request.accepted = matches!(answer, HttpAnswer::Reply(200..=299, ..));
        shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
        shared.arrived.notify_all();
        let sent = match answer {
            HttpAnswer::Reply(status, header, body) => reply(reader.get_mut(), status, header, &body),
            HttpAnswer::Cut => break,
            HttpAnswer::Hang(time) => {
                thread::sleep(time);
                break;
            }
        };
        if sent.is_err() {
            break;
        }
    }
    let _ = reader.get_ref().shutdown(Shutdown::Both);
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<HttpRequest>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.rsplit_once(' ').map_or("", |(target, _)| target).to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some(HttpRequest {
        target,
        headers,
        body,
        accepted: false,
    }))
}

fn reply(stream: &mut TcpStream, status: u16, header: &str, body: &[u8]) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Answer\r\ncontent-length: {}\r\n", body.len());
    if !header.is_empty() {
        head += &format!("{header}\r\n");
    }
    head += "\r\n";
    stream.write_all(&[head.as_bytes(), body].concat())
}
