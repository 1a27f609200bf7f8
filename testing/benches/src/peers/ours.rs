use std::path::Path;

use anyhow::Result;
use facade::logcore::serde_json::json;
use facade::{LogConfig, UnifiedLogger, setup_logging};
use hot_paths::{Line, TARGET, say};
use log::LevelFilter;

use super::{FILE, Peer};

/// Everything as it comes, but without the terminal and at level INFO, like the peers.
pub(crate) fn config(dir: &Path) -> LogConfig {
    LogConfig {
        name: TARGET.to_owned(),
        log_dir: dir.to_owned(),
        filename: FILE.to_owned(),
        file_level: LevelFilter::Info,
        enable_console: false,
        ..LogConfig::default()
    }
}

pub(super) fn handle(dir: &Path) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Handle(setup_logging(config(dir))?)))
}

pub(super) fn with_wandb(dir: &Path) -> Result<Box<dyn Peer>> {
    Ok(Box::new(Handle(setup_logging(LogConfig {
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

struct Handle(UnifiedLogger);

impl Peer for Handle {
    fn say(&self, line: &Line) {
        say!(line, log::info!(logger: self.0, target: TARGET,));
    }

    fn mutter(&self, line: &Line) {
        say!(line, log::trace!(logger: self.0, target: TARGET,));
    }

    fn flush(&self) {
        flush(&self.0);
    }
}

struct Method(UnifiedLogger);

impl Peer for Method {
    fn say(&self, line: &Line) {
        self.0.info(say!(line, format_args!()));
    }

    fn mutter(&self, line: &Line) {
        self.0.trace(say!(line, format_args!()));
    }

    fn flush(&self) {
        flush(&self.0);
    }
}

struct Global(UnifiedLogger);

impl Peer for Global {
    fn say(&self, line: &Line) {
        say!(line, log::info!(target: TARGET,));
    }

    fn mutter(&self, line: &Line) {
        say!(line, log::trace!(target: TARGET,));
    }

    fn flush(&self) {
        flush(&self.0);
    }
}

fn flush(logger: &UnifiedLogger) {
    // What a failed flush leaves behind shows as lost lines.
    let _ = logger.flush();
}
