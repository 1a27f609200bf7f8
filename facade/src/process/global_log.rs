//! The global logger of the `log` crate: it routes each record to a logger by the record's target.

use std::sync::{Arc, LazyLock, OnceLock};

use arc_swap::ArcSwap;
use logcore::log::{self, Log, Metadata, Record};
use logcore_pipeline::{RecordOrigin, print_notice};

use crate::logger::inner::LoggerInner;
use crate::process::routing_table::RoutingTable;

static ROUTES: LazyLock<ArcSwap<RoutingTable>> = LazyLock::new(ArcSwap::default);

/// Adds a logger to the routes, or updates its entry.
pub(crate) fn publish(logger: &Arc<LoggerInner>) {
    replace(|routes| routes.with(logger));
}

/// Removes loggers from the routes.
pub(crate) fn withdraw(loggers: &[Arc<LoggerInner>]) {
    replace(|routes| {
        loggers
            .iter()
            .fold(RoutingTable::clone(routes), |routes, logger| routes.without(logger))
    });
}

fn replace(change: impl Fn(&RoutingTable) -> RoutingTable) {
    ROUTES.rcu(|routes| change(routes));
    let max_level = ROUTES.load().level();
    if install() || max_level > log::max_level() {
        // If the global logger is another crate's, its level must never become less verbose.
        log::set_max_level(max_level);
    }
}

/// Returns the logger that captures warnings and panics, if there is one.
pub(crate) fn capturing() -> Option<Arc<LoggerInner>> {
    ROUTES.load().capturing().cloned()
}

/// Returns the logger of this name that this process has from the process that forked it.
pub(crate) fn inherited(name: &str) -> Option<Arc<LoggerInner>> {
    all_inherited().into_iter().find(|logger| logger.name() == name)
}

/// Returns all loggers that this process has from the process that forked it.
pub(crate) fn all_inherited() -> Vec<Arc<LoggerInner>> {
    let routes = ROUTES.load();
    routes
        .loggers()
        .filter(|logger| logger.is_inherited())
        .cloned()
        .collect()
}

/// Installs the global logger once; returns `true` if ours is installed.
fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let is_installed = log::set_logger(&GlobalLog).is_ok();
        if !is_installed {
            print_notice(
                "another logger",
                "another global logger is installed already: what goes through the `log` macros without \
                 `logger:` stays with it",
            );
        }
        is_installed
    })
}

struct GlobalLog;

impl Log for GlobalLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let routes = ROUTES.load();
        routes
            .route(metadata.target(), metadata.level())
            .is_some_and(|logger| logger.is_enabled(RecordOrigin::Facade, metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(logger) = ROUTES.load().route(record.target(), record.level()) {
            logger.log(RecordOrigin::Facade, record);
        }
    }

    fn flush(&self) {
        for logger in ROUTES.load().loggers() {
            let _ = logger.flush();
        }
    }
}
