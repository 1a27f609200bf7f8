//! Watches a training run, for `logcore-facade` and for readers of runs.

pub mod event;
pub mod slot;
