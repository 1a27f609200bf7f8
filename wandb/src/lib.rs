//! Weights & Biases as the sink `wandb`.
#![allow(dead_code)]

mod columns;
mod definition;
mod json;
mod proto;
mod run_log;
mod transaction_log;

pub use self::definition::MetricDefinition;
