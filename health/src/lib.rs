//! Watches a training run, for `logcore-facade` and for readers of runs.

pub mod agreement;
pub mod event;
pub mod rules;
pub mod skew;
pub mod slot;
