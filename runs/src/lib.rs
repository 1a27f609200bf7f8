//! Reads what runs have left behind in their folders.
//!
//! The first part is [`merge_ranks`]: it folds what the ranks of a distributed training have logged, each into files of
//! its own, into one text and one metrics file.

mod merge;

pub use self::merge::{MergeError, Merged, MergedFile, merge_ranks};
