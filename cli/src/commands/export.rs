//! `logcore export`: the rows of a run for another program.

use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use logcore_runs::{ExportFormat, Exported, RunError, StoredRun, rank_mark};

use super::{check_has_standard_output, report_left_out};
use crate::arguments::{ExportArguments, ExportForm};
use crate::output::{Outcome, Output};
use crate::output_file::OutputFile;

pub(super) fn run(arguments: &ExportArguments, run: &StoredRun, output: &mut Output) -> Result<Outcome> {
    let ranks = run.row_files()?;
    anyhow::ensure!(
        arguments.rank == 0 || ranks.contains_key(&arguments.rank),
        "cannot export rank {}: the run has no rows of that rank. It has those of {}",
        arguments.rank,
        rank_mark(&ranks.into_keys().collect()).trim_matches(['[', ']'])
    );
    let format = match arguments.to {
        ExportForm::Csv => ExportFormat::Csv,
        ExportForm::Jsonl => ExportFormat::Jsonl,
        #[cfg(feature = "parquet")]
        ExportForm::Parquet => ExportFormat::Parquet,
        #[cfg(not(feature = "parquet"))]
        ExportForm::Parquet => anyhow::bail!(
            "cannot write parquet: this program was built without the feature `parquet`. Install it with that feature"
        ),
        ExportForm::TensorBoard => {
            let exported = write_event_files(run, arguments)?;
            return Ok(report(&exported, &arguments.output, output));
        }
    };
    check_has_standard_output(&arguments.output, output)?;
    if arguments.output == Path::new("-") {
        return print(run, arguments.rank, format, output);
    }
    let path = &arguments.output;
    let mut file = BufWriter::new(OutputFile::begin(path)?);
    let exported = run.export(arguments.rank, format, &mut file)?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error);
    file.with_context(|| format!("cannot write {}", path.display()))?
        .finish()?;
    Ok(report(&exported, path, output))
}

fn report(exported: &Exported, path: &Path, output: &mut Output) -> Outcome {
    output.line(format!(
        "{} rows in {}",
        exported.rows,
        logcore::escape::to_one_line(&path.to_string_lossy())
    ));
    let left_out = &exported.left_out;
    report_left_out(left_out, &path.to_string_lossy(), output);
    output.member("output", path.to_string_lossy().into());
    output.member("rows", exported.rows.into());
    output.member("left_out", left_out.count.into());
    output.member("first_left_out", left_out.first.clone().into());
    output.member("torn", left_out.is_torn.into());
    Outcome::Done
}

#[cfg(feature = "tensorboard")]
fn write_event_files(run: &StoredRun, arguments: &ExportArguments) -> Result<Exported> {
    anyhow::ensure!(
        arguments.output != Path::new("-"),
        "cannot write event files to the standard output: TensorBoard reads a folder. Name a new one with -o"
    );
    Ok(run.export_event_files(arguments.rank, &arguments.output)?)
}

#[cfg(not(feature = "tensorboard"))]
fn write_event_files(_: &StoredRun, _: &ExportArguments) -> Result<Exported> {
    anyhow::bail!(
        "cannot write event files: this program was built without the feature `tensorboard`. Install it with that \
         feature"
    )
}

/// Writes the rows to the standard output. A reader that has enough closes the pipe, and that is no
/// error.
fn print(run: &StoredRun, rank: u32, format: ExportFormat, output: &mut Output) -> Result<Outcome> {
    let mut stdout = BufWriter::new(io::stdout());
    let written = run.export(rank, format, &mut stdout);
    let flushed = written.and_then(|exported| {
        stdout.flush().map_err(RunError::Unwritable)?;
        Ok(exported)
    });
    match flushed {
        Err(RunError::Unwritable(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            // The rest of the buffer has no reader, either.
            std::mem::forget(stdout.into_parts());
            Ok(Outcome::Done)
        }
        flushed => {
            report_left_out(&flushed?.left_out, "the output", output);
            Ok(Outcome::Done)
        }
    }
}
