//! The runs of this process: what all loggers with the same `log_dir` share.
//!
//! | module | content |
//! |---|---|
//! | [`choice`] | a new run, or an earlier one that goes on |
//! | [`folder`] | ids, the names of folders, making them |
//! | [`killed`] | the end of a killed run in its `run.json` |
//! | [`ledger`] | what the time of the run is spent on |
//! | [`links`] | the links in `log_dir` that lead to the newest run |
//! | [`page`] | the page of the run, `report.html` |
//! | [`record`] | the lock of this process, and `run.json` |
//! | [`health`] | the thread that watches the run, and writes `run.json` while the run is live and at its end |
//! | [`stop`] | the request to stop the run |
//! | [`ranks`] | the run that the ranks of a launch share |
//! | [`facts`], [`git`] | facts about the process and its machine |

mod choice;
mod facts;
mod folder;
mod git;
mod health;
mod killed;
pub(crate) mod ledger;
mod links;
mod page;
mod ranks;
mod record;
mod stop;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use logcore::{
    ConfigError, Deadline, LogConfig, LoggerEnd, Ranks, RunInfo, RunManifest, RunState, StopReason, SupersededRows,
};
use logcore_pipeline::{ProcessLock, print_notice};

use self::choice::{AUTO, ChosenRun, FLAT, RunChoice, cannot_make};
use self::folder::{Claim, NewFolders};
use self::health::Health;
pub(crate) use self::health::PendingWrite;
use self::health::bell::Bell;
use self::health::stopping::StopTimes;
#[cfg(feature = "health")]
use self::health::vigil::RunHealth;
pub(crate) use self::killed::note_killed;
use self::ledger::Ledger;
use self::links::LinkedFiles;
use self::ranks::Launch;
use self::record::{EarlierRun, RunRecord};
use self::stop::StopSwitch;
use crate::logger::inner::LoggerInner;
use crate::logger::sinks::is_sink_on;
use crate::logger::summary::{self, ClosingPart};
use crate::process::recovery::deliver_killed_in;

/// The live runs of a process. A run lives from its first logger to the end of its last.
#[derive(Default)]
pub(crate) struct Runs {
    live: Vec<LiveRun>,
    /// Runs while there is a live run with a folder.
    health: Option<Health>,
    /// Number of runs that were opened in each `log_dir`, which is the same on all ranks.
    opened: BTreeMap<PathBuf, u32>,
}

struct LiveRun {
    run: Arc<Run>,
    /// The open loggers of the run, by their age.
    loggers: BTreeMap<u64, Arc<LoggerInner>>,
    /// State and exit code after the worst end of a logger so far.
    worst: (RunState, i32),
    /// The parts of the closing summary of the loggers that have ended.
    closing: Vec<ClosingPart>,
    /// The highest step of the loggers that have ended.
    last_step: Option<u64>,
    /// `true` if one of them has asked for the page of the run.
    has_page: bool,
}

/// One run of this process.
#[derive(Debug)]
pub(crate) struct Run {
    /// The `log_dir` of the config, in which the folders of runs are.
    root: PathBuf,
    choice: RunChoice,
    info: RunInfo,
    ranks: Ranks,
    /// Where rank 0 publishes the run for the others; `None` if there are none, or they know it.
    launch: Option<Launch>,
    /// The rows of earlier attempts that do not count.
    superseded: SupersededRows,
    /// `true` if links in `root` lead to the run.
    is_linked: bool,
    /// `true` if the folder is there and complete.
    is_open: AtomicBool,
    ledger: Arc<Ledger>,
    stop: StopSwitch,
    stop_times: StopTimes,
    bell: Arc<Bell>,
    #[cfg(feature = "health")]
    health: RunHealth,
}

/// A logger's way into a run, during its set-up. Dropping the value removes the folders that it has
/// made, and releases an earlier run; [`Runs::open`] keeps them.
pub(crate) struct RunEntry {
    run: Arc<Run>,
    /// Dropped before the lock in `earlier`: nobody else has the lock while its file is removed.
    folders: NewFolders,
    earlier: EarlierRun,
    needs_folder: bool,
}

impl Runs {
    /// Finds the live run in the config's `log_dir`, or chooses another one. `leaves_files` tells
    /// whether a sink may leave files.
    pub(crate) fn enter(&self, config: &LogConfig, leaves_files: bool) -> Result<RunEntry, ConfigError> {
        self.enter_or_try(config, leaves_files, false)
    }

    /// Returns a way into a run that no logger takes, which shows whether the config is valid. This
    /// does not wait for rank 0, which may have no logger yet, either.
    pub(crate) fn try_out(&self, config: &LogConfig, leaves_files: bool) -> Result<RunEntry, ConfigError> {
        self.enter_or_try(config, leaves_files, true)
    }

    fn enter_or_try(&self, config: &LogConfig, leaves_files: bool, is_trial: bool) -> Result<RunEntry, ConfigError> {
        let choice = RunChoice::of(config)?;
        page::check(config)?;
        refuse_absent_features(config)?;
        let live = self.live.iter().find(|live| is_same(&live.run.root, &config.log_dir));
        let mut entry = match live {
            Some(live) => {
                live.run.check(config, &choice)?;
                let mut entry = RunEntry {
                    run: Arc::clone(&live.run),
                    folders: NewFolders::default(),
                    earlier: EarlierRun::default(),
                    needs_folder: leaves_files,
                };
                if leaves_files && !live.run.is_open() {
                    let claimed = live.run.claim_folder(&mut entry.folders);
                    entry.earlier.lock = claimed.map_err(|error| cannot_make(config, live.run.dir(), &error))?;
                }
                entry
            }
            None => {
                let number = self.opened.get(&config.log_dir).copied().unwrap_or(0);
                RunEntry::begin(config, choice, number, leaves_files, is_trial)?
            }
        };
        if entry.needs_folder {
            let made = entry.folders.make_run(&config.log_dir, entry.run.dir());
            made.map_err(|error| cannot_make(config, entry.run.dir(), &error))?;
            // Before a sink looks where its path leads.
            if entry.run.ranks.is_first() && !is_trial {
                links::remove(entry.run.dir(), &config.filename);
            }
        }
        Ok(entry)
    }

    /// Opens the run of an entry, because the set-up of these loggers succeeds.
    pub(crate) fn open<'a>(
        &mut self,
        entry: RunEntry,
        config: &LogConfig,
        loggers: impl IntoIterator<Item = &'a str>,
    ) -> Arc<Run> {
        entry.folders.keep();
        if entry.needs_folder {
            self.open_folder(&entry.run, entry.earlier, config, loggers);
        }
        entry.run
    }

    /// Adds a logger to a run, and takes the logger out of its earlier run.
    pub(crate) fn join(&mut self, run: &Arc<Run>, logger: &Arc<LoggerInner>) {
        let live = match self.live.iter().position(|live| Arc::ptr_eq(&live.run, run)) {
            Some(index) => &mut self.live[index],
            None => {
                self.live.push(LiveRun::new(run));
                let last = self.live.len() - 1;
                &mut self.live[last]
            }
        };
        live.loggers.insert(logger.age(), Arc::clone(logger));
        if !run.is_open() {
            // With a folder, the run was handed over when the folder was complete.
            self.health.get_or_insert_with(Health::start).begin(run, None);
        }
        if let Some(health) = &self.health {
            health.join(run, logger);
        }
        // A run that the logger has left has no other end.
        drop(self.take_out(logger, Some(run), &LoggerEnd::default()));
    }

    /// Takes a logger that has ended out of its run. Returns the end of the run, if that was its
    /// last logger.
    pub(crate) fn leave(&mut self, logger: &LoggerInner, end: &LoggerEnd) -> Option<RunEnding> {
        let ending = self.take_out(logger, None, end);
        if self.live.is_empty() {
            self.health = None;
        }
        ending
    }

    /// Notes the first step that a logger logs in this attempt, for the readers of the run.
    pub(crate) fn note_first_step(&self, run: &Run, logger: &str, step: u64) -> Option<PendingWrite> {
        run.info().note_first_step(logger, step);
        let live = self.live.iter().find(|live| std::ptr::eq(&*live.run, run))?;
        self.health.as_ref().map(|health| health.save(&live.run))
    }

    /// Makes the folder of a run that no sink has needed so far.
    pub(crate) fn make_folder(&mut self, run: &Arc<Run>, config: &LogConfig) {
        let mut folders = NewFolders::default();
        let lock = match run.claim_folder(&mut folders) {
            Ok(lock) => lock,
            Err(error) => {
                let dir = run.dir().display();
                print_notice(
                    &format!("run folder {dir}"),
                    &format!("cannot make the run's folder {dir}: {error}"),
                );
                return;
            }
        };
        folders.keep();
        let live = self.live.iter().find(|live| Arc::ptr_eq(&live.run, run));
        // The run of a parent process, or of a logger that has ended, needs no more than a folder.
        let Some(live) = live else { return };
        let loggers: Vec<Arc<LoggerInner>> = live.loggers.values().cloned().collect();
        let names = loggers.iter().map(|logger| logger.name());
        let manifest = RunManifest::default();
        self.open_folder(run, EarlierRun { manifest, lock }, config, names);
        if let Some(health) = &self.health {
            loggers.iter().for_each(|logger| health.join(run, logger));
        }
    }

    /// In a child of a fork whose parent is gone, goes on with the parent's run.
    pub(crate) fn take_over(&mut self, run: &Arc<Run>, logger: &Arc<LoggerInner>) {
        let is_known = self.live.iter().any(|live| Arc::ptr_eq(&live.run, run));
        if !is_known && let Some(mut record) = RunRecord::take_over(run.info(), run.ranks.rank, &run.ledger) {
            record.begin();
            self.health.get_or_insert_with(Health::start).begin(run, Some(record));
        }
        self.join(run, logger);
    }

    /// Completes the folder of a run, once, and adds the links of a later logger.
    fn open_folder<'a>(
        &mut self,
        run: &Arc<Run>,
        earlier: EarlierRun,
        config: &LogConfig,
        loggers: impl IntoIterator<Item = &'a str>,
    ) {
        if run.is_open.swap(true, Ordering::Relaxed) {
            if run.is_linked {
                links::add(&run.root, run.dir(), linked_files(config));
            }
            return;
        }
        let mut record = RunRecord::new(run.info(), run.ranks, &run.ledger, earlier);
        loggers.into_iter().for_each(|name| record.add_logger(name));
        record.begin();
        *self.opened.entry(run.root.clone()).or_default() += 1;
        if let Some(launch) = &run.launch {
            launch.publish(run.info());
        }
        if run.is_linked {
            links::make(&run.root, run.dir(), linked_files(config));
        }
        self.health.get_or_insert_with(Health::start).begin(run, Some(record));
        facts::collect_in_background(run.info(), config);
    }

    /// Takes a logger out of all runs but one, and ends the run that has no logger left.
    fn take_out(&mut self, logger: &LoggerInner, except: Option<&Arc<Run>>, end: &LoggerEnd) -> Option<RunEnding> {
        let is_left = |live: &LiveRun| {
            let is_kept = except.is_some_and(|run| Arc::ptr_eq(run, &live.run));
            !is_kept && live.loggers.contains_key(&logger.age())
        };
        let index = self.live.iter().position(is_left)?;
        let live = &mut self.live[index];
        live.loggers.remove(&logger.age());
        live.worst = live.worst.max((RunState::after(end), end.exit_code));
        live.closing.extend(logger.take_closing_part());
        live.last_step = live.last_step.max(logger.metrics().last_step());
        live.has_page |= logger.settings().config.report;
        if !live.loggers.is_empty() {
            return None;
        }
        let live = self.live.swap_remove(index);
        let (state, exit_code) = live.worst;
        // Rank 0 writes what all ranks share.
        let has_page = live.has_page && live.run.ranks.is_first() && live.run.is_open();
        let end = |health: &Health| health.end(&live.run, state, exit_code, live.last_step);
        Some(RunEnding {
            written: self.health.as_ref().map(end),
            has_page,
            info: live.run.info().clone(),
            closing: live.closing,
        })
    }
}

/// The end of a run, which its last logger completes without the lock of the runs.
#[must_use = "the closing summary is not printed yet"]
pub(crate) struct RunEnding {
    written: Option<PendingWrite>,
    has_page: bool,
    info: RunInfo,
    closing: Vec<ClosingPart>,
}

impl RunEnding {
    /// Writes the page of the run, prints the closing summary, and waits until the end is in
    /// `run.json`.
    pub(crate) fn complete(self, deadline: Deadline) {
        let page = self.has_page.then(|| {
            // The terminal needs some of the time.
            let deadline = Deadline::after(deadline.remaining().mul_f64(0.9));
            // The page shows the end of the run.
            self.written.iter().for_each(|written| written.wait(deadline));
            page::write(&self.info, deadline)
        });
        summary::print_closing(self.info.name(), self.closing, page.flatten().as_deref(), deadline);
        if let Some(written) = self.written {
            written.wait(deadline);
        }
    }
}

impl LiveRun {
    fn new(run: &Arc<Run>) -> Self {
        Self {
            run: Arc::clone(run),
            loggers: BTreeMap::new(),
            worst: (RunState::Finished, 0),
            closing: Vec::new(),
            last_step: None,
            has_page: false,
        }
    }
}

impl RunEntry {
    fn begin(
        config: &LogConfig,
        choice: RunChoice,
        number: u32,
        leaves_files: bool,
        is_trial: bool,
    ) -> Result<Self, ConfigError> {
        let mut folders = NewFolders::default();
        if leaves_files {
            let made = folders.make_all(&config.log_dir);
            made.map_err(|error| cannot_make(config, &config.log_dir, &error))?;
        }
        let ranks = Ranks::from_config(config);
        let launch = Launch::of_process(config, &choice, number).filter(|_| leaves_files);
        let chosen = match &launch {
            // The run does not matter, so any will do.
            Some(_) if is_trial && !ranks.is_first() => ChosenRun::new(folder::new_id(), config.log_dir.clone()),
            Some(launch) if !ranks.is_first() => launch.follow(config),
            None if !ranks.is_first() && (choice.run == FLAT || choice.run_id.is_some()) => {
                ranks::follow_known(config, &choice)
            }
            _ => {
                launch.iter().for_each(Launch::withdraw);
                choice::choose(config, &choice, &mut folders, leaves_files)?
            }
        };
        let is_elsewhere = chosen.dir.parent() != Some(&config.log_dir) && chosen.dir != config.log_dir;
        if !ranks.is_first() && is_elsewhere {
            deliver_killed_in(&chosen.dir, config);
        }
        let earlier = chosen.earlier;
        let attempt = choice::attempt_after(&earlier.manifest);
        let name = match earlier.manifest.name.as_str() {
            "" => config.name.as_str(),
            name => name,
        };
        let is_linked = choice.run != FLAT && ranks.is_first();
        let info = RunInfo::new(chosen.id, name, chosen.dir, attempt);
        for wandb in &earlier.manifest.wandb {
            info.note_wandb_run(wandb.clone());
        }
        // Ranks whose folders differ cannot agree on anything.
        let needs_agreement = cfg!(feature = "health") && leaves_files && ranks.world_size.is_some_and(|size| size > 1);
        let bell = Arc::default();
        let run = Run {
            root: config.log_dir.clone(),
            info,
            choice,
            ranks,
            launch: launch.filter(|_| ranks.is_first()),
            superseded: earlier.manifest.superseded_rows(),
            ledger: Arc::new(Ledger::continue_after(&earlier.manifest, &bell)),
            is_linked,
            is_open: AtomicBool::new(false),
            stop: StopSwitch::new(needs_agreement),
            stop_times: StopTimes::of(config),
            bell,
            #[cfg(feature = "health")]
            health: RunHealth::of(config),
        };
        Ok(Self {
            run: Arc::new(run),
            folders,
            needs_folder: leaves_files || attempt > 1,
            earlier,
        })
    }

    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// Returns the config as the logger and its sinks see it: their folder is that of the run, and
    /// `resume` may be from the environment.
    pub(crate) fn config(&self, config: LogConfig) -> LogConfig {
        LogConfig {
            log_dir: self.run.dir().to_owned(),
            resume: self.run.choice.resume.clone(),
            ..config
        }
    }
}

impl Run {
    pub(crate) fn info(&self) -> &RunInfo {
        &self.info
    }

    /// Returns the folder in which the next start looks for the entry of the ring: the one that
    /// holds the run's folder, or the run's folder itself.
    pub(crate) fn root_of_ring(&self) -> &Path {
        match self.dir() == self.root {
            true => &self.root,
            false => self.dir().parent().unwrap_or(&self.root),
        }
    }

    /// Returns the rows of earlier attempts that do not count.
    pub(crate) fn superseded_rows(&self) -> &SupersededRows {
        &self.superseded
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    pub(crate) fn dir(&self) -> &Path {
        self.info.dir()
    }

    pub(crate) fn stop(&self) -> &StopSwitch {
        &self.stop
    }

    #[cfg(feature = "health")]
    pub(crate) fn health(&self) -> &RunHealth {
        &self.health
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Asks the run to stop.
    pub(crate) fn request_stop(&self, reason: StopReason) {
        self.stop.request(reason);
        self.bell.ring();
    }

    fn stop_times(&self) -> StopTimes {
        self.stop_times
    }

    #[cfg(feature = "health")]
    fn rank(&self) -> u32 {
        self.ranks.rank
    }

    #[cfg(feature = "health")]
    fn world_size(&self) -> Option<u32> {
        self.ranks.world_size
    }

    fn is_first_rank(&self) -> bool {
        self.ranks.is_first()
    }

    /// Makes the folder of a run that was chosen without one, and takes its lock if other processes
    /// may choose the same folder.
    fn claim_folder(&self, folders: &mut NewFolders) -> io::Result<Option<ProcessLock>> {
        if self.choice.run == FLAT || !self.ranks.is_first() {
            return folders.make_run(&self.root, self.dir()).map(|()| None);
        }
        match folders.claim_run(&self.root, self.dir())? {
            Claim::Held(lock) => Ok(lock),
            Claim::Taken => Err(io::Error::other("another process has begun a run there")),
        }
    }

    /// Returns `true` if the folder is there and complete.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Refuses a config that wants another run than the live one in its `log_dir`.
    fn check(&self, config: &LogConfig, choice: &RunChoice) -> Result<(), ConfigError> {
        let refuse = |field: &str, value: &str| {
            let remedy = format!(
                "the run {} in {} is live, and has another value: finish its loggers first, omit the field, or use \
                 another `log_dir`",
                self.info.id(),
                self.dir().display()
            );
            Err(ConfigError::new(field, value, remedy))
        };
        if choice.run != AUTO && choice.run != self.choice.run {
            return refuse("run", &config.run);
        }
        match (&choice.run_id, &choice.resume) {
            (Some(id), _) if choice.run_id != self.choice.run_id => refuse("run_id", id),
            (_, Some(resume)) if choice.resume != self.choice.resume => refuse("resume", resume),
            _ => Ok(()),
        }
    }
}

fn linked_files(config: &LogConfig) -> LinkedFiles<'_> {
    LinkedFiles {
        text_file: &config.filename,
        has_text: is_sink_on(config, "file"),
        has_rows: is_sink_on(config, "jsonl"),
    }
}

/// Returns `true` for two paths of one folder.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || one
            .canonicalize()
            .is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// Refuses a config that asks for the times of spans in a build that knows no spans, or for rules
/// in one that knows no rules.
fn refuse_absent_features(config: &LogConfig) -> Result<(), ConfigError> {
    let refuse = |field: &str, value: String, feature: &str| {
        let remedy = format!("switch on the Cargo feature `{feature}` of logcore-facade, or leave it empty");
        Err(ConfigError::new(field, value, remedy))
    };
    match (config.span_metrics.first(), config.rules.first()) {
        (Some(name), _) if !cfg!(feature = "tracing") => refuse("span_metrics", name.clone(), "tracing"),
        (_, Some(rule)) if !cfg!(feature = "health") => refuse("rules", rule.name(), "health"),
        _ => Ok(()),
    }
}
