//! The surroundings of a plugin while it is built.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::plugin::require;
use crate::{ConfigError, FileRank, Formatter, LogConfig, Ranks, RunInfo, SinkError, SinkErrorKind, StopFlag};

/// The logger's config and environment, as a sink, formatter or probe sees them while it is built.
///
/// ```
/// use logcore::{BuildContext, LogConfig, StopFlag};
/// use std::path::Path;
///
/// let config = LogConfig { log_dir: "run".into(), rank: Some(3), ..LogConfig::default() };
/// let stop = StopFlag::default();
/// let context = BuildContext::new(&config, &stop);
/// assert_eq!(context.rank(), 3);
/// assert_eq!(context.file_path("tally.json"), Path::new("run/tally.rank3.json"));
/// ```
#[derive(Debug, Clone)]
pub struct BuildContext<'a> {
    config: &'a LogConfig,
    run: RunInfo,
    ranks: Ranks,
    stop: &'a StopFlag,
    first_step: Cell<u64>,
    follows_links: bool,
    for_dead_process: bool,
}

impl<'a> BuildContext<'a> {
    /// Creates the context of a logger with this config. The ranks are those of
    /// [`Ranks::from_config`].
    #[must_use]
    pub fn new(config: &'a LogConfig, stop: &'a StopFlag) -> Self {
        Self {
            config,
            run: RunInfo::from_config(config),
            ranks: Ranks::from_config(config),
            stop,
            first_step: Cell::new(0),
            follows_links: false,
            for_dead_process: false,
        }
    }

    /// Sets the run that the logger belongs to.
    #[must_use]
    pub fn with_run(mut self, run: &RunInfo) -> Self {
        self.run = run.clone();
        self
    }

    /// Lets [`resolve_beneath`](Self::resolve_beneath) follow links, because the user declared the
    /// files of a killed process trustworthy.
    #[must_use]
    pub fn allow_links(mut self) -> Self {
        self.follows_links = true;
        self
    }

    /// Marks the context as the recovery of a process that is known to be dead. Locks on its files
    /// can only be inherited by its children.
    #[must_use]
    pub fn for_dead_process(mut self) -> Self {
        self.for_dead_process = true;
        self
    }

    /// Returns `true` if the sink resumes the output of a process that is known to be dead.
    #[must_use]
    pub fn is_for_dead_process(&self) -> bool {
        self.for_dead_process
    }

    /// Returns the name of the logger that the plugin is built for.
    #[must_use]
    pub fn logger(&self) -> &'a str {
        &self.config.name
    }

    /// Returns the whole config.
    #[must_use]
    pub fn config(&self) -> &'a LogConfig {
        self.config
    }

    /// Returns the folder of the run's files. The folder may not exist yet.
    #[must_use]
    pub fn log_dir(&self) -> &'a Path {
        &self.config.log_dir
    }

    /// Returns the run that the logger belongs to.
    #[must_use]
    pub fn run(&self) -> &RunInfo {
        &self.run
    }

    /// Returns the rank of this process; 0 in a run of one process.
    #[must_use]
    pub fn rank(&self) -> u32 {
        self.ranks.rank
    }

    /// Returns the rank, local rank and world size.
    #[must_use]
    pub fn ranks(&self) -> Ranks {
        self.ranks
    }

    /// Returns the path of a file in the log directory, under a name that no other rank uses:
    /// `metrics.rank3.jsonl` for `metrics.jsonl`.
    #[must_use]
    pub fn file_path(&self, name: &str) -> PathBuf {
        self.config
            .log_dir
            .join(FileRank::from_config(self.config).file_name(name))
    }

    /// Returns the path of a file that a [`ResumePoint`](crate::ResumePoint) names relative to the
    /// log directory.
    ///
    /// A sink that resumes calls this function before it opens the file: somebody else may have
    /// sent the resume point together with the log directory.
    ///
    /// ```
    /// use logcore::{BuildContext, LogConfig, SinkErrorKind, StopFlag};
    /// use std::path::Path;
    ///
    /// let config = LogConfig { log_dir: "run".into(), ..LogConfig::default() };
    /// let stop = StopFlag::default();
    /// let context = BuildContext::new(&config, &stop);
    /// assert_eq!(context.resolve_beneath(Path::new("training.log")).unwrap(), Path::new("run/training.log"));
    ///
    /// let error = context.resolve_beneath(Path::new("../.bashrc")).unwrap_err();
    /// assert_eq!(error.kind(), SinkErrorKind::ForeignPath);
    /// ```
    ///
    /// # Errors
    ///
    /// [`SinkErrorKind::ForeignPath`] if the path leads out of the log directory or over a link.
    pub fn resolve_beneath(&self, path: &Path) -> Result<PathBuf, SinkError> {
        self.resolve_beneath_folder(self.log_dir(), path)
    }

    /// Like [`resolve_beneath`](Self::resolve_beneath), for another folder that the config names.
    ///
    /// # Errors
    ///
    /// Those of [`resolve_beneath`](Self::resolve_beneath).
    pub fn resolve_beneath_folder(&self, folder: &Path, path: &Path) -> Result<PathBuf, SinkError> {
        let refuse = |relation: &str| {
            let text = format!("{} {relation} {}", path.display(), folder.display());
            Err(SinkError::new(text).with_kind(SinkErrorKind::ForeignPath))
        };
        if !crate::files::is_plain_relative(path) {
            return refuse("leads out of");
        }
        let mut whole = folder.to_owned();
        for component in path {
            whole.push(component);
            if !whole.is_symlink() {
                continue;
            }
            if !self.follows_links {
                return refuse("is, or leads over, a link in");
            }
            whole = whole.canonicalize()?;
        }
        Ok(whole)
    }

    /// Returns the flag with which a sink asks the run to stop. A sink keeps a clone.
    #[must_use]
    pub fn stop_flag(&self) -> &'a StopFlag {
        self.stop
    }

    /// Lets the steps of a continued run begin at `step`, or higher if another sink asks for a
    /// higher step.
    ///
    /// ```
    /// # use logcore::{BuildContext, LogConfig, StopFlag};
    /// # let (config, stop) = (LogConfig::default(), StopFlag::default());
    /// let context = BuildContext::new(&config, &stop);
    /// context.start_from(100);
    /// context.start_from(50);
    /// assert_eq!(context.first_step(), 100);
    /// ```
    pub fn start_from(&self, step: u64) {
        self.first_step.set(self.first_step.get().max(step));
    }

    /// Returns the highest step that a sink passed to [`start_from`](Self::start_from); 0 for a new
    /// run.
    #[must_use]
    pub fn first_step(&self) -> u64 {
        self.first_step.get()
    }

    /// Builds the formatter that an option names: `"json"`, or a table with `name` and the
    /// formatter's options.
    ///
    /// ```
    /// use logcore::{BuildContext, LogConfig, StopFlag};
    /// use logcore::serde_json::json;
    ///
    /// let (config, stop) = (LogConfig::default(), StopFlag::default());
    /// let context = BuildContext::new(&config, &stop);
    /// // This program links no crate with a formatter.
    /// let error = context.build_formatter(&json!({"name": "yaml"})).err().unwrap();
    /// assert_eq!((&*error.field, &*error.value), ("formatter", "yaml"));
    /// ```
    ///
    /// # Errors
    ///
    /// If no linked crate registered the formatter, or the formatter refuses its options.
    pub fn build_formatter(&self, choice: &Value) -> Result<Box<dyn Formatter>, ConfigError> {
        let refuse = |remedy: &str| ConfigError::new("formatter", choice, remedy);
        let (name, options) = match choice {
            Value::String(name) => (name.clone(), Map::new()),
            Value::Object(table) => {
                let mut options = table.clone();
                match options.remove("name") {
                    Some(Value::String(name)) => (name, options),
                    _ => return Err(refuse("add the formatter's name, such as `name = \"json\"`")),
                }
            }
            _ => return Err(refuse("use the name of a formatter, such as \"plain\"")),
        };
        let plugin = require::<dyn Formatter>(&name, |remedy| ConfigError::new("formatter", &name, remedy))?;
        (plugin.build)(Value::Object(options), self).map_err(|error| error.within("formatter"))
    }
}
