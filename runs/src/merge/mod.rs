//! Merges the files that the ranks of a run have logged: one text and one metrics file.
//!
//! # The text
//!
//! The records of all ranks are sorted by time. Equal records of several ranks within ten seconds
//! are written once, at the time of the first of them:
//!
//! ```text
//! 2026-11-23 14:48:15.123 | INFO  | trainer | [ranks 0-2,5] Starting training
//! 2026-11-23 14:48:16.007 | WARN  | trainer | [rank 3] GPU is slow
//! ```
//!
//! Records have local time. At the end of daylight saving time an hour occurs twice; the order of
//! the lines in a file tells the second one.
//!
//! # The metrics
//!
//! Each step of each logger becomes a row:
//!
//! | column | meaning |
//! |---|---|
//! | `step`, `logger` | as in the rows of the ranks |
//! | `time` | time of the last rank's row, in seconds since 1970 |
//! | `ranks` | number of ranks that have the step |
//! | `slowest_rank` | rank with the highest `throughput/batch_time_ms`, else the rank whose row is last in time |
//! | `<name>` | mean of the finite values, weighted by the samples of each rank in the step |
//! | `<name>/min`, `<name>/max` | lowest and highest finite value |
//! | `<name>/nan` | number of values that are NaN or infinite, if there are any |
//!
//! The samples of a rank in a step are the increase of its `throughput/accumulated_samples` since
//! its last row, divided by the number of steps since then. If a rank of the step has none, all
//! ranks weigh the same.
//!
//! Rows that a later attempt of the run has superseded are left out.
//!
//! A late row, of a step that its rank had passed, becomes a row of its own. The same holds for
//! rows of ranks that are more than 256 steps apart. A run that was restarted at an earlier step is
//! not mixed with the run before.
//!
//! # Bounds
//!
//! Files are read once, up to their length at the start of the merge. The memory holds one line and
//! one row for each rank, at most 65,536 records or 64 MiB of the last ten seconds, and 256 steps
//! for each logger.

mod error;
mod local_clock;
mod metrics;
mod output;
pub(crate) mod rank_files;
mod tally;
mod text;

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use logcore::RunManifest;
use logcore::escape::{EscapingFormatter, to_one_line};
use logcore_health::EVENTS_FILE;

#[cfg(feature = "report")]
pub(crate) use self::local_clock::LocalClock;
use self::output::MergedOutput;
use self::rank_files::{can_be_merged, find, missing_list, rank_list};
use crate::media::MEDIA_INDEX;
use crate::run::{LATEST, find_run};

pub use self::error::MergeError;

/// Merges the files of all ranks in `folder` into files in `out`, which may be the same folder.
///
/// `training.log` and its ranks become `training.merged.log`; `metrics.jsonl` and its ranks become
/// `metrics.merged.jsonl`. Results of earlier merges are replaced. No file that is read is changed.
///
/// If `folder` is the `log_dir` of runs that have folders of their own, the newest run is merged;
/// if `out` is the same `log_dir`, the results lie in the folder of that run.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use logcore_runs::merge_ranks;
/// use std::fs;
///
/// for (name, second) in [("training.log", 15), ("training.rank1.log", 16)] {
///     let line = format!("2026-11-23 14:48:{second}.123 | INFO  | trainer | Starting\n");
///     fs::write(folder.path().join(name), line).unwrap();
/// }
/// let merged = merge_ranks(folder.path(), folder.path())?;
/// assert_eq!((merged.files[0].read, merged.files[0].written), (2, 1));
/// assert_eq!(
///     fs::read_to_string(folder.path().join("training.merged.log")).unwrap(),
///     "2026-11-23 14:48:15.123 | INFO  | trainer | [ranks 0-1] Starting\n",
/// );
/// # Ok::<(), logcore_runs::MergeError>(())
/// ```
///
/// # Errors
///
/// If there is nothing to merge, a file cannot be read to its end, or a result cannot be written.
/// Files that were merged before the error exist and are complete; no other file is written.
pub fn merge_ranks(folder: &Path, out: &Path) -> Result<Merged, MergeError> {
    let run = newest_run(folder);
    let out = match &run {
        Some(run) if out == folder => run,
        _ => out,
    };
    let folder = run.as_deref().unwrap_or(folder);
    let manifest = match RunManifest::read(folder) {
        // Rows of abandoned attempts would pass for those that count.
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let path = folder.join(RunManifest::FILE);
            return Err(MergeError::Unreadable { path, line: 0, error });
        }
        read => read.unwrap_or_default(),
    };
    let mut found = find(folder)?;
    // `training.log` has the records, readers of events read all ranks, and documents are no series
    // of lines.
    let is_left_alone = |name: &str| ["records.jsonl", EVENTS_FILE, MEDIA_INDEX].contains(&name);
    found.retain(|name, files| !is_left_alone(name) && can_be_merged(name, files));
    if found.is_empty() {
        return Err(MergeError::Nothing {
            folder: folder.to_owned(),
        });
    }
    let mut merged = Merged { files: Vec::new() };
    for (name, files) in found {
        let mut output = MergedOutput::create(out, &merged_name(&name))?;
        let tally = match name.as_str() {
            "metrics.jsonl" => metrics::merge(&files, &manifest.superseded_rows(), &mut output)?,
            _ => text::merge(&files, &mut output)?,
        };
        merged.files.push(MergedFile {
            path: output.finish()?,
            ranks: files.into_keys().collect(),
            read: tally.read,
            written: tally.written,
            left_out: tally.left_out,
            first_left_out: tally.first_left_out,
            torn: tally.torn,
        });
    }
    Ok(merged)
}

/// The result of a merge; returned by [`merge_ranks`].
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let line = "2026-11-23 14:48:15.123 | INFO  | trainer | Starting\n";
/// # std::fs::write(folder.path().join("training.rank1.log"), line).unwrap();
/// let merged = logcore_runs::merge_ranks(folder.path(), folder.path())?;
/// let summary = merged.files[0].to_string();
/// assert!(summary.ends_with("training.merged.log: 1 entry of rank 1 merged into 1; no file of rank 0"));
/// # Ok::<(), logcore_runs::MergeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merged {
    /// The files that were written, sorted by name.
    pub files: Vec<MergedFile>,
}

/// One merged file, with counts. Its `Display` is a line for people.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let line = "2026-11-23 14:48:15.123 | INFO  | trainer | Starting\n";
/// // A file of rank 1 that begins with a foreign line and ends in the middle of a record.
/// let text = format!("no record\n{line}2026-11-23 14:4");
/// std::fs::write(folder.path().join("training.rank1.log"), text).unwrap();
///
/// let merged = logcore_runs::merge_ranks(folder.path(), folder.path())?;
/// let file = &merged.files[0];
/// assert_eq!((file.read, file.written, file.left_out), (1, 1, 1));
/// assert!(file.first_left_out.as_ref().unwrap().starts_with("line 1 of "));
/// assert!(file.torn.contains(&1));
/// # Ok::<(), logcore_runs::MergeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergedFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Ranks that had a file to merge.
    pub ranks: BTreeSet<u32>,
    /// Number of records or rows in the files of the ranks.
    pub read: u64,
    /// Number of records or rows in the merged file.
    pub written: u64,
    /// Number of lines that were skipped because they are neither records nor rows.
    pub left_out: u64,
    /// Location of the first skipped line: `line 1 of logs/training.rank3.log`.
    pub first_left_out: Option<String>,
    /// Ranks whose last line is incomplete and was skipped. These ranks are still writing, or were
    /// killed.
    pub torn: BTreeSet<u32>,
}

impl MergedFile {
    /// Returns what was skipped: foreign lines, and lines that are incomplete. `None` if nothing
    /// was.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// let row = "{\"step\":1,\"time\":1.0,\"logger\":\"a\"}\n";
    /// std::fs::write(folder.path().join("metrics.jsonl"), format!("{row}{{\"st")).unwrap();
    /// let merged = logcore_runs::merge_ranks(folder.path(), folder.path())?;
    /// assert_eq!(merged.files[0].skipped().unwrap(), "skipped the incomplete last line of rank 0");
    /// # Ok::<(), logcore_runs::MergeError>(())
    /// ```
    #[must_use]
    pub fn skipped(&self) -> Option<String> {
        let foreign = self.first_left_out.as_ref().map(|location| {
            let lines = if self.left_out == 1 { "line" } else { "lines" };
            let location = to_one_line(location);
            format!("skipped {} foreign {lines}, the first is {location}", self.left_out)
        });
        let torn =
            (!self.torn.is_empty()).then(|| format!("skipped the incomplete last line of {}", rank_list(&self.torn)));
        let all: Vec<String> = foreign.into_iter().chain(torn).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// Returns the folder of the newest run, if `folder` is the `log_dir` of runs and no run itself.
fn newest_run(folder: &Path) -> Option<PathBuf> {
    if folder.join(RunManifest::FILE).exists() {
        return None;
    }
    find_run(folder, LATEST).ok().map(|run| run.dir)
}

/// Returns `training.merged.log` for `training.log`.
fn merged_name(name: &str) -> String {
    match name.rfind('.') {
        Some(dot) if dot > 0 => format!("{}.merged{}", &name[..dot], &name[dot..]),
        _ => format!("{name}.merged"),
    }
}

impl Display for MergedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        let entries = if self.read == 1 { "entry" } else { "entries" };
        write!(
            f,
            "{}: {} {entries} of {} merged into {}",
            self.path.display(),
            self.read,
            rank_list(&self.ranks),
            self.written
        )?;
        if let Some(missing) = missing_list(&self.ranks) {
            write!(f, "; no file of {missing}")?;
        }
        match self.skipped() {
            Some(skipped) => write!(f, "; {skipped}"),
            None => Ok(()),
        }
    }
}
