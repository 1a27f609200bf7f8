//! Watches a training run, for `logcore-facade` and for readers of runs.
//!
//! - [`rules`] finds bad values of metrics.
//! - [`stall`] decides whether a run stands still.
//! - [`threads`] reads where the threads of a process wait.
//! - [`stall_report`] tells people about a stall: the threads, the memory, and the commands that
//!   show more.
//! - [`slot`] has what each rank tells of itself, and [`skew`] finds the slow ones.
//! - [`agreement`] is the step at which all ranks stop.
//! - [`event`] has the lines of `events.jsonl`.

/// Name of the file with the [events](event) of rank 0, in the folder of a run.
pub const EVENTS_FILE: &str = "events.jsonl";

/// Name of the folder with a file for each incident of a rule and each stall, in the folder of a
/// run.
pub const INCIDENTS_FOLDER: &str = "incidents";

/// Name of the folder with the [slots](slot) of the ranks and their [agreement] to stop, in the
/// folder of a run.
pub const RANKS_FOLDER: &str = "ranks";

pub mod agreement;
pub mod event;
pub mod rules;
pub mod skew;
pub mod slot;
pub mod stall;
pub mod stall_report;
pub mod threads;
