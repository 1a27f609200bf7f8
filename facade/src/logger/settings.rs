//! The settings of a running logger, which a new configuration replaces as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use logcore::LogConfig;
use logcore::log::LevelFilter;
#[cfg(feature = "health")]
use logcore_health::rules::TrippedMetrics;

use crate::logger::filter::FilterRules;
use crate::run::Run;

/// The settings of a running logger.
#[derive(Clone)]
pub(crate) struct LoggerSettings {
    pub(crate) config: Arc<LogConfig>,
    /// `None` before the first configuration.
    pub(crate) run: Option<Arc<Run>>,
    pub(crate) rules: FilterRules,
    /// Levels by sink.
    pub(super) levels: BTreeMap<String, LevelFilter>,
    /// The level up to which the console takes records of foreign targets beyond the config's
    /// `foreign_level`.
    pub(crate) foreign_console_level: LevelFilter,
    /// `true` if a sink of the config takes alerts.
    pub(super) takes_alerts: bool,
    /// The metrics whose values a rule finds bad.
    #[cfg(feature = "health")]
    pub(super) tripped: Arc<TrippedMetrics>,
}

impl LoggerSettings {
    /// Returns the most verbose level that a sink wants, by its own level or by a directive.
    pub(crate) fn level(&self) -> LevelFilter {
        match self.sinks_level() {
            LevelFilter::Off => LevelFilter::Off,
            level => level.max(self.rules.directives.highest_target_level().unwrap_or(level)),
        }
    }

    /// Returns the most verbose level of a sink.
    pub(super) fn sinks_level(&self) -> LevelFilter {
        self.levels.values().copied().max().unwrap_or(LevelFilter::Off)
    }

    /// Returns the most verbose levels of foreign records: for all sinks, and for the console.
    pub(crate) fn foreign_levels(&self) -> (LevelFilter, LevelFilter) {
        match self.config.capture_warnings {
            true => (
                self.config.foreign_level.max(LevelFilter::Warn),
                self.foreign_console_level,
            ),
            false => (LevelFilter::Off, LevelFilter::Off),
        }
    }
}

impl Default for LoggerSettings {
    fn default() -> Self {
        Self {
            config: Arc::default(),
            run: None,
            rules: FilterRules::default(),
            levels: BTreeMap::new(),
            foreign_console_level: LevelFilter::Off,
            takes_alerts: false,
            #[cfg(feature = "health")]
            tripped: Arc::default(),
        }
    }
}
