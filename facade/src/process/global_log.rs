//! The global logger of the `log` crate: it routes each record to a logger by the record's target.

use std::sync::{Arc, LazyLock, OnceLock};

use arc_swap::ArcSwap;
use logcore::log::{self, LevelFilter, Log, Metadata, Record};
use logcore::{is_logging_suppressed, is_same_name};
use logcore_pipeline::{RecordArrival, RecordOrigin, count_call_after_end, print_notice};

use crate::logger::inner::LoggerInner;
use crate::process::entered::entered_logger;
use crate::process::routing_table::RoutingTable;
#[cfg(feature = "tracing")]
use crate::process::span_layer::LoggerReceiver;

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
    let max_level = max_level();
    if install() || max_level > log::max_level() {
        // If the global logger is another crate's, its level must never become less verbose.
        log::set_max_level(max_level);
    }
    #[cfg(feature = "tracing")]
    logcore_tracing::note_new_level(self::max_level);
}

/// Returns the most verbose level that any logger takes.
pub(crate) fn max_level() -> LevelFilter {
    ROUTES.load().level()
}

/// Returns the logger in place of one that has ended, or that this process has from its parent:
/// that of the same name, else the one that takes what nothing claims. `None` for a logger in its
/// own place.
#[cfg(feature = "tracing")]
pub(crate) fn newest(logger: &LoggerInner) -> Option<Arc<LoggerInner>> {
    if logger.is_in_place() {
        return None;
    }
    let routes = ROUTES.load();
    let named = routes.named(logger.name());
    named.filter(|named| named.is_in_place()).or(routes.fallback()).cloned()
}

/// Calls `give` with the logger for an event of `tracing`. `layered` is the logger of the layer,
/// which takes what nothing claims.
#[cfg(feature = "tracing")]
pub(crate) fn route_event(
    metadata: &Metadata<'_>,
    layered: &Arc<LoggerInner>,
    give: impl FnOnce(&LoggerInner, RecordArrival),
) {
    GlobalLog::route(metadata, Some(layered), give);
}

/// Returns the logger that takes what nothing claims on this thread, panics included.
pub(crate) fn fallback() -> Option<Arc<LoggerInner>> {
    let entered = entered_logger().filter(|logger| logger.takes_foreign());
    entered.or_else(|| ROUTES.load().fallback().cloned())
}

/// Returns the logger of this name that this process has from the process that forked it.
pub(crate) fn inherited(name: &str) -> Option<Arc<LoggerInner>> {
    all_inherited()
        .into_iter()
        .find(|logger| is_same_name(logger.name(), name))
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

impl GlobalLog {
    /// Calls `give` with the logger for a record, and with the arrival of the record there. If
    /// `layered` is open, it takes what nothing claims.
    #[inline]
    fn route<T>(
        metadata: &Metadata<'_>,
        layered: Option<&Arc<LoggerInner>>,
        give: impl FnOnce(&LoggerInner, RecordArrival) -> T,
    ) -> Option<T> {
        let routes = ROUTES.load();
        let (target, level) = (metadata.target(), metadata.level());
        if let Some(logger) = routes.above(target) {
            return Some(give(logger, RecordOrigin::Facade.into()));
        }
        let entered = entered_logger();
        let Some((logger, rule)) = routes.foreign_taker(target, level, entered.as_ref(), layered) else {
            if let Some(ended) = routes.ended()
                && ended.would_take(target, level)
                && !is_logging_suppressed()
            {
                count_call_after_end(&ended.name);
            }
            return None;
        };
        let origin = RecordOrigin::Facade;
        Some(give(logger, RecordArrival { origin, rule }))
    }
}

impl Log for GlobalLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::route(metadata, None, |logger, arrival| logger.is_enabled(arrival, metadata)).unwrap_or(false)
    }

    fn log(&self, record: &Record<'_>) {
        #[cfg(feature = "tracing")]
        if logcore_tracing::is_echo::<LoggerReceiver>(record) {
            return;
        }
        Self::route(record.metadata(), None, |logger, arrival| logger.log(arrival, record));
    }

    fn flush(&self) {
        for logger in ROUTES.load().loggers() {
            let _ = logger.flush();
        }
    }
}
