use std::fs::OpenOptions;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Result;
use hot_paths::{Line, with_line};
use tracing::Dispatch;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use super::{FILE, Peer};

/// Waits where its default would drop, and writes through a buffer, which its thread flushes
/// whenever its queue is empty.
pub(super) fn open(dir: &Path) -> Result<Box<dyn Peer>> {
    let file = OpenOptions::new().create(true).append(true).open(dir.join(FILE))?;
    let (writer, guard) = NonBlockingBuilder::default().lossy(false).finish(BufWriter::new(file));
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(writer)
        .finish();
    Ok(Box::new(TracingPeer {
        dispatch: Dispatch::new(subscriber),
        _guard: guard,
    }))
}

struct TracingPeer {
    dispatch: Dispatch,
    _guard: WorkerGuard,
}

impl Peer for TracingPeer {
    fn log_line(&self, line: &Line) {
        with_line!(line, tracing::info!(target: "trainer",));
    }

    fn log_disabled(&self, line: &Line) {
        with_line!(line, tracing::trace!(target: "trainer",));
    }

    fn enter(&self, body: &mut dyn FnMut()) {
        tracing::dispatcher::with_default(&self.dispatch, body);
    }
}
