//! Where a run stands on the server.

use serde_json::{Map, Value, json};

use crate::log_format::items::ItemTree;
use crate::log_format::json;
use crate::upload::client::api::{Api, text};
use crate::upload::client::error::{UploadError, UploadErrorKind};

const QUERY: &str = "query RunResumeStatus($project: String, $entity: String, $name: String!) { \
     model(name: $project, entityName: $entity) { id name entity { id name } bucket(name: $name, missingOk: true) { \
     id name summaryMetrics displayName logLineCount historyLineCount eventsLineCount historyTail eventsTail config tags \
     notes wandbConfig(keys: [\"t\"]) } } }";

/// A run that the server has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerRun {
    pub(crate) storage_id: String,
    pub(crate) entity: String,
    pub(crate) history: u64,
    pub(crate) events: u64,
    pub(crate) output: u64,
    pub(crate) last_row: Value,
    pub(crate) last_event: Value,
    /// The first step that it has not.
    pub(crate) next_step: u64,
    /// Seconds that it has taken so far.
    pub(crate) runtime: f64,
    pub(crate) config: ItemTree,
    pub(crate) summary: ItemTree,
    pub(crate) tags: Vec<String>,
    pub(crate) notes: String,
    /// It was started by a client that can be resumed.
    pub(crate) started: bool,
    /// The writers that its config names, with the environment of each.
    pub(crate) writers: Map<String, Value>,
}

impl ServerRun {
    /// Who has written the newest part of the run, if that began after the part of this writer: their ids tell the time.
    pub(crate) fn later_than(&self, writer: &str) -> Option<&str> {
        let newest = self.writers.keys().max().filter(|_| !writer.is_empty())?;
        (newest.as_str() > writer).then_some(newest)
    }
}

/// Asks for a run; `None` if there is none.
pub(crate) fn ask(
    api: &Api,
    entity: Option<&str>,
    project: &str,
    run_id: &str,
) -> Result<Option<ServerRun>, UploadError> {
    let variables = json!({"entity": entity, "project": project, "name": run_id});
    read(&api.graphql("RunResumeStatus", QUERY, variables)?)
}

/// What the server says of a run; `None` if there is none.
pub(crate) fn read(data: &Value) -> Result<Option<ServerRun>, UploadError> {
    let model = &data["model"];
    let bucket = &model["bucket"];
    if bucket.is_null() {
        return Ok(None);
    }
    // Doubles, which is what JSON's numbers are elsewhere, count no further.
    let count = |name: &str| {
        let count = bucket[name].as_u64().filter(|count| *count < 1 << 53);
        count.ok_or_else(|| {
            UploadError::again(
                UploadErrorKind::NotUnderstood,
                format!("the reply about the run has no {name}"),
            )
        })
    };
    let history = count("historyLineCount")?;
    let last_row = last_of_tail(&bucket["historyTail"]);
    let last_event = last_of_tail(&bucket["eventsTail"]);
    let summary = json::read(&text(&bucket["summaryMetrics"])).unwrap_or_default();
    let config = json::read(&text(&bucket["config"])).unwrap_or_default();
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
    Ok(Some(ServerRun {
        storage_id: text(&bucket["id"]),
        entity: text(&model["entity"]["name"]),
        history,
        events: count("eventsLineCount")?,
        output: count("logLineCount")?,
        next_step: u64::try_from(steps.into_iter().flatten().max().unwrap_or(-1).saturating_add(1)).unwrap_or(0),
        last_row,
        last_event,
        runtime: runtimes.into_iter().flatten().fold(0.0, f64::max),
        config: unwrapped(&text(&bucket["config"])),
        summary: ItemTree::read(&text(&bucket["summaryMetrics"])),
        tags: bucket["tags"]
            .as_array()
            .map(|tags| tags.iter().map(text).collect())
            .unwrap_or_default(),
        notes: text(&bucket["notes"]),
        started: json::read(&text(&bucket["wandbConfig"])).is_some_and(|own| own.get("t").is_some()),
        writers: config["_wandb"]["value"]["e"].as_object().cloned().unwrap_or_default(),
    }))
}

/// The last of an array of lines, each a JSON text in a JSON text.
fn last_of_tail(tail: &Value) -> Value {
    tail.as_str()
        .and_then(json::read)
        .and_then(|lines| json::read(lines.as_array()?.last()?.as_str()?))
        .unwrap_or_default()
}

/// The stored config has each key's value in an object of its own.
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
    fn counts_and_steps_of_any_size_are_no_overflow() {
        let next_step = |reply| read(&reply).unwrap().unwrap().next_step;
        assert_eq!(next_step(reply(3, 7)), 8);
        assert_eq!(next_step(reply(3, -1)), 3);
        assert_eq!(next_step(reply(3, i64::MAX)), i64::MAX as u64);
        for count in [1 << 53, 1 << 63, u64::MAX] {
            let error = read(&reply(count, 0)).unwrap_err();
            assert_eq!(error.trouble, UploadErrorKind::NotUnderstood, "{count}");
        }
    }
}
