use std::path::Path;

use anyhow::Result;
use log::{LevelFilter, Log};
use logforth::append::asynchronous::AsyncBuilder;
use logforth::append::file::FileBuilder;
use logforth::append::{Append, File};
use logforth::bridge::log::LogBridge;
use logforth::record;

use super::log_peer::peer;
use super::{FILE, Peer};

/// Lines that wait for its thread: as many as spdlog-rs keeps.
const QUEUE: usize = 8192;

pub(super) fn direct(dir: &Path) -> Result<Box<dyn Peer>> {
    Ok(peer(bridge(file(dir)?)))
}

/// Its thread formats and writes; a caller waits where the queue is full, so that nothing is lost.
pub(super) fn threaded(dir: &Path) -> Result<Box<dyn Peer>> {
    let appender = AsyncBuilder::new("logforth")
        .append(file(dir)?)
        .buffered_lines_limit(Some(QUEUE))
        .overflow_block()
        .build();
    Ok(peer(bridge(appender)))
}

/// The appender has no buffer: each line is a `write`.
fn file(dir: &Path) -> Result<File> {
    FileBuilder::new(dir, FILE)
        .build()
        .map_err(|error| anyhow::anyhow!("cannot open logforth's file: {error:?}"))
}

fn bridge(appender: impl Append) -> Box<dyn Log> {
    let level = record::LevelFilter::MoreSevereEqual(record::Level::Info);
    let logger = logforth::core::builder()
        .dispatch(|dispatch| dispatch.filter(level).append(appender))
        .build();
    log::set_max_level(LevelFilter::Info);
    Box::new(LogBridge::new(logger))
}
