//! The config of a logger: fields, defaults, validation, and the ways to load it.
//!
//! A config is a plain struct. It comes from code (`LogConfig { name: "trainer".into(),
//! ..LogConfig::default() }`), from a file ([`LogConfig::from_file`]), or from the environment
//! ([`LogConfig::with_env`]). A field that code sets after `with_env` goes before the environment,
//! the environment before the file, and the file before the defaults. A config that code gives as
//! it is heeds no `LOGCORE_…` variables.

mod duration_text;
mod filename;
mod level;
mod load;
mod parsed_value;
mod rule;
mod serde_form;
mod site_limit;
mod toml_depth;
mod toml_text;
mod watched_levels;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::LevelFilter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::duration_text::parse_duration;
pub(crate) use self::level::parse_level;
pub(crate) use self::load::{is_field, level_remedy};
pub use self::rule::{Rule, RuleAnswer};
pub use self::site_limit::SiteLimit;
pub use self::watched_levels::WatchedLevels;
use crate::{ConfigError, Directives, Redaction, redacted, secret};

/// The settings of a logger. The default is a working config.
///
/// Create a config with struct-update syntax. New versions add fields, so always end with
/// `..LogConfig::default()`; a new field is not a breaking change.
///
/// ```
/// use logcore::LogConfig;
/// use logcore::log::LevelFilter;
///
/// let config = LogConfig { name: "trainer".into(), ..LogConfig::default() };
/// assert_eq!(config.console_level, LevelFilter::Info);
/// config.validate().unwrap();
/// ```
///
/// # Example: a config as JSON
///
/// Levels have the names of Python or Rust, in any case. An unknown field is an error that names
/// the nearest field.
///
/// ```
/// use logcore::LogConfig;
/// use logcore::log::LevelFilter;
///
/// let config: LogConfig = serde_json::from_str(r#"{"console_level": "WARNING"}"#).unwrap();
/// assert_eq!(config.console_level, LevelFilter::Warn);
///
/// let error = serde_json::from_str::<LogConfig>(r#"{"consol_level": "INFO"}"#).unwrap_err();
/// assert!(error.to_string().contains("`console_level`"));
/// ```
///
/// # Example: options of a sink
///
/// ```
/// use logcore::LogConfig;
///
/// let mut config = LogConfig::default();
/// config.sinks.insert("file".into(), serde_json::json!({"rotate_mb": 100, "utc": true}));
/// config.sinks.insert("jsonl".into(), false.into()); // Switches the sink off.
/// assert_eq!(config.sinks["file"]["rotate_mb"], 100);
/// ```
#[derive(Clone, PartialEq)]
pub struct LogConfig {
    /// Name of the logger. `a.b` and `a::b` lie under `a`. Default: `root`.
    pub name: String,
    /// Folder of the runs, each of which has a folder of its own there; created if missing.
    /// Default: `outputs/logs`.
    pub log_dir: PathBuf,
    /// The run's folder in `log_dir`: `auto` for a new one, `<name>-<date>-<time>-<id>`; `flat` for
    /// `log_dir` itself; any other text for a folder of that name. Default: `auto`.
    pub run: String,
    /// Id that all processes of a run share; `None` for an id of its own. Also read from
    /// `LOGCORE_RUN_ID`.
    pub run_id: Option<String>,
    /// The earlier run to go on with: its id, its folder, `latest`, or `auto` for the newest run of
    /// this name that did not finish. Default: none.
    pub resume: Option<String>,
    /// Minimum level on the console. Default: INFO.
    pub console_level: LevelFilter,
    /// Minimum level in the text file. Default: DEBUG.
    pub file_level: LevelFilter,
    /// Name of the text file in `log_dir`, without a path. Default: `training.log`.
    pub filename: String,

    /// `true` to write to the console. Default: on.
    pub enable_console: bool,
    /// `true` to write a text file. Default: on.
    pub enable_file: bool,
    /// `true` to record a W&B run. Default: off.
    pub enable_wandb: bool,
    /// `true` to measure and show progress. Default: on.
    pub enable_progress: bool,
    /// `true` to track metrics. Default: on.
    pub enable_metrics: bool,
    /// `true` to sample memory. Default: on.
    pub enable_memory: bool,
    /// `true` to also log panics, and records of other crates, which no logger's name and no
    /// directive claims: warnings and errors always, the others from `foreign_level` on. Default:
    /// on.
    pub capture_warnings: bool,
    /// `true` to finish the loggers on SIGINT, SIGTERM and SIGHUP before the process ends, and to
    /// leave a clean terminal on Ctrl-Z. Signals that the program handles or ignores are left
    /// alone. The first logger of a process decides. Default: on.
    pub handle_signals: bool,
    /// Minimum level of records that no logger's name and no directive claims. Default: INFO.
    pub foreign_level: LevelFilter,
    /// `true` to read `RUST_LOG` if `directives` is empty: its targets become directives; its level
    /// without a target becomes that of the console, also for records of other crates, if
    /// `console_level` is the default. Default: on.
    pub heed_rust_log: bool,
    /// `true` to also send records to the sinks of the parents of `name`. Default: off.
    pub propagate: bool,

    /// Rank of this process; `None` reads the launcher's environment, see
    /// [`Ranks::from_env`](crate::Ranks::from_env).
    pub rank: Option<u32>,
    /// Number of processes; `None` reads the launcher's environment.
    pub world_size: Option<u32>,
    /// `true` to give ranks above 0 files of their own, such as `training.rank3.log`; `false` lets
    /// all ranks append to the same files. Default: on.
    pub rank_files: bool,
    /// Longest time that a rank above 0 waits for the run's folder, in seconds. Default: 10.
    pub rank_wait: f64,
    /// Minimum level on the console of ranks above 0, in addition to `console_level`. Default:
    /// WARN.
    pub other_ranks_level: LevelFilter,
    /// `true` to record W&B runs for ranks above 0, too, if `enable_wandb` is on. Default: off.
    pub other_ranks_wandb: bool,

    /// W&B project; `None` reads `WANDB_PROJECT`, and else is "default".
    pub wandb_project: Option<String>,
    /// Name of the W&B run.
    pub wandb_name: Option<String>,
    /// Tags of the W&B run.
    pub wandb_tags: Vec<String>,

    /// Number of updates over which a rate is measured; at least 1. Default: 100.
    pub progress_window: usize,
    /// Weight of the newest rate in the ETA, from 0 (the mean of the whole run) to 1 (only the
    /// newest window). Default: 0.3.
    pub progress_smoothing: f64,
    /// Metrics beside a progress bar: `loss` shows the newest value, `loss:mean` the average over
    /// `metrics_window`. Default: the first few metrics that are logged.
    pub progress_metrics: Vec<String>,
    /// Line of the bar among several bars. Default: 0.
    pub progress_position: u32,
    /// `true` to leave finished bars on the screen. Default: on.
    pub progress_leave: bool,
    /// Rows that have values of the families `throughput/` and `progress/`. Default: all.
    pub progress_rows: ProgressRows,

    /// Number of values over which an average is taken; at least 1. Default: 100.
    pub metrics_window: usize,
    /// `true` to keep a history of all values. Default: on.
    pub metrics_history: bool,
    /// Prefix of metric names in the sinks. Default: `metrics/`.
    pub metrics_prefix: String,

    /// Hyper-parameters that are known at set-up.
    pub hyper_parameters: BTreeMap<String, Value>,

    /// Options of the sinks by name. An entry switches on a sink of any linked crate; `false`
    /// switches a sink off.
    pub sinks: BTreeMap<String, Value>,
    /// Options of the probes by name. `false` switches a probe off.
    pub probes: BTreeMap<String, Value>,
    /// Levels by target; see [`Directives`].
    pub directives: String,
    /// Config file to check twice a second: the logger adopts changes of `console_level`,
    /// `file_level` and `directives`. Fields that the file does not set, and all other fields, stay
    /// as they are. A config file can watch itself with `watch_file = "logging.toml"`.
    pub watch_file: Option<PathBuf>,
    /// `true` to replace repeated lines by one line and "last line repeated 999 times", on the
    /// console and in the text file. Lines are equal if level, logger, target, message and fields
    /// are equal. Default: off.
    pub fold_repeats: bool,
    /// Rate limit for each place in the code, such as `100/10s`; see [`SiteLimit`]. One line tells
    /// how many records were dropped. Errors always pass. Default: no limit.
    pub limit_per_site: String,
    /// Patterns of texts that `***` replaces before any sink sees them; see [`Redaction`].
    ///
    /// Redaction covers messages, fields, hyper-parameters, descriptions of progress, panic
    /// messages in the report of the run, W&B calls, and notices. It does not cover the lines that
    /// Rust's own panic hook prints on stderr.
    pub redact: Vec<String>,
    /// Size of the ring between callers and writer in bytes, rounded up to a power of two; from
    /// 4096 to 2^30. The first logger of a process decides. Default: 4 MiB.
    pub ring_bytes: usize,
    /// Location of the ring. The first logger of a process decides.
    pub ring_place: RingPlace,
    /// Behavior of a call when the ring is full.
    pub on_full: OnFull,
    /// `true` to print a summary of the run on the console at its end: duration, speed, metrics,
    /// books. Default: on.
    pub finish_summary: bool,
    /// `true` to write the page of the run at its end: `report.html` in its folder, which any
    /// browser shows. Needs the feature `report` of the facade. Default: off.
    pub report: bool,
    /// Names of spans of `tracing` whose time is a metric: `time/<name>_ms`, summed for each step.
    /// Needs the feature `tracing` of the facade. Default: none.
    pub span_metrics: Vec<String>,
    /// Values of metrics to report, alert about, or stop at. Default: none, with which one rule is
    /// on, that reports values of any metric that are no finite number.
    pub rules: Vec<Rule>,
    /// Time without an update of a progress and without a new step after which a stall is reported,
    /// such as `10m`; `off` for never. The limit is at least ten times the usual time between two
    /// movements. Default: `10m`.
    pub stall_after: String,
    /// Answer to the first SIGTERM or SIGUSR1. The first logger of a process decides. Default: end.
    pub on_signal: OnSignal,
    /// The moment at which the run has to be over, such as `2026-11-30T18:00:00Z`; `off` for none;
    /// empty for SLURM's end of the job, if it is to come. The request to stop comes before by
    /// `grace` and the longest time that a phase `checkpoint` took. Default: empty.
    pub stop_before: String,
    /// Time that a program has between the request to stop and its end, in seconds. Default: 30.
    pub grace: f64,
    /// Floating-point operations of a training step for one sample, forward and backward. With
    /// `peak_flops` rows have `throughput/mfu`. Default: unknown.
    pub flops_per_sample: Option<f64>,
    /// Floating-point operations a second that the process can do at most, on all of its devices.
    /// Default: unknown.
    pub peak_flops: Option<f64>,
    /// Time limit of `flush`, in seconds. Default: 5.
    pub flush_timeout: f64,
    /// Time limit of `finish`, in seconds. Default: 30.
    pub finish_timeout: f64,
}

impl LogConfig {
    /// Checks every field, without touching files or the network.
    ///
    /// ```
    /// use logcore::LogConfig;
    ///
    /// let config = LogConfig { metrics_window: 0, ..LogConfig::default() };
    /// let error = config.validate().unwrap_err();
    /// assert_eq!(error.to_string(), "invalid metrics_window = 0: use at least 1; the default is 100");
    /// ```
    ///
    /// # Errors
    ///
    /// The first invalid field: a window of 0, a smoothing outside 0 to 1, a `filename` with a
    /// path, ….
    pub fn validate(&self) -> Result<(), ConfigError> {
        require_at_least_one("progress_window", self.progress_window)?;
        require_at_least_one("metrics_window", self.metrics_window)?;
        if !(0.0..=1.0).contains(&self.progress_smoothing) {
            return Err(ConfigError::new(
                "progress_smoothing",
                self.progress_smoothing,
                "use a number from 0 (the whole run) to 1 (only the newest rate)",
            ));
        }
        filename::validate(&self.filename)?;
        filename::validate_folder("run", &self.run, &self.filename)?;
        if let Some(id) = &self.run_id {
            filename::validate_folder("run_id", id, &self.filename)?;
        }
        if let Some(resume) = self.resume.as_ref().filter(|resume| resume.trim().is_empty()) {
            return Err(ConfigError::new(
                "resume",
                format!("{resume:?}"),
                "omit the field to begin a new run, or use the id or the folder of a run, \"latest\", or \"auto\"",
            ));
        }
        self.validate_ranks()?;
        if self.log_dir.as_os_str().is_empty() {
            return Err(ConfigError::new(
                "log_dir",
                "\"\"",
                "use the path of a folder; `.` is the current folder",
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
        for (at, rule) in self.rules.iter().enumerate() {
            rule.validate(at)?;
        }
        self.stall_duration()?;
        self.stop_time()?;
        require_operations("flops_per_sample", self.flops_per_sample)?;
        require_operations("peak_flops", self.peak_flops)?;
        require_seconds("grace", self.grace)?;
        require_seconds("rank_wait", self.rank_wait)?;
        require_seconds("flush_timeout", self.flush_timeout)?;
        require_seconds("finish_timeout", self.finish_timeout)?;
        Ok(())
    }

    /// Parses the field `directives`.
    ///
    /// ```
    /// use logcore::LogConfig;
    /// use logcore::log::Level;
    ///
    /// let config = LogConfig { directives: "hyper=warn".into(), ..LogConfig::default() };
    /// assert!(!config.directives()?.allows("hyper::client", Level::Info));
    /// # Ok::<(), logcore::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the field is invalid; see [`Directives`].
    pub fn directives(&self) -> Result<Directives, ConfigError> {
        self.directives.parse()
    }

    /// Parses the field `limit_per_site`. Returns `None` if the field is empty.
    ///
    /// ```
    /// use logcore::LogConfig;
    ///
    /// assert_eq!(LogConfig::default().site_limit()?, None);
    /// let config = LogConfig { limit_per_site: "100/10s".into(), ..LogConfig::default() };
    /// assert_eq!(config.site_limit()?.unwrap().records, 100);
    /// # Ok::<(), logcore::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the field is invalid; see [`SiteLimit`].
    pub fn site_limit(&self) -> Result<Option<SiteLimit>, ConfigError> {
        match self.limit_per_site.trim() {
            "" => Ok(None),
            limit => limit.parse().map(Some),
        }
    }

    /// Compiles the patterns of the field `redact`. Returns `None` if there are none.
    ///
    /// ```
    /// use logcore::LogConfig;
    ///
    /// let config = LogConfig { redact: vec![r"user=\w+".into()], ..LogConfig::default() };
    /// assert_eq!(config.redaction()?.unwrap().hide("user=ann logs in"), "*** logs in");
    /// # Ok::<(), logcore::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a pattern is invalid; see [`Redaction::new`].
    pub fn redaction(&self) -> Result<Option<Redaction>, ConfigError> {
        match self.redact.as_slice() {
            [] => Ok(None),
            patterns => Redaction::new(patterns).map(Some),
        }
    }

    /// Returns the hyper-parameters as outputs may show them: without the values of secret names
    /// and without matches of `redact`.
    ///
    /// ```
    /// use logcore::LogConfig;
    /// use serde_json::json;
    ///
    /// let config = LogConfig {
    ///     hyper_parameters: [("lr".into(), json!(0.1)), ("api_key".into(), json!("s3cr3t"))].into(),
    ///     ..LogConfig::default()
    /// };
    /// assert_eq!(config.redacted_hyper_parameters()["lr"], 0.1);
    /// assert_ne!(config.redacted_hyper_parameters()["api_key"], "s3cr3t");
    /// ```
    #[must_use]
    pub fn redacted_hyper_parameters(&self) -> Value {
        let all = self.hyper_parameters.clone().into_iter().collect();
        let mut shown = redacted(&Value::Object(all));
        // A config with invalid patterns has been refused.
        if let Ok(Some(redaction)) = self.redaction() {
            redaction.hide_in(&mut shown);
        }
        shown
    }

    /// Parses the field `stall_after`. Returns `None` if stalls are not reported.
    ///
    /// ```
    /// use logcore::LogConfig;
    /// use std::time::Duration;
    ///
    /// assert_eq!(LogConfig::default().stall_duration()?, Some(Duration::from_secs(600)));
    /// # Ok::<(), logcore::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the field is neither a time nor `off`.
    pub fn stall_duration(&self) -> Result<Option<Duration>, ConfigError> {
        match self.stall_after.trim() {
            "off" => Ok(None),
            text => match parse_duration(text).filter(|time| !time.is_zero()) {
                Some(time) => Ok(Some(time)),
                None => Err(ConfigError::new(
                    "stall_after",
                    format!("{text:?}"),
                    "use a time, such as `10m`, `90s` or `2h`, or `off`",
                )),
            },
        }
    }

    /// Parses the field `stop_before`. Returns `None` if the field names no moment.
    ///
    /// ```
    /// use logcore::LogConfig;
    /// use std::time::{Duration, UNIX_EPOCH};
    ///
    /// let config = LogConfig { stop_before: "1970-01-02T00:00:00Z".into(), ..LogConfig::default() };
    /// assert_eq!(config.stop_time()?, Some(UNIX_EPOCH + Duration::from_secs(86_400)));
    /// # Ok::<(), logcore::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the field is no time with an offset, no number of seconds since 1970, not empty and not
    /// `off`.
    pub fn stop_time(&self) -> Result<Option<SystemTime>, ConfigError> {
        match self.stop_before.trim() {
            "" | "off" => Ok(None),
            text => match parse_moment(text) {
                Some(time) => Ok(Some(time)),
                None => Err(ConfigError::new(
                    "stop_before",
                    format!("{text:?}"),
                    "use a time with its offset, such as `2026-11-30T18:00:00Z`, a number of seconds since 1970, or \
                     `off`",
                )),
            },
        }
    }

    /// Returns `grace` as a duration.
    ///
    /// ```
    /// use logcore::LogConfig;
    /// use std::time::Duration;
    ///
    /// assert_eq!(LogConfig::default().grace_duration(), Duration::from_secs(30));
    /// ```
    #[must_use]
    pub fn grace_duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.grace).unwrap_or(Duration::MAX)
    }

    /// Returns `flush_timeout` as a duration.
    ///
    /// ```
    /// use logcore::LogConfig;
    /// use std::time::Duration;
    ///
    /// assert_eq!(LogConfig::default().flush_duration(), Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn flush_duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.flush_timeout).unwrap_or(Duration::MAX)
    }

    /// Returns `finish_timeout` as a duration.
    #[must_use]
    pub fn finish_duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.finish_timeout).unwrap_or(Duration::MAX)
    }

    fn validate_ranks(&self) -> Result<(), ConfigError> {
        let Some(size) = self.world_size else { return Ok(()) };
        if size == 0 {
            return Err(ConfigError::new(
                "world_size",
                size,
                "use at least 1, or omit the field",
            ));
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
            run: "auto".to_owned(),
            run_id: None,
            resume: None,
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
            foreign_level: LevelFilter::Info,
            heed_rust_log: true,
            propagate: false,
            rank: None,
            world_size: None,
            rank_files: true,
            rank_wait: 10.0,
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
            progress_rows: ProgressRows::All,
            metrics_window: 100,
            metrics_history: true,
            metrics_prefix: "metrics/".to_owned(),
            hyper_parameters: BTreeMap::new(),
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
            report: false,
            span_metrics: Vec::new(),
            rules: Vec::new(),
            stall_after: "10m".to_owned(),
            on_signal: OnSignal::End,
            stop_before: String::new(),
            grace: 30.0,
            flops_per_sample: None,
            peak_flops: None,
            flush_timeout: 5.0,
            finish_timeout: 30.0,
        }
    }
}

/// Shows the options of sinks without secrets, and hides the patterns of `redact`.
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

/// The behavior of a call when the ring is full.
///
/// ```
/// use logcore::OnFull;
///
/// assert_eq!(serde_json::from_str::<OnFull>(r#""drop""#).unwrap(), OnFull::Drop);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnFull {
    /// The call waits for room. Nothing is lost.
    #[default]
    Wait,
    /// The call drops its data, counts the drop, and returns at once.
    Drop,
}

/// The answer to the first SIGTERM or SIGUSR1.
///
/// ```
/// use logcore::OnSignal;
///
/// assert_eq!(serde_json::from_str::<OnSignal>(r#""ask""#).unwrap(), OnSignal::Ask);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnSignal {
    /// SIGTERM finishes the loggers and ends the process. SIGUSR1 is left alone.
    #[default]
    End,
    /// The signal asks the program to stop: `stop_requested` is true. The second one ends the
    /// process, and so does the first one if nobody has asked within `grace`.
    Ask,
}

/// The rows that have values of the families `throughput/` and `progress/`.
///
/// ```
/// use logcore::ProgressRows;
///
/// assert_eq!(serde_json::from_str::<ProgressRows>(r#""sparse""#).unwrap(), ProgressRows::Sparse);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ProgressRows {
    /// Every row of a step of the progress.
    #[default]
    All,
    /// At most ten rows a second.
    Sparse,
    /// No row.
    Off,
}

/// The location of the ring between callers and writer.
///
/// The ring survives a kill of the process, unless it lies in plain memory: the next process that
/// logs into the same folder delivers the remaining calls.
///
/// ```
/// use logcore::RingPlace;
///
/// assert_eq!(serde_json::from_str::<RingPlace>(r#""log_dir""#).unwrap(), RingPlace::LogDir);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RingPlace {
    /// The first of these locations that works:
    ///
    /// 1. The log directory, if it is on ext4 or in memory: only there is the space of a file
    ///    certain.
    /// 2. The machine's shared memory, with a file in the log directory that names the ring.
    /// 3. The log directory on any other file system.
    /// 4. The shared memory of a container.
    /// 5. Plain memory.
    ///
    /// With `on_full = "drop"`, shared memory comes first, because a frozen disk (a snapshot)
    /// blocks writes to a file.
    #[default]
    Auto,
    /// The log directory. The ring survives the restart of a container and a logout.
    LogDir,
    /// `/dev/shm`. A busy disk never delays a call.
    SharedMemory,
    /// Plain memory. A kill of the process loses undelivered calls.
    Memory,
}

/// A smaller ring has no room for a useful frame.
const MIN_RING_BYTES: usize = 4096;
/// A larger ring only hides a sink that is too slow.
const MAX_RING_BYTES: usize = 1 << 30;

/// Parses a time with its offset, or a number of seconds, from 1970 on.
fn parse_moment(text: &str) -> Option<SystemTime> {
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => parse_timestamp(text)?.as_second().try_into().ok()?,
    };
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Parses a time with its offset. The last day of the year 9999, which stands for "never", is
/// beyond the greatest timestamp, and read as that one.
fn parse_timestamp(text: &str) -> Option<jiff::Timestamp> {
    text.parse().ok().or_else(|| {
        let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
        let is_whole = pieces.time().is_some() && pieces.to_numeric_offset().is_some();
        (is_whole && pieces.date().year() == jiff::civil::Date::MAX.year()).then_some(jiff::Timestamp::MAX)
    })
}

fn require_at_least_one(field: &str, value: usize) -> Result<(), ConfigError> {
    if value == 0 {
        return Err(ConfigError::new(field, value, "use at least 1; the default is 100"));
    }
    Ok(())
}

fn require_operations(field: &str, value: Option<f64>) -> Result<(), ConfigError> {
    match value {
        Some(value) if !(value.is_finite() && value > 0.0) => Err(ConfigError::new(
            field,
            value,
            "use a number of floating-point operations above 0, or omit the field",
        )),
        _ => Ok(()),
    }
}

fn require_seconds(field: &str, value: f64) -> Result<(), ConfigError> {
    if value.is_nan() || value < 0.0 {
        return Err(ConfigError::new(field, value, "use a number of seconds, 0 or more"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_config_is_valid() {
        LogConfig::default().validate().unwrap();
    }

    #[test]
    fn validate_names_the_invalid_field() {
        type BreakConfig = fn(&mut LogConfig);
        let wrong: [(&str, BreakConfig); 25] = [
            ("progress_window", |c| c.progress_window = 0),
            ("metrics_window", |c| c.metrics_window = 0),
            ("progress_smoothing", |c| c.progress_smoothing = 1.01),
            ("progress_smoothing", |c| c.progress_smoothing = f64::NAN),
            ("filename", |c| c.filename = "logs/training.log".into()),
            ("filename", |c| c.filename = "..".into()),
            ("filename", |c| c.filename = String::new()),
            ("filename", |c| c.filename = "a\\b".into()),
            ("filename", |c| c.filename = "training.log/".into()),
            ("resume", |c| c.resume = Some(String::new())),
            ("world_size", |c| c.world_size = Some(0)),
            ("rank", |c| (c.rank, c.world_size) = (Some(8), Some(8))),
            ("log_dir", |c| c.log_dir = PathBuf::new()),
            ("directives", |c| c.directives = "loud".into()),
            ("limit_per_site", |c| c.limit_per_site = "many".into()),
            ("redact[1]", |c| c.redact = vec!["fine".into(), "(".into()]),
            ("ring_bytes", |c| c.ring_bytes = 0),
            ("rules[0].metric", |c| c.rules = vec![Rule::default()]),
            ("stall_after", |c| c.stall_after = "never".into()),
            ("stop_before", |c| c.stop_before = "tomorrow".into()),
            ("grace", |c| c.grace = -1.0),
            ("flops_per_sample", |c| c.flops_per_sample = Some(0.0)),
            ("peak_flops", |c| c.peak_flops = Some(f64::INFINITY)),
            ("flush_timeout", |c| c.flush_timeout = -1.0),
            ("finish_timeout", |c| c.finish_timeout = f64::NAN),
        ];
        for (field, break_config) in wrong {
            let mut config = LogConfig::default();
            break_config(&mut config);
            let error = config.validate().unwrap_err();
            assert_eq!(error.field, field);
            assert!(!error.remedy.is_empty());
        }
    }

    #[test]
    fn the_last_day_of_the_calendar_is_a_time_to_stop() {
        let year = |text: &str| {
            let before = parse_moment(text)?.duration_since(UNIX_EPOCH).ok()?;
            Some(1970.0 + before.as_secs_f64() / 86_400.0 / 365.2425)
        };
        for text in [
            "9999-12-30T12:00:00Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T23:59:59-05:00",
        ] {
            assert!(year(text).is_some_and(|year| year > 9999.9), "{text}");
        }
        for text in [
            "9999-12-31T23:59:59",
            "9999-12-31",
            "9999-12-32T00:00:00Z",
            "-009999-01-01T00:00:00Z",
        ] {
            assert_eq!(year(text), None, "{text}");
        }
    }

    #[test]
    fn debug_hides_secrets_that_serde_keeps() {
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
