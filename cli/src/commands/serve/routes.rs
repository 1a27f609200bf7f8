//! The addresses of the server: the page, the data of a run, and the stream of news.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use logcore::escape::to_one_line;
use logcore_runs::RunError;
use logcore_runs::report::LiveRuns;
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::{Server, access, streams};

/// Time from which on an answer with a run gets no further ones: a page draws what has come.
const PATIENCE: Duration = Duration::from_millis(40);

/// Creates the answers to all addresses.
pub(super) fn create(server: Arc<Server>) -> Router {
    Router::new()
        .route("/", get(send_page))
        .route("/list", get(send_list))
        .route("/run", get(send_runs))
        .route("/part", get(send_part))
        .route("/media", get(send_media))
        .route("/news", get(send_news))
        .fallback(async || not_found())
        .layer(from_fn_with_state(Arc::clone(&server), access::check))
        .with_state(server)
}

async fn send_page(State(server): State<Arc<Server>>) -> Response {
    let page = spawn_blocking(move || server.runs.page()).await;
    match page {
        Ok(Ok(page)) => (
            [(
                header::CONTENT_SECURITY_POLICY,
                page.policy + "; frame-ancestors 'none'",
            )],
            Html(page.html),
        )
            .into_response(),
        Ok(Err(error)) => explain(&error),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Sends what describes all runs.
async fn send_list(State(server): State<Arc<Server>>) -> Response {
    send_bytes(move || server.runs.describe().map(|list| Some(list.into_bytes()))).await
}

type QueryResult<T> = Result<Query<T>, QueryRejection>;

/// Sends the curves and lines of runs, one after another.
async fn send_runs(State(server): State<Arc<Server>>, RawQuery(query): RawQuery) -> Response {
    let keys = streams::find_keys(query.as_deref().unwrap_or_default());
    if keys.is_empty() {
        return refuse_query();
    }
    send_bytes(move || load_runs(&server.runs, &keys)).await
}

/// Loads the first run, and the next ones as long as they come soon and without an error: the page
/// asks again for those that are left out.
fn load_runs(runs: &LiveRuns, keys: &[String]) -> Result<Option<Vec<u8>>, RunError> {
    let begun = Instant::now();
    let mut answer: Option<Vec<u8>> = None;
    for key in keys {
        match (&mut answer, runs.load(key)) {
            (None, Ok(Some(first))) => answer = Some(first),
            (None, failed) => return failed,
            (Some(answer), Ok(Some(next))) => answer.extend(next),
            (Some(_), _) => break,
        }
        if begun.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(answer)
}

#[derive(Deserialize)]
struct PartQuery {
    key: String,
    metric: String,
    from: u64,
    to: u64,
}

/// Sends the values of one metric between two steps.
async fn send_part(State(server): State<Arc<Server>>, query: QueryResult<PartQuery>) -> Response {
    let Ok(Query(query)) = query else {
        return refuse_query();
    };
    let steps: RangeInclusive<u64> = query.from..=query.to;
    send_bytes(move || server.runs.load_part(&query.key, &query.metric, &steps)).await
}

#[derive(Deserialize)]
struct MediaQuery {
    key: String,
    path: String,
}

/// Sends a media file. Whatever a browser shows of it has no scripts and no origin.
async fn send_media(State(server): State<Arc<Server>>, query: QueryResult<MediaQuery>) -> Response {
    let Ok(Query(query)) = query else {
        return refuse_query();
    };
    match spawn_blocking(move || server.runs.load_media(&query.key, &query.path)).await {
        Ok(Ok(Some(media))) => {
            let disposition = match media.content_type {
                "application/octet-stream" => "attachment",
                _ => "inline",
            };
            let headers = [
                (header::CONTENT_TYPE, media.content_type),
                (header::CONTENT_DISPOSITION, disposition),
                (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"),
            ];
            (headers, media.bytes).into_response()
        }
        Ok(Ok(None)) => not_found(),
        Ok(Err(error)) => explain(&error),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Reads bytes on a thread that may wait for the disk, and sends them.
async fn send_bytes(read: impl FnOnce() -> Result<Option<Vec<u8>>, RunError> + Send + 'static) -> Response {
    match spawn_blocking(read).await {
        Ok(Ok(Some(bytes))) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Ok(Ok(None)) => not_found(),
        Ok(Err(error)) => explain(&error),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Begins a stream of news about the runs that the query names.
async fn send_news(State(server): State<Arc<Server>>, RawQuery(query): RawQuery) -> Response {
    streams::open(server, query.as_deref().unwrap_or_default())
}

fn refuse_query() -> Response {
    let text = "cannot understand the query. Reload the page\n";
    (StatusCode::BAD_REQUEST, text).into_response()
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "cannot find that here\n").into_response()
}

fn explain(error: &RunError) -> Response {
    let text = format!("{}\n", to_one_line(&error.to_string()));
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}
