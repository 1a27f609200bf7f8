//! The sections of the report, each with one or two tables.

pub(crate) mod alone;
pub(crate) mod builds;
pub(crate) mod calls;
pub(crate) mod eta;
pub(crate) mod levels;
pub(crate) mod life;
pub(crate) mod lines;
pub(crate) mod metrics;
pub(crate) mod processes;
pub(crate) mod progress;
pub(crate) mod readings;
pub(crate) mod scale;
pub(crate) mod spans;
pub(crate) mod tail;
pub(crate) mod trackers;
