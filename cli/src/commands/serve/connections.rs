//! Connections whose readers may be slow, and may not stand still.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;

/// Time that a reader may leave what it was sent.
const WRITE_PATIENCE: Duration = Duration::from_secs(20);
/// Time that a connection may stand open without a whole request, also between two of them.
const IDLE_PATIENCE: Duration = Duration::from_secs(10);
/// Time after which an accept is tried again that has failed, most often for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Answers all connections, without an end.
pub(super) async fn answer_all(listener: TcpListener, app: Router) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(stream, app.clone()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

/// Answers the requests of one connection, and breaks it off when its reader takes or asks nothing.
async fn answer(stream: TcpStream, app: Router) {
    // Small pieces of news go out at once.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_PATIENCE));
    // Nobody is left to hear of an error.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_PATIENCE)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(app))
        .await;
}
