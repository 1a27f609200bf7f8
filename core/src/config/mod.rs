//! What a user can set.

mod depth;
mod fields;
mod filename;
mod level;
mod load;
mod site_limit;
mod watched;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::level::parse_level;
pub(crate) use self::load::{is_field, level_remedy};
pub use self::site_limit::SiteLimit;
pub use self::watched::WatchedLevels;
use crate::{ConfigError, Directives, FileRank, Redaction, secret};

/// Everything that can be set about a logger. The default is a working configuration.
///
/// | field | default | |
/// |---|---|---|
/// | `name` | `root` | the logger's name |
/// | `log_dir` | `outputs/logs` | the folder of the run's files |
/// | `console_level`, `file_level` | INFO, DEBUG | from which level on |
/// | `filename` | `training.log` | the text file in `log_dir`; a name, not a path |
/// | `enable_console`, `enable_file` | on | |
/// | `enable_wandb` | off | |
/// | `enable_progress`, `enable_metrics`, `enable_memory` | on | |
/// | `capture_warnings` | on | warnings and errors of any crate, and panics |
/// | `handle_signals` | on | SIGINT, SIGTERM and SIGHUP finish the loggers before they end the process |
/// | `propagate` | off | records also go to the sinks of the parents of `name` |
/// | `rank`, `world_size` | of the environment | which of several processes this is, see [`Ranks`](crate::Ranks) |
/// | `rank_files` | on | ranks above 0 have files of their own: `training.rank3.log` |
/// | `other_ranks_level` | WARN | the console of ranks above 0 shows this at most |
/// | `other_ranks_wandb` | off | ranks above 0 have W&B runs, too |
/// | `wandb_project`, `wandb_name`, `wandb_tags` | none | |
/// | `progress_window` | 100 | updates that a rate is taken over |
/// | `progress_smoothing` | 0.3 | how readily the ETA believes in a new rate: 0 trusts the whole run, 1 only the newest window |
/// | `progress_metrics` | none | shown behind a progress: `loss` newest, `loss:mean` averaged; none: the first few |
/// | `progress_position`, `progress_leave` | 0, on | the bar's line; whether it stays |
/// | `metrics_window` | 100 | values that an average is taken over |
/// | `metrics_history`, `metrics_prefix` | on, `metrics/` | |
/// | `sinks` | none | options of one sink by its name; `false` switches it off |
/// | `probes` | none | the same for probes |
/// | `directives` | none | levels by target, see [`Directives`] |
/// | `watch_file` | none | a config file whose levels are taken over when it changes |
/// | `fold_repeats` | off | equal lines in a row are one on the console and in the text file |
/// | `limit_per_site` | none | `100/10s`: so many records from one place in the code, see [`SiteLimit`] |
/// | `redact` | none | patterns of what no sink may see, see [`Redaction`] |
/// | `ring_bytes` | 4 MiB | of the ring between callers and writer; the first logger of a process decides |
/// | `ring_place` | `auto` | where the ring lies, so that a killed process loses nothing |
/// | `on_full` | `wait` | what a call does when the ring is full |
/// | `finish_summary` | on | the end of a run with metrics is told on the console |
/// | `flush_timeout`, `finish_timeout` | 5 s, 30 s | |
///
/// ```
/// use logcore::LogConfig;
/// use logcore::log::LevelFilter;
///
/// let config = LogConfig { name: "trainer".into(), ..LogConfig::default() };
/// assert_eq!(config.console_level, LevelFilter::Info);
///
/// let config: LogConfig = serde_json::from_str(r#"{"console_level": "WARNING"}"#).unwrap();
/// assert_eq!(config.console_level, LevelFilter::Warn);
///
/// let error = serde_json::from_str::<LogConfig>(r#"{"consol_level": "INFO"}"#).unwrap_err();
/// assert!(error.to_string().contains("`console_level`"));
/// ```
#[derive(Clone, PartialEq)]
pub struct LogConfig {
    /// The logger's name. `a.b` and `a::b` lie under `a`.
    pub name: String,
    /// The folder that the run's files go to; made if it is not there.
    pub log_dir: PathBuf,
    /// The console shows this level and what is graver.
    pub console_level: LevelFilter,
    /// The text file holds this level and what is graver.
    pub file_level: LevelFilter,
    /// The name of the text file.
    pub filename: String,

    /// Whether there is console output.
    pub enable_console: bool,
    /// Whether there is a text file.
    pub enable_file: bool,
    /// Whether there is a W&B run.
    pub enable_wandb: bool,
    /// Whether progress is measured and shown.
    pub enable_progress: bool,
    /// Whether metrics are tracked.
    pub enable_metrics: bool,
    /// Whether memory is read.
    pub enable_memory: bool,
    /// Whether this logger also writes warnings and errors that other crates send to the `log` facade, and panics.
    pub capture_warnings: bool,
    /// Whether SIGINT, SIGTERM and SIGHUP finish the loggers before they end the process, and Ctrl-Z leaves a clean terminal. A
    /// signal that the program handles by itself, or ignores, is left to it. The first logger of a process decides.
    pub handle_signals: bool,
    /// Whether records also go to the sinks of the parents of `name`.
    pub propagate: bool,

    /// Which of several processes this is; `None` is what the launcher says, see [`Ranks::from_env`](crate::Ranks::from_env).
    pub rank: Option<u32>,
    /// How many processes there are; `None` is what the launcher says.
    pub world_size: Option<u32>,
    /// Whether ranks above 0 have files of their own. If not, all ranks append to the same.
    pub rank_files: bool,
    /// The console of ranks above 0 shows this level and what is graver, and never more than `console_level`.
    pub other_ranks_level: LevelFilter,
    /// Whether ranks above 0 have W&B runs of their own, where `enable_wandb` is on.
    pub other_ranks_wandb: bool,

    /// The W&B project; `None` is `WANDB_PROJECT`, else "default".
    pub wandb_project: Option<String>,
    /// The name of the W&B run.
    pub wandb_name: Option<String>,
    /// The tags of the W&B run.
    pub wandb_tags: Vec<String>,

    /// How many updates a rate is taken over; at least 1.
    pub progress_window: usize,
    /// How readily the ETA believes in a new rate: 0 trusts the whole run, 1 only the newest window.
    pub progress_smoothing: f64,
    /// The metrics that are shown behind a progress: `loss` for the newest value, `loss:mean` for the average over
    /// `metrics_window`. With none, the first few that are logged.
    pub progress_metrics: Vec<String>,
    /// The line of the bar among several.
    pub progress_position: u32,
    /// Whether a bar stays on the screen when it is done.
    pub progress_leave: bool,

    /// How many values an average is taken over; at least 1.
    pub metrics_window: usize,
    /// Whether all values are kept.
    pub metrics_history: bool,
    /// What stands before a metric's name in the sinks.
    pub metrics_prefix: String,

    /// Options of the sinks, by name. A sink from any linked crate is switched on by having an entry; `false` switches
    /// one off.
    pub sinks: BTreeMap<String, Value>,
    /// Options of the probes, by name, in the same way.
    pub probes: BTreeMap<String, Value>,
    /// Levels by target; see [`Directives`].
    pub directives: String,
    /// A config file that is looked at twice a second while the logger lives: when what it says of `console_level`,
    /// `file_level` or `directives` changes, the logger takes it over. What it does not name, and every other field, stays as
    /// it is. In a file of its own name, `watch_file = "logging.toml"` has that file watched.
    pub watch_file: Option<PathBuf>,
    /// Whether equal lines in a row become one line and "last line repeated 999 times", on the console and in the text file.
    /// Equal is what has the same level, logger, target, message and fields.
    pub fold_repeats: bool,
    /// How many records a place in the code may emit in a period, such as `100/10s`; what is more is counted and said in one
    /// line. Empty is no limit. Errors always pass.
    pub limit_per_site: String,
    /// Patterns of what is replaced by `***` before any sink sees it: in messages, fields, hyper-parameters and descriptions of
    /// progresses, in the message of a panic wherever the run's end is told, in what this logger says to W&B, and in lines of
    /// trouble. The lines that Rust's own panic hook prints on stderr are not ours. See [`Redaction`].
    pub redact: Vec<String>,
    /// The size of the ring between callers and writer, in bytes; rounded up to a power of two.
    pub ring_bytes: usize,
    /// Where the ring lies; the first logger of a process decides.
    pub ring_place: RingPlace,
    /// What a call does when the ring is full.
    pub on_full: OnFull,
    /// Whether the console tells at the end what the run was: how long, how fast, each metric, what went where.
    pub finish_summary: bool,
    /// How long `flush` may take, in seconds.
    pub flush_timeout: f64,
    /// How long `finish` may take, in seconds.
    pub finish_timeout: f64,
}

impl LogConfig {
    /// Checks all that can be checked without touching anything outside.
    ///
    /// # Errors
    ///
    /// The first field that cannot work: a window of 0, a smoothing outside 0 to 1, a `filename` with a path in it, …
    pub fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("progress_window", self.progress_window)?;
        at_least_one("metrics_window", self.metrics_window)?;
        if !(0.0..=1.0).contains(&self.progress_smoothing) {
            return Err(ConfigError::new(
                "progress_smoothing",
                self.progress_smoothing,
                "use a number from 0 (the whole run) to 1 (only the newest rate)",
            ));
        }
        filename::validate(&self.filename)?;
        self.validate_ranks()?;
        if self.log_dir.as_os_str().is_empty() {
            return Err(ConfigError::new(
                "log_dir",
                "\"\"",
                "name a folder; `.` is the current one",
            ));
        }
        self.directives()?;
        self.site_limit()?;
        self.redaction()?;
        if !(MIN_RING_BYTES..=MAX_RING_BYTES).contains(&self.ring_bytes) {
            return Err(ConfigError::new(
                "ring_bytes",
                self.ring_bytes,
                format!("use from {MIN_RING_BYTES} to {MAX_RING_BYTES} bytes"),
            ));
        }
        seconds("flush_timeout", self.flush_timeout)?;
        seconds("finish_timeout", self.finish_timeout)?;
        Ok(())
    }

    /// The levels by target.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub fn directives(&self) -> Result<Directives, ConfigError> {
        self.directives.parse()
    }

    /// The limit for each place in the code, if there is one.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn site_limit(&self) -> Result<Option<SiteLimit>, ConfigError> {
        match self.limit_per_site.trim() {
            "" => Ok(None),
            limit => limit.parse().map(Some),
        }
    }

    /// What may not be seen; `None` if nothing is hidden.
    ///
    /// # Errors
    ///
    /// If a pattern cannot work.
    pub fn redaction(&self) -> Result<Option<Redaction>, ConfigError> {
        match self.redact.as_slice() {
            [] => Ok(None),
            patterns => Redaction::new(patterns).map(Some),
        }
    }

    /// The path of this rank's text file.
    pub fn log_file(&self) -> PathBuf {
        self.log_dir.join(FileRank::from_config(self).name(&self.filename))
    }

    /// `flush_timeout` as a duration.
    pub fn flush_duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.flush_timeout).unwrap_or(Duration::MAX)
    }

    /// `finish_timeout` as a duration.
    pub fn finish_duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.finish_timeout).unwrap_or(Duration::MAX)
    }

    fn validate_ranks(&self) -> Result<(), ConfigError> {
        let Some(size) = self.world_size else { return Ok(()) };
        if size == 0 {
            return Err(ConfigError::new("world_size", size, "use at least 1, or leave it out"));
        }
        match self.rank {
            Some(rank) if rank >= size => {
                let remedy = format!("`world_size` is {size}: use a rank from 0 to {}", size - 1);
                Err(ConfigError::new("rank", rank, remedy))
            }
            _ => Ok(()),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            name: "root".to_owned(),
            log_dir: PathBuf::from("outputs/logs"),
            console_level: LevelFilter::Info,
            file_level: LevelFilter::Debug,
            filename: "training.log".to_owned(),
            enable_console: true,
            enable_file: true,
            enable_wandb: false,
            enable_progress: true,
            enable_metrics: true,
            enable_memory: true,
            capture_warnings: true,
            handle_signals: true,
            propagate: false,
            rank: None,
            world_size: None,
            rank_files: true,
            other_ranks_level: LevelFilter::Warn,
            other_ranks_wandb: false,
            wandb_project: None,
            wandb_name: None,
            wandb_tags: Vec::new(),
            progress_window: 100,
            progress_smoothing: 0.3,
            progress_metrics: Vec::new(),
            progress_position: 0,
            progress_leave: true,
            metrics_window: 100,
            metrics_history: true,
            metrics_prefix: "metrics/".to_owned(),
            sinks: BTreeMap::new(),
            probes: BTreeMap::new(),
            directives: String::new(),
            watch_file: None,
            fold_repeats: false,
            limit_per_site: String::new(),
            redact: Vec::new(),
            ring_bytes: 4 << 20,
            ring_place: RingPlace::Auto,
            on_full: OnFull::Wait,
            finish_summary: true,
            flush_timeout: 5.0,
            finish_timeout: 30.0,
        }
    }
}

/// Shows the options of sinks without the values of secrets, and no pattern of what is to be hidden.
impl fmt::Debug for LogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = serde_json::to_value(self).unwrap_or_default();
        if let Some(Value::Array(patterns)) = shown.get_mut("redact") {
            patterns.fill(secret::HIDDEN.into());
        }
        f.write_str("LogConfig ")?;
        fmt::Debug::fmt(&secret::redacted(&shown), f)
    }
}

/// What a call does when the ring is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFull {
    /// It waits until there is room: nothing is lost.
    #[default]
    Wait,
    /// It drops what it was told, counts it and returns: nothing waits.
    Drop,
}

/// Where the ring between callers and writer lies. What is in it when the process is killed, the next process that logs into
/// the same folder delivers, unless it lies in plain memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RingPlace {
    /// In the log directory, if that is on ext4 or in memory, where the room for a file is certain. Elsewhere in the machine's shared
    /// memory, with a name in the log directory that leads there, and in the directory where there is no such memory: that of a
    /// container is used only if the directory cannot be. With `on_full = "drop"` shared memory comes first, because a disk that
    /// is frozen for a snapshot holds up whoever writes to a file. In plain memory if nothing else is left.
    #[default]
    Auto,
    /// In the log directory: it is still there after a container's restart or a logout.
    LogDir,
    /// In `/dev/shm`: a busy disk never holds up a call.
    SharedMemory,
    /// In plain memory: what was not delivered when the process is killed is lost.
    Memory,
}

/// A ring smaller than this could not hold a useful frame.
const MIN_RING_BYTES: usize = 4096;
/// A larger ring would only hide a sink that is too slow.
const MAX_RING_BYTES: usize = 1 << 30;

fn at_least_one(field: &str, value: usize) -> Result<(), ConfigError> {
    if value == 0 {
        return Err(ConfigError::new(field, value, "use at least 1; the default is 100"));
    }
    Ok(())
}

fn seconds(field: &str, value: f64) -> Result<(), ConfigError> {
    if value.is_nan() || value < 0.0 {
        return Err(ConfigError::new(field, value, "use a number of seconds, 0 or more"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_works() {
        LogConfig::default().validate().unwrap();
    }

    #[test]
    fn what_cannot_work_is_named() {
        type Spoil = fn(&mut LogConfig);
        let wrong: [(&str, Spoil); 18] = [
            ("progress_window", |c| c.progress_window = 0),
            ("metrics_window", |c| c.metrics_window = 0),
            ("progress_smoothing", |c| c.progress_smoothing = 1.01),
            ("progress_smoothing", |c| c.progress_smoothing = f64::NAN),
            ("filename", |c| c.filename = "logs/training.log".into()),
            ("filename", |c| c.filename = "..".into()),
            ("filename", |c| c.filename = String::new()),
            ("filename", |c| c.filename = "a\\b".into()),
            ("filename", |c| c.filename = "training.log/".into()),
            ("world_size", |c| c.world_size = Some(0)),
            ("rank", |c| (c.rank, c.world_size) = (Some(8), Some(8))),
            ("log_dir", |c| c.log_dir = PathBuf::new()),
            ("directives", |c| c.directives = "loud".into()),
            ("limit_per_site", |c| c.limit_per_site = "many".into()),
            ("redact[1]", |c| c.redact = vec!["fine".into(), "(".into()]),
            ("ring_bytes", |c| c.ring_bytes = 0),
            ("flush_timeout", |c| c.flush_timeout = -1.0),
            ("finish_timeout", |c| c.finish_timeout = f64::NAN),
        ];
        for (field, spoil) in wrong {
            let mut config = LogConfig::default();
            spoil(&mut config);
            let error = config.validate().unwrap_err();
            assert_eq!(error.field, field);
            assert!(!error.remedy.is_empty());
        }
    }

    #[test]
    fn debug_hides_secrets_and_serde_keeps_them() {
        let mut config = LogConfig::default();
        config
            .sinks
            .insert("wandb".into(), serde_json::json!({"api_key": "s3cr3t", "entity": "me"}));
        assert!(!format!("{config:?}").contains("s3cr3t"));
        assert!(format!("{config:?}").contains("entity"));
        let back: LogConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(back, config);
    }
}
