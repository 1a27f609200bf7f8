//! A live run in a process of its own, and the configs that its tests share.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use facade::logcore::{RunManifest, RunState};
use facade::{LogConfig, LogError, setup_logging};

const CASE: &str = "RUNS_CASE";
const FOLDER: &str = "RUNS_FOLDER";

pub(crate) fn config(folder: &Path) -> LogConfig {
    LogConfig {
        name: "trainer".into(),
        log_dir: folder.into(),
        enable_console: false,
        ..LogConfig::default()
    }
}

pub(crate) fn resuming(folder: &Path, resume: &str) -> LogConfig {
    LogConfig {
        resume: Some(resume.to_owned()),
        ..config(folder)
    }
}

pub(crate) fn refused(config: LogConfig) -> facade::ConfigError {
    match setup_logging(config) {
        Err(LogError::Config(error)) => error,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Does nothing unless it is the child: a run that waits to be killed.
#[test]
fn the_child() {
    let (Ok(case), Some(folder)) = (std::env::var(CASE), std::env::var_os(FOLDER)) else {
        return;
    };
    let logger = setup_logging(LogConfig {
        run: match case.as_str() {
            "flat" | "named" => case.clone(),
            _ => "auto".into(),
        },
        rank_wait: if case == "alone" { 0.1 } else { 60.0 },
        enable_wandb: case == "wandb must",
        sinks: (case == "wandb must")
            .then(|| {
                (
                    "wandb".to_owned(),
                    serde_json::json!({"mode": "offline", "resume": "must"}),
                )
            })
            .into_iter()
            .collect(),
        ..config(Path::new(&folder))
    })
    .unwrap();
    if case == "undelivered" {
        for step in 0..2000 {
            logger.log_metrics_at(step, [("loss", 0.5)]);
        }
    } else {
        logger.log_metrics_at(7, [("loss", 0.5)]);
        logger.flush().unwrap();
    }
    println!("\nrun {}", logger.run_dir().display());
    thread::sleep(Duration::from_secs(600));
    drop(logger);
}

/// A process with a live run.
pub(crate) struct LiveRun {
    pub(crate) process: Child,
    pub(crate) dir: PathBuf,
}

impl LiveRun {
    pub(crate) fn start(case: &str, folder: &Path) -> Self {
        Self::start_with(case, folder, &[])
    }

    pub(crate) fn start_with(case: &str, folder: &Path, variables: &[(&str, &str)]) -> Self {
        Self::try_start(case, folder, variables).unwrap()
    }

    /// Returns `None` if the set-up is refused.
    pub(crate) fn try_start(case: &str, folder: &Path, variables: &[(&str, &str)]) -> Option<Self> {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "live_run::the_child", "--nocapture"])
            .env(CASE, case)
            .env(FOLDER, folder)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let dir = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("run ").map(PathBuf::from));
        if dir.is_none() {
            process.wait().unwrap();
        }
        Some(Self { process, dir: dir? })
    }

    pub(crate) fn kill(mut self) -> PathBuf {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.dir.clone()
    }
}

pub(crate) fn state_of(dir: &Path) -> RunState {
    RunManifest::read(dir).unwrap().read_state(dir)
}
