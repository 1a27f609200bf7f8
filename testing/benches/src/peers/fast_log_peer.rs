use std::path::Path;

use anyhow::{Context, Result, anyhow};
use fast_log::{Config, FastLogFormat, Logger, TimeType};
use hot_paths::{Line, TARGET, with_line};
use log::{LevelFilter, Log};

use super::{FILE, Peer};

/// Lines that wait for its threads, as its own guide has it. A caller waits where the queue is
/// full, so that nothing is lost; without a bound the queue takes all memory there is.
const QUEUE: usize = 100_000;

/// Its format has no target, so that its lines are shorter than the others'.
pub(super) fn open(dir: &Path) -> Result<Box<dyn Peer>> {
    let path = dir.join(FILE);
    let config = Config::new()
        .level(LevelFilter::Info)
        .format(FastLogFormat::new().set_time_type(TimeType::Utc))
        .chan_len(Some(QUEUE))
        .file(path.to_str().context("the path of the file is not UTF-8")?);
    let logger = fast_log::init(config).map_err(|error| anyhow!("cannot start fast_log: {error}"))?;
    Ok(Box::new(FastLogPeer(logger)))
}

struct FastLogPeer(&'static Logger);

impl Peer for FastLogPeer {
    fn log_line(&self, line: &Line) {
        with_line!(line, log::info!(logger: self.0, target: TARGET,));
    }

    fn log_disabled(&self, line: &Line) {
        with_line!(line, log::trace!(logger: self.0, target: TARGET,));
    }

    fn flush(&self) {
        self.0.flush();
    }
}

impl Drop for FastLogPeer {
    fn drop(&mut self) {
        self.0.flush();
    }
}
