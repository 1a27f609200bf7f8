//! Settings of a run: from the config, the environment and files, in the order of the official
//! client.
//!
//! An option of `sinks.wandb` overrides a field of the config, which overrides a variable. A
//! variable overrides the settings file beside the runs, which overrides the file in
//! `~/.config/wandb`.

mod files;
mod ignore;
mod key;
mod netrc;
mod resolve;
mod sources;
mod urls;
mod validate;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::ignore::IgnoreGlobs;
pub(crate) use self::key::ApiKey;
pub(crate) use self::resolve::{explicit_dir, resolve, resolve_beside};
pub(crate) use self::urls::{SEGMENT, run_url};

/// The server of the official client of 2026.
pub(crate) const DEFAULT_BASE_URL: &str = "https://api.forge.coreweave.com";

/// Returns the value of an environment variable.
pub(crate) type EnvLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The table `sinks.wandb`. Missing values come from the environment, then from files.
// Without `Debug`, because the key is plain text here.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WandbOptions {
    /// `online`, `offline` or `disabled`.
    mode: Option<String>,
    /// User or team that owns the project.
    entity: Option<String>,
    /// Name of the project.
    project: Option<String>,
    /// Display name of the run.
    name: Option<String>,
    /// Tags of the run.
    tags: Option<Vec<String>>,
    /// Id of the run. The default is a random id.
    run_id: Option<String>,
    /// Group of the run.
    group: Option<String>,
    /// Type of the job, such as `train` or `eval`.
    job_type: Option<String>,
    /// Description of the run, with several lines.
    notes: Option<String>,
    /// `allow`, `must`, `never` or `auto`.
    resume: Option<String>,
    /// Address of the API.
    base_url: Option<String>,
    /// Address of the web app.
    app_url: Option<String>,
    /// The API key.
    api_key: Option<String>,
    /// The folder in which `wandb/` is created. The default is the log directory.
    dir: Option<PathBuf>,
    /// `true` if log records go to W&B as console lines.
    console: Option<bool>,
    /// Seconds that a resumed run may wait for the server at setup.
    init_timeout: Option<f64>,
    /// Seconds that a request may take.
    http_timeout: Option<f64>,
    /// Seconds for which rows are collected before a request.
    transmit_interval: Option<f64>,
}

/// The settings of one run.
#[derive(Clone, PartialEq)]
pub(crate) struct RunSettings {
    /// The way of the run to the server.
    pub(crate) mode: RunMode,
    /// `false` if the mode follows from the presence of an API key.
    pub(crate) mode_is_explicit: bool,
    /// The server and the identity of its client.
    pub(crate) server: ServerConfig,
    /// Address of the web app.
    pub(crate) app_url: String,
    /// User or team. `None` is the default of the API key.
    pub(crate) entity: Option<String>,
    pub(crate) project: String,
    pub(crate) run_id: String,
    /// `false` if the id is a new, random one.
    pub(crate) run_id_is_explicit: bool,
    pub(crate) name: Option<String>,
    pub(crate) notes: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) group: Option<String>,
    pub(crate) job_type: Option<String>,
    /// Id of the sweep that started the run.
    pub(crate) sweep_id: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) program: Option<String>,
    /// The handling of an existing run.
    pub(crate) resume: Option<ResumeMode>,
    /// Steps stay as they are, because the logger continues those of a resumed run. Otherwise a
    /// resumed W&B run decides where they begin.
    pub(crate) keeps_steps: bool,
    /// Absolute path of the folder above the W&B folder.
    pub(crate) dir: PathBuf,
    /// The W&B folder that all runs share: it has the settings file, and the id for `auto`.
    pub(crate) shared_folder: PathBuf,
    /// `false` if `dir` is the log directory by default.
    pub(crate) dir_is_explicit: bool,
    /// Log records go to W&B as console lines.
    pub(crate) has_console: bool,
    /// Readings of the machine go to W&B.
    pub(crate) has_stats: bool,
    /// The host, the user and the program go to W&B.
    pub(crate) has_environment: bool,
    /// Patterns of files that are not uploaded.
    pub(crate) ignore_globs: IgnoreGlobs,
    /// The notices to print.
    pub(crate) notices: NoticeLevel,
    /// The longest wait for the server at setup.
    pub(crate) init_timeout: Duration,
    /// Time for which rows are collected before a request.
    pub(crate) transmit_interval: Duration,
    /// Notices about settings files that exist and could not be read.
    pub(crate) warnings: Vec<String>,
}

/// The address of the server, and the identity of its client.
#[derive(Clone, PartialEq)]
pub(crate) struct ServerConfig {
    /// Address of the API, without a trailing slash.
    pub(crate) base_url: String,
    /// `None` only if the run is offline.
    pub(crate) key: Option<ApiKey>,
    pub(crate) username: Option<String>,
    pub(crate) user_email: Option<String>,
    /// The longest time without progress of a request.
    pub(crate) timeout: Duration,
    pub(crate) http_proxy: Option<String>,
    pub(crate) https_proxy: Option<String>,
    /// Headers of each request to the server.
    pub(crate) extra_headers: Vec<(String, String)>,
}

/// The notices of W&B that are printed on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeLevel {
    /// All notices.
    All,
    /// Only notices about problems.
    Problems,
    /// No notices.
    None,
}

/// The way of a run to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunMode {
    /// A thread delivers the log while the run continues.
    Online,
    /// The log stays on disk until a sync.
    Offline,
    /// Nothing is written.
    Disabled,
}

/// The handling of a run id that the server has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResumeMode {
    /// Resume the run if there is one.
    Allow,
    Must,
    Never,
    /// Resume the last run of this folder that did not end well.
    Auto,
}

/// The condition that a delivery checks if the server could not be asked at setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ResumeCondition {
    /// The server has the run.
    Must,
    /// The server does not have the run.
    Never,
}

impl ResumeMode {
    /// Returns the condition that is left to the delivery.
    pub(crate) fn condition(self) -> Option<ResumeCondition> {
        match self {
            Self::Must => Some(ResumeCondition::Must),
            Self::Never => Some(ResumeCondition::Never),
            Self::Allow | Self::Auto => None,
        }
    }
}

impl RunSettings {
    /// Returns `true` if `newer` are settings of the same run. A new configuration may change the
    /// way to the server, but not the identity of the run.
    pub(crate) fn is_same_run(&self, newer: &Self) -> bool {
        let same_id = !newer.run_id_is_explicit || newer.run_id == self.run_id;
        same_id
            && self.mode == newer.mode
            && self.project == newer.project
            && self.entity == newer.entity
            && self.server.base_url == newer.server.base_url
            // A new log directory moves text and rows, and leaves the W&B run where it is.
            && (self.dir == newer.dir || !newer.dir_is_explicit)
    }
}

/// Shows the identity of the run. Headers, proxies and the key may hold secrets and are not shown.
impl fmt::Debug for RunSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunSettings")
            .field("mode", &self.mode)
            .field("base_url", &self.server.base_url)
            .field("entity", &self.entity)
            .field("project", &self.project)
            .field("run_id", &self.run_id)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

/// Writes down the id of the run for `resume = "auto"`.
pub(crate) fn remember(settings: &RunSettings) -> std::io::Result<()> {
    match settings.resume {
        Some(ResumeMode::Auto) => files::remember_run(&settings.shared_folder, &settings.run_id),
        _ => Ok(()),
    }
}

/// Removes the remembered id of a run that ended with exit code 0: the next start begins a new run.
pub(crate) fn forget_after(settings: &RunSettings, exit_code: Option<i32>) {
    if settings.resume == Some(ResumeMode::Auto) && exit_code == Some(0) {
        files::forget_run(&settings.shared_folder);
    }
}
