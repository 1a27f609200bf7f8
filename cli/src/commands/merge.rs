//! `logcore merge`: the files of all ranks in one.

use std::path::Path;

use anyhow::Result;
use facade::merge_ranks;
use logcore_runs::find_run;
use serde_json::{Value, json};

use crate::output::{Outcome, Output};

pub(super) fn run(log_dir: &Path, run: &str, out: Option<&Path>, output: &mut Output) -> Result<Outcome> {
    // A folder need not be that of a run: somebody may have gathered the files of the ranks there.
    let folder = match find_run(log_dir, run) {
        Ok(run) => run.dir,
        Err(_) if Path::new(run).is_dir() => run.into(),
        Err(error) => return Err(error.into()),
    };
    let merged = merge_ranks(&folder, out.unwrap_or(&folder))?;
    let mut files: Vec<Value> = Vec::new();
    for file in merged.files {
        output.line(&file);
        files.push(json!({"path": file.path.to_string_lossy(), "text": file.to_string()}));
    }
    output.member("files", files.into());
    Ok(Outcome::Done)
}
