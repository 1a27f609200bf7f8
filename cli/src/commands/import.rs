//! `logcore import`: a run of what another program has logged.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use logcore::escape::to_one_line;
use serde_json::{Value, json};

use crate::arguments::ImportArguments;
use crate::import::{ImportedRun, RunImporter, csv};
use crate::output::{Outcome, Output};

/// Begins the names of TensorBoard's files.
const TENSORBOARD: &str = "tfevents";

pub(super) fn run(arguments: &ImportArguments, log_dir: &Path, output: &mut Output) -> Result<Outcome> {
    let path = &arguments.path;
    let cannot = || format!("cannot import {}", path.display());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let metadata = path.metadata().with_context(cannot)?;
    if name.contains(TENSORBOARD) {
        bail!(
            "{}: this version reads no event files of TensorBoard. Export the scalars as CSV in TensorBoard, and import \
             that file",
            cannot()
        );
    }
    let mut imported = Vec::new();
    let mut outcome = Outcome::Done;
    if metadata.is_dir() || extension == "wandb" {
        for log in wandb_logs(path).with_context(cannot)? {
            let (run, is_whole) = import_wandb(&log, arguments, log_dir, output)
                .with_context(|| format!("cannot import {}", log.display()))?;
            if !is_whole {
                outcome = Outcome::DoneInPart;
            }
            imported.push(run);
        }
    } else if ["csv", "tsv", "txt"].contains(&&*extension) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut importer = RunImporter::begin(log_dir, arguments.name.as_deref().unwrap_or(&stem))?;
        let (source, notes) = csv::read(path, &mut importer).with_context(cannot)?;
        imported.push(importer.finish(source).with_context(cannot)?);
        report(path, &notes, output);
    } else {
        bail!(
            "{}: the form is not known. Name a .csv file, a .wandb file, or the folder of a W&B run",
            cannot()
        );
    }
    for run in &imported {
        output.line(format!(
            "{}: {} rows of {} metrics, {} lines",
            to_one_line(&run.dir.to_string_lossy()),
            run.rows,
            run.metrics,
            run.lines
        ));
    }
    output.member("imported", imported.iter().map(to_json).collect());
    Ok(outcome)
}

fn report(path: &Path, notes: &[String], output: &mut Output) {
    let path = path.to_string_lossy();
    for note in notes {
        output.problem(Some(&path), &format!("{path}: {note}"));
    }
}

fn to_json(run: &ImportedRun) -> Value {
    json!({
        "id": run.id,
        "name": run.name,
        "dir": run.dir,
        "rows": run.rows,
        "metrics": run.metrics,
        "lines": run.lines,
    })
}

#[cfg(feature = "sync")]
fn wandb_logs(path: &Path) -> Result<Vec<PathBuf>> {
    let logs = facade::wandb::find_logs(path);
    anyhow::ensure!(
        !logs.is_empty(),
        "there is no W&B log in it. Name the folder of a W&B run, or a .wandb file"
    );
    Ok(logs)
}

#[cfg(not(feature = "sync"))]
fn wandb_logs(_: &Path) -> Result<Vec<PathBuf>> {
    bail!("this program was built without the feature `sync`. Install it with that feature")
}

/// Imports a log; returns `false` with a run that is only a part, because the log is damaged.
#[cfg(feature = "sync")]
fn import_wandb(
    log: &Path,
    arguments: &ImportArguments,
    log_dir: &Path,
    output: &mut Output,
) -> Result<(ImportedRun, bool)> {
    use crate::import::wandb;

    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => wandb::name_of(log)?,
    };
    let mut importer = RunImporter::begin(log_dir, &name)?;
    let mut read = wandb::read(log, &mut importer)?;
    let run = importer.finish(read.source)?;
    let is_whole = read.damage.is_none();
    read.notes.extend(read.damage);
    report(log, &read.notes, output);
    Ok((run, is_whole))
}

#[cfg(not(feature = "sync"))]
fn import_wandb(_: &Path, _: &ImportArguments, _: &Path, _: &mut Output) -> Result<(ImportedRun, bool)> {
    bail!("this program was built without the feature `sync`. Install it with that feature")
}
