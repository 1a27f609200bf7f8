//! Creates the run on the server, and updates its names and its config.

use logcore_delivery::{DeliveryError, DeliveryErrorKind};
use serde_json::{Value, json};

use super::Uploader;
use crate::upload::client::api::{Api, non_empty};
use crate::upload::client::replies::{UpsertReply, UpsertedBucket, from_part};

/// The query of the official client.
const UPSERT: &str = "mutation UpsertBucket($id: String, $name: String, $project: String, $entity: String, \
     $groupName: String, $description: String, $displayName: String, $notes: String, $commit: String, \
     $config: JSONString, $host: String, $debug: Boolean, $program: String, $repo: String, $jobType: String, \
     $state: String, $sweep: String, $tags: [String!], $summaryMetrics: JSONString) { upsertBucket(input: {id: $id, \
     name: $name, groupName: $groupName, modelName: $project, entityName: $entity, description: $description, \
     displayName: $displayName, notes: $notes, config: $config, commit: $commit, host: $host, debug: $debug, \
     jobProgram: $program, jobRepo: $repo, jobType: $jobType, state: $state, sweep: $sweep, tags: $tags, \
     summaryMetrics: $summaryMetrics}) { bucket { id name displayName description config sweepName historyLineCount \
     project { id name entity { id name } } } inserted } }";

impl Uploader {
    /// Creates the run on the server. All other requests come later, so that a refusal holds
    /// everything back.
    pub(super) fn upsert(&mut self) -> Result<UpsertedBucket, DeliveryError> {
        let variables = self.variables(true).ok_or_else(DeliveryError::gave_up)?;
        let reply = self.client.persist(|api| send_upsert(api, &variables));
        if reply.is_err() {
            self.assembler.return_config();
        }
        reply
    }

    /// Sends the changes of the run. A change that the server refuses is skipped, so that the rows
    /// continue.
    pub(super) fn update(&mut self) -> Result<(), DeliveryError> {
        let whole = self.assembler.take_run_changed();
        let variables = self.variables(whole).ok_or_else(DeliveryError::gave_up)?;
        let is_refused = |error: &DeliveryError| error.kind() == DeliveryErrorKind::Refused;
        match self
            .client
            .persist_unless(is_refused, |api| send_upsert(api, &variables))
        {
            // Each update has the whole config.
            Ok(_) => {
                self.config_refused = None;
                self.assembler.take_config_calls();
                Ok(())
            }
            Err(error) if is_refused(&error) => {
                let text = format!("skipping a change of the config: {error}");
                self.client
                    .control
                    .report_permanent(&DeliveryError::permanent(error.kind(), text));
                let calls = self.config_refused.unwrap_or_default() + self.assembler.take_config_calls();
                self.config_refused = Some(calls);
                Ok(())
            }
            Err(error) => {
                self.assembler.return_config();
                Err(error)
            }
        }
    }

    /// Returns the variables of an upsert: the config, and the rest of the run if `whole` is
    /// `true`.
    fn variables(&mut self, whole: bool) -> Option<Value> {
        let config = self.assembler.take_config().unwrap_or_default();
        let run = self.assembler.run.as_ref()?;
        let name = match self.identity.run_id.is_empty() {
            true => run.run_id.clone(),
            false => self.identity.run_id.clone(),
        };
        let project = [&self.identity.project, &run.project]
            .into_iter()
            .find(|name| !name.is_empty());
        let entity = [&self.identity.entity, &self.progress.entity, &run.entity]
            .into_iter()
            .find(|name| !name.is_empty());
        let mut variables = json!({"name": name, "project": project, "entity": entity, "config": non_empty(&config)});
        if whole {
            let more = json!({
                "id": non_empty(&self.progress.storage_id), "groupName": non_empty(&run.run_group),
                "jobType": non_empty(&run.job_type), "displayName": non_empty(&run.display_name),
                "notes": non_empty(&run.notes), "host": non_empty(&run.host), "sweep": non_empty(&run.sweep_id),
                "program": self.assembler.program(), "tags": (!run.tags.is_empty()).then_some(&run.tags),
                "commit": run.git.as_ref().and_then(|git| non_empty(&git.commit)),
                "repo": run.git.as_ref().and_then(|git| non_empty(&git.remote_url)),
            });
            if let (Value::Object(all), Value::Object(more)) = (&mut variables, more) {
                all.extend(more);
            }
        }
        Some(variables)
    }
}

/// Sends an upsert. A reply without the owner of the run is an error.
fn send_upsert(api: &Api, variables: &Value) -> Result<UpsertedBucket, DeliveryError> {
    let mut data = api.graphql("UpsertBucket", UPSERT, variables.clone())?;
    let bucket = from_part::<UpsertReply>(data["upsertBucket"].take()).bucket;
    match bucket.project.entity.name {
        Some(_) => Ok(bucket),
        None => Err(DeliveryError::temporary(
            DeliveryErrorKind::NotUnderstood,
            "the reply does not name the owner of the run",
        )),
    }
}
