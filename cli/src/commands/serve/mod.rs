//! `logcore serve`: the page over the runs in a folder, live.

mod access;
mod connections;
mod routes;
mod streams;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use logcore_runs::report::LiveRuns;
use serde_json::json;
use tokio::net::TcpListener;

use self::access::{Access, Token};
use self::streams::Streams;
use crate::arguments::ServeArguments;
use crate::output::{Outcome, Output};

/// Most threads that read files at once.
const MAX_READERS: usize = 8;

/// The runs, and everything else that the requests share.
pub(super) struct Server {
    runs: LiveRuns,
    streams: Streams,
    access: Access,
}

/// Shows the runs in a folder until the process is told to end.
pub(super) fn run(arguments: &ServeArguments, log_dir: &Path, output: &mut Output) -> Result<Outcome> {
    let token = match arguments.no_token {
        true => None,
        false => Some(Token::choose(arguments.token_file.as_deref())?),
    };
    ensure!(
        token.is_some() || arguments.host.is_loopback(),
        "cannot serve without a token on {}: everybody in the network could read the runs. Leave out --no-token, or \
         --host",
        arguments.host
    );
    let runs = LiveRuns::new(log_dir);
    runs.read_list()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_READERS)
        .build()
        .context("cannot start the server")?;
    let served = runtime.block_on(async {
        let asked = SocketAddr::new(arguments.host, arguments.port);
        let listener = TcpListener::bind(asked).await.with_context(|| {
            format!("cannot listen on {asked}. Choose another port with --port, or any free one with --port 0")
        })?;
        let address = listener.local_addr()?;
        let url = url_of(address, token.as_ref());
        let server = Arc::new(Server {
            runs,
            streams: Streams::new(),
            access: Access::new(token, address.port(), &arguments.allow_host, arguments.host),
        });
        // A reader of the address may end the server at once.
        let end = await_end()?;
        if !output.print(&url, &json!({ "url": url }))? {
            return Ok(Outcome::Done);
        }
        if !output.has_json() {
            output.print(
                &format!("Shows the runs in {}. Ctrl-C ends.", log_dir.display()),
                &json!({}),
            )?;
        }
        tokio::spawn(streams::read_news(Arc::clone(&server)));
        let app = routes::create(server);
        tokio::select! {
            never = connections::answer_all(listener, app) => match never {},
            ended = end => ended.map(|()| Outcome::Done),
        }
    });
    // A thread may be in the middle of a long file.
    runtime.shutdown_background();
    served
}

/// Returns the address to open. A server on all addresses of the machine is reached by one of them.
fn url_of(address: SocketAddr, token: Option<&Token>) -> String {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => "localhost".to_owned(),
        IpAddr::V6(ip) if ip.is_unspecified() => "localhost".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let query = token.map_or(String::new(), |token| format!("?token={}", token.text()));
    format!("http://{host}:{}/{query}", address.port())
}

/// Prepares for the signals that end the process, from now on; the future waits for one.
fn await_end() -> Result<impl Future<Output = Result<()>>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async { tokio::signal::ctrl_c().await.context("cannot wait for signals") })
}
