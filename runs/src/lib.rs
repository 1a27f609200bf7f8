//! Reads what runs have left in their folders.
//!
//! The crate needs nothing from a run but its files. The run may still be going on, may have been
//! killed, or may lack some of its ranks. No file that is read is changed.
//!
//! # Runs
//!
//! | call | result |
//! |---|---|
//! | [`list_runs`] | the runs in a `log_dir`, with their state at this moment |
//! | [`find_run`] | one run, by folder, name, id or `latest` |
//! | [`StoredRun::config`], [`StoredRun::summary`] | hyper-parameters, and the ends of the loggers |
//! | [`StoredRun::export`] | the rows as CSV or JSON lines |
//! | [`StoredRun::rows`] | the rows of a run: of each step and logger those of the newest attempt |
//! | [`StoredRun::curves`] | the values of each metric, thinned without losing a spike |
//! | [`StoredRun::events`], [`StoredRun::incidents`], [`StoredRun::ranks`] | what the health of a run had to say, and how far its ranks are |
//! | [`FollowedFile`] | the lines of a file that grows, each once |
//! | `report::write_report` (feature `report`) | one HTML file that shows runs |
//!
//! # Merging ranks
//!
//! Each rank of a distributed training logs to
//! files of its own. [`merge_ranks`] merges them:
//!
//! | files of the ranks | merged file | content |
//! |---|---|---|
//! | `training.log`, `training.rank1.log`, … | `training.merged.log` | all records, sorted by time; equal ones once |
//! | `metrics.jsonl`, `metrics.rank1.jsonl`, … | `metrics.merged.jsonl` | one row for each step of each logger |
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! use std::fs;
//!
//! for (name, loss) in [("metrics.jsonl", 0.5), ("metrics.rank1.jsonl", 1.5)] {
//!     let row = format!("{{\"step\":7,\"time\":1.0,\"logger\":\"trainer\",\"loss\":{loss}}}\n");
//!     fs::write(folder.path().join(name), row).unwrap();
//! }
//! logcore_runs::merge_ranks(folder.path(), folder.path())?;
//! assert_eq!(
//!     fs::read_to_string(folder.path().join("metrics.merged.jsonl")).unwrap(),
//!     "{\"step\":7,\"time\":1.0,\"logger\":\"trainer\",\"ranks\":2,\"slowest_rank\":0,\
//!      \"loss\":1.0,\"loss/min\":0.5,\"loss/max\":1.5,\"nonfinite\":\"\"}\n",
//! );
//! # Ok::<(), logcore_runs::MergeError>(())
//! ```

mod curve;
mod documents;
mod error;
mod export;
mod followed_file;
mod health;
mod media;
mod merge;
#[cfg(feature = "report")]
pub mod report;
mod row_reader;
mod rows;
mod run;
mod run_file;

pub use self::curve::{Curve, CurveBucket, CurvePoint, RunCurves};
pub use self::error::RunError;
pub use self::export::{ExportFormat, Exported};
pub use self::followed_file::FollowedFile;
pub use self::media::RunMedia;
pub use self::merge::rank_files::rank_mark;
pub use self::merge::{MergeError, Merged, MergedFile, merge_ranks};
pub use self::rows::{LeftOutLines, Rows};
pub use self::run::{RunList, StoredRun, find_run, list_runs};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_cross_threads() {
        fn assert_send_and_sync<T: Send + Sync>() {}
        assert_send_and_sync::<Merged>();
        assert_send_and_sync::<MergeError>();
        assert_send_and_sync::<RunError>();
        assert_send_and_sync::<StoredRun>();
        assert_send_and_sync::<Rows>();
    }
}
