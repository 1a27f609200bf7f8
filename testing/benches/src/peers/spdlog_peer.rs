use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use hot_paths::{Line, TARGET, with_line};
use spdlog::sink::{AsyncPoolSink, FileSink, Sink};
use spdlog::{LevelFilter, Logger, ThreadPool};

use super::{FILE, LARGE_BUFFER, Peer};

/// The buffer that it has by itself.
const SMALL_BUFFER: usize = 8 << 10;

pub(super) fn direct_64(dir: &Path) -> Result<Box<dyn Peer>> {
    peer(file_sink(dir, LARGE_BUFFER)?)
}

pub(super) fn direct_8(dir: &Path) -> Result<Box<dyn Peer>> {
    peer(file_sink(dir, SMALL_BUFFER)?)
}

pub(super) fn pooled_64(dir: &Path) -> Result<Box<dyn Peer>> {
    pooled(dir, LARGE_BUFFER)
}

pub(super) fn pooled_8(dir: &Path) -> Result<Box<dyn Peer>> {
    pooled(dir, SMALL_BUFFER)
}

fn pooled(dir: &Path, buffer: usize) -> Result<Box<dyn Peer>> {
    let pool = ThreadPool::builder().build_arc()?;
    let sink = AsyncPoolSink::builder()
        .sink(file_sink(dir, buffer)?)
        .thread_pool(pool)
        .build_arc()?;
    peer(sink)
}

fn file_sink(dir: &Path, buffer: usize) -> Result<Arc<FileSink>> {
    Ok(FileSink::builder().path(dir.join(FILE)).capacity(buffer).build_arc()?)
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
