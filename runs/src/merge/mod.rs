//! The merging of what the ranks of a run have logged: one text and one metrics file.
//!
//! Nothing of a run is asked but its files, so it may still go on, be killed, or lack some of its ranks.
//!
//! # The text
//!
//! `training.log`, `training.rank1.log`, … become `training.merged.log`: all lines in the order of their times. A line that
//! several ranks have said, to the letter and within ten seconds, is there once, where the first of them said it:
//!
//! ```text
//! 2026-11-23 14:48:15.123 | INFO  | trainer | [ranks 0-2,5] Starting training
//! 2026-11-23 14:48:16.007 | WARN  | trainer | [rank 3] GPU is slow
//! ```
//!
//! Lines have local time, of which an hour comes twice at the end of summer time. The second one is told by the lines of
//! the same file, which go on in it.
//!
//! # The metrics
//!
//! `metrics.jsonl`, `metrics.rank1.jsonl`, … become `metrics.merged.jsonl`: a row for each step of each logger.
//!
//! | column | what |
//! |---|---|
//! | `step`, `logger` | as in the rows of the ranks |
//! | `time` | of the last of them, in seconds since 1970 |
//! | `ranks` | how many ranks have the step |
//! | `slowest_rank` | the one with the greatest `throughput/batch_time_ms`; without those, the one whose row is the last in time |
//! | `<name>` | the mean of the finite values, weighted by the samples that each rank took in the step |
//! | `<name>/min`, `<name>/max` | the least and the greatest finite value |
//! | `<name>/nan` | how many values were NaN or infinite, if any was |
//!
//! The samples of a rank in a step are the difference of its `throughput/accumulated_samples` to its row before, for each
//! step between them; if a rank of the step has none, all weigh the same. A row that comes late (its rank had been
//! further), or after the ranks have drifted apart by more than 256 steps, is a row of its own. A run that was started again in the same folder at
//! an earlier step is told from the one before.
//!
//! # Bounds
//!
//! Files are read once, from beginning to end, and only as far as they went when the merge began. In memory are one line and
//! one row a rank, at most 65,536 lines or 64 MB of the last ten seconds, and 256 steps a logger.

mod error;
mod local_clock;
mod metrics;
mod output;
mod rank_files;
mod rank_lines;
mod rank_row;
mod tally;
mod text;

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write as _};
use std::path::{Path, PathBuf};

use logcore::escape::EscapingFormatter;

use self::output::MergedOutput;
use self::rank_files::{find, mark};

pub use self::error::MergeError;

/// Merges what the ranks have logged into `folder`, and puts it into `out`, which may be the same. Nothing that is read is
/// changed, and results of earlier merges are replaced.
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
/// If there is nothing to merge, a file cannot be read to its end, or the result cannot be written. A file that was merged
/// before the trouble is there, whole; of the others there is nothing.
pub fn merge_ranks(folder: &Path, out: &Path) -> Result<Merged, MergeError> {
    let mut found = find(folder)?;
    // The text has the records, and documents are no series.
    found.retain(|name, _| name != "records.jsonl" && !name.ends_with(".json"));
    if found.is_empty() {
        return Err(MergeError::Nothing {
            folder: folder.to_owned(),
        });
    }
    let mut merged = Merged { files: Vec::new() };
    for (name, files) in found {
        let mut output = MergedOutput::create(out, &merged_name(&name))?;
        let tally = match name.as_str() {
            "metrics.jsonl" => metrics::merge(&files, &mut output)?,
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

/// What was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merged {
    /// The files that were written, by name.
    pub files: Vec<MergedFile>,
}

/// One file that was merged of those of several ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergedFile {
    /// Where it is.
    pub path: PathBuf,
    /// The ranks that had a file for it.
    pub ranks: BTreeSet<u32>,
    /// How many records or rows these held.
    pub read: u64,
    /// How many it holds.
    pub written: u64,
    /// How many lines were left out because they are none of ours.
    pub left_out: u64,
    /// The first of them: `line 1 of logs/training.rank3.log`.
    pub first_left_out: Option<String>,
    /// Ranks whose last line is not whole. They are still writing, or were cut off; it was left out.
    pub torn: BTreeSet<u32>,
}

/// `training.merged.log` for `training.log`.
fn merged_name(name: &str) -> String {
    match name.rfind('.') {
        Some(dot) if dot > 0 => format!("{}.merged{}", &name[..dot], &name[dot..]),
        _ => format!("{name}.merged"),
    }
}

impl Display for MergedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut EscapingFormatter(f);
        write!(
            f,
            "{}: {} of {} became {}",
            self.path.display(),
            self.read,
            mark(&self.ranks).trim_matches(['[', ']']),
            self.written
        )?;
        let missing: BTreeSet<u32> = (0..self.ranks.last().copied().unwrap_or(0))
            .filter(|rank| !self.ranks.contains(rank))
            .collect();
        if !missing.is_empty() {
            write!(f, "; there is nothing of {}", mark(&missing).trim_matches(['[', ']']))?;
        }
        if let Some(place) = &self.first_left_out {
            let lines = if self.left_out == 1 { "line is" } else { "lines are" };
            write!(
                f,
                "; {} {lines} none of ours and left out, from {place} on",
                self.left_out
            )?;
        }
        if !self.torn.is_empty() {
            write!(
                f,
                "; the last line of {} is not whole and left out",
                mark(&self.torn).trim_matches(['[', ']'])
            )?;
        }
        Ok(())
    }
}
