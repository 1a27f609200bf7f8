//! The choice of a run: a new one, or an earlier one that goes on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use logcore::{ConfigError, LogConfig, Ranks, RunManifest, RunState, is_same_name};
use logcore_pipeline::ProcessLock;

use super::folder::{self, Claim, NewFolders};
use super::record::{EarlierRun, seconds};
use crate::process::recovery::deliver_killed_in;

/// The value of `run` for a new folder.
pub(super) const AUTO: &str = "auto";
/// The value of `run` for a run without a folder of its own.
pub(super) const FLAT: &str = "flat";
/// The value of `resume` for the run that began last.
const LATEST: &str = "latest";

/// A run that is named in the config may still be ending: its process gets this much time.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// A recovery in another process gets this much time to write the end of a run.
const NOTE_TIMEOUT: Duration = Duration::from_millis(500);
/// Time between two looks at a run that may be ending.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The run that a process begins or goes on with.
pub(super) struct ChosenRun {
    pub(super) id: String,
    pub(super) dir: PathBuf,
    pub(super) earlier: EarlierRun,
}

/// The fields of a config that choose the run, with the environment where the config is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunChoice {
    pub(super) run: String,
    pub(super) run_id: Option<String>,
    pub(super) resume: Option<String>,
}

impl RunChoice {
    pub(super) fn of(config: &LogConfig) -> Result<Self, ConfigError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let choice = Self {
            run: config.run.clone(),
            run_id: config.run_id.clone().or_else(|| variable("LOGCORE_RUN_ID")),
            resume: config.resume.clone().or_else(|| variable("LOGCORE_RESUME")),
        };
        // The environment was not part of the config that was validated.
        let checked = LogConfig {
            run_id: choice.run_id.clone(),
            ..LogConfig::default()
        };
        let checked = checked.validate().map_err(|error| name_variable(config, error));
        checked.map(|()| choice)
    }
}

/// Adds the variable to an error about a field that the config leaves to the environment.
fn name_variable(config: &LogConfig, mut error: ConfigError) -> ConfigError {
    let variable = match error.field.as_str() {
        "resume" if config.resume.is_none() => "LOGCORE_RESUME",
        "run_id" if config.run_id.is_none() => "LOGCORE_RUN_ID",
        _ => return error,
    };
    error.remedy = format!("{} (in the variable {variable})", error.remedy);
    error
}

/// Chooses the run of a config. A new folder is made if `needs_folder` says so.
pub(super) fn choose(
    config: &LogConfig,
    choice: &RunChoice,
    folders: &mut NewFolders,
    needs_folder: bool,
) -> Result<ChosenRun, ConfigError> {
    // The id names the run, for all ranks: `auto` does not look for another.
    let resume = choice.resume.as_ref();
    if let Some(resume) = resume.filter(|resume| *resume != AUTO || choice.run_id.is_none())
        && let Some(chosen) = find_earlier(config, choice, resume).map_err(|error| name_variable(config, error))?
    {
        return Ok(chosen);
    }
    match (choice.run.as_str(), &choice.run_id) {
        (FLAT, id) => Ok(ChosenRun::new(
            id.clone().unwrap_or_else(folder::new_id),
            config.log_dir.clone(),
        )),
        (AUTO, None) => begin_new(config, folders, needs_folder),
        (AUTO, Some(id)) => {
            let name = folder::name_with_id(&config.name, id);
            choose_named(config, choice, &name, folders, needs_folder)
        }
        (name, _) => choose_named(config, choice, name, folders, needs_folder),
    }
}

/// Begins a run in a folder of this name, or goes on with the run that is there.
fn choose_named(
    config: &LogConfig,
    choice: &RunChoice,
    name: &str,
    folders: &mut NewFolders,
    needs_folder: bool,
) -> Result<ChosenRun, ConfigError> {
    let dir = config.log_dir.join(name);
    let goes_on_with_any = choice.run_id.is_none() && choice.resume.as_ref().is_some_and(|resume| resume == AUTO);
    let since = Instant::now();
    while !folder::is_run(&dir) {
        let id = || choice.run_id.clone().unwrap_or_else(folder::new_id);
        // Rank 0 alone has the lock that tells who begins the run.
        if !needs_folder || !Ranks::from_config(config).is_first() {
            return Ok(ChosenRun::new(id(), dir));
        }
        let claimed = folders.claim_run(&config.log_dir, &dir);
        match claimed.map_err(|error| cannot_make(config, &dir, &error))? {
            Claim::Held(lock) => {
                let mut chosen = ChosenRun::new(id(), dir);
                chosen.earlier.lock = lock;
                return Ok(chosen);
            }
            // A process that begins the run writes `run.json` within milliseconds.
            Claim::Taken if since.elapsed() < END_TIMEOUT => thread::sleep(LOOK_INTERVAL),
            Claim::Taken if goes_on_with_any => return begin_new(config, folders, needs_folder),
            Claim::Taken => {
                let (field, value) = match &choice.run_id {
                    Some(id) => ("run_id", id.as_str()),
                    None => ("run", name),
                };
                let remedy = format!(
                    "another process has begun a run in {} and written no {}: end that process, or use another `{field}`",
                    dir.display(),
                    RunManifest::FILE
                );
                return Err(name_variable(config, ConfigError::new(field, value, remedy)));
            }
        }
    }
    if let Some(id) = &choice.run_id {
        // The folder has the name of the logger, too.
        return resume_or_refuse(config, dir, "run_id", id);
    }
    if let Err(error) = RunManifest::read(&dir) {
        return Err(unreadable(&dir, "run", name, &error));
    }
    if goes_on_with_any {
        // The run is live, or that of another machine.
        return begin_new(config, folders, needs_folder);
    }
    let remedy = format!(
        "{} has a run already: choose another name, or go on with that run by `resume = \"{name}\"`",
        dir.display()
    );
    Err(ConfigError::new("run", name, remedy))
}

/// Begins a run in a folder of its own.
fn begin_new(config: &LogConfig, folders: &mut NewFolders, needs_folder: bool) -> Result<ChosenRun, ConfigError> {
    loop {
        let id = folder::new_id();
        let dir = config.log_dir.join(folder::new_name(&config.name, &id));
        let is_new = match needs_folder {
            true => folders.make(&dir).map_err(|error| cannot_make(config, &dir, &error))?,
            false => !dir.exists(),
        };
        if is_new {
            return Ok(ChosenRun::new(id, dir));
        }
    }
}

pub(super) fn cannot_make(config: &LogConfig, dir: &Path, error: &io::Error) -> ConfigError {
    let remedy = format!(
        "cannot make the folder {}: {error}; name a folder in which that can be done",
        dir.display()
    );
    ConfigError::new("log_dir", config.log_dir.display(), remedy)
}

/// Returns the error for a run whose `run.json` cannot be read.
fn unreadable(dir: &Path, field: &str, value: &str, error: &io::Error) -> ConfigError {
    let remedy = format!(
        "cannot read {}: {error}; use another `{field}`, or move the folder away and begin a new run",
        dir.join(RunManifest::FILE).display()
    );
    ConfigError::new(field, value, remedy)
}

impl ChosenRun {
    pub(super) fn new(id: String, dir: PathBuf) -> Self {
        Self {
            id,
            dir,
            earlier: EarlierRun::default(),
        }
    }
}

/// Returns the earlier run that `resume` names; `None` if `auto` finds none.
fn find_earlier(config: &LogConfig, choice: &RunChoice, resume: &str) -> Result<Option<ChosenRun>, ConfigError> {
    let root = &config.log_dir;
    let candidates = || -> Vec<(PathBuf, RunManifest)> {
        let dirs = match choice.run.as_str() {
            FLAT => vec![root.clone()],
            AUTO => folders_in(root),
            name => vec![root.join(name)],
        };
        let runs = dirs.into_iter().filter_map(|dir| {
            let manifest = RunManifest::read(&dir).ok()?;
            Some((dir, manifest))
        });
        let mut runs: Vec<_> = runs.collect();
        // The one that began last comes first.
        runs.sort_by(|(_, one), (_, other)| other.started.total_cmp(&one.started));
        runs
    };
    if resume == AUTO {
        let is_wanted = |manifest: &RunManifest, dir: &Path| match manifest.read_state(dir) {
            RunState::Running | RunState::Unknown => false,
            _ if choice.run != AUTO => true,
            state => state != RunState::Finished && is_same_name(&manifest.name, &config.name),
        };
        let mut wanted = candidates()
            .into_iter()
            .filter(|(dir, manifest)| is_wanted(manifest, dir));
        // Another process may go on with a run at the same moment.
        return Ok(wanted.find_map(|(dir, _)| go_on(dir, config).ok()));
    }
    let dir = match resume {
        LATEST => candidates().into_iter().next().map(|(dir, _)| dir),
        named => {
            let has_id = |dir: &PathBuf| RunManifest::read(dir).is_ok_and(|manifest| manifest.id == named);
            match folder_of(root, named) {
                Some(dir) => Some(dir),
                None => {
                    let dirs = folders_in(root).into_iter().chain([root.clone()]);
                    the_only_one(dirs.filter(has_id).collect(), named)?
                }
            }
        }
    };
    let Some(dir) = dir else {
        let remedy = format!(
            "{} has no such run: use the id or the folder of a run, \"latest\", or \"auto\", which begins a new run if \
             there is none to go on with",
            root.display()
        );
        return Err(ConfigError::new("resume", resume, remedy));
    };
    resume_or_refuse(config, dir, "resume", resume).map(Some)
}

/// Returns the one folder, if there is one. Copies of a run have the same id, and only the user
/// knows which of them goes on.
fn the_only_one(mut dirs: Vec<PathBuf>, id: &str) -> Result<Option<PathBuf>, ConfigError> {
    let dir = dirs.pop();
    if dirs.is_empty() {
        return Ok(dir);
    }
    let mut dirs: Vec<String> = dirs.iter().chain(&dir).map(|dir| dir.display().to_string()).collect();
    dirs.sort();
    let remedy = format!("several folders have a run of this id: use one of {}", dirs.join(", "));
    Err(ConfigError::new("resume", id, remedy))
}

/// Returns the folder of the run that a config names by its folder, in `root` or anywhere.
pub(super) fn folder_of(root: &Path, named: &str) -> Option<PathBuf> {
    let folders = [root.join(named), PathBuf::from(named)];
    let run = folders.into_iter().find(|dir| folder::is_run(dir))?;
    Some(without_links(root, run))
}

/// Returns the path of a run's folder without links in it, such as `latest`, which soon leads
/// elsewhere. A folder in `root` keeps the spelling of `root`.
fn without_links(root: &Path, dir: PathBuf) -> PathBuf {
    let Ok(real) = dir.canonicalize() else {
        return std::path::absolute(&dir).unwrap_or(dir);
    };
    match root.canonicalize() {
        Ok(real_root) => match real.strip_prefix(&real_root) {
            Ok(run) if run.as_os_str().is_empty() => root.to_owned(),
            Ok(run) => root.join(run),
            Err(_) => real,
        },
        Err(_) => real,
    }
}

/// Goes on with a run whose process may still be ending.
fn resume_or_refuse(config: &LogConfig, dir: PathBuf, field: &str, value: &str) -> Result<ChosenRun, ConfigError> {
    let since = Instant::now();
    loop {
        let why = match go_on(dir.clone(), config) {
            Ok(chosen) => return Ok(chosen),
            Err(NotResumed::Unreadable(error)) => return Err(unreadable(&dir, field, value, &error)),
            Err(NotResumed::Live) => "is live",
            Err(NotResumed::Unknown) => "is that of another machine, and may be live",
        };
        if since.elapsed() >= END_TIMEOUT {
            let remedy = format!(
                "the run in {} {why}: wait for its end, end its process, or use another `{field}`; logger `{}` is not \
                 set up",
                dir.display(),
                config.name
            );
            return Err(ConfigError::new(field, value, remedy));
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// The reason why a process does not go on with a run.
enum NotResumed {
    /// Another process has it.
    Live,
    /// Nobody here can tell whether another process has it.
    Unknown,
    /// Its `run.json` cannot be read.
    Unreadable(io::Error),
}

/// Delivers what a run has left, takes the lock that this rank has on the run, and reads what the
/// run has so far.
fn go_on(dir: PathBuf, config: &LogConfig) -> Result<ChosenRun, NotResumed> {
    let rank = Ranks::from_config(config).rank;
    let path = RunManifest::lock_path(&dir, rank);
    let heard = path.symlink_metadata().and_then(|metadata| metadata.modified());
    let read = || RunManifest::read(&dir).map_err(NotResumed::Unreadable);
    let since = Instant::now();
    let (mut manifest, lock) = loop {
        let before = read()?;
        match before.read_state(&dir) {
            RunState::Running => return Err(NotResumed::Live),
            RunState::Unknown => return Err(NotResumed::Unknown),
            _ => deliver_killed_in(&dir, config),
        }
        let lock = match ProcessLock::acquire(&path) {
            Ok(Some(lock)) => Some(lock),
            // Readers have the lock for a moment, and so has a recovery that notes the end of the
            // run.
            Ok(None) if since.elapsed() < NOTE_TIMEOUT => continue,
            Ok(None) => return Err(NotResumed::Live),
            // Without locks, the written state has to do.
            Err(_) => None,
        };
        let now = read()?;
        // Another process may have had an attempt meanwhile, and left a ring of its own.
        if now.attempts.len() == before.attempts.len() {
            break (now, lock);
        }
    };
    if manifest.state == RunState::Running {
        // Nobody has recovered the killed process, whose last sign of life has to do.
        let started = manifest
            .attempts
            .last()
            .map_or(manifest.started, |newest| newest.started);
        let ended = heard.map_or(started, seconds).max(started);
        manifest.end(RunState::Killed, KILLED, ended);
        if rank == 0 {
            // Other ranks must not take part in the attempt that has ended. `RunRecord::begin`
            // writes the file again, and reports an error.
            let _ = manifest.write(&dir);
        }
    }
    Ok(ChosenRun {
        id: manifest.id.clone(),
        dir,
        earlier: EarlierRun { manifest, lock },
    })
}

/// The exit code of a killed process, as shells report SIGKILL.
const KILLED: i32 = 137;

/// Returns the folders in `root`, without links.
fn folders_in(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// Returns the number of the attempt that begins now.
pub(super) fn attempt_after(earlier: &RunManifest) -> u32 {
    u32::try_from(earlier.attempts.len()).map_or(u32::MAX, |attempts| attempts.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_field_of_the_environment_names_the_variable() {
        let named = |config: &LogConfig| name_variable(config, ConfigError::new("resume", "x", "no run")).to_string();
        let config = LogConfig::default();
        assert_eq!(
            named(&config),
            "invalid resume = x: no run (in the variable LOGCORE_RESUME)"
        );
        let in_code = LogConfig {
            resume: Some("x".to_owned()),
            ..config
        };
        assert_eq!(named(&in_code), "invalid resume = x: no run");
    }
}
