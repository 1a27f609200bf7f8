//! Folds what the ranks of a run have logged, each into files of its own, into one text and one metrics file.
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

mod clock;
mod error;
mod lines;
mod metrics;
mod output;
mod ranks;
mod row;
mod run;
mod text;

pub use self::error::MergeError;
pub use self::run::{Merged, MergedFile, merge_ranks};
