//! Running the program, and folders of runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Makes a command of the program, with an environment that the caller's does not change.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_logcore"));
    command.args(arguments).current_dir(folder).env("TZ", "UTC");
    for (variable, _) in std::env::vars() {
        if ["LOGCORE_", "WANDB_"].iter().any(|prefix| variable.starts_with(prefix)) {
            command.env_remove(variable);
        }
    }
    command.env_remove("COLUMNS").env_remove("CLICOLOR_FORCE");
    command
}

pub(crate) fn logcore(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

pub(crate) fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", error(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = logcore(folder, &[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", error(&output)))
}

/// Writes the files of a run of this machine that started and ended at these seconds.
pub(crate) fn write_run(log_dir: &Path, name: &str, state: &str, started: u64) -> PathBuf {
    let dir = log_dir.join(name);
    fs::create_dir_all(&dir).unwrap();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let manifest = format!(
        "{{\"id\":{},\"host\":\"{}\",\"name\":\"trainer\",\"started\":{started},\"ended\":{},\"state\":\"{state}\",\
         \"attempts\":[{{\"started\":{started}}}]}}",
        serde_json::to_string(name).unwrap(),
        host.trim(),
        started + 5
    );
    fs::write(dir.join("run.json"), manifest).unwrap();
    fs::write(
        dir.join("metrics.jsonl"),
        "{\"step\":1,\"time\":1.5,\"logger\":\"trainer\",\"metrics/loss\":8.0}\n",
    )
    .unwrap();
    fs::write(dir.join("training.log"), "line\n").unwrap();
    fs::write(dir.join(".lock"), "").unwrap();
    dir
}

/// Returns the names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
