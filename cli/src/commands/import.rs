//! `logcore import`: a run of what another program has logged.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use logcore::escape::to_one_line;
use serde_json::{Value, json};

use crate::arguments::ImportArguments;
use crate::import::{ImportedRun, RunImporter, csv};
use crate::output::{Outcome, Output};

/// A part of the name of TensorBoard's files.
const EVENT_FILE: &str = "tfevents";

/// The source of an import, by its form.
enum Source {
    Table,
    WandbLogs(Vec<PathBuf>),
    EventFiles,
}

pub(super) fn run(arguments: &ImportArguments, log_dir: &Path, output: &mut Output) -> Result<Outcome> {
    let path = &arguments.path;
    let cannot = || format!("cannot import {}", path.display());
    let mut imported = Vec::new();
    let mut outcome = Outcome::Done;
    match source_of(path).with_context(cannot)? {
        Source::WandbLogs(logs) => {
            for log in logs {
                let (run, is_whole) = import_wandb(&log, arguments, log_dir, output)
                    .with_context(|| format!("cannot import {}", log.display()))?;
                if !is_whole {
                    outcome = Outcome::DoneInPart;
                }
                imported.push(run);
            }
        }
        Source::Table => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let mut importer = RunImporter::begin(log_dir, arguments.name.as_deref().unwrap_or(&stem))?;
            let (source, notes) = csv::read(path, &mut importer).with_context(cannot)?;
            imported.push(importer.finish(source).with_context(cannot)?);
            report(path, &notes, output);
        }
        Source::EventFiles => {
            let (runs, is_whole) = import_event_files(arguments, log_dir, output).with_context(cannot)?;
            if !is_whole {
                outcome = Outcome::DoneInPart;
            }
            imported = runs;
        }
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

fn source_of(path: &Path) -> Result<Source> {
    let is_folder = path.metadata()?.is_dir();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if is_folder {
        // A W&B run may have the event files that it was made of.
        let logs = find_wandb_logs(path);
        return Ok(match logs.is_empty() {
            true => Source::EventFiles,
            false => Source::WandbLogs(logs),
        });
    }
    match &*extension {
        _ if name.contains(EVENT_FILE) => Ok(Source::EventFiles),
        "wandb" => Ok(Source::WandbLogs(vec![path.to_owned()])),
        "csv" | "tsv" | "txt" => Ok(Source::Table),
        _ => bail!(
            "the form is not known. Name a .csv file, a .wandb file, the folder of a W&B run, or event files of \
             TensorBoard"
        ),
    }
}

#[cfg(feature = "sync")]
fn find_wandb_logs(folder: &Path) -> Vec<PathBuf> {
    facade::wandb::find_logs(folder)
}

#[cfg(not(feature = "sync"))]
fn find_wandb_logs(_: &Path) -> Vec<PathBuf> {
    Vec::new()
}

/// Imports the folders of event files; returns `false` with runs of which one is only a part, because
/// a file is damaged.
#[cfg(feature = "tensorboard")]
fn import_event_files(
    arguments: &ImportArguments,
    log_dir: &Path,
    output: &mut Output,
) -> Result<(Vec<ImportedRun>, bool)> {
    use crate::import::tensorboard;

    let (mut imported, mut is_whole) = (Vec::new(), true);
    for folder in tensorboard::find(&arguments.path)? {
        let name = arguments.name.as_deref().unwrap_or(&folder.name);
        let mut importer = RunImporter::begin(log_dir, name)?;
        let read = tensorboard::read(&folder, &mut importer)?;
        report(&folder.path, &read.notes, output);
        is_whole &= !read.is_damaged;
        if importer.rows() > 0 || !read.source.config.is_empty() {
            imported.push(importer.finish(read.source)?);
        }
    }
    anyhow::ensure!(
        !imported.is_empty(),
        "there is no W&B log in it, and no event file with numbers. Name the folder of a W&B run, or one with event \
         files of TensorBoard"
    );
    Ok((imported, is_whole))
}

#[cfg(not(feature = "tensorboard"))]
fn import_event_files(_: &ImportArguments, _: &Path, _: &mut Output) -> Result<(Vec<ImportedRun>, bool)> {
    bail!(
        "event files of TensorBoard need the feature `tensorboard`, and W&B runs the feature `sync`: this program was \
         built without it. Install it with that feature"
    )
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
