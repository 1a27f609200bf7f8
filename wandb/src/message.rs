//! What a program says to the run alone, on its way through the ring.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::Plan;
use crate::definition::MetricDefinition;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// A value that is no number, for the row of a step; its file lies in the run's folder already.
    Value {
        step: u64,
        key: String,
        json: String,
        file: Option<String>,
        artifact: Option<Plan>,
    },
    Define(MetricDefinition),
    Summary {
        key: String,
        value: Value,
    },
    /// A file of the run; `policy` as W&B numbers it.
    File {
        path: String,
        policy: i32,
    },
    Artifact(Plan),
    Alert {
        title: String,
        text: String,
        level: String,
    },
}
