//! The metrics: a row for each step of each logger.

mod logger_steps;
mod merged_step;
mod step_tracker;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::path::PathBuf;

use crate::MergeError;
use crate::merge::output::MergedOutput;
use crate::merge::rank_lines::RankLines;
use crate::merge::rank_row::RankRow;
use crate::merge::tally::MergeTally;

use self::logger_steps::LoggerSteps;
use self::merged_step::MergedStep;
use self::step_tracker::{CompletedStep, StepTracker};

/// Merges the files of the ranks into `output`.
///
/// Rows are taken in by time, over all ranks, so that a run which was started again is behind the one before.
pub(crate) fn merge(files: &BTreeMap<u32, PathBuf>, output: &mut MergedOutput) -> Result<MergeTally, MergeError> {
    let mut tally = MergeTally::default();
    let mut sources = Vec::new();
    for (rank, path) in files {
        sources.push(RowSource::open(*rank, path, &mut tally)?);
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
        by_name: BTreeMap::new(),
        complete: Vec::new(),
    };
    while let Some(Reverse((_, at))) = next.pop() {
        let source = &mut sources[at];
        let Some(row) = source.advance(&mut tally)? else {
            continue;
        };
        tally.read += 1;
        let logger = row.logger.clone();
        if let Some(done) = source.tracks.entry(logger.clone()).or_default().push(row) {
            steps.add(&logger, source.rank, done);
        }
        match source.time {
            Some(time) => next.push(Reverse((time, at))),
            None => {
                for (logger, track) in source.tracks.drain() {
                    if let Some(done) = track.end() {
                        steps.add(&logger, source.rank, done);
                    }
                }
                steps.end(source.rank);
            }
        }
        steps.write(output, &mut tally)?;
    }
    steps.finish();
    steps.write(output, &mut tally)?;
    tally.note_torn(sources.iter().map(|source| (source.rank, source.lines.torn)));
    Ok(tally)
}

/// The rows of one rank.
struct RowSource {
    rank: u32,
    lines: RankLines,
    head: Option<RankRow>,
    /// Of the head, in microseconds; it never decreases.
    time: Option<i64>,
    /// By logger, what is known of its rows.
    tracks: HashMap<String, StepTracker>,
}

impl RowSource {
    fn open(rank: u32, path: &std::path::Path, tally: &mut MergeTally) -> Result<Self, MergeError> {
        let mut source = Self {
            rank,
            lines: RankLines::open(path)?,
            head: None,
            time: None,
            tracks: HashMap::new(),
        };
        source.advance(tally)?;
        Ok(source)
    }

    /// Takes the head, and reads the next.
    fn advance(&mut self, tally: &mut MergeTally) -> Result<Option<RankRow>, MergeError> {
        let taken = self.head.take();
        let before = self.time.take();
        while let Some(line) = self.lines.next()? {
            if let Ok(row) = serde_json::from_slice::<RankRow>(line) {
                self.time = before.max(Some((row.time * 1e6) as i64));
                self.head = Some(row);
                break;
            }
            tally.leave_out(|| self.lines.place());
        }
        Ok(taken)
    }
}

/// The open steps of all steps.
struct StepCollector {
    /// Ranks whose files have not ended.
    live: BTreeSet<u32>,
    by_name: BTreeMap<String, LoggerSteps>,
    /// LoggerSteps that wait to be written.
    complete: Vec<(String, MergedStep)>,
}

impl StepCollector {
    fn add(&mut self, logger: &str, rank: u32, done: CompletedStep) {
        let steps = self.by_name.entry(logger.to_owned()).or_default();
        let complete = steps.add(rank, done, &self.live);
        self.complete
            .extend(complete.into_iter().map(|step| (logger.to_owned(), step)));
    }

    /// The file of a rank has ended: nobody waits for it any more.
    fn end(&mut self, rank: u32) {
        self.live.remove(&rank);
        for (logger, steps) in &mut self.by_name {
            let complete = steps.settle(&self.live);
            self.complete
                .extend(complete.into_iter().map(|step| (logger.clone(), step)));
        }
    }

    fn finish(&mut self) {
        for (logger, steps) in std::mem::take(&mut self.by_name) {
            self.complete.extend(steps.finish().map(|step| (logger.clone(), step)));
        }
    }

    fn write(&mut self, output: &mut MergedOutput, tally: &mut MergeTally) -> Result<(), MergeError> {
        for (logger, step) in self.complete.drain(..) {
            tally.written += 1;
            output.write(&step.line(&logger))?;
        }
        Ok(())
    }
}
