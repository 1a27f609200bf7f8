//! The metrics: a row for each step of each logger.

mod step;
mod steps;
mod track;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::path::PathBuf;

use crate::MergeError;
use crate::lines::Lines;
use crate::output::Output;
use crate::row::Row;
use crate::run::Tally;

use self::step::Step;
use self::steps::Steps;
use self::track::{Done, Track};

/// Merges the files of the ranks into `output`.
///
/// Rows are taken in by time, over all ranks, so that a run which was started again is behind the one before.
pub(crate) fn merge(files: &BTreeMap<u32, PathBuf>, output: &mut Output) -> Result<Tally, MergeError> {
    let mut tally = Tally::default();
    let mut sources = Vec::new();
    for (rank, path) in files {
        sources.push(Source::open(*rank, path, &mut tally)?);
    }
    let mut next: BinaryHeap<_> = sources
        .iter()
        .enumerate()
        .filter_map(|(at, source)| Some(Reverse((source.time?, at))))
        .collect();
    let mut loggers = Loggers {
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
            loggers.add(&logger, source.rank, done);
        }
        match source.time {
            Some(time) => next.push(Reverse((time, at))),
            None => {
                for (logger, track) in source.tracks.drain() {
                    if let Some(done) = track.end() {
                        loggers.add(&logger, source.rank, done);
                    }
                }
                loggers.end(source.rank);
            }
        }
        loggers.write(output, &mut tally)?;
    }
    loggers.finish();
    loggers.write(output, &mut tally)?;
    tally.note_torn(sources.iter().map(|source| (source.rank, source.lines.torn)));
    Ok(tally)
}

/// The rows of one rank.
struct Source {
    rank: u32,
    lines: Lines,
    head: Option<Row>,
    /// Of the head, in microseconds; it never decreases.
    time: Option<i64>,
    /// By logger, what is known of its rows.
    tracks: HashMap<String, Track>,
}

impl Source {
    fn open(rank: u32, path: &std::path::Path, tally: &mut Tally) -> Result<Self, MergeError> {
        let mut source = Self {
            rank,
            lines: Lines::open(path)?,
            head: None,
            time: None,
            tracks: HashMap::new(),
        };
        source.advance(tally)?;
        Ok(source)
    }

    /// Takes the head, and reads the next.
    fn advance(&mut self, tally: &mut Tally) -> Result<Option<Row>, MergeError> {
        let taken = self.head.take();
        let before = self.time.take();
        while let Some(line) = self.lines.next()? {
            if let Ok(row) = serde_json::from_slice::<Row>(line) {
                self.time = before.max(Some((row.time * 1e6) as i64));
                self.head = Some(row);
                break;
            }
            tally.leave_out(|| self.lines.place());
        }
        Ok(taken)
    }
}

/// The open steps of all loggers.
struct Loggers {
    /// Ranks whose files have not ended.
    live: BTreeSet<u32>,
    by_name: BTreeMap<String, Steps>,
    /// Steps that wait to be written.
    complete: Vec<(String, Step)>,
}

impl Loggers {
    fn add(&mut self, logger: &str, rank: u32, done: Done) {
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

    fn write(&mut self, output: &mut Output, tally: &mut Tally) -> Result<(), MergeError> {
        for (logger, step) in self.complete.drain(..) {
            tally.written += 1;
            output.write(&step.line(&logger))?;
        }
        Ok(())
    }
}
