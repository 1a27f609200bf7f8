//! Merges metrics: one row for each step of each logger.
//!
//! The rows pass three stages:
//!
//! 1. [`StepTracker`], for each rank and logger: joins the rows of a step, counts its samples, and
//!    finds out if it is late or begins a restarted run.
//! 2. [`LoggerSteps`], for each logger: collects the parts of a step until all ranks have passed
//!    it.
//! 3. [`MergedStep`]: computes the means and writes the row.
//!
//! A rank whose file has ended is not waited for.

mod logger_steps;
mod merged_step;
mod step_tracker;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::path::{Path, PathBuf};

use logcore::files::Lines;
use logcore::{StoredRow, SupersededRows};

use crate::MergeError;
use crate::merge::output::MergedOutput;
use crate::merge::tally::MergeTally;
use crate::row_reader::RowReader;
use crate::rows::NewestAttempts;
use crate::run_file::open_lines;

use self::logger_steps::LoggerSteps;
use self::merged_step::MergedStep;
use self::step_tracker::{CompletedStep, StepTracker};

/// Merges the files of the ranks into `output`.
///
/// Rows are read in the order of their times over all ranks, so that a restarted run comes after
/// the run before. Rows of which a later attempt has newer ones are left out.
pub(crate) fn merge(
    files: &BTreeMap<u32, PathBuf>,
    superseded: &SupersededRows,
    output: &mut MergedOutput,
) -> Result<MergeTally, MergeError> {
    let mut tally = MergeTally::default();
    let mut sources = Vec::new();
    for (rank, path) in files {
        sources.push(RowSource::open(*rank, path, superseded, &mut tally)?);
    }
    let mut next: BinaryHeap<_> = sources
        .iter()
        .enumerate()
        .filter_map(|(at, source)| Some(Reverse((source.time?, at))))
        .collect();
    let mut steps = StepCollector {
        live: sources
            .iter()
            .filter(|source| source.head.is_some())
            .map(|source| source.rank)
            .collect(),
        by_logger: BTreeMap::new(),
        complete: Vec::new(),
    };
    while let Some(Reverse((_, at))) = next.pop() {
        let source = &mut sources[at];
        let Some(row) = source.advance(&mut tally)? else {
            continue;
        };
        tally.read += 1;
        let logger = row.logger.clone();
        if let Some(step) = source.trackers.entry(logger.clone()).or_default().push(row) {
            steps.add(&logger, source.rank, step);
        }
        match source.time {
            Some(time) => next.push(Reverse((time, at))),
            None => {
                for (logger, tracker) in source.trackers.drain() {
                    if let Some(step) = tracker.finish() {
                        steps.add(&logger, source.rank, step);
                    }
                }
                steps.end_rank(source.rank);
            }
        }
        steps.write(output, &mut tally)?;
    }
    steps.finish();
    steps.write(output, &mut tally)?;
    tally.add_torn(sources.iter().map(|source| (source.rank, source.lines.is_torn())));
    Ok(tally)
}

/// The rows of one rank.
struct RowSource {
    rank: u32,
    lines: Lines,
    reader: RowReader,
    newest: NewestAttempts,
    head: Option<StoredRow>,
    /// Time of the head in microseconds. It never decreases.
    time: Option<i64>,
    trackers: HashMap<String, StepTracker>,
}

impl RowSource {
    /// Opens the file of a rank, and reads its first row.
    fn open(rank: u32, path: &Path, superseded: &SupersededRows, tally: &mut MergeTally) -> Result<Self, MergeError> {
        let mut source = Self {
            rank,
            lines: open_lines(path)?,
            reader: RowReader::default(),
            newest: NewestAttempts::read(path, superseded)?,
            head: None,
            time: None,
            trackers: HashMap::new(),
        };
        source.advance(tally)?;
        Ok(source)
    }

    /// Returns the head, and reads the next one.
    fn advance(&mut self, tally: &mut MergeTally) -> Result<Option<StoredRow>, MergeError> {
        let taken = self.head.take();
        let before = self.time.take();
        while let Some(line) = self.lines.next_line()? {
            if let Some(row) = self.reader.read(line) {
                if !self.newest.has(row) {
                    continue;
                }
                self.time = before.max(Some((row.time * 1e6) as i64));
                self.head = Some(row.clone());
                break;
            }
            tally.skip_line(|| self.lines.location());
        }
        Ok(taken)
    }
}

/// The steps of all loggers.
struct StepCollector {
    /// Ranks whose files have not ended.
    live: BTreeSet<u32>,
    by_logger: BTreeMap<String, LoggerSteps>,
    /// Logger and step of each row that is ready to be written.
    complete: Vec<(String, MergedStep)>,
}

impl StepCollector {
    /// Adds a rank's step of a logger.
    fn add(&mut self, logger: &str, rank: u32, step: CompletedStep) {
        let steps = self.by_logger.entry(logger.to_owned()).or_default();
        let complete = steps.add(rank, step, &self.live);
        self.complete
            .extend(complete.into_iter().map(|step| (logger.to_owned(), step)));
    }

    /// Completes the steps that only waited for this rank, whose file has ended.
    fn end_rank(&mut self, rank: u32) {
        self.live.remove(&rank);
        for (logger, steps) in &mut self.by_logger {
            let complete = steps.take_complete(&self.live);
            self.complete
                .extend(complete.into_iter().map(|step| (logger.clone(), step)));
        }
    }

    /// Completes all steps.
    fn finish(&mut self) {
        for (logger, steps) in std::mem::take(&mut self.by_logger) {
            self.complete.extend(steps.finish().map(|step| (logger.clone(), step)));
        }
    }

    /// Writes the rows that are ready.
    fn write(&mut self, output: &mut MergedOutput, tally: &mut MergeTally) -> Result<(), MergeError> {
        for (logger, step) in self.complete.drain(..) {
            output.write(&step.line(&logger, tally.written == 0))?;
            tally.written += 1;
        }
        Ok(())
    }
}
