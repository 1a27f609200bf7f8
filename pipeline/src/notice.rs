//! The last resort: one line on stderr for each kind of trouble.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The same trouble is said again only after this time.
const AGAIN: Duration = Duration::from_secs(60);

/// Writes a whole line to stderr; returns whether it did, or leaves it to whoever asks.
type Way = fn(&str) -> bool;

static WAY: OnceLock<Way> = OnceLock::new();
/// The rank of this process, if it has others beside it on the same stderr; 0 is not marked.
static RANK: AtomicU32 = AtomicU32::new(0);

/// Has `way` write the notices from now on, where it can: who owns the terminal has them above its bars, and waits for no
/// terminal that stands still. The first one stays.
pub fn write_notices_by(way: Way) {
    let _ = WAY.set(way);
}

/// Marks the notices of this process from now on, unless it is the first: `logcore: [rank 3] …`.
pub fn mark_notices(rank: u32) {
    RANK.store(rank, Ordering::Relaxed);
}

/// Writes `logcore: <text>` to stderr, once a minute at most for each `kind`. Returns whether it did.
///
/// If stderr is gone there is nobody left to tell, and the run goes on.
pub fn notice(kind: &str, text: &str) -> bool {
    static SAID: Mutex<Option<HashMap<String, Instant>>> = Mutex::new(None);
    {
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        let said = said.get_or_insert_default();
        match said.get(kind) {
            Some(last) if last.elapsed() < AGAIN => return false,
            _ => said.insert(kind.to_owned(), Instant::now()),
        };
    }
    // One write for the whole line, so that it stays whole among others.
    let mark = match RANK.load(Ordering::Relaxed) {
        0 => String::new(),
        rank => format!("[rank {rank}] "),
    };
    let line = format!(
        "logcore: {mark}{}\n",
        text.escape_debug()
            .to_string()
            .replace("\\'", "'")
            .replace("\\\"", "\"")
    );
    if !WAY.get().is_some_and(|way| way(&line)) {
        let _ = io::stderr().write_all(line.as_bytes());
    }
    true
}
