//! `logcore report`: runs as one HTML file.

use std::fs;
use std::io::{self, BufWriter, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use logcore::escape::to_one_line;
use logcore::files;
use logcore_runs::report::{ReportError, write_report};
use logcore_runs::{StoredRun, list_runs};
use serde_json::json;

use super::check_has_standard_output;
use crate::arguments::ReportArguments;
use crate::output::{Outcome, Output};
use crate::output_file::OutputFile;

/// Most runs of a report that nobody has named.
const MAX_RUNS: usize = 20;
/// The file of a report for which nobody has named one.
const DEFAULT: &str = "report.html";
/// Texts at the beginning of each page.
const MARKS: [&str; 2] = ["default-src 'none'; script-src 'sha256-", "<title>Runs</title>"];
/// Bytes of a page within which the marks are.
const MAX_HEAD: u64 = 4096;

pub(super) fn run(
    arguments: &ReportArguments,
    mut runs: Vec<StoredRun>,
    log_dir: &Path,
    output: &mut Output,
) -> Result<Outcome> {
    if runs.is_empty() {
        runs = list_runs(log_dir)?.runs;
        runs.truncate(MAX_RUNS);
    }
    anyhow::ensure!(
        !runs.is_empty(),
        "cannot write a report: there are no runs in {}. Name the folder of one",
        log_dir.display()
    );
    let path = arguments.output.as_deref().unwrap_or(Path::new(DEFAULT));
    check_has_standard_output(path, output)?;
    if path == Path::new("-") {
        return match write_report(&runs, &mut BufWriter::new(io::stdout().lock())) {
            // A reader that has enough closes the pipe.
            Err(ReportError::Unwritable { error }) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Outcome::Done),
            written => Ok(written.map(|_| Outcome::Done)?),
        };
    }
    anyhow::ensure!(
        arguments.output.is_some() || fs::symlink_metadata(path).is_err() || is_page(path),
        "cannot write {DEFAULT}: another program has written the file of this name. Name a file with -o"
    );
    let mut file = BufWriter::new(OutputFile::begin(path)?);
    let facts = write_report(&runs, &mut file)?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error);
    file.with_context(|| format!("cannot write {}", path.display()))?
        .finish()?;
    let shown = to_one_line(&path.to_string_lossy()).into_owned();
    output.line(format!(
        "{shown}: {}, {}, {}, {:.1} MB; open it in a browser",
        counted(facts.runs, "run"),
        counted(facts.curves, "curve"),
        counted(facts.lines, "line"),
        facts.bytes as f64 / 1e6
    ));
    for note in &facts.notes {
        output.problem(Some(&shown), note);
    }
    output.member(
        "report",
        json!({
            "path": path.to_string_lossy(),
            "bytes": facts.bytes,
            "runs": facts.runs,
            "curves": facts.curves,
            "lines": facts.lines,
        }),
    );
    Ok(Outcome::Done)
}

/// Returns `true` for a page that an earlier report has left.
fn is_page(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = files::open(path).and_then(|file| file.take(MAX_HEAD).read_to_end(&mut head));
    let head = String::from_utf8_lossy(&head);
    read.is_ok() && MARKS.iter().all(|mark| head.contains(mark))
}

/// Returns the number with its noun.
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
