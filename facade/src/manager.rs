use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use logcore::escape::to_one_line;
use logcore::log::{Level, LevelFilter};
use logcore::{
    ConfigError, Deadline, Directives, FileRank, LogConfig, LogError, LoggerEnd, PerProcess, Ranks, RingPlace, RunEnd,
    Sink, StopFlag, WatchedLevels, is_logging_suppressed, registry,
};
use logcore_pipeline::{
    Pipeline, Producer, RecoveryError, Signal, at_exit, label_notices_with_rank, print_notice, recover_ranks,
    set_fork_takeover,
};

use crate::build::{BuiltSinks, build_sinks};
use crate::instance::Instance;
use crate::logger::UnifiedLogger;
use crate::memory::Memory;
use crate::report::FinishReport;
use crate::roster::Roster;
use crate::watch::watch;
use crate::{global, panics, screen, signals};

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
    /// A child of a fork has loggers of its own; those that it has from its parent are no part of it.
    state: PerProcess<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What `configure_from_config` was given.
    template: Option<LogConfig>,
    loggers: Roster,
    /// What was said since of levels, for the loggers to come.
    levels: BTreeMap<String, LevelFilter>,
    directives: Option<String>,
    /// Files that are watched.
    watched: BTreeSet<PathBuf>,
    /// Names of the sinks that every logger has, and those of them that wait for the first logger.
    shared: Vec<String>,
    waiting: Vec<(String, Box<dyn Sink>)>,
    /// There from the first logger to the last.
    pipeline: Option<Pipeline>,
    /// Loggers that are not in the list any more and not finished yet.
    finishing: usize,
    /// Folders whose killed runs have been delivered.
    recovered: BTreeSet<PathBuf>,
}

impl LogManager {
    /// The one manager.
    pub fn get_instance() -> &'static Self {
        static MANAGER: LogManager = LogManager {
            state: PerProcess::new(|parent| Mutex::new(parent.map(State::of_child).unwrap_or_default())),
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
        let config = anchored(config)?;
        heed_ranks(&config);
        let mut state = self.lock();
        state.recover(&config);
        let mut built = Vec::new();
        for logger in state.loggers.iter() {
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
        for (logger, config, mut sinks, memory) in built {
            state.name_ring(&config, &mut sinks);
            logger.configure(config, sinks, memory, shared)?;
            state.watch(&logger);
            global::publish(&logger);
        }
        state.template = Some(config);
        state.levels.clear();
        state.directives = None;
        Ok(())
    }

    /// Changes the level of a sink (`console`, `file`, …) of every logger, those to come included, for records from now on.
    /// A new config, by [`configure_from_config`](Self::configure_from_config), takes its place.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use facade::{LevelFilter, LogConfig, LogManager};
    ///
    /// let manager = LogManager::get_instance();
    /// # let quiet = LogConfig { enable_console: false, ..LogConfig::default() };
    /// # manager.configure_from_config(LogConfig { log_dir: folder.path().into(), ..quiet })?;
    /// let before = manager.get_logger("before");
    /// manager.set_level("file", LevelFilter::Warn)?;
    /// let after = manager.get_logger("after");
    /// before.info("nobody wants it");
    /// after.info("nobody wants it");
    /// manager.cleanup();
    /// # #[cfg(feature = "file")]
    /// assert_eq!(std::fs::read_to_string(folder.path().join("training.log")).unwrap(), "");
    /// # Ok::<(), facade::LogError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If no logger has such a sink, and no linked crate has one for those to come.
    pub fn set_level(&self, sink: &str, level: LevelFilter) -> Result<(), ConfigError> {
        let mut state = self.lock();
        let mut known = registry::sink_names()?.contains(&sink);
        for logger in state.loggers.iter() {
            known |= logger.set_level(sink, level).is_ok();
            global::publish(logger);
        }
        if !known {
            let linked = registry::sink_names()?.join(", ");
            let remedy = format!("no logger has a sink of this name, and no linked crate; linked are: {linked}");
            return Err(ConfigError::new("sink", sink, remedy));
        }
        state.levels.insert(sink.to_owned(), level);
        Ok(())
    }

    /// Changes the levels by target of every logger, those to come included, for records from now on; see
    /// [`Directives`](logcore::Directives). A new config takes their place, as for [`set_level`](Self::set_level).
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn set_directives(&self, directives: &str) -> Result<(), ConfigError> {
        let mut state = self.lock();
        directives.parse::<Directives>()?;
        for logger in state.loggers.iter() {
            logger.set_directives(directives)?;
            global::publish(logger);
        }
        state.directives = Some(directives.to_owned());
        Ok(())
    }

    /// The logger of this name; made if it is not there. It never fails: trouble with its files is said once on stderr,
    /// and the logger does without them.
    pub fn get_logger(&self, name: &str) -> UnifiedLogger {
        let name = clean_name(name);
        let mut state = self.lock();
        if let Some(logger) = state.loggers.find(&name).cloned().or_else(|| global::inherited(&name)) {
            return UnifiedLogger::borrowing(logger);
        }
        let config = match &state.template {
            Some(template) => named(template, &name),
            None => LogConfig::try_from(name.as_str()).unwrap_or_else(|error| {
                print_notice(
                    &format!("environment {}", error.field),
                    &format!("the environment is left out: {error}"),
                );
                named(&LogConfig::default(), &name)
            }),
        };
        let opened = self.open(&mut state, config.clone()).or_else(|error| {
            print_notice(
                &format!("get_logger {name}"),
                &format!("logger `{name}` writes no files: {error}"),
            );
            self.open(&mut state, without_files(config))
        });
        let logger = opened.unwrap_or_else(|error| {
            print_notice(
                &format!("get_logger {name}"),
                &format!("logger `{name}` writes nothing: {error}"),
            );
            Arc::new(Instance::new(&name, Producer::dead(&name), StopFlag::default()))
        });
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
        match &state.pipeline {
            Some(pipeline) => pipeline.share(name, sink, Deadline::after(SHARE_TIMEOUT)),
            None => state.waiting.push((name.to_owned(), sink)),
        }
        state.shared.push(name.to_owned());
        for logger in state.loggers.iter() {
            logger.note_shared_sink();
            global::publish(logger);
        }
        Ok(())
    }

    /// Finishes every logger and forgets the config and the added sinks.
    pub fn cleanup(&self) {
        let mut state = self.lock();
        state.template = None;
        state.levels.clear();
        state.directives = None;
        self.finish_all(state, 0);
    }

    pub(crate) fn set_up(&self, mut config: LogConfig) -> Result<UnifiedLogger, LogError> {
        config.name = clean_name(&config.name);
        let mut state = self.lock();
        let logger = self.open(&mut state, config)?;
        Ok(UnifiedLogger::owning(logger))
    }

    pub(crate) fn finish(&self, logger: &Arc<Instance>) -> FinishReport {
        if is_logging_suppressed() {
            // A sink lets go of the logger that it serves, on the very thread that would have to end it.
            return FinishReport::from_within(logger.name());
        }
        {
            let mut state = self.lock();
            global::withdraw(std::slice::from_ref(logger));
            if !state.loggers.remove(logger) {
                drop(state);
                return logger.finish();
            }
            state.finishing += 1;
        }
        let report = logger.finish();
        let mut state = self.lock();
        state.finishing -= 1;
        state.end_pipeline();
        report
    }

    /// Tells the `log` facade that a logger has changed.
    pub(crate) fn publish(&self, logger: &Arc<Instance>) {
        let state = self.lock();
        // One that ends at this moment must not come back.
        if state.loggers.has(logger) || logger.is_inherited() {
            global::publish(logger);
        }
    }

    /// Whether some logger's config has this file watched. If none has, it is watched no more.
    pub(crate) fn watches(&self, file: &Path) -> bool {
        let mut state = self.lock();
        let watched = state.loggers.iter().any(|logger| logger.watches(file));
        if !watched {
            state.watched.remove(file);
        }
        watched
    }

    /// Gives what a watched file says now to the loggers whose config names it, and to those to come.
    pub(crate) fn take_over(&self, file: &Path, levels: &WatchedLevels) {
        let mut state = self.lock();
        if let Some(template) = &mut state.template
            && template.watch_file.as_deref() == Some(file)
        {
            levels.apply_to(template);
        }
        let loggers = state.loggers.iter();
        // What the file says was parsed when it was read.
        let loggers = loggers.filter(|logger| logger.watches(file) && logger.take_over(levels).is_ok());
        let loggers: Vec<_> = loggers.inspect(|logger| global::publish(logger)).cloned().collect();
        drop(state);
        for logger in loggers {
            logger.say(Level::Info, format_args!("{} has changed: {levels}", file.display()));
        }
    }

    /// Opens a logger of this config, or gives it to the one of this name that is live.
    fn open(&self, state: &mut State, config: LogConfig) -> Result<Arc<Instance>, LogError> {
        config.validate()?;
        let mut config = anchored(config)?;
        heed_ranks(&config);
        state.recover(&config);
        let live = state.loggers.find(&config.name).cloned();
        if let Some(live) = &live {
            // A name that was written in another way is shown as it was written first.
            live.name().clone_into(&mut config.name);
        }
        let stop = live
            .as_ref()
            .map_or_else(StopFlag::default, |logger| logger.stop().clone());
        let mut sinks = build_sinks(&config, &stop)?;
        let memory = Memory::build(&config, &stop)?;
        let (capture, handle_signals) = (config.capture_warnings, config.handle_signals);
        let logger = match live {
            Some(logger) => logger,
            None => {
                let producer = state.pipeline(&config, &sinks)?.producer(&config.name);
                Arc::new(Instance::new(&config.name, producer, stop))
            }
        };
        state.name_ring(&config, &mut sinks);
        logger.configure(config, sinks, memory, !state.shared.is_empty())?;
        for (sink, level) in &state.levels {
            // Not every logger has every sink.
            let _ = logger.set_level(sink, *level);
        }
        if let Some(directives) = &state.directives {
            logger.set_directives(directives)?;
        }
        if state.loggers.find(logger.name()).is_none() {
            state.loggers.add(Arc::clone(&logger));
        }
        state.watch(&logger);
        global::publish(&logger);
        if capture {
            panics::capture();
        }
        if handle_signals {
            signals::handle();
        }
        Ok(logger)
    }

    /// What runs when the process exits.
    fn end(&self, exit_code: Option<i32>) {
        // What a panic of the main thread ends with.
        const PANICKED: i32 = 101;
        match exit_code {
            None | Some(0) => self.end_with(None, 0),
            Some(PANICKED) => self.end_with(panics::end(), PANICKED),
            Some(code) => self.end_with(None, code),
        }
    }

    /// What runs when a panic is about to abort the process.
    pub(crate) fn aborts(&self) {
        const SIGABRT: i32 = 6;
        self.end_with(panics::end(), 128 + SIGABRT);
    }

    /// What runs when a signal ends the process.
    ///
    /// The program goes on meanwhile, and what it says is taken: first the deliveries to others are wound up, which may take
    /// long, and only then the ring is closed, for all loggers at one moment. A call after that waits for the end of the process.
    pub(crate) fn interrupted(&self, signal: Signal) {
        let Some(state) = self.lock_soon() else { return };
        let loggers: Vec<_> = state.loggers.iter().cloned().collect();
        drop(state);
        let heir = global::capturing().or_else(|| loggers.first().cloned());
        let ends = loggers.iter().map(|logger| logger.end_soon());
        let deadline = ends
            .max_by_key(Deadline::remaining)
            .unwrap_or_else(|| Deadline::after(LogConfig::default().finish_duration()));
        if let Some(logger) = heir {
            logger.say(Level::Warn, format_args!("Interrupted by {signal}"));
        }
        let exit_code = 128 + signal.number();
        let end = RunEnd::Interrupted {
            signal: signal.to_string(),
        };
        // The end of the files must find some time left.
        let for_others = Deadline::after(deadline.remaining().mul_f64(0.9));
        for logger in &loggers {
            logger.cut_short(Some(end.clone()), exit_code);
            logger.wind_up(for_others);
        }
        let Some(mut state) = self.lock_soon() else { return };
        // Loggers that another thread is ending at this moment are ended there.
        while state.finishing > 0 && !deadline.has_passed() {
            drop(state);
            thread::sleep(LOOK);
            let Some(again) = self.lock_soon() else { return };
            state = again;
        }
        if let Some(pipeline) = state.pipeline.take() {
            // Kept locked: whoever wants to begin or end a logger now waits for the end of the process.
            let loggers: Vec<_> = state.loggers.iter().cloned().collect();
            Instance::close_all(&loggers, pipeline, deadline);
        }
    }

    fn end_with(&self, end: Option<RunEnd>, exit_code: i32) {
        // Whoever held the lock when the end came may never give it back.
        let Some(state) = self.lock_soon() else { return };
        for logger in state.loggers.iter() {
            logger.cut_short(end.clone(), exit_code);
        }
        self.finish_all(state, exit_code);
    }

    /// In a child of a fork whose parent is gone: gives the loggers that it has from its parent sinks of their own.
    fn go_on(&self) {
        let mut state = self.lock();
        for logger in global::all_inherited() {
            let name = logger.name().to_owned();
            let forked = format!(
                "process {} was forked from process {}, whose writer is gone or out of reach",
                std::process::id(),
                logger.producer().writer_pid()
            );
            match self.go_on_with(&mut state, logger) {
                Ok(()) => print_notice(
                    &format!("goes on with {name}"),
                    &format!(
                        "{forked}: logger `{name}` goes on here, with sinks of its own, which append to the same files"
                    ),
                ),
                Err(error) => print_notice(
                    &format!("goes on with {name}"),
                    &format!("{forked}, and logger `{name}` cannot go on here: {error}"),
                ),
            };
        }
    }

    fn go_on_with(&self, state: &mut State, logger: Arc<Instance>) -> Result<(), LogError> {
        let config = LogConfig::clone(&logger.settings().config);
        // Calls that the ring still has are written before anything new.
        state.recover_after(&config, Some(logger.producer().writer_pid()));
        let mut sinks = build_sinks(&config, logger.stop())?;
        let memory = Memory::build(&config, logger.stop())?;
        if state.pipeline.is_none() {
            let started = Pipeline::start_in_place_of(logger.producer(), outlive(&sinks).then_some(&config));
            state.pipeline = Some(started.map_err(no_writer)?);
        }
        state.name_ring(&config, &mut sinks);
        logger.configure(config.clone(), sinks, memory, false)?;
        if config.handle_signals {
            signals::handle();
        }
        global::publish(&logger);
        state.loggers.add(logger);
        Ok(())
    }

    fn finish_all(&self, mut state: MutexGuard<'_, State>, exit_code: i32) {
        let loggers: Vec<_> = std::mem::take(&mut state.loggers).iter().cloned().collect();
        state.finishing += loggers.len();
        drop(state);
        global::withdraw(&loggers);
        for logger in &loggers {
            logger.finish();
        }
        let mut state = self.lock();
        state.finishing -= loggers.len();
        state.waiting.clear();
        if !std::mem::take(&mut state.shared).is_empty()
            && let Some(pipeline) = &state.pipeline
        {
            let deadline = Deadline::after(LogConfig::default().finish_duration());
            if let Err(error) = pipeline.finish_shared(LoggerEnd::from_exit_code(exit_code), deadline) {
                print_notice("finish added sinks", &error.to_string());
            }
        }
        state.end_pipeline();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.get().lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_soon(&self) -> Option<MutexGuard<'_, State>> {
        for _ in 0..100 {
            match self.state.get().try_lock() {
                Ok(state) => return Some(state),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            }
        }
        None
    }
}

impl State {
    /// For a child of a fork: what loggers are made of. Its parent may have been changing it.
    fn of_child(parent: &Mutex<Self>) -> Self {
        let Ok(parent) = parent.try_lock() else {
            return Self::default();
        };
        Self {
            template: parent.template.clone(),
            levels: parent.levels.clone(),
            directives: parent.directives.clone(),
            ..Self::default()
        }
    }

    /// Watches the file that a logger's config names, if it is not watched yet.
    fn watch(&mut self, logger: &Instance) {
        if let Some(file) = &logger.settings().config.watch_file
            && self.watched.insert(file.clone())
        {
            watch(file);
        }
    }

    /// Delivers what killed runs have left in a folder, before anything new is written there.
    ///
    /// Of several ranks each sees to its own, and the first to those that nobody of this run has.
    fn recover(&mut self, config: &LogConfig) {
        self.recover_after(config, None);
    }

    /// The same when the process `gone` has ended, whose files may be closed a moment after its threads have.
    fn recover_after(&mut self, config: &LogConfig, gone: Option<u64>) {
        let folder = config.log_dir.canonicalize().unwrap_or_else(|_| config.log_dir.clone());
        if !self.recovered.insert(folder.clone()) {
            return;
        }
        let (ranks, files) = (Ranks::from_config(config), FileRank::from_config(config));
        let mut own = recover_ranks(config, gone, |other| other == files);
        let since = Instant::now();
        let is_closing =
            |outcome: &Result<_, _>| matches!(outcome, Err(RecoveryError::Live { pid }) if Some(*pid) == gone);
        while own.iter().any(is_closing) && since.elapsed() < CLOSING {
            thread::sleep(LOOK);
            own.retain(|outcome| !is_closing(outcome));
            own.extend(recover_ranks(config, gone, |other| other == files));
        }
        let orphaned = |other: u32| !config.rank_files || ranks.world_size.is_some_and(|size| other >= size);
        let mut orphans = recover_ranks(config, None, |other| ranks.is_first() && other.0.is_some_and(orphaned));
        // Their processes have files of their own.
        orphans.retain(|outcome| !matches!(outcome, Err(RecoveryError::Live { .. })));
        for outcome in own.into_iter().chain(orphans) {
            match outcome {
                Ok(recovered) => print_notice(&format!("recovered {}", recovered.pid), &recovered.to_string()),
                Err(RecoveryError::Live { pid }) => print_notice(
                    &format!("shared folder {}", folder.display()),
                    &format!(
                        "process {pid} logs into {}, too: both append to the same files",
                        folder.display()
                    ),
                ),
                Err(error) => print_notice(&format!("ring in {}", folder.display()), &error.to_string()),
            };
        }
    }

    /// The pipeline; the first logger brings it into being.
    fn pipeline(&mut self, config: &LogConfig, sinks: &BuiltSinks) -> Result<&Pipeline, LogError> {
        if self.pipeline.is_none() {
            let started = match outlive(sinks) {
                true => Pipeline::start_in(config),
                false => Pipeline::start(config.ring_bytes),
            };
            let pipeline = started.map_err(no_writer)?;
            for (name, sink) in self.waiting.drain(..) {
                pipeline.share(&name, sink, Deadline::after(SHARE_TIMEOUT));
            }
            self.pipeline = Some(pipeline);
            screen::share_with_notices();
            set_fork_takeover(|| LogManager::get_instance().go_on());
            at_exit(|exit_code| LogManager::get_instance().end(exit_code));
        }
        self.pipeline.as_ref().ok_or_else(|| LogError::Closed {
            logger: config.name.clone(),
        })
    }

    /// Lets the next process find the ring from the folder of these sinks, too.
    fn name_ring(&self, config: &LogConfig, sinks: &mut BuiltSinks) {
        if let Some(pipeline) = &self.pipeline
            && config.ring_place != RingPlace::Memory
            && outlive(sinks)
        {
            sinks.folder = pipeline.point_from(&config.log_dir);
        }
    }

    /// Ends the writer when there is nobody left to write for.
    fn end_pipeline(&mut self) {
        if self.finishing > 0 || !self.loggers.is_empty() || !self.shared.is_empty() {
            return;
        }
        self.recovered.clear();
        if let Some(pipeline) = self.pipeline.take()
            && let Err(error) = pipeline.end(Deadline::after(LogConfig::default().flush_duration()))
        {
            print_notice("end of the writer", &error.to_string());
        }
    }
}

fn no_writer(error: std::io::Error) -> LogError {
    LogError::Sink {
        sink: "all".to_owned(),
        error: logcore::SinkError::from(error).doing("start the writer thread"),
    }
}

/// The same config, whatever folder the program goes to: its paths are meant where it stands now.
fn anchored(mut config: LogConfig) -> Result<LogConfig, ConfigError> {
    let anchor = |field: &str, path: &mut PathBuf| {
        *path = std::path::absolute(&*path).map_err(|error| {
            let remedy = format!("the working folder is not known ({error}); write a path that begins with `/`");
            ConfigError::new(field, path.display(), remedy)
        })?;
        Ok(())
    };
    anchor("log_dir", &mut config.log_dir)?;
    if let Some(file) = &mut config.watch_file {
        anchor("watch_file", file)?;
    }
    Ok(config)
}

/// Whether a killed process may leave something for one of these sinks; for a terminal alone there is nothing to recover.
fn outlive(sinks: &BuiltSinks) -> bool {
    sinks.sinks.iter().any(|sink| registry::can_recover(&sink.name))
}

/// Notices say which rank they are of. A launcher whose variables make no sense is not listened to, which is one of them.
fn heed_ranks(config: &LogConfig) {
    label_notices_with_rank(Ranks::from_config(config).rank);
    if config.rank.is_none()
        && let Some(nonsense) = Ranks::env_problem()
    {
        print_notice("ranks", &nonsense.to_string());
    }
}

/// A process closes its files within this time after its end.
const CLOSING: Duration = Duration::from_secs(5);
/// How often it is looked at what another thread or process is ending.
const LOOK: Duration = Duration::from_millis(5);

/// Handing over one command; the writer takes it within milliseconds unless a sink hangs.
const SHARE_TIMEOUT: Duration = Duration::from_secs(5);

fn named(config: &LogConfig, name: &str) -> LogConfig {
    LogConfig {
        name: name.to_owned(),
        ..config.clone()
    }
}

/// A name that can stand in a line of text: what is harmful is escaped; the empty one is `root`.
fn clean_name(name: &str) -> String {
    if name.is_empty() {
        return "root".to_owned();
    }
    to_one_line(name).into_owned()
}

/// The same config with nothing that touches the disk.
fn without_files(config: LogConfig) -> LogConfig {
    LogConfig {
        name: config.name,
        console_level: config.console_level,
        enable_console: config.enable_console,
        enable_file: false,
        rank: config.rank,
        world_size: config.world_size,
        rank_files: config.rank_files,
        other_ranks_level: config.other_ranks_level,
        sinks: [("jsonl".to_owned(), false.into())].into(),
        ..LogConfig::default()
    }
}
