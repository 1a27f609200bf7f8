//! The global `log` facade: which logger takes a record that none was named for.

use std::sync::{Arc, LazyLock, OnceLock};

use arc_swap::ArcSwap;
use logcore::log::{self, Level, LevelFilter, Log, Metadata, Record};
use logcore::{canonical_name, lies_under};
use logcore_pipeline::{Route, notice};

use crate::instance::Instance;

/// Who is there. Replaced whole when a logger comes, goes or changes.
#[derive(Default)]
struct Table {
    /// The longest name first.
    loggers: Vec<Arc<Instance>>,
    root: Option<Arc<Instance>>,
    /// The one logger that takes warnings, errors and panics from anywhere.
    capturing: Option<Arc<Instance>>,
    /// Targets that directives name, the longest first.
    named: Vec<(String, LevelFilter, Arc<Instance>)>,
}

static TABLE: LazyLock<ArcSwap<Table>> = LazyLock::new(ArcSwap::default);

/// Makes these the loggers that the facade knows, the oldest first.
pub(crate) fn publish(loggers: &[Arc<Instance>]) {
    let before = TABLE.load_full();
    // A child of a fork still has those of its parent.
    let is_replaced = |other: &Arc<Instance>| loggers.iter().any(|logger| logger.name() == other.name());
    let inherited = before
        .loggers
        .iter()
        .filter(|logger| logger.is_inherited() && !is_replaced(logger));
    let loggers: Vec<Arc<Instance>> = loggers.iter().chain(inherited).map(Arc::clone).collect();
    let mut table = Table {
        loggers: loggers.clone(),
        ..Table::default()
    };
    table
        .loggers
        .sort_by_cached_key(|logger| std::cmp::Reverse(canonical_name(logger.name()).len()));
    let mut max_level = LevelFilter::Off;
    for logger in &loggers {
        let settings = logger.settings();
        max_level = max_level.max(settings.level());
        if logger.name() == "root" {
            table.root = Some(Arc::clone(logger));
        }
        if settings.config.capture_warnings && table.capturing.is_none() {
            table.capturing = Some(Arc::clone(logger));
        }
        for (target, level) in settings.screens.directives.targets() {
            table.named.push((target.to_owned(), level, Arc::clone(logger)));
        }
    }
    table
        .named
        .sort_by_cached_key(|(target, ..)| std::cmp::Reverse(canonical_name(target).len()));
    TABLE.store(Arc::new(table));
    if install() || max_level > log::max_level() {
        // Where the global logger is another's, its own level is never narrowed.
        log::set_max_level(max_level);
    }
}

/// The logger that writes panics, if one does.
pub(crate) fn capturing() -> Option<Arc<Instance>> {
    TABLE.load().capturing.clone()
}

/// A logger of this name that this process has from the one from which it was forked.
pub(crate) fn inherited(name: &str) -> Option<Arc<Instance>> {
    all_inherited().into_iter().find(|logger| logger.name() == name)
}

/// All of them.
pub(crate) fn all_inherited() -> Vec<Arc<Instance>> {
    let table = TABLE.load();
    table
        .loggers
        .iter()
        .filter(|logger| logger.is_inherited())
        .cloned()
        .collect()
}

impl Table {
    fn route(&self, target: &str, level: Level) -> Option<&Arc<Instance>> {
        let by_name = self.loggers.iter().find(|logger| lies_under(target, logger.name()));
        by_name.or(self.root.as_ref()).or_else(|| {
            let named = self
                .named
                .iter()
                .find(|(name, limit, _)| level <= *limit && lies_under(target, name));
            match named {
                Some((.., logger)) => Some(logger),
                None => self.capturing.as_ref().filter(|_| level <= Level::Warn),
            }
        })
    }
}

/// Installs the bridge, once; returns whether it is the global logger.
fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let installed = log::set_logger(&Bridge).is_ok();
        if !installed {
            notice(
                "another logger",
                "another global logger is installed already: what goes through the `log` macros without `logger:` stays with it",
            );
        }
        installed
    })
}

struct Bridge;

impl Log for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let table = TABLE.load();
        table
            .route(metadata.target(), metadata.level())
            .is_some_and(|logger| logger.enabled(Route::Facade, metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(logger) = TABLE.load().route(record.target(), record.level()) {
            logger.log(Route::Facade, record);
        }
    }

    fn flush(&self) {
        for logger in &TABLE.load().loggers {
            let _ = logger.flush();
        }
    }
}
