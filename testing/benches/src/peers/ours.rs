use std::path::Path;

use anyhow::Result;
use facade::logcore::serde_json::json;
use facade::{LogConfig, UnifiedLogger, setup_logging};
use hot_paths::{Line, TARGET, with_line};
use log::LevelFilter;

use super::{FILE, Peer};

/// Everything as it comes, but without the terminal and at level INFO, like the peers.
pub(crate) fn config(dir: &Path) -> LogConfig {
    LogConfig {
        name: TARGET.to_owned(),
        log_dir: dir.to_owned(),
        run: "flat".into(),
        filename: FILE.to_owned(),
        file_level: LevelFilter::Info,
        enable_console: false,
        ..LogConfig::default()
    }
}

pub(super) fn handle(dir: &Path) -> Result<Box<dyn Peer>> {
    Ok(Box::new(OurHandle(setup_logging(config(dir))?)))
}

pub(super) fn with_wandb(dir: &Path) -> Result<Box<dyn Peer>> {
    Ok(Box::new(OurHandle(setup_logging(LogConfig {
        enable_wandb: true,
        sinks: [("wandb".to_owned(), json!({"mode": "offline"}))].into(),
        ..config(dir)
    })?)))
}

pub(super) fn method(dir: &Path) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Method(setup_logging(config(dir))?)))
}

pub(super) fn global(dir: &Path) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Global(setup_logging(config(dir))?)))
}

struct OurHandle(UnifiedLogger);

impl Peer for OurHandle {
    fn log_line(&self, line: &Line) {
        with_line!(line, log::info!(logger: self.0, target: TARGET,));
    }

    fn log_disabled(&self, line: &Line) {
        with_line!(line, log::trace!(logger: self.0, target: TARGET,));
    }

    fn flush(&self) {
        flush(&self.0);
    }
}

struct Method(UnifiedLogger);

impl Peer for Method {
    fn log_line(&self, line: &Line) {
        self.0.info(with_line!(line, format_args!()));
    }

    fn log_disabled(&self, line: &Line) {
        self.0.trace(with_line!(line, format_args!()));
    }

    fn flush(&self) {
        flush(&self.0);
    }
}

struct Global(UnifiedLogger);

impl Peer for Global {
    fn log_line(&self, line: &Line) {
        with_line!(line, log::info!(target: TARGET,));
    }

    fn log_disabled(&self, line: &Line) {
        with_line!(line, log::trace!(target: TARGET,));
    }

    fn flush(&self) {
        flush(&self.0);
    }
}

fn flush(logger: &UnifiedLogger) {
    // A failed flush shows as lost lines.
    let _ = logger.flush();
}
