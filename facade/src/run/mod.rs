//! The runs of this process: what all loggers with the same `log_dir` share.
//!
//! | module | content |
//! |---|---|
//! | [`facts`] | facts about the process and its machine |
//! | [`folder`] | ids, the names of folders, making them |
//! | [`git`] | the commit of the program's repository |
//! | [`killed`] | the end of a killed run in its `run.json` |
//! | [`links`] | the links in `log_dir` that lead to the newest run |

pub(crate) mod facts;
mod folder;
mod git;
mod killed;
mod links;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use logcore::{ConfigError, LogConfig, Ranks, RunInfo};
use logcore_pipeline::print_notice;

use self::folder::NewFolders;
pub(crate) use self::killed::note_killed;

/// The live runs of a process. A run lives from its first logger to the end of its last.
#[derive(Default)]
pub(crate) struct Runs(Vec<LiveRun>);

struct LiveRun {
    run: Arc<Run>,
    /// The loggers of the run, by their age.
    loggers: BTreeSet<u64>,
}

/// One run of this process.
#[derive(Debug)]
pub(crate) struct Run {
    /// The `log_dir` of the config, in which the folders of runs are.
    root: PathBuf,
    choice: RunChoice,
    info: RunInfo,
    /// Name of the text file; `None` if the run makes no links.
    linked_file: Option<String>,
    /// `true` if the folder is there and complete.
    is_open: AtomicBool,
}

/// The fields of a config that belong to the run instead of a logger.
#[derive(Debug, PartialEq, Eq)]
struct RunChoice {
    run: String,
    run_id: Option<String>,
    resume: Option<String>,
}

/// A logger's way into a run, during its set-up. Dropping the value before
/// [`open`](Self::open) removes the folders that it has made.
pub(crate) struct RunEntry {
    run: Arc<Run>,
    folders: NewFolders,
    needs_folder: bool,
}

impl Runs {
    /// Finds the live run in the config's `log_dir`, or plans a new one. `needs_folder` tells
    /// whether a sink may leave files.
    pub(crate) fn enter(&self, config: &LogConfig, needs_folder: bool) -> Result<RunEntry, ConfigError> {
        let live = self.0.iter().find(|live| is_same(&live.run.root, &config.log_dir));
        let mut entry = match live {
            Some(live) => {
                live.run.check(config)?;
                RunEntry {
                    run: Arc::clone(&live.run),
                    folders: NewFolders::default(),
                    needs_folder,
                }
            }
            None => RunEntry::begin(config, needs_folder)?,
        };
        if needs_folder {
            let made = entry.folders.make_all(entry.run.dir());
            made.map_err(|error| cannot_make(config, &error))?;
        }
        Ok(entry)
    }

    /// Adds a logger, by its age, to a run, and takes the logger out of its earlier run.
    pub(crate) fn join(&mut self, run: &Arc<Run>, logger: u64) {
        match self.0.iter_mut().find(|live| Arc::ptr_eq(&live.run, run)) {
            Some(live) => drop(live.loggers.insert(logger)),
            None => self.0.push(LiveRun {
                run: Arc::clone(run),
                loggers: BTreeSet::from([logger]),
            }),
        }
        self.take_out(logger, Some(run));
    }

    /// Takes a logger that has ended out of its run.
    pub(crate) fn leave(&mut self, logger: u64) {
        self.take_out(logger, None);
    }

    /// Takes a logger out of all runs but one, and ends those that have no logger left.
    fn take_out(&mut self, logger: u64, except: Option<&Arc<Run>>) {
        self.0.retain_mut(|live| {
            let is_kept = except.is_some_and(|run| Arc::ptr_eq(run, &live.run));
            is_kept || !live.loggers.remove(&logger) || !live.loggers.is_empty()
        });
    }
}

impl RunEntry {
    fn begin(config: &LogConfig, needs_folder: bool) -> Result<Self, ConfigError> {
        let mut folders = NewFolders::default();
        if needs_folder {
            let made = folders.make_all(&config.log_dir);
            made.map_err(|error| cannot_make(config, &error))?;
        }
        let (id, dir) = match config.run.as_str() {
            FLAT => (folder::new_id(), config.log_dir.clone()),
            AUTO => loop {
                let id = folder::new_id();
                let dir = config.log_dir.join(folder::new_name(&config.name, &id));
                let is_new = match needs_folder {
                    true => folders.make(&dir).map_err(|error| cannot_make(config, &error))?,
                    false => !dir.exists(),
                };
                if is_new {
                    break (id, dir);
                }
            },
            name => {
                let dir = config.log_dir.join(name);
                if folder::is_run(&dir) {
                    let remedy = format!(
                        "{} has a run already: choose another name, or go on with that run by `resume = \"{name}\"`",
                        dir.display()
                    );
                    return Err(ConfigError::new("run", name, remedy));
                }
                (folder::new_id(), dir)
            }
        };
        let is_linked = config.run != FLAT && Ranks::from_config(config).is_first();
        Ok(Self {
            run: Arc::new(Run {
                root: config.log_dir.clone(),
                choice: RunChoice::of(config),
                info: RunInfo::new(id, &config.name, dir, 1),
                linked_file: is_linked.then(|| config.filename.clone()),
                is_open: AtomicBool::new(false),
            }),
            folders,
            needs_folder,
        })
    }

    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// Returns the config as the logger and its sinks see it: their folder is that of the run.
    pub(crate) fn config(&self, config: LogConfig) -> LogConfig {
        LogConfig {
            log_dir: self.run.dir().to_owned(),
            ..config
        }
    }

    /// Opens the run, because the set-up succeeds.
    pub(crate) fn open(self) -> Arc<Run> {
        self.folders.keep();
        if self.needs_folder {
            self.run.open_folder();
        }
        self.run
    }
}

impl Run {
    pub(crate) fn info(&self) -> &RunInfo {
        &self.info
    }

    pub(crate) fn dir(&self) -> &Path {
        self.info.dir()
    }

    /// Returns the folder in which the next start looks for the entry of the ring: the one that
    /// holds the run's folder, or the run's folder itself.
    pub(crate) fn root_of_ring(&self) -> &Path {
        match self.dir() == self.root {
            true => &self.root,
            false => self.dir().parent().unwrap_or(&self.root),
        }
    }

    /// Returns the run's folder, which is made if no sink has needed it so far.
    pub(crate) fn make_folder(&self) -> &Path {
        let mut folders = NewFolders::default();
        match folders.make_all(self.dir()) {
            Ok(()) => {
                folders.keep();
                self.open_folder();
            }
            Err(error) => {
                print_notice(
                    &format!("run folder {}", self.dir().display()),
                    &format!("cannot make the run's folder {}: {error}", self.dir().display()),
                );
            }
        }
        self.dir()
    }

    /// Refuses a config that wants another run than the live one in its `log_dir`.
    fn check(&self, config: &LogConfig) -> Result<(), ConfigError> {
        let refuse = |field: &str, value: &str| {
            let remedy = format!(
                "the run {} in {} is live, and has another value: finish its loggers first, omit the field, or use \
                 another `log_dir`",
                self.info.id(),
                self.dir().display()
            );
            Err(ConfigError::new(field, value, remedy))
        };
        if config.run != AUTO && config.run != self.choice.run {
            return refuse("run", &config.run);
        }
        match (&config.run_id, &config.resume) {
            (Some(id), _) if config.run_id != self.choice.run_id => refuse("run_id", id),
            (_, Some(resume)) if config.resume != self.choice.resume => refuse("resume", resume),
            _ => Ok(()),
        }
    }

    /// Completes the folder, once.
    fn open_folder(&self) {
        if self.is_open.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(file) = &self.linked_file {
            links::make(&self.root, self.dir(), file);
        }
    }
}

impl RunChoice {
    fn of(config: &LogConfig) -> Self {
        Self {
            run: config.run.clone(),
            run_id: config.run_id.clone(),
            resume: config.resume.clone(),
        }
    }
}

/// The value of `run` for a new folder.
const AUTO: &str = "auto";

/// The value of `run` for a run without a folder of its own.
const FLAT: &str = "flat";

/// Returns `true` for two paths of one folder.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || one
            .canonicalize()
            .is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

fn cannot_make(config: &LogConfig, error: &std::io::Error) -> ConfigError {
    let remedy = format!("the folder cannot be made ({error}); name one that can");
    ConfigError::new("log_dir", config.log_dir.display(), remedy)
}
