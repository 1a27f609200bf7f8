//! The global `log` facade: which logger takes a record that none was named for.

use std::sync::{Arc, LazyLock, OnceLock};

use arc_swap::ArcSwap;
use logcore::log::{self, Log, Metadata, Record};
use logcore_pipeline::{RecordOrigin, print_notice};

use crate::instance::Instance;
use crate::table::Table;

static TABLE: LazyLock<ArcSwap<Table>> = LazyLock::new(ArcSwap::default);

/// Makes the facade know a logger as it is now.
pub(crate) fn publish(logger: &Arc<Instance>) {
    replace(|table| table.with(logger));
}

/// Makes the facade know these loggers no more.
pub(crate) fn withdraw(loggers: &[Arc<Instance>]) {
    replace(|table| {
        loggers
            .iter()
            .fold(Table::clone(table), |table, logger| table.without(logger))
    });
}

fn replace(change: impl Fn(&Table) -> Table) {
    TABLE.rcu(|table| change(table));
    let max_level = TABLE.load().level();
    if install() || max_level > log::max_level() {
        // Where the global logger is another's, its own level is never narrowed.
        log::set_max_level(max_level);
    }
}

/// The logger that writes panics, if one does.
pub(crate) fn capturing() -> Option<Arc<Instance>> {
    TABLE.load().capturing().cloned()
}

/// A logger of this name that this process has from the one from which it was forked.
pub(crate) fn inherited(name: &str) -> Option<Arc<Instance>> {
    all_inherited().into_iter().find(|logger| logger.name() == name)
}

/// All of them.
pub(crate) fn all_inherited() -> Vec<Arc<Instance>> {
    let table = TABLE.load();
    table
        .loggers()
        .filter(|logger| logger.is_inherited())
        .cloned()
        .collect()
}

/// Installs the bridge, once; returns whether it is the global logger.
fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let installed = log::set_logger(&Bridge).is_ok();
        if !installed {
            print_notice(
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
            .is_some_and(|logger| logger.enabled(RecordOrigin::Facade, metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if let Some(logger) = TABLE.load().route(record.target(), record.level()) {
            logger.log(RecordOrigin::Facade, record);
        }
    }

    fn flush(&self) {
        for logger in TABLE.load().loggers() {
            let _ = logger.flush();
        }
    }
}
