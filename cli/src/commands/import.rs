//! `logcore import`: a run of what another program has logged.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result, bail};
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
    let mut imports = Imports::default();
    match source_of(path).with_context(cannot)? {
        Source::WandbLogs(logs) => {
            for log in logs {
                let import = import_wandb(&log, arguments, log_dir, output);
                imports.add(&log, import.map(|(run, is_whole)| (Some(run), is_whole)), output);
            }
        }
        Source::Table => {
            let import = import_table(arguments, log_dir, output);
            imports.add(path, import.map(|run| (Some(run), true)), output);
        }
        Source::EventFiles => {
            import_event_files(arguments, log_dir, output, &mut imports).with_context(cannot)?;
        }
    }
    let (imported, outcome) = imports.end(output)?;
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

/// The runs that an import makes of several sources. One that fails does not keep the others away.
#[derive(Default)]
struct Imports {
    runs: Vec<ImportedRun>,
    /// `true` once a source was read in part, or not at all.
    has_gaps: bool,
    /// The newest error, which is a problem too if runs were made.
    failure: Option<(PathBuf, Error)>,
}

impl Imports {
    /// Adds what became of a source: a run, unless there is nothing in the source, and `false` if
    /// the run is only a part.
    fn add(&mut self, path: &Path, result: Result<(Option<ImportedRun>, bool)>, output: &mut Output) {
        match result {
            Ok((run, is_whole)) => {
                self.runs.extend(run);
                self.has_gaps |= !is_whole;
            }
            Err(error) => {
                let error = error.context(format!("cannot import {}", path.display()));
                if let Some((path, earlier)) = self.failure.replace((path.to_owned(), error)) {
                    output.problem(Some(&path.to_string_lossy()), &format!("{earlier:#}"));
                }
                self.has_gaps = true;
            }
        }
    }

    /// Returns the runs; the newest error if there are none.
    fn end(self, output: &mut Output) -> Result<(Vec<ImportedRun>, Outcome)> {
        match self.failure {
            Some((_, error)) if self.runs.is_empty() => return Err(error),
            Some((path, error)) => output.problem(Some(&path.to_string_lossy()), &format!("{error:#}")),
            None => {}
        }
        let outcome = match self.has_gaps {
            true => Outcome::DoneInPart,
            false => Outcome::Done,
        };
        Ok((self.runs, outcome))
    }
}

fn import_table(arguments: &ImportArguments, log_dir: &Path, output: &mut Output) -> Result<ImportedRun> {
    let path = &arguments.path;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut importer = RunImporter::begin(log_dir, arguments.name.as_deref().unwrap_or(&stem))?;
    let (source, notes) = csv::read(path, &mut importer)?;
    let run = importer.finish(source)?;
    report(path, &notes, output);
    Ok(run)
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
        "dir": run.dir.to_string_lossy(),
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

/// Imports the folders of event files.
#[cfg(feature = "tensorboard")]
fn import_event_files(
    arguments: &ImportArguments,
    log_dir: &Path,
    output: &mut Output,
    imports: &mut Imports,
) -> Result<()> {
    use crate::import::tensorboard;

    for folder in tensorboard::find(&arguments.path)? {
        let mut import = || {
            let name = arguments.name.as_deref().unwrap_or(&folder.name);
            let mut importer = RunImporter::begin(log_dir, name)?;
            let read = tensorboard::read(&folder, &mut importer)?;
            report(&folder.path, &read.notes, output);
            let has_content = importer.rows() > 0 || !read.source.config.is_empty();
            let run = has_content.then(|| importer.finish(read.source)).transpose()?;
            Ok((run, !read.is_damaged))
        };
        let result = import();
        imports.add(&folder.path, result, output);
    }
    anyhow::ensure!(
        !imports.runs.is_empty() || imports.failure.is_some(),
        "there is no W&B log in it, and no event file with numbers. Name the folder of a W&B run, or one with event \
         files of TensorBoard"
    );
    Ok(())
}

#[cfg(not(feature = "tensorboard"))]
fn import_event_files(_: &ImportArguments, _: &Path, _: &mut Output, _: &mut Imports) -> Result<()> {
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
