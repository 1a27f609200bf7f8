//! A W&B server on loopback, which keeps all that it receives and can be told to misbehave.

mod fault;
mod request;
mod state;

use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use self::fault::ServerReply;
pub use self::fault::{FaultTarget, ServerFault};
use self::request::{CutConnection, ServerRequest};
pub use self::state::{ReceivedRequest, ServerState, StoredArtifact, StoredRun, lenient};

/// The only API key that the server accepts.
pub const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

/// A W&B server on loopback; it ends when it is dropped.
pub struct WandbServer {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<SharedServerState>,
    end: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct SharedServerState {
    state: Mutex<ServerState>,
    changed: Condvar,
}

impl WandbServer {
    /// Starts at a free port.
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Starts at this address, for example the address of a server that is gone.
    pub fn start_on(address: &str) -> Self {
        Self::start_with(address, None)
    }

    /// Starts behind TLS.
    pub fn start_tls(identity: TlsAcceptor) -> Self {
        Self::start_with("127.0.0.1:0", Some(identity))
    }

    fn start_with(address: &str, identity: Option<TlsAcceptor>) -> Self {
        let scheme = if identity.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(SharedServerState::default());
        let (end, ended) = oneshot::channel();
        let served = Arc::clone(&shared);
        thread::Builder::new()
            .spawn(move || serve(listener, &format!("{scheme}://{address}"), identity, &served, ended))
            .unwrap();
        Self {
            address,
            scheme,
            shared,
            end: Some(end),
        }
    }

    /// Returns the address for clients.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Returns the socket address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Locks and returns the state.
    pub fn state(&self) -> MutexGuard<'_, ServerState> {
        self.shared.lock()
    }

    /// Returns a copy of the only run.
    ///
    /// # Panics
    ///
    /// If there is not exactly one run.
    pub fn run(&self) -> StoredRun {
        let state = self.state();
        assert_eq!(state.runs.len(), 1, "{:?}", state.runs.keys());
        state.runs.values().next().unwrap().clone()
    }

    /// Has the next `times` requests of a kind meet a fault.
    pub fn fault(&self, on: FaultTarget, fault: ServerFault, times: usize) {
        self.state().faults.push((on, fault, times));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Waits until `is_reached` returns `true`, at most 30 s.
    ///
    /// # Panics
    ///
    /// If the time is over.
    pub fn wait_until(&self, is_reached: impl Fn(&ServerState) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut state = self.state();
        while !is_reached(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the server waited in vain: {:?}", state.requests);
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for WandbServer {
    fn drop(&mut self) {
        let _ = self.end.take().map(|end| end.send(()));
    }
}

impl SharedServerState {
    fn lock(&self) -> MutexGuard<'_, ServerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(
    listener: TcpListener,
    base: &str,
    identity: Option<TlsAcceptor>,
    shared: &Arc<SharedServerState>,
    ended: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let accept = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(shared);
                let (base, identity) = (base.to_owned(), identity.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, Arc::clone(&shared), base.clone()));
                    let http = hyper::server::conn::http1::Builder::new();
                    // A connection ends in an error if it is cut on purpose, or if the client
                    // trusts no certificate.
                    match identity {
                        None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                        Some(identity) => {
                            if let Ok(stream) = identity.accept(stream).await {
                                drop(http.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        };
        tokio::select! { () = accept => {}, _ = ended => {} }
    });
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<SharedServerState>,
    base: String,
) -> Result<Response<PartedBody>, CutConnection> {
    let request = ServerRequest::receive(request).await?;
    let fault = shared.lock().take_fault(&request);
    let reply = fault.as_ref().and_then(ServerFault::reply);
    let reply = reply.unwrap_or_else(|| {
        let (status, reply) = request.apply(&mut shared.lock(), &base);
        ServerReply::new(status, reply.to_string())
    });
    let is_cut = matches!(fault, Some(ServerFault::Reset | ServerFault::LostReply));
    shared.lock().requests.push(ReceivedRequest {
        path: request.path,
        gzip: request.gzip,
        status: if is_cut { 0 } else { reply.status },
    });
    shared.changed.notify_all();
    match is_cut {
        true => Err(CutConnection),
        false => respond(reply, fault).await,
    }
}

/// Makes the response of a reply, which a fault may hold up, cut off or never end.
async fn respond(reply: ServerReply, fault: Option<ServerFault>) -> Result<Response<PartedBody>, CutConnection> {
    let length = reply.text.len();
    let kind = match fault {
        Some(ServerFault::Html) => "text/html",
        _ => "application/json",
    };
    let mut body = PartedBody {
        parts: Vec::new(),
        endless: matches!(fault, Some(ServerFault::Endless)),
    };
    match fault {
        Some(ServerFault::Truncated) => {
            let half = reply.text.as_bytes()[..length / 2].to_vec();
            body.parts = vec![Ok(Bytes::from(half)), Err(std::io::Error::other("cut"))];
        }
        fault => {
            if let Some(ServerFault::Slow(time)) = fault {
                tokio::time::sleep(time).await;
            }
            body.parts = vec![Ok(Bytes::from(reply.text))];
        }
    }
    let mut response = Response::builder().status(reply.status).header("content-type", kind);
    if !body.endless {
        response = response.header("content-length", length);
    }
    if let Some((name, value)) = reply.header {
        response = response.header(name, value);
    }
    response.body(body).map_err(|_| CutConnection)
}

/// A body that is sent in parts, the last of which may be missing.
struct PartedBody {
    parts: Vec<Result<Bytes, std::io::Error>>,
    endless: bool,
}

impl hyper::body::Body for PartedBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.parts.is_empty() {
            true if self.endless => Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b' '; 1 << 20]))))),
            true => Poll::Ready(None),
            false => Poll::Ready(Some(self.parts.remove(0).map(Frame::data))),
        }
    }
}
