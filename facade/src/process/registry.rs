//! The registry of the process: free functions over its one state, for `LogManager`,
//! `UnifiedLogger`, and the ends of the process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use logcore::log::{Level, LevelFilter};
use logcore::sync::lock;
use logcore::{
    ConfigError, Deadline, Directives, LogConfig, LogError, PerProcess, RunEnd, Sink, StopFlag, StopReason,
    WatchedLevels, is_logging_suppressed, registry,
};
use logcore_pipeline::{Producer, Signal, SignalAnswer, print_notice};

use crate::logger::inner::LoggerInner;
use crate::logger::report::{FinishReport, last_panic};
use crate::logger::terminal;
use crate::process::config_watch::WatchHooks;
use crate::process::logger_config::{printable_name, without_files};
use crate::process::state::{ProcessHooks, ProcessState};
use crate::process::{global_log, stop_signal};
use crate::run::RunEnding;

/// A forked child has a state of its own. The loggers of its parent are not part of that state.
static STATE: PerProcess<Mutex<ProcessState>> = PerProcess::new(|parent| {
    Mutex::new(match parent {
        Some(parent) => ProcessState::of_child(parent, HOOKS),
        None => ProcessState::new(HOOKS),
    })
});

const HOOKS: ProcessHooks = ProcessHooks {
    on_exit: end_at_exit,
    on_abort: end_at_abort,
    on_signal: end_at_signal,
    on_stop_signal: answer_stop_signal,
    on_orphaned: adopt_inherited,
    watch: WatchHooks {
        is_watched,
        on_change: apply_levels,
    },
};

/// Time between two looks at loggers that another thread is ending.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Configures every open logger, and keeps the config for the loggers to come.
pub(crate) fn configure(config: LogConfig) -> Result<(), LogError> {
    state().configure(config)
}

/// Changes the level of a sink of every logger, also of those to come.
pub(crate) fn set_level(sink: &str, level: LevelFilter) -> Result<(), ConfigError> {
    let mut state = state();
    let mut exists = registry::sink_names()?.contains(&sink);
    for logger in state.loggers.iter() {
        exists |= logger.set_level(sink, level).is_ok();
        global_log::publish(logger);
    }
    if !exists {
        let linked = registry::sink_names()?.join(", ");
        let remedy = format!("no logger has a sink of this name, and no linked crate; linked are: {linked}");
        return Err(ConfigError::new("sink", sink, remedy));
    }
    state.levels.insert(sink.to_owned(), level);
    Ok(())
}

/// Changes the directives of every logger, also of those to come.
pub(crate) fn set_directives(directives: &str) -> Result<(), ConfigError> {
    let mut state = state();
    directives.parse::<Directives>()?;
    for logger in state.loggers.iter() {
        logger.set_directives(directives)?;
        global_log::publish(logger);
    }
    state.directives = Some(directives.to_owned());
    Ok(())
}

/// Sets a logger up with its own config. Returns the logger with one more handle, which
/// [`drop_handle`] takes back.
pub(crate) fn set_up(mut config: LogConfig) -> Result<Arc<LoggerInner>, LogError> {
    config.name = printable_name(&config.name);
    state().set_up(config)
}

/// Returns the logger of this name; opens it if it is not there. Notices report trouble with its
/// files.
pub(crate) fn get_or_open(name: &str) -> Arc<LoggerInner> {
    let name = printable_name(name);
    let mut state = state();
    if let Some(logger) = state
        .loggers
        .find(&name)
        .or_else(|| state.provisional.find(&name))
        .cloned()
        .or_else(|| global_log::inherited(&name))
    {
        return logger;
    }
    let Some(config) = state.config_for(&name) else {
        let logger = Arc::new(LoggerInner::provisional(&name));
        state.provisional.add(Arc::clone(&logger));
        return logger;
    };
    let opened = state.open(config.clone()).or_else(|error| {
        print_notice(
            &format!("get_logger {name}"),
            &format!("logger `{name}` writes no files: {error}"),
        );
        state.open(without_files(config))
    });
    opened.unwrap_or_else(|error| {
        print_notice(
            &format!("get_logger {name}"),
            &format!("logger `{name}` writes nothing: {error}"),
        );
        Arc::new(LoggerInner::new(
            &name,
            Producer::disconnected(&name),
            StopFlag::default(),
        ))
    })
}

/// Adds a sink that every logger has, also those to come.
pub(crate) fn add_sink(name: &str, sink: Box<dyn Sink>) -> Result<(), LogError> {
    let mut state = state();
    if name.is_empty() || state.shared.iter().any(|other| other == name) {
        let remedy = "every logger has a sink of this name already; choose another";
        return Err(ConfigError::new("name of the added sink", name, remedy).into());
    }
    state.share(name, sink);
    Ok(())
}

/// Finishes every logger, and forgets the config and the added sinks.
pub(crate) fn clean_up() {
    let mut state = state();
    state.template = None;
    state.levels.clear();
    state.directives = None;
    finish_all(state, 0);
}

/// Takes a handle back; finishes the logger with its last handle.
pub(crate) fn drop_handle(logger: &Arc<LoggerInner>) {
    logger.remove_handle();
    // A sink must not wait for the lock: its holder may wait for the sink.
    if logger.has_handles() || is_logging_suppressed() {
        return;
    }
    let state = state();
    // Another set-up may have come first.
    if !logger.has_handles() {
        finish_locked(state, logger);
    }
}

/// Finishes one logger.
pub(crate) fn finish(logger: &Arc<LoggerInner>) -> FinishReport {
    if is_logging_suppressed() {
        // A sink finishes the logger that it serves, on the thread that would have to end that
        // logger.
        return FinishReport::from_within_sink(logger.name());
    }
    finish_locked(state(), logger)
}

fn finish_locked(mut open: MutexGuard<'_, ProcessState>, logger: &Arc<LoggerInner>) -> FinishReport {
    global_log::withdraw(std::slice::from_ref(logger));
    if !open.loggers.remove(logger) {
        open.provisional.remove(logger);
        drop(open);
        return logger.finish();
    }
    open.finishing += 1;
    drop(open);
    let report = logger.finish();
    let ending = state().runs.leave(logger, &report.logger_end());
    if let Some(ending) = ending {
        ending.complete(logger.limit_waiting());
    }
    let mut state = state();
    state.finishing -= 1;
    // After the end of the run: if the process is killed before, its ring shows the run to the
    // next.
    state.end_unused_pipeline();
    report
}

/// Updates the routes of the global logger after a change of one logger.
pub(crate) fn publish(logger: &Arc<LoggerInner>) {
    let state = state();
    // A logger that ends at this moment must not come back.
    if state.loggers.contains(logger) || logger.is_inherited() {
        global_log::publish(logger);
    }
}

/// Returns `true` if some logger's config has this file watched; otherwise its watcher ends.
fn is_watched(file: &Path) -> bool {
    let mut state = state();
    let is_watched = state.loggers.iter().any(|logger| logger.watches(file));
    if !is_watched {
        state.unwatch(file);
    }
    is_watched
}

/// Gives the levels of a watched file to the loggers whose config names the file, and to those to
/// come.
fn apply_levels(file: &Path, levels: &WatchedLevels) {
    let mut state = state();
    if let Some(template) = &mut state.template
        && template.watch_file.as_deref() == Some(file)
    {
        levels.apply_to(template);
    }
    let loggers = state.loggers.iter();
    // Reading the file has checked its directives.
    let loggers = loggers.filter(|logger| logger.watches(file) && logger.apply_levels(levels).is_ok());
    let loggers: Vec<_> = loggers.inspect(|logger| global_log::publish(logger)).cloned().collect();
    drop(state);
    for logger in loggers {
        let text = match *levels == WatchedLevels::default() {
            true => format_args!("{} has changed, and no level in it", file.display()),
            false => format_args!("{} has changed: {levels}", file.display()),
        };
        logger.log_message(Level::Info, text);
    }
}

/// Ends all loggers at the exit of the process.
fn end_at_exit(exit_code: Option<i32>) {
    // The exit code of a panic in the main thread.
    const PANICKED: i32 = 101;
    match exit_code {
        None | Some(0) => end_all(None, 0),
        Some(PANICKED) => end_all(last_panic(), PANICKED),
        Some(code) => end_all(None, code),
    }
}

/// Ends all loggers when a panic is about to abort the process.
fn end_at_abort() {
    const SIGABRT: i32 = 6;
    end_all(last_panic(), 128 + SIGABRT);
}

/// Ends all loggers when a signal ends the process.
///
/// The program continues meanwhile, and the loggers take its calls. First the remote sinks end,
/// which may take long. Then the ring is closed, for all loggers at one moment. A later call waits
/// for the end of the process.
fn end_at_signal(signal: Signal) {
    terminal::write_held_lines();
    let Some(state) = state_soon() else { return };
    let loggers: Vec<_> = state.loggers.iter().cloned().collect();
    drop(state);
    let reporter = global_log::fallback().or_else(|| loggers.first().cloned());
    let deadlines = loggers.iter().map(|logger| logger.limit_waiting());
    let deadline = deadlines
        .max_by_key(Deadline::remaining)
        .unwrap_or_else(|| Deadline::after(LogConfig::default().finish_duration()));
    if let Some(logger) = reporter {
        logger.log_message(Level::Warn, format_args!("Interrupted by {signal}"));
    }
    let exit_code = 128 + signal.number();
    let end = RunEnd::Interrupted {
        signal: signal.to_string(),
    };
    // The files need some of the time for their own end.
    let remote_deadline = Deadline::after(deadline.remaining().mul_f64(0.9));
    for logger in &loggers {
        logger.outcome().cut_short(Some(end.clone()), exit_code);
        logger.end_remote_sinks(remote_deadline);
    }
    let Some(mut state) = state_soon() else { return };
    // Another thread ends the loggers that it is finishing at this moment.
    while state.finishing > 0 && !deadline.has_passed() {
        drop(state);
        thread::sleep(LOOK_INTERVAL);
        let Some(again) = state_soon() else { return };
        state = again;
    }
    if let Some(mut pipeline) = state.pipeline.take() {
        // The lock stays taken: a thread that wants to open or end a logger now waits for the end
        // of the process.
        let loggers: Vec<_> = state.loggers.iter().cloned().collect();
        let reports = LoggerInner::close_all(&loggers, &mut pipeline, deadline);
        for (ending, _) in leave_runs(&mut state, &loggers, &reports) {
            ending.complete(deadline);
        }
        drop(pipeline);
    }
}

/// Asks all runs to stop, at the first signal that asks for that. Without a run nobody can ask.
fn answer_stop_signal(signal: Signal) -> SignalAnswer {
    let Some(state) = state_soon() else {
        return SignalAnswer::End;
    };
    let loggers: Vec<_> = state.loggers.iter().cloned().collect();
    drop(state);
    let settings: Vec<_> = loggers.iter().map(|logger| logger.settings()).collect();
    let graces = settings.iter().map(|settings| settings.config.grace_duration());
    let Some(grace) = graces.max() else {
        return SignalAnswer::End;
    };
    stop_signal::answer(signal, grace, || {
        for run in settings.iter().filter_map(|settings| settings.run.as_ref()) {
            run.request_stop(StopReason::Signal(signal.to_string()));
        }
        let reporter = global_log::fallback().or_else(|| loggers.first().cloned());
        if let Some(logger) = reporter {
            // This thread has to answer the next signal, too.
            logger.log_without_waiting(Level::Warn, &format!("{signal} asks the program to stop"));
        }
    })
}

fn end_all(end: Option<RunEnd>, exit_code: i32) {
    // The loggers have their own lines written. Without any, a pause may still hold notices.
    terminal::write_held_lines();
    // A thread that held the lock at the end of the process may never release it.
    let Some(state) = state_soon() else { return };
    for logger in state.loggers.iter() {
        logger.outcome().cut_short(end.clone(), exit_code);
    }
    finish_all(state, exit_code);
}

fn finish_all(mut state: MutexGuard<'_, ProcessState>, exit_code: i32) {
    let loggers: Vec<_> = std::mem::take(&mut state.loggers).iter().cloned().collect();
    let provisional = std::mem::take(&mut state.provisional);
    state.finishing += loggers.len();
    drop(state);
    for logger in provisional.iter() {
        logger.finish();
    }
    global_log::withdraw(&loggers);
    let reports: Vec<_> = loggers.iter().map(|logger| logger.finish()).collect();
    let mut state = self::state();
    let endings = leave_runs(&mut state, &loggers, &reports);
    state.finish_shared(exit_code);
    drop(state);
    endings
        .into_iter()
        .for_each(|(ending, deadline)| ending.complete(deadline));
    let mut state = self::state();
    state.finishing -= loggers.len();
    state.end_unused_pipeline();
}

/// Takes loggers that have ended out of their runs. Returns the ends of runs, and how long to wait
/// for each.
fn leave_runs(
    state: &mut ProcessState,
    loggers: &[Arc<LoggerInner>],
    reports: &[FinishReport],
) -> Vec<(RunEnding, Deadline)> {
    let left = loggers.iter().zip(reports).filter_map(|(logger, report)| {
        let ending = state.runs.leave(logger, &report.logger_end())?;
        Some((ending, logger.limit_waiting()))
    });
    left.collect()
}

/// Lets the steps of a logger begin at `step`. The readers of the run know before this returns, at
/// most after `flush_timeout`.
pub(crate) fn start_from(logger: &LoggerInner, step: u64) {
    if !logger.start_from(step) {
        return;
    }
    let settings = logger.settings();
    let Some(run) = settings.run else { return };
    let pending = state().runs.note_first_step(&run, logger.name(), step);
    if let Some(pending) = pending {
        pending.wait(Deadline::after(settings.config.flush_duration()));
    }
}

/// Returns the folder of a logger's run, which is made if no sink has needed it so far.
pub(crate) fn run_dir(logger: &LoggerInner) -> PathBuf {
    let settings = logger.settings();
    let Some(run) = &settings.run else {
        return settings.config.log_dir.clone();
    };
    if !run.is_open() {
        state().runs.make_folder(run, &settings.config);
    }
    run.dir().to_owned()
}

/// In a forked child whose parent is gone, gives the loggers of the parent sinks of their own.
fn adopt_inherited() {
    let mut state = state();
    for logger in global_log::all_inherited() {
        let name = logger.name().to_owned();
        let forked = format!(
            "process {} was forked from process {}, whose writer is gone or out of reach",
            std::process::id(),
            logger.producer().writer_pid()
        );
        match state.adopt(logger) {
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

fn state() -> MutexGuard<'static, ProcessState> {
    lock(STATE.get())
}

/// Locks the state within a second; `None` if another thread holds the lock longer.
fn state_soon() -> Option<MutexGuard<'static, ProcessState>> {
    for _ in 0..100 {
        match STATE.get().try_lock() {
            Ok(state) => return Some(state),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
        }
    }
    None
}
