use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use logcore::{ConfigError, Deadline, LogConfig, LogError, Sink, StopFlag, is_quiet};
use logcore_pipeline::{Pipeline, Port, at_exit, notice};

use crate::build::build_sinks;
use crate::instance::Instance;
use crate::logger::UnifiedLogger;
use crate::memory::Memory;
use crate::report::FinishReport;
use crate::{global, panics};

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
pub struct LogManager {
    state: Mutex<State>,
    pipeline: OnceLock<Pipeline>,
}

#[derive(Default)]
struct State {
    /// What `configure_from_config` was given.
    template: Option<LogConfig>,
    /// The oldest first.
    loggers: Vec<Arc<Instance>>,
    /// Names of the sinks that every logger has.
    shared: Vec<String>,
}

impl LogManager {
    /// The one manager.
    pub fn get_instance() -> &'static Self {
        static MANAGER: LogManager = LogManager {
            state: Mutex::new(State {
                template: None,
                loggers: Vec::new(),
                shared: Vec::new(),
            }),
            pipeline: OnceLock::new(),
        };
        &MANAGER
    }

    /// Configures every logger there is, without losing a line, and those that [`get_logger`](Self::get_logger) will
    /// make. Each keeps its own name.
    ///
    /// # Errors
    ///
    /// If the configuration cannot work. Nothing is changed then.
    pub fn configure_from_config(&self, config: LogConfig) -> Result<(), LogError> {
        config.validate()?;
        let mut state = self.lock();
        let mut built = Vec::new();
        for logger in &state.loggers {
            let config = named(&config, logger.name());
            let sinks = build_sinks(&config, logger.stop())?;
            let memory = Memory::build(&config, logger.stop())?;
            built.push((Arc::clone(logger), config, sinks, memory));
        }
        // Without a logger to try it on, it is tried on one that is not opened.
        if built.is_empty() {
            build_sinks(&config, &StopFlag::default())?;
        }
        let shared = !state.shared.is_empty();
        for (logger, config, sinks, memory) in built {
            logger.configure(config, sinks, memory, shared)?;
        }
        state.template = Some(config);
        self.announce(&state);
        Ok(())
    }

    /// The logger of this name; made if it is not there. It never fails: trouble with its files is said once on stderr,
    /// and the logger does without them.
    pub fn get_logger(&self, name: &str) -> UnifiedLogger {
        let name = clean_name(name);
        let mut state = self.lock();
        if let Some(logger) = state.find(&name) {
            return UnifiedLogger::borrowing(logger);
        }
        let config = match &state.template {
            Some(template) => named(template, &name),
            None => LogConfig::try_from(name.as_str()).unwrap_or_else(|error| {
                notice(
                    &format!("environment {}", error.field),
                    &format!("the environment is left out: {error}"),
                );
                named(&LogConfig::default(), &name)
            }),
        };
        let opened = self.open(&mut state, config.clone()).or_else(|error| {
            notice(
                &format!("get_logger {name}"),
                &format!("logger `{name}` writes no files: {error}"),
            );
            self.open(&mut state, without_files(config))
        });
        let logger = opened.unwrap_or_else(|error| {
            notice(
                &format!("get_logger {name}"),
                &format!("logger `{name}` writes nothing: {error}"),
            );
            Arc::new(Instance::new(&name, Port::dead(&name), StopFlag::default()))
        });
        self.announce(&state);
        UnifiedLogger::borrowing(logger)
    }

    /// Adds a sink that every logger has, those to come included.
    ///
    /// # Errors
    ///
    /// If a sink of this name was added already.
    pub fn add_sink(&self, name: &str, sink: Box<dyn Sink>) -> Result<(), LogError> {
        let mut state = self.lock();
        if name.is_empty() || state.shared.iter().any(|known| known == name) {
            let remedy = "every logger has a sink of this name already; choose another";
            return Err(ConfigError::new("name of the added sink", name, remedy).into());
        }
        let ring_bytes = state.template.clone().unwrap_or_default().ring_bytes;
        self.pipeline(ring_bytes)?
            .share(name, sink, Deadline::after(SHARE_TIMEOUT));
        state.shared.push(name.to_owned());
        for logger in &state.loggers {
            logger.note_shared_sink();
        }
        self.announce(&state);
        Ok(())
    }

    /// Finishes every logger and forgets the config and the added sinks.
    pub fn cleanup(&self) {
        let loggers = {
            let mut state = self.lock();
            state.template = None;
            std::mem::take(&mut state.loggers)
        };
        global::publish(&[]);
        for logger in &loggers {
            logger.finish();
        }
        self.finish_shared();
    }

    pub(crate) fn set_up(&self, mut config: LogConfig) -> Result<UnifiedLogger, LogError> {
        config.name = clean_name(&config.name);
        let mut state = self.lock();
        let logger = self.open(&mut state, config)?;
        self.announce(&state);
        Ok(UnifiedLogger::owning(logger))
    }

    pub(crate) fn finish(&self, logger: &Arc<Instance>) -> FinishReport {
        if is_quiet() {
            // A sink lets go of the logger that it serves, on the very thread that would have to end it.
            return FinishReport::from_within(logger.name());
        }
        {
            let mut state = self.lock();
            state.loggers.retain(|other| !Arc::ptr_eq(other, logger));
            self.announce(&state);
        }
        logger.finish()
    }

    /// Tells the `log` facade what has changed.
    pub(crate) fn publish(&self) {
        self.announce(&self.lock());
    }

    /// Opens a logger of this config, or gives it to the one of this name that is live.
    fn open(&self, state: &mut State, config: LogConfig) -> Result<Arc<Instance>, LogError> {
        config.validate()?;
        let live = state.find(&config.name);
        let stop = live
            .as_ref()
            .map_or_else(StopFlag::default, |logger| logger.stop().clone());
        let sinks = build_sinks(&config, &stop)?;
        let memory = Memory::build(&config, &stop)?;
        let capture = config.capture_warnings;
        let logger = match live {
            Some(logger) => logger,
            None => {
                let port = self.pipeline(config.ring_bytes)?.port(&config.name);
                Arc::new(Instance::new(&config.name, port, stop))
            }
        };
        logger.configure(config, sinks, memory, !state.shared.is_empty())?;
        if state.find(logger.name()).is_none() {
            state.loggers.push(Arc::clone(&logger));
        }
        if capture {
            panics::capture();
        }
        Ok(logger)
    }

    fn announce(&self, state: &State) {
        global::publish(&state.loggers);
    }

    fn pipeline(&self, ring_bytes: usize) -> Result<&Pipeline, LogError> {
        if let Some(pipeline) = self.pipeline.get() {
            return Ok(pipeline);
        }
        let pipeline = Pipeline::start(ring_bytes).map_err(|error| LogError::Sink {
            sink: "all".to_owned(),
            error: logcore::SinkError::from(error).doing("start the writer thread"),
        })?;
        at_exit(|| LogManager::get_instance().end());
        Ok(self.pipeline.get_or_init(|| pipeline))
    }

    /// What runs when the process exits.
    fn end(&self) {
        // Whoever held the lock when `exit` was called may never give it back.
        let Some(mut state) = self.lock_soon() else { return };
        let loggers = std::mem::take(&mut state.loggers);
        drop(state);
        for logger in loggers {
            logger.finish();
        }
        self.finish_shared();
    }

    fn finish_shared(&self) {
        let shared = std::mem::take(&mut self.lock().shared);
        if let Some(pipeline) = self.pipeline.get().filter(|_| !shared.is_empty()) {
            let deadline = Deadline::after(LogConfig::default().finish_duration());
            if let Err(error) = pipeline.finish_shared(0, deadline) {
                notice("finish added sinks", &error.to_string());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_soon(&self) -> Option<MutexGuard<'_, State>> {
        for _ in 0..100 {
            match self.state.try_lock() {
                Ok(state) => return Some(state),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            }
        }
        None
    }
}

impl State {
    fn find(&self, name: &str) -> Option<Arc<Instance>> {
        self.loggers.iter().find(|logger| logger.name() == name).cloned()
    }
}

/// Handing over one command; the writer takes it within milliseconds unless a sink hangs.
const SHARE_TIMEOUT: Duration = Duration::from_secs(5);

fn named(config: &LogConfig, name: &str) -> LogConfig {
    LogConfig {
        name: name.to_owned(),
        ..config.clone()
    }
}

/// A name that can stand in a line of text: control characters are escaped; the empty one is `root`.
fn clean_name(name: &str) -> String {
    if name.is_empty() {
        return "root".to_owned();
    }
    name.chars()
        .flat_map(|c| match c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

/// The same config with nothing that touches the disk.
fn without_files(config: LogConfig) -> LogConfig {
    LogConfig {
        name: config.name,
        console_level: config.console_level,
        enable_console: config.enable_console,
        enable_file: false,
        sinks: [("jsonl".to_owned(), false.into())].into(),
        ..LogConfig::default()
    }
}
