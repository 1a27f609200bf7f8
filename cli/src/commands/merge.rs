//! `logcore merge`: the files of all ranks in one.

use std::path::Path;

use anyhow::Result;
use facade::merge_ranks;
use logcore::RunState;
use logcore_runs::find_run;
use serde_json::{Value, json};

use crate::output::{Outcome, Output};

pub(super) fn run(log_dir: &Path, run: &str, out: Option<&Path>, output: &mut Output) -> Result<Outcome> {
    // A folder need not be that of a run: somebody may have gathered the files of the ranks there.
    let (folder, is_live) = match find_run(log_dir, run) {
        Ok(run) => (run.dir, run.state == RunState::Running),
        Err(_) if Path::new(run).is_dir() => (run.into(), false),
        Err(error) => return Err(error.into()),
    };
    let merged = merge_ranks(&folder, out.unwrap_or(&folder))?;
    let mut files: Vec<Value> = Vec::new();
    for file in merged.files {
        output.line(&file);
        let path = file.path.to_string_lossy();
        // A live rank is in the middle of its last line most of the time.
        if let Some(skipped) = file.skipped().filter(|_| file.left_out > 0 || !is_live) {
            output.problem(Some(&path), &format!("lines are missing in {path}: {skipped}"));
        }
        files.push(json!({
            "path": path,
            "text": file.to_string(),
            "left_out": file.left_out,
            "first_left_out": file.first_left_out,
            "torn": file.torn,
        }));
    }
    output.member("files", files.into());
    Ok(Outcome::Done)
}
