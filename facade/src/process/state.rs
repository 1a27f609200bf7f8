//! The state of the process: its open loggers, its pipeline, and what the loggers to come will
//! have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use logcore::log::LevelFilter;
use logcore::{Deadline, LogConfig, LogError, LoggerEnd, Ranks, RingPlace, Sink, SinkError, StopFlag, canonical_name};
use logcore_pipeline::{
    Pipeline, Signal, SignalAnswer, at_exit, label_notices_with_rank, print_notice, set_fork_takeover,
};

use crate::logger::inner::LoggerInner;
use crate::logger::probes::ProbeSet;
use crate::logger::sinks::{BuiltSinks, build_sinks, leave_files};
use crate::logger::terminal;
use crate::process::config_watch::{self, WatchHooks};
use crate::process::logger_config::{with_absolute_paths, with_name};
use crate::process::recovery::deliver_killed;
use crate::process::rust_log::heed_rust_log;
use crate::process::{global_log, panic_hook, signals};
use crate::run::{Run, RunEntry, Runs};

/// The calls that the process makes when something happens to it.
#[derive(Clone, Copy)]
pub(crate) struct ProcessHooks {
    /// Runs at the exit of the process, with the exit code if it is known.
    pub(crate) on_exit: fn(Option<i32>),
    /// Runs when a panic is about to abort the process.
    pub(crate) on_abort: fn(),
    /// Runs when a signal is about to end the process.
    pub(crate) on_signal: fn(Signal),
    /// Answers a signal that may ask the program to stop.
    pub(crate) on_stop_signal: fn(Signal) -> SignalAnswer,
    /// Runs in a forked child whose parent is gone.
    pub(crate) on_orphaned: fn(),
    pub(crate) watch: WatchHooks,
}

/// The loggers of a process, and what they share.
pub(crate) struct ProcessState {
    hooks: ProcessHooks,
    /// The config for loggers that have none of their own.
    pub(crate) template: Option<LogConfig>,
    pub(crate) loggers: OpenLoggers,
    /// Loggers that `get_logger` made before there was a config for them.
    pub(crate) provisional: OpenLoggers,
    /// The configs of set-ups, in their order, with the ages of their loggers.
    setups: Vec<(u64, LogConfig)>,
    /// Levels by sink that were set since, for the loggers to come.
    pub(crate) levels: BTreeMap<String, LevelFilter>,
    /// Directives that were set since, for the loggers to come.
    pub(crate) directives: Option<String>,
    watched: BTreeSet<PathBuf>,
    /// Names of the sinks that all loggers share.
    pub(crate) shared: Vec<String>,
    /// Shared sinks that wait for the first logger.
    waiting: Vec<(String, Box<dyn Sink>)>,
    /// Exists from the first logger to the last.
    pub(crate) pipeline: Option<Pipeline>,
    /// Number of loggers that are no longer open and not yet finished.
    pub(crate) finishing: usize,
    pub(crate) runs: Runs,
    /// Folders whose killed runs have been delivered.
    recovered: BTreeSet<PathBuf>,
}

/// The open loggers, by age and by name.
#[derive(Default)]
pub(crate) struct OpenLoggers {
    by_age: BTreeMap<u64, Arc<LoggerInner>>,
    by_name: HashMap<String, Arc<LoggerInner>>,
}

/// A logger with a new config, and what was built for it.
type BuiltLogger = (Arc<LoggerInner>, LogConfig, BuiltSinks, ProbeSet);

impl OpenLoggers {
    /// Returns the logger of this name, in any spelling of the name.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<LoggerInner>> {
        self.by_name.get(&*canonical_name(name))
    }

    pub(crate) fn contains(&self, logger: &LoggerInner) -> bool {
        self.by_age.contains_key(&logger.age())
    }

    pub(crate) fn add(&mut self, logger: Arc<LoggerInner>) {
        let name = canonical_name(logger.name()).into_owned();
        self.by_name.insert(name, Arc::clone(&logger));
        self.by_age.insert(logger.age(), logger);
    }

    /// Removes a logger; returns `true` if it was there.
    pub(crate) fn remove(&mut self, logger: &Arc<LoggerInner>) -> bool {
        let was_there = self.by_age.remove(&logger.age()).is_some();
        let name = canonical_name(logger.name());
        if was_there && self.find(&name).is_some_and(|found| Arc::ptr_eq(found, logger)) {
            self.by_name.remove(&*name);
        }
        was_there
    }

    /// Returns the loggers, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<LoggerInner>> {
        self.by_age.values()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }
}

impl ProcessState {
    pub(crate) fn new(hooks: ProcessHooks) -> Self {
        Self {
            hooks,
            template: None,
            loggers: OpenLoggers::default(),
            provisional: OpenLoggers::default(),
            setups: Vec::new(),
            levels: BTreeMap::new(),
            directives: None,
            watched: BTreeSet::new(),
            shared: Vec::new(),
            waiting: Vec::new(),
            pipeline: None,
            finishing: 0,
            runs: Runs::default(),
            recovered: BTreeSet::new(),
        }
    }

    /// Returns the state of a forked child: the settings for new loggers, and no loggers. Without
    /// the settings if the fork interrupted a change of them.
    pub(crate) fn of_child(parent: &Mutex<Self>, hooks: ProcessHooks) -> Self {
        let mut child = Self::new(hooks);
        if let Ok(parent) = parent.try_lock() {
            child.template.clone_from(&parent.template);
            child.levels.clone_from(&parent.levels);
            child.directives.clone_from(&parent.directives);
        }
        child
    }

    /// Opens a logger with a handle that keeps it open, or gives config and handle to the open
    /// logger of this name.
    pub(crate) fn set_up(&mut self, config: LogConfig) -> Result<Arc<LoggerInner>, LogError> {
        let logger = self.open(config.clone())?;
        // Under the lock, so that no other handle closes the logger meanwhile.
        logger.add_handle();
        // The first logger that is set up takes foreign targets.
        global_log::publish(&logger);
        match self.setups.iter_mut().find(|(age, _)| *age == logger.age()) {
            Some((_, before)) => *before = config,
            None => self.setups.push((logger.age(), config)),
        }
        self.open_provisional();
        Ok(logger)
    }

    /// Returns the config for a logger of this name that only `get_logger` opens; `None` before
    /// there is one.
    pub(crate) fn config_for(&mut self, name: &str) -> Option<LogConfig> {
        let loggers = &self.loggers;
        self.setups.retain(|(age, _)| loggers.by_age.contains_key(age));
        if let Some(template) = &self.template {
            return Some(with_name(template, name));
        }
        let (_, config) = self.setups.first()?;
        Some(LogConfig {
            enable_wandb: false,
            ..with_name(config, name)
        })
    }

    /// Opens the loggers that were waiting for a config.
    fn open_provisional(&mut self) {
        for waiting in std::mem::take(&mut self.provisional).by_age.into_values() {
            let name = waiting.name();
            let Some(config) = self.config_for(name) else { continue };
            self.provisional.add(Arc::clone(&waiting));
            if let Err(error) = self.open(config) {
                print_notice(
                    &format!("get_logger {name}"),
                    &format!("cannot give logger `{name}` the config of the set-up: {error}"),
                );
            }
        }
    }

    /// Opens a logger of this config, or gives the config to the open logger of this name.
    pub(crate) fn open(&mut self, config: LogConfig) -> Result<Arc<LoggerInner>, LogError> {
        config.validate()?;
        let mut config = with_absolute_paths(config)?;
        let foreign_on_console = heed_rust_log(&mut config);
        note_rank(&config);
        self.recover(&config, None);
        let entry = self.runs.enter(&config, leave_files(&config)?)?;
        let mut config = entry.config(config);
        let waiting = self.provisional.find(&config.name).cloned();
        let live = self.loggers.find(&config.name).cloned().or_else(|| waiting.clone());
        if let Some(live) = &live {
            // The logger is shown by the first spelling of its name.
            live.name().clone_into(&mut config.name);
        }
        let stop = live
            .as_ref()
            .map_or_else(StopFlag::default, |logger| logger.stop().clone());
        let mut sinks = build_sinks(&config, entry.run().info(), &stop)?;
        #[cfg(feature = "health")]
        sinks.add_rules(&config, entry.run());
        sinks.open_console_to_foreign(foreign_on_console);
        let probes = ProbeSet::build(&config, &stop)?;
        let run = Arc::clone(entry.run());
        let capture_warnings = config.capture_warnings;
        let on_signal = config.handle_signals.then_some(config.on_signal);
        if let Some(waiting) = &waiting {
            self.pipeline(&run, &config, &sinks)?.connect(waiting.producer());
            self.provisional.remove(waiting);
        }
        let logger = match live {
            Some(logger) => logger,
            None => {
                let producer = self.pipeline(&run, &config, &sinks)?.producer(&config.name);
                Arc::new(LoggerInner::new(&config.name, producer, stop))
            }
        };
        self.name_ring(&run, &config, &mut sinks);
        // `run.json` comes after the entry of the ring: whoever delivers the ring of a killed
        // process finds the run, and notes its end.
        self.runs.open(entry, &config, [&*config.name]);
        logger.configure(config, &run, sinks, probes, !self.shared.is_empty())?;
        self.runs.join(&run, &logger);
        for (sink, level) in &self.levels {
            // Not every logger has every sink.
            let _ = logger.set_level(sink, *level);
        }
        if let Some(directives) = &self.directives {
            logger.set_directives(directives)?;
        }
        if self.loggers.find(logger.name()).is_none() {
            self.loggers.add(Arc::clone(&logger));
        }
        self.watch(&logger);
        global_log::publish(&logger);
        if capture_warnings {
            panic_hook::install(self.hooks.on_abort);
        }
        if let Some(on_signal) = on_signal {
            signals::handle(on_signal, self.hooks.on_signal, self.hooks.on_stop_signal);
        }
        Ok(logger)
    }

    /// Gives every open logger this config, and keeps the config for the loggers to come.
    pub(crate) fn configure(&mut self, config: LogConfig) -> Result<(), LogError> {
        config.validate()?;
        let mut config = with_absolute_paths(config)?;
        let template = config.clone();
        let foreign_on_console = heed_rust_log(&mut config);
        note_rank(&config);
        self.recover(&config, None);
        if self.loggers.is_empty() {
            // Sinks that no logger opens try the config.
            let entry = self.runs.try_out(&config, leave_files(&config)?)?;
            build_sinks(&entry.config(config), entry.run().info(), &StopFlag::default())?;
        } else {
            let entry = self.runs.enter(&config, leave_files(&config)?)?;
            self.reconfigure(entry, &config, foreign_on_console)?;
        }
        self.template = Some(template);
        self.levels.clear();
        self.directives = None;
        self.open_provisional();
        Ok(())
    }

    fn reconfigure(
        &mut self,
        entry: RunEntry,
        config: &LogConfig,
        foreign_on_console: LevelFilter,
    ) -> Result<(), LogError> {
        let mut built: Vec<BuiltLogger> = Vec::new();
        for logger in self.loggers.iter() {
            let config = entry.config(with_name(config, logger.name()));
            let mut sinks = build_sinks(&config, entry.run().info(), logger.stop())?;
            #[cfg(feature = "health")]
            sinks.add_rules(&config, entry.run());
            sinks.open_console_to_foreign(foreign_on_console);
            let probes = ProbeSet::build(&config, logger.stop())?;
            built.push((Arc::clone(logger), config, sinks, probes));
        }
        for (_, config, sinks, _) in &mut built {
            self.name_ring(entry.run(), config, sinks);
        }
        let run = &self
            .runs
            .open(entry, config, built.iter().map(|(logger, ..)| logger.name()));
        let has_shared_sinks = !self.shared.is_empty();
        for (logger, config, sinks, probes) in built {
            logger.configure(config, run, sinks, probes, has_shared_sinks)?;
            self.runs.join(run, &logger);
            self.watch(&logger);
            global_log::publish(&logger);
        }
        Ok(())
    }

    /// In a forked child, gives a logger of the parent sinks of its own.
    pub(crate) fn adopt(&mut self, logger: Arc<LoggerInner>) -> Result<(), LogError> {
        let settings = logger.settings();
        let config = LogConfig::clone(&settings.config);
        let Some(run) = settings.run else { return Ok(()) };
        // Calls that the ring still has are written before anything new.
        self.recover(&config, Some(logger.producer().writer_pid()));
        let mut sinks = build_sinks(&config, run.info(), logger.stop())?;
        #[cfg(feature = "health")]
        sinks.add_rules(&config, &run);
        sinks.open_console_to_foreign(settings.foreign_console_level);
        let probes = ProbeSet::build(&config, logger.stop())?;
        if self.pipeline.is_none() {
            let recoverable = sinks.can_recover().then_some((run.root_of_ring(), &config));
            let started = Pipeline::start_replacing(logger.producer(), recoverable);
            self.pipeline = Some(started.map_err(cannot_start)?);
        }
        self.name_ring(&run, &config, &mut sinks);
        logger.configure(config.clone(), &run, sinks, probes, false)?;
        if config.handle_signals {
            signals::handle(config.on_signal, self.hooks.on_signal, self.hooks.on_stop_signal);
        }
        global_log::publish(&logger);
        self.runs.take_over(&run, &logger);
        self.loggers.add(logger);
        Ok(())
    }

    /// Adds a sink that all loggers share. The name must be new.
    pub(crate) fn share(&mut self, name: &str, sink: Box<dyn Sink>) {
        match &self.pipeline {
            Some(pipeline) => pipeline.share(name, sink, Deadline::after(SHARE_TIMEOUT)),
            None => self.waiting.push((name.to_owned(), sink)),
        }
        self.shared.push(name.to_owned());
        for logger in self.loggers.iter() {
            logger.note_shared_sink();
            global_log::publish(logger);
        }
    }

    /// Ends the shared sinks.
    pub(crate) fn finish_shared(&mut self, exit_code: i32) {
        self.waiting.clear();
        if !std::mem::take(&mut self.shared).is_empty()
            && let Some(pipeline) = &self.pipeline
        {
            let deadline = Deadline::after(LogConfig::default().finish_duration());
            if let Err(error) = pipeline.finish_shared(LoggerEnd::from_exit_code(exit_code), deadline) {
                print_notice("finish added sinks", &error.to_string());
            }
        }
    }

    /// Stops watching a file.
    pub(crate) fn unwatch(&mut self, file: &Path) {
        self.watched.remove(file);
    }

    /// Ends the pipeline if nothing uses it any more.
    pub(crate) fn end_unused_pipeline(&mut self) {
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

    /// Watches the file that a logger's config names.
    fn watch(&mut self, logger: &LoggerInner) {
        if let Some(file) = &logger.settings().config.watch_file
            && self.watched.insert(file.clone())
        {
            config_watch::spawn(file, self.hooks.watch);
        }
    }

    /// Returns the pipeline; the first logger starts it.
    fn pipeline(&mut self, run: &Run, config: &LogConfig, sinks: &BuiltSinks) -> Result<&Pipeline, LogError> {
        if self.pipeline.is_none() {
            let started = match sinks.can_recover() {
                true => Pipeline::start_in(run.root_of_ring(), config),
                false => Pipeline::start(config.ring_bytes),
            };
            let pipeline = started.map_err(cannot_start)?;
            for (name, sink) in self.waiting.drain(..) {
                pipeline.share(&name, sink, Deadline::after(SHARE_TIMEOUT));
            }
            self.pipeline = Some(pipeline);
            terminal::print_notices_above_bars();
            set_fork_takeover(self.hooks.on_orphaned);
            at_exit(self.hooks.on_exit);
        }
        self.pipeline.as_ref().ok_or_else(|| LogError::Closed {
            logger: config.name.clone(),
        })
    }

    /// Lets the next process find the ring also from the folder of these sinks.
    fn name_ring(&self, run: &Run, config: &LogConfig, sinks: &mut BuiltSinks) {
        if let Some(pipeline) = &self.pipeline
            && config.ring_place != RingPlace::Memory
            && sinks.can_recover()
        {
            sinks.folder = pipeline.link_from(run.root_of_ring(), &config.log_dir);
            if let Some(path) = pipeline.ring_path() {
                run.info().note_ring(path);
            }
        }
    }

    /// Delivers what killed runs have left in the config's `log_dir`, once.
    fn recover(&mut self, config: &LogConfig, gone: Option<u64>) {
        let folder = config.log_dir.canonicalize().unwrap_or_else(|_| config.log_dir.clone());
        if self.recovered.insert(folder) {
            deliver_killed(config, gone);
        }
    }
}

fn cannot_start(error: std::io::Error) -> LogError {
    LogError::Sink {
        sink: "all".to_owned(),
        error: SinkError::from(error).doing("start the writer thread"),
    }
}

/// Labels notices with the rank, and reports a launcher whose variables are invalid.
fn note_rank(config: &LogConfig) {
    label_notices_with_rank(Ranks::from_config(config).rank);
    if config.rank.is_none()
        && let Some(problem) = Ranks::env_problem()
    {
        print_notice("ranks", &problem.to_string());
    }
}

/// Timeout for handing one command to the writer, which takes it within milliseconds unless a sink
/// hangs.
const SHARE_TIMEOUT: Duration = Duration::from_secs(5);
