//! `logcore repair`: completes the files of killed runs.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use facade::{recover, recover_trusted};
use logcore::escape::to_one_line;
use serde_json::{Value, json};

use crate::output::{Outcome, Output};

pub(super) fn run(trusts: bool, folders: &[PathBuf], output: &mut Output) -> Result<Outcome> {
    let recover = if trusts { recover_trusted } else { recover };
    let mut outcome = Outcome::Done;
    let mut recovered: Vec<Value> = Vec::new();
    for folder in folders {
        let name = folder.to_string_lossy();
        let shown = to_one_line(&name);
        ensure!(
            folder.is_dir(),
            "cannot repair {shown}: it is no folder. Name one that holds runs"
        );
        check_is_readable(folder)?;
        let closed = closed_folders(folder);
        let outcomes = recover(folder);
        if outcomes.is_empty() && closed.is_empty() {
            output.line(format!("{shown}: there is nothing to do"));
        }
        for (folder, error) in closed {
            outcome = Outcome::LeftUndone;
            let closed = to_one_line(&folder.to_string_lossy()).into_owned();
            output.problem(
                Some(&name),
                &format!("cannot look for lost lines in {closed}: {error}. Repair as a user who can read it"),
            );
        }
        for delivered in outcomes {
            match delivered {
                Ok(run) => {
                    output.line(format!("{shown}: {run}"));
                    recovered.push(json!({"folder": name, "pid": run.pid, "text": run.to_string()}));
                }
                Err(error) => {
                    outcome = Outcome::LeftUndone;
                    output.problem(Some(&name), &format!("{shown}: {error}"));
                }
            }
        }
    }
    output.member("recovered", recovered.into());
    Ok(outcome)
}

/// Fails if rings in the folder would not be found.
fn check_is_readable(folder: &Path) -> Result<()> {
    for folder in [folder, &folder.join(".logcore"), &folder.join(".logcore/rings")] {
        match fs::read_dir(folder) {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                bail!("cannot read {}: {error}. Repair as a user who can", folder.display());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the folders in a folder that cannot be read: a ring in one of them is not found.
fn closed_folders(folder: &Path) -> Vec<(PathBuf, io::Error)> {
    let folders = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let closed = folders.filter_map(|entry| match fs::read_dir(entry.path()) {
        // Somebody may delete the folder meanwhile.
        Err(error) if error.kind() != ErrorKind::NotFound => Some((entry.path(), error)),
        _ => None,
    });
    closed.collect()
}
