//! All loggers of the process: configuring, finding and finishing them.

use std::fmt;

use logcore::log::LevelFilter;
use logcore::{ConfigError, LogConfig, LogError, Sink};

use crate::api::logger::UnifiedLogger;
use crate::process::registry;

/// Sets a logger up: from a name (the defaults, overlaid by the environment), or from a config as
/// it is.
///
/// An open logger of that name gets the new configuration without losing a line. The logger closes
/// when the last value is dropped that any set-up of its name has returned, so a block works like a
/// context manager.
///
/// # Errors
///
/// [`LogError::Config`] if the configuration is invalid; it names the field, the value and the
/// remedy.
///
/// # Example: a logger for one block
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let log_dir = folder.path();
/// use facade::{LogConfig, setup_logging};
///
/// {
///     let config = LogConfig { name: "trainer".into(), log_dir: log_dir.into(), ..LogConfig::default() };
///     let logger = setup_logging(config)?;
///     logger.info("Starting process...");
/// } // The logger closes here.
/// # #[cfg(feature = "file")]
/// assert!(std::fs::read_to_string(log_dir.join("training.log")).unwrap().contains("| trainer | Starting process..."));
/// # Ok::<(), facade::LogError>(())
/// ```
///
/// # Example: an invalid configuration
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use facade::{LogConfig, LogError, setup_logging};
///
/// let config = LogConfig { metrics_window: 0, log_dir: folder.path().into(), ..LogConfig::default() };
/// match setup_logging(config) {
///     Err(LogError::Config(error)) => assert_eq!(error.field, "metrics_window"),
///     other => panic!("{other:?}"),
/// }
/// ```
pub fn setup_logging<C>(config: C) -> Result<UnifiedLogger, LogError>
where
    C: TryInto<LogConfig>,
    LogError: From<C::Error>,
{
    Ok(UnifiedLogger::owning(registry::set_up(config.try_into()?)?))
}

/// Returns the logger of this name; opens it if it is not there, with the config of
/// [`LogManager::configure_from_config`], else that of the oldest open set-up without W&B.
///
/// Before there is either, the logger makes no files and no run: warnings and errors go to stderr,
/// metrics stay in memory. So a library can log in a program that does not. The first set-up opens
/// the logger.
///
/// Never fails: a notice on stderr reports trouble with the files of the logger once. Dropping the
/// handle closes nothing.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
/// facade::LogManager::get_instance().configure_from_config(config)?;
/// let logger = facade::get_logger("app.loader");
/// assert_eq!(logger.name(), "app.loader");
/// facade::cleanup_logging();
/// # Ok::<(), facade::LogError>(())
/// ```
pub fn get_logger(name: &str) -> UnifiedLogger {
    LogManager::get_instance().get_logger(name)
}

/// Finishes every logger, and forgets the config and the added sinks.
///
/// Blocks until everything is delivered, at most for `finish_timeout`.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
/// let logger = facade::setup_logging(config)?;
/// facade::cleanup_logging();
/// assert!(logger.flush().is_err(), "the logger is finished");
/// # Ok::<(), facade::LogError>(())
/// ```
pub fn cleanup_logging() {
    LogManager::get_instance().cleanup();
}

/// All loggers of the process.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use facade::{LogConfig, LogManager};
///
/// let manager = LogManager::get_instance();
/// manager.configure_from_config(LogConfig { log_dir: folder.path().into(), ..LogConfig::default() })?;
/// let loader = manager.get_logger("app.loader");
/// let trainer = manager.get_logger("app.trainer");
/// loader.info("Loading data");
/// trainer.info("Starting training");
/// manager.cleanup();
/// # #[cfg(feature = "file")]
/// assert!(std::fs::read_to_string(folder.path().join("training.log")).unwrap().contains("app.loader | Loading data"));
/// # Ok::<(), facade::LogError>(())
/// ```
#[non_exhaustive]
pub struct LogManager {}

impl LogManager {
    /// Returns the one manager of the process.
    ///
    /// ```
    /// use facade::LogManager;
    ///
    /// assert!(std::ptr::eq(LogManager::get_instance(), LogManager::get_instance()));
    /// ```
    #[must_use]
    pub fn get_instance() -> &'static Self {
        static MANAGER: LogManager = LogManager {};
        &MANAGER
    }

    /// Configures every open logger, without losing a line, and those that
    /// [`get_logger`](Self::get_logger) will open. Each keeps its own name.
    ///
    /// # Errors
    ///
    /// If the configuration is invalid. Then nothing is changed.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use facade::{LogConfig, LogManager};
    ///
    /// let manager = LogManager::get_instance();
    /// let config = LogConfig { log_dir: folder.path().into(), enable_console: false, ..LogConfig::default() };
    /// manager.configure_from_config(config.clone())?;
    /// let logger = manager.get_logger("trainer");
    /// assert!(manager.configure_from_config(LogConfig { metrics_window: 0, ..config }).is_err());
    /// assert!(logger.finish().all_delivered(), "the logger has its first configuration");
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn configure_from_config(&self, config: LogConfig) -> Result<(), LogError> {
        registry::configure(config)
    }

    /// Changes the level of a sink (`console`, `file`, …) of every logger, also of those to come,
    /// for records from now on. A later [`configure_from_config`](Self::configure_from_config) sets
    /// the levels of its config again.
    ///
    /// # Errors
    ///
    /// If no logger and no linked crate has such a sink.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use facade::{LevelFilter, LogConfig, LogManager};
    ///
    /// let manager = LogManager::get_instance();
    /// # let quiet = LogConfig { enable_console: false, ..LogConfig::default() };
    /// # manager.configure_from_config(LogConfig { log_dir: folder.path().into(), ..quiet })?;
    /// let before = manager.get_logger("before");
    /// # if cfg!(feature = "file") {
    /// manager.set_level("file", LevelFilter::Warn)?;
    /// # }
    /// let after = manager.get_logger("after");
    /// before.info("below the level");
    /// after.info("below the level");
    /// manager.cleanup();
    /// # #[cfg(feature = "file")]
    /// assert_eq!(std::fs::read_to_string(folder.path().join("training.log")).unwrap(), "");
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn set_level(&self, sink: &str, level: LevelFilter) -> Result<(), ConfigError> {
        registry::set_level(sink, level)
    }

    /// Changes the levels by target of every logger, also of those to come, for records from now
    /// on. The syntax is that of [`Directives`](logcore::Directives). A later
    /// [`configure_from_config`](Self::configure_from_config) sets the directives of its config
    /// again.
    ///
    /// # Errors
    ///
    /// If the directives are invalid.
    ///
    /// ```
    /// use facade::LogManager;
    ///
    /// let manager = LogManager::get_instance();
    /// manager.set_directives("info,hyper=warn,my_app::data=debug")?;
    /// assert!(manager.set_directives("hyper=loud").is_err());
    /// # Ok::<(), facade::ConfigError>(())
    /// ```
    pub fn set_directives(&self, directives: &str) -> Result<(), ConfigError> {
        registry::set_directives(directives)
    }

    /// Returns the logger of this name; opens it if it is not there.
    ///
    /// Never fails: a notice on stderr reports trouble with the files of the logger once, and the
    /// logger does without files. Dropping the handle closes nothing.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let manager = facade::LogManager::get_instance();
    /// manager.configure_from_config(config)?;
    /// drop(manager.get_logger("trainer"));
    /// manager.get_logger("trainer").info("still open");
    /// let report = manager.get_logger("trainer").finish();
    /// # #[cfg(feature = "file")]
    /// assert_eq!(report.sink("file").unwrap().delivered, 1);
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn get_logger(&self, name: &str) -> UnifiedLogger {
        UnifiedLogger::borrowing(registry::get_or_open(name))
    }

    /// Adds a sink that every logger has, also those to come.
    ///
    /// # Errors
    ///
    /// If a sink of this name was added already.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// use facade::logcore::{Record, Sink, SinkError};
    /// use std::sync::mpsc::{Sender, channel};
    ///
    /// struct Channel(Sender<String>);
    ///
    /// impl Sink for Channel {
    ///     fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
    ///         self.0.send(record.message().to_owned()).map_err(SinkError::new)
    ///     }
    /// }
    ///
    /// let (sender, receiver) = channel();
    /// facade::LogManager::get_instance().add_sink("channel", Box::new(Channel(sender)))?;
    /// let logger = facade::setup_logging(config)?;
    /// logger.info("hello");
    /// logger.flush()?;
    /// assert_eq!(receiver.recv().unwrap(), "hello");
    /// # facade::cleanup_logging();
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn add_sink(&self, name: &str, sink: Box<dyn Sink>) -> Result<(), LogError> {
        registry::add_sink(name, sink)
    }

    /// Finishes every logger, and forgets the config and the added sinks.
    ///
    /// Blocks until everything is delivered, at most for `finish_timeout`.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let config = facade::LogConfig { log_dir: folder.path().into(), enable_console: false, ..Default::default() };
    /// let manager = facade::LogManager::get_instance();
    /// let logger = facade::setup_logging(config)?;
    /// manager.cleanup();
    /// assert!(logger.flush().is_err(), "the logger is finished");
    /// # Ok::<(), facade::LogError>(())
    /// ```
    pub fn cleanup(&self) {
        registry::clean_up();
    }
}

impl fmt::Debug for LogManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogManager").finish_non_exhaustive()
    }
}
