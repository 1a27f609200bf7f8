//! Everyone who writes the line, each called through an object of its own: most of them would like
//! to be the one global logger of a process, and all are to be measured in one process, in turn.

mod fast_log_peer;
mod limit;
mod log_peer;
mod logforth_peer;
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
    /// `true` if a process can have only one of it, and only once. Sections whose turns share a
    /// process leave it out.
    pub(crate) only_once: bool,
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
    only_once: false,
    open: limit::format_only,
};

/// Nothing at all: what reading the clock costs.
pub(crate) const CLOCK: PeerEntry = PeerEntry {
    name: "the clock alone",
    delivery: "never",
    writes: false,
    again: false,
    only_once: false,
    open: limit::nothing,
};

/// The cheapest `log` peer that loses nothing as long as someone flushes it, with as large a buffer
/// as our writer's.
pub(crate) const BASELINE: PeerEntry = PeerEntry {
    name: "simplelog, 64 KiB",
    delivery: FULL_64,
    writes: true,
    again: false,
    only_once: false,
    open: log_peer::simplelog_64,
};

/// Ours with a W&B run that stays on disk.
pub(crate) const WITH_WANDB: PeerEntry = PeerEntry {
    name: "logcore, with W&B offline",
    delivery: OURS,
    writes: true,
    again: true,
    only_once: false,
    open: ours::with_wandb,
};

/// Ours as most programs call it.
pub(crate) const OURS_HANDLE: PeerEntry = PeerEntry {
    name: "logcore, log::info!(logger: …)",
    delivery: OURS,
    writes: true,
    again: false,
    only_once: false,
    open: ours::handle,
};

const OURS: &str = "within milliseconds, by a thread";
const FULL_8: &str = "when 8 KiB are full, or flush";
const FULL_64: &str = "when 64 KiB are full, or flush";

/// The buffer of the peers that get one as large as our writer's.
const LARGE_BUFFER: usize = 64 << 10;

/// Returns the entry of this name, the limit and the clock included.
pub(crate) fn find(name: &str) -> Option<PeerEntry> {
    let others = [LIMIT, CLOCK, WITH_WANDB];
    all().into_iter().chain(others).find(|entry| entry.name == name)
}

/// All who write a file.
pub(crate) fn all() -> Vec<PeerEntry> {
    let entry = |name, delivery, open| PeerEntry {
        name,
        delivery,
        writes: true,
        again: false,
        only_once: false,
        open,
    };
    let again = |name, open| PeerEntry {
        again: true,
        ..entry(name, OURS, open)
    };
    vec![
        OURS_HANDLE,
        again("logcore, logger.info(…)", ours::method),
        again("logcore, global log::info!", ours::global),
        BASELINE,
        entry("simplelog, 8 KiB", FULL_8, log_peer::simplelog_8),
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
        entry("logforth, File", "in the call", logforth_peer::direct),
        entry("logforth, async", "soon, by a thread", logforth_peer::threaded),
        PeerEntry {
            only_once: true,
            ..entry(
                "fast_log",
                "soon, by two threads; without its target",
                fast_log_peer::open,
            )
        },
        entry("spdlog-rs, 64 KiB", FULL_64, spdlog_peer::direct_64),
        entry("spdlog-rs, 8 KiB", FULL_8, spdlog_peer::direct_8),
        entry("spdlog-rs, async, 64 KiB", FULL_64, spdlog_peer::pooled_64),
        entry("spdlog-rs, async, 8 KiB", FULL_8, spdlog_peer::pooled_8),
        entry("tracing-appender", "soon, by a thread", tracing_peer::open),
    ]
}
