use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use hot_paths::{Line, TARGET, with_line};
use spdlog::sink::{AsyncPoolSink, FileSink, Sink};
use spdlog::{LevelFilter, Logger, ThreadPool};

use super::{FILE, Peer};

pub(super) fn direct(dir: &Path) -> Result<Box<dyn Peer>> {
    peer(file_sink(dir)?)
}

pub(super) fn pooled(dir: &Path) -> Result<Box<dyn Peer>> {
    let pool = ThreadPool::builder().build_arc()?;
    let sink = AsyncPoolSink::builder()
        .sink(file_sink(dir)?)
        .thread_pool(pool)
        .build_arc()?;
    peer(sink)
}

fn file_sink(dir: &Path) -> Result<Arc<FileSink>> {
    Ok(FileSink::builder().path(dir.join(FILE)).build_arc()?)
}

fn peer(sink: Arc<dyn Sink>) -> Result<Box<dyn Peer>> {
    let logger = Logger::builder()
        .name(TARGET)
        .level_filter(LevelFilter::MoreSevereEqual(spdlog::Level::Info))
        .sink(sink)
        .build_arc()?;
    Ok(Box::new(SpdlogPeer { logger }))
}

struct SpdlogPeer {
    logger: Arc<Logger>,
}

impl Peer for SpdlogPeer {
    fn log_line(&self, line: &Line) {
        with_line!(line, spdlog::info!(logger: self.logger,));
    }

    fn log_disabled(&self, line: &Line) {
        with_line!(line, spdlog::trace!(logger: self.logger,));
    }

    fn flush(&self) {
        self.logger.flush();
    }
}
