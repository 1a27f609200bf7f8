//! Running the program.

use std::path::Path;
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
