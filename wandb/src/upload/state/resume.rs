//! The state of a run on the server, for a run that is resumed.

use logcore_delivery::{DeliveryError, DeliveryErrorKind};
use serde_json::{Map, Value, json};

use crate::log_format::items::ItemTree;
use crate::log_format::json;
use crate::upload::client::api::Api;
use crate::upload::client::replies::{ResumeReply, from_part};

/// The query of the official client.
const QUERY: &str = "query RunResumeStatus($project: String, $entity: String, $name: String!) { \
     model(name: $project, entityName: $entity) { id name entity { id name } bucket(name: $name, missingOk: true) { \
     id name summaryMetrics displayName logLineCount historyLineCount eventsLineCount historyTail eventsTail config \
     tags notes wandbConfig(keys: [\"t\"]) } } }";

/// A run that the server has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RemoteRun {
    /// The server's internal id of the run.
    pub(crate) storage_id: String,
    /// User or team that owns the project.
    pub(crate) entity: String,
    /// Number of rows.
    pub(crate) history: u64,
    /// Number of readings of the machine.
    pub(crate) events: u64,
    /// Number of console lines.
    pub(crate) output: u64,
    /// The last row, or null.
    pub(crate) last_row: Value,
    /// The last reading, or null.
    pub(crate) last_event: Value,
    /// The first step after those of the run.
    pub(crate) next_step: u64,
    /// Seconds for which the run has lasted so far.
    pub(crate) runtime: f64,
    /// The config, without W&B's internal part.
    pub(crate) config: ItemTree,
    /// The summary.
    pub(crate) summary: ItemTree,
    /// The tags.
    pub(crate) tags: Vec<String>,
    /// The notes.
    pub(crate) notes: String,
    /// `true` if a client started the run, so that the run can be resumed.
    pub(crate) started: bool,
    /// The writers that the config names, each with its environment.
    pub(crate) writers: Map<String, Value>,
}

impl RemoteRun {
    /// Returns the writer of the newest part of the run, if that part began after the part of
    /// `writer`. The ids of writers sort by time.
    pub(crate) fn writer_after(&self, writer: &str) -> Option<&str> {
        let newest = self.writers.keys().max().filter(|_| !writer.is_empty())?;
        (newest.as_str() > writer).then_some(newest)
    }
}

/// Asks the server for a run; `None` if the server has no such run.
pub(crate) fn query(
    api: &Api,
    entity: Option<&str>,
    project: &str,
    run_id: &str,
) -> Result<Option<RemoteRun>, DeliveryError> {
    let variables = json!({"entity": entity, "project": project, "name": run_id});
    read(api.graphql("RunResumeStatus", QUERY, variables)?)
}

/// Reads the reply about a run; `None` if the server has no such run.
pub(crate) fn read(data: Value) -> Result<Option<RemoteRun>, DeliveryError> {
    let model = from_part::<ResumeReply>(data).model;
    let Some(bucket) = model.bucket else {
        return Ok(None);
    };
    // JSON numbers of other programs are doubles, which are exact up to 2^53.
    let count = |name: &str, count: Option<u64>| {
        count.filter(|count| *count < 1 << 53).ok_or_else(|| {
            let text = format!("the reply about the run has no {name}");
            DeliveryError::temporary(DeliveryErrorKind::NotUnderstood, text)
        })
    };
    let history = count("historyLineCount", bucket.history_line_count)?;
    let last_row = last_of_tail(&bucket.history_tail);
    let last_event = last_of_tail(&bucket.events_tail);
    let summary = json::read(&bucket.summary_metrics).unwrap_or_default();
    let config = json::read(&bucket.config).unwrap_or_default();
    let steps = [
        summary["_step"].as_i64(),
        last_row["_step"].as_i64(),
        i64::try_from(history).ok().map(|count| count - 1),
    ];
    let runtimes = [
        last_event["_runtime"].as_f64(),
        last_row["_runtime"].as_f64(),
        summary["_wandb"]["runtime"].as_f64().or(summary["_runtime"].as_f64()),
    ];
    Ok(Some(RemoteRun {
        storage_id: bucket.id,
        entity: model.entity.name.unwrap_or_default(),
        history,
        events: count("eventsLineCount", bucket.events_line_count)?,
        output: count("logLineCount", bucket.log_line_count)?,
        next_step: u64::try_from(steps.into_iter().flatten().max().unwrap_or(-1).saturating_add(1)).unwrap_or(0),
        last_row,
        last_event,
        runtime: runtimes.into_iter().flatten().fold(0.0, f64::max),
        config: unwrapped(&bucket.config),
        summary: ItemTree::read(&bucket.summary_metrics),
        tags: bucket.tags,
        notes: bucket.notes,
        started: json::read(&bucket.wandb_config).is_some_and(|own| own.get("t").is_some()),
        writers: config["_wandb"]["value"]["e"].as_object().cloned().unwrap_or_default(),
    }))
}

/// Returns the last line of a tail: a JSON array of JSON texts. Anything else becomes null.
fn last_of_tail(tail: &str) -> Value {
    json::read(tail)
        .and_then(|lines| json::read(lines.as_array()?.last()?.as_str()?))
        .unwrap_or_default()
}

/// Reads a stored config, in which each value lies in an object of its own.
fn unwrapped(config: &str) -> ItemTree {
    let mut tree = ItemTree::default();
    let members = json::members(config).into_iter().filter(|(key, _)| key != "_wandb");
    for (key, wrapped) in members {
        if let Some((_, value)) = json::members(wrapped).into_iter().find(|(name, _)| name == "value") {
            tree.set(&[&key], value.to_owned());
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(history: u64, step: i64) -> Value {
        json!({"model": {"bucket": {
            "historyLineCount": history, "eventsLineCount": 0, "logLineCount": 0,
            "summaryMetrics": format!("{{\"_step\":{step}}}"), "config": "{}", "wandbConfig": "{\"t\":{}}",
        }}})
    }

    #[test]
    fn counts_and_steps_of_any_size_do_not_overflow() {
        let next_step = |reply| read(reply).unwrap().unwrap().next_step;
        assert_eq!(next_step(reply(3, 7)), 8);
        assert_eq!(next_step(reply(3, -1)), 3);
        assert_eq!(next_step(reply(3, i64::MAX)), i64::MAX as u64);
        for count in [1 << 53, 1 << 63, u64::MAX] {
            let error = read(reply(count, 0)).unwrap_err();
            assert_eq!(error.kind(), DeliveryErrorKind::NotUnderstood, "{count}");
        }
    }
}
