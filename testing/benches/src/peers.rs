//! Everyone who writes the line, each called through an object of its own: most of them would like
//! to be the one global logger of a process, and all are to be measured in one process, in turn.

mod limit;
mod log_peer;
mod ours;
mod spdlog_peer;
mod tracing_peer;

use std::path::Path;

use anyhow::Result;
use hot_paths::Line;

pub(crate) use self::ours::config;

/// A logger that is ready to write to its file. Dropping it ends it.
pub(crate) trait Peer: Send + Sync {
    /// Writes the line at level INFO.
    fn log_line(&self, line: &Line);

    /// Writes it at level TRACE, which is switched off.
    fn log_disabled(&self, line: &Line);

    /// Asks for everything to be in the file. Some only promise it.
    fn flush(&self) {}

    /// Runs `body` on this thread with whatever the peer needs around its calls.
    fn enter(&self, body: &mut dyn FnMut()) {
        body();
    }
}

/// How to get a peer.
#[derive(Clone, Copy)]
pub(crate) struct PeerEntry {
    pub(crate) name: &'static str,
    /// The moment at which a line is in the file.
    pub(crate) delivery: &'static str,
    /// `true` if the peer writes a file.
    pub(crate) writes: bool,
    /// `true` if this is the previous logger, called in another way, so that only the times of its
    /// calls need a row.
    pub(crate) again: bool,
    /// Opens it on [`FILE`] in a folder of its own.
    pub(crate) open: fn(&Path) -> Result<Box<dyn Peer>>,
}

/// The name of the file that every peer writes.
pub(crate) const FILE: &str = "peer.log";

/// Formatting the same line into a reused buffer and throwing it away.
pub(crate) const LIMIT: PeerEntry = PeerEntry {
    name: "limit: format only",
    delivery: "never",
    writes: false,
    again: false,
    open: limit::format_only,
};

/// Nothing at all: what reading the clock costs.
pub(crate) const CLOCK: PeerEntry = PeerEntry {
    name: "the clock alone",
    delivery: "never",
    writes: false,
    again: false,
    open: limit::nothing,
};

/// The fastest `log` peer that loses nothing as long as someone flushes it.
pub(crate) const BASELINE: PeerEntry = PeerEntry {
    name: "simplelog, BufWriter",
    delivery: "when 8 KiB are full, or flush",
    writes: true,
    again: false,
    open: log_peer::simplelog_buffered,
};

/// Ours with a W&B run that stays on disk.
pub(crate) const WITH_WANDB: PeerEntry = PeerEntry {
    name: "logcore, with W&B offline",
    delivery: OURS,
    writes: true,
    again: true,
    open: ours::with_wandb,
};

const OURS: &str = "within milliseconds, by a thread";

/// All who write a file.
pub(crate) fn all() -> Vec<PeerEntry> {
    let entry = |name, delivery, open| PeerEntry {
        name,
        delivery,
        writes: true,
        again: false,
        open,
    };
    let again = |name, open| PeerEntry {
        again: true,
        ..entry(name, OURS, open)
    };
    vec![
        entry("logcore, log::info!(logger: …)", OURS, ours::handle),
        again("logcore, logger.info(…)", ours::method),
        again("logcore, global log::info!", ours::global),
        BASELINE,
        entry(
            "simplelog, File",
            "in the call, several writes a line",
            log_peer::simplelog_direct,
        ),
        entry("fern", "in the call", log_peer::fern),
        entry("env_logger", "in the call", log_peer::env_logger),
        entry("flexi_logger, direct", "in the call", log_peer::flexi_direct),
        entry(
            "flexi_logger, buffered",
            "each second, or flush",
            log_peer::flexi_buffered,
        ),
        entry("log4rs", "in the call", log_peer::log4rs),
        entry("spdlog-rs", "when 8 KiB are full, or flush", spdlog_peer::direct),
        entry(
            "spdlog-rs, async",
            "when 8 KiB are full, or flush, by a thread",
            spdlog_peer::pooled,
        ),
        entry("tracing-appender", "soon, by a thread", tracing_peer::open),
    ]
}
