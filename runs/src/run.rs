//! A whole run.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write as _};
use std::path::{Path, PathBuf};

use logcore::escape::EscapingFormatter;

use crate::output::Output;
use crate::ranks::{find, mark};
use crate::{MergeError, metrics, text};

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
        let mut output = Output::create(out, &merged_name(&name))?;
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

/// What a merge counts.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) read: u64,
    pub(crate) written: u64,
    left_out: u64,
    first_left_out: Option<String>,
    torn: BTreeSet<u32>,
}

impl Tally {
    pub(crate) fn leave_out(&mut self, place: impl FnOnce() -> String) {
        self.left_out += 1;
        self.first_left_out.get_or_insert_with(place);
    }

    /// Takes whether the file of each rank is torn.
    pub(crate) fn note_torn(&mut self, ranks: impl Iterator<Item = (u32, bool)>) {
        self.torn.extend(ranks.filter_map(|(rank, torn)| torn.then_some(rank)));
    }
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
