//! What a run is called, and its config.

use serde_json::{Value, json};

use super::Uploader;
use crate::upload::client::api::{Api, some};
use crate::upload::client::error::{UploadError, UploadErrorKind};
use crate::upload::client::retry::GivenUp;

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
    /// Makes the run on the server. Nothing goes before that, so that a refusal holds everything back.
    pub(super) fn upsert(&mut self) -> Result<Value, GivenUp> {
        let variables = self.variables(true).ok_or(GivenUp)?;
        let reply = self.client.persist(|api| send_upsert(api, &variables));
        if reply.is_err() {
            self.assembler.return_config();
        }
        reply
    }

    /// Sends what has changed about the run. What the server refuses for good is left out; rows go on.
    pub(super) fn update(&mut self) -> Result<(), GivenUp> {
        let whole = self.assembler.take_about_changed();
        let variables = self.variables(whole).ok_or(GivenUp)?;
        let refused = |error: &UploadError| error.trouble == UploadErrorKind::Refused;
        match self.client.persist_unless(refused, |api| send_upsert(api, &variables)) {
            // It was the whole of it.
            Ok(_) => {
                self.config_refused = None;
                self.assembler.take_config_calls();
                Ok(())
            }
            Err(Some(error)) => {
                let text = format!("a change of the config is not on the server: {error}");
                self.client.control.lasting(&UploadError { text, ..error });
                let calls = self.config_refused.unwrap_or_default() + self.assembler.take_config_calls();
                self.config_refused = Some(calls);
                Ok(())
            }
            Err(None) => {
                self.assembler.return_config();
                Err(GivenUp)
            }
        }
    }

    /// What is sent about the run: the config, and if it is `whole` the rest.
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
        let mut variables = json!({"name": name, "project": project, "entity": entity, "config": some(&config)});
        if whole {
            let more = json!({
                "id": some(&self.progress.storage_id), "groupName": some(&run.run_group), "jobType": some(&run.job_type),
                "displayName": some(&run.display_name), "notes": some(&run.notes), "host": some(&run.host),
                "sweep": some(&run.sweep_id), "program": self.assembler.program(),
                "tags": (!run.tags.is_empty()).then_some(&run.tags),
            });
            if let (Value::Object(all), Value::Object(more)) = (&mut variables, more) {
                all.extend(more);
            }
        }
        Some(variables)
    }
}

fn send_upsert(api: &Api, variables: &Value) -> Result<Value, UploadError> {
    let data = api.graphql("UpsertBucket", UPSERT, variables.clone())?;
    let reply = &data["upsertBucket"];
    match reply["bucket"]["project"]["entity"]["name"].is_string() {
        true => Ok(reply.clone()),
        false => Err(UploadError::again(
            UploadErrorKind::NotUnderstood,
            "the reply does not say whose the run is",
        )),
    }
}
