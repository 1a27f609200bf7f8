//! Streams of news: what has come to the runs that a page shows, as server-sent events.
//!
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use logcore_runs::report::LiveNews;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::Server;

/// Most streams at once.
const MAX_STREAMS: usize = 64;
/// Most runs of a query: more than the page draws.
const MAX_KEYS: usize = 128;
/// News that a reader may be behind.
const MAX_BEHIND: usize = 256;
/// Time between two looks at the runs that somebody watches, and looks between two at all runs.
const INTERVAL: Duration = Duration::from_millis(250);
const LIST_EVERY: u32 = 6;

/// All streams that are open.
pub(super) struct Streams {
    news: broadcast::Sender<Arc<LiveNews>>,
    places: Arc<Semaphore>,
    /// The keys of the runs that streams tell of, each with their number.
    watched: Mutex<BTreeMap<String, usize>>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            news: broadcast::channel(MAX_BEHIND).0,
            places: Arc::new(Semaphore::new(MAX_STREAMS)),
            watched: Mutex::default(),
        }
    }

    fn is_unused(&self) -> bool {
        self.places.available_permits() == MAX_STREAMS
    }

    fn with_watched<T>(&self, call: impl FnOnce(&mut BTreeMap<String, usize>) -> T) -> T {
        call(&mut lock(&self.watched))
    }
}

/// Reads what comes to the runs, as long as somebody watches, and sends the news to all streams. A
/// run that takes long to read holds up no other one.
pub(super) async fn read_news(server: Arc<Server>) {
    let mut looks = interval(INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let being_read: Arc<Mutex<BTreeSet<Option<String>>>> = Arc::default();
    for number in 0_u32.. {
        looks.tick().await;
        if server.streams.is_unused() {
            continue;
        }
        let keys: Vec<String> = server.streams.with_watched(|watched| watched.keys().cloned().collect());
        let list = number.is_multiple_of(LIST_EVERY).then_some(None);
        for task in keys.into_iter().map(Some).chain(list) {
            let (server, being_read) = (Arc::clone(&server), Arc::clone(&being_read));
            if !lock(&being_read).insert(task.clone()) {
                continue;
            }
            spawn_blocking(move || {
                // A folder that cannot be read now may be later.
                let news = match &task {
                    Some(key) => server.runs.read_run(key).unwrap_or_default().into_iter().collect(),
                    None => server.runs.read_list().unwrap_or_default(),
                };
                lock(&being_read).remove(&task);
                for news in news {
                    // Without a stream, nobody hears.
                    let _ = server.streams.news.send(Arc::new(news));
                }
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a stream about the runs whose keys the query has.
pub(super) fn open(server: Arc<Server>, query: &str) -> Response {
    let Ok(place) = Arc::clone(&server.streams.places).try_acquire_owned() else {
        let headers = [(header::RETRY_AFTER, "5")];
        let text = "cannot open another stream: too many are open. Close a page\n";
        return (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response();
    };
    let keys = BTreeSet::from_iter(find_keys(query));
    server.streams.with_watched(|watched| {
        for key in &keys {
            *watched.entry(key.clone()).or_default() += 1;
        }
    });
    // News that come while the versions are read are not missed.
    let news = server.streams.news.subscribe();
    let reader = Reader {
        keys,
        news,
        server,
        _place: place,
    };
    let versions = reader.versions();
    let first = stream::once(async { Ok::<_, Infallible>(versions) });
    let later = stream::unfold(reader, async |mut reader| {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    });
    Sse::new(stream::StreamExt::chain(first, later))
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response()
}

/// Returns the keys of runs in a query.
pub(super) fn find_keys(query: &str) -> Vec<String> {
    let keys = query.split('&').filter_map(|pair| pair.strip_prefix("key="));
    let decode = |key: &str| percent_decode_str(key).decode_utf8_lossy().into_owned();
    keys.map(decode).take(MAX_KEYS).collect()
}

/// One stream.
struct Reader {
    keys: BTreeSet<String>,
    news: broadcast::Receiver<Arc<LiveNews>>,
    server: Arc<Server>,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// Returns the versions of the list and of the runs that are loaded, by which the page knows
    /// what it lacks.
    fn versions(&self) -> Event {
        let versions: BTreeMap<&str, Option<u64>> = self
            .keys
            .iter()
            .map(|key| (&**key, self.server.runs.version(key)))
            .collect();
        Event::default()
            .event("versions")
            .data(json!({"list": self.server.runs.list_version(), "versions": versions}).to_string())
    }

    /// Waits for the next news; `None` ends the stream of a reader that is too far behind. The page
    /// opens another one, and loads what it lacks.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let news = self.news.recv().await.ok()?;
            if matches!(news.kind, "run" | "gone" | "list") || self.keys.contains(&news.key) {
                return Some(Event::default().event(news.kind).data(&news.json));
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.server.streams.with_watched(|watched| {
            for key in &self.keys {
                if let Some(count) = watched.get_mut(key) {
                    *count -= 1;
                    if *count == 0 {
                        watched.remove(key);
                    }
                }
            }
        });
    }
}
