//! The run on the server: found, or created.

use std::time::SystemTime;

use logcore::epoch_seconds;
use logcore_delivery::{DeliveryError, DeliveryErrorKind};

use super::Uploader;
use crate::api::{RemoteRun, RunStatus};
use crate::batches::{split_pairs, to_millis};
use crate::documents::RUN_TAG;
use crate::settings::Experiment;
use crate::state::MlflowState;

impl Uploader {
    /// Finds or creates the run on the server.
    pub(super) fn establish(&mut self) -> Result<(), DeliveryError> {
        let run_id = self.run_id().to_owned();
        let is_same_server = self.state.uri == self.plan.settings.server.uri;
        let known = match self.plan.settings.run_id.clone() {
            Some(id) => Some(self.find_chosen(&id)?),
            None if is_same_server && !self.state.run_id.is_empty() && !run_id.is_empty() => {
                let found = self.client.persist(|api| api.run(&self.state.run_id))?;
                // Somebody may have written the id of another run into the file.
                found.filter(|run| run.tags.get(RUN_TAG) == Some(&run_id))
            }
            None => None,
        };
        self.remote = match known {
            Some(run) => run,
            None => self.find_or_create(&run_id)?,
        };
        self.check_active()?;
        if !is_same_server || self.state.run_id != self.remote.id {
            self.state = MlflowState {
                uri: self.plan.settings.server.uri.clone(),
                run_id: self.remote.id.clone(),
                ..self.state.without_server()
            };
        }
        self.state.complete = false;
        self.save_state();
        let uri = &self.plan.settings.server.uri;
        let (experiment, run) = (&self.remote.experiment, &self.remote.id);
        self.client
            .control
            .set_address(format!("{uri}/#/experiments/{experiment}/runs/{run}"));
        if self.plan.live.is_some() {
            self.client
                .persist(|api| api.update_run(&self.remote.id, RunStatus::Running, None))?;
        }
        Ok(())
    }

    /// Returns the run that the settings name.
    fn find_chosen(&self, id: &str) -> Result<RemoteRun, DeliveryError> {
        self.client.persist(|api| {
            api.run(id)?.ok_or_else(|| {
                let text = format!("the server has no run {id}; check `sinks.mlflow.run_id` and MLFLOW_RUN_ID");
                DeliveryError::permanent(DeliveryErrorKind::NotFound, text)
            })
        })
    }

    /// Returns the run that has the tag of ours, or a new one. The search comes first, because the
    /// reply to an earlier request may have been lost.
    fn find_or_create(&self, run_id: &str) -> Result<RemoteRun, DeliveryError> {
        let experiment = self.find_experiment()?;
        let manifest = self.documents.manifest.as_ref();
        let of_folder = || {
            self.plan
                .dir
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let of_manifest = manifest
            .map(|manifest| manifest.name.clone())
            .filter(|name| !name.is_empty());
        let name = self
            .plan
            .settings
            .run_name
            .clone()
            .or(of_manifest)
            .or_else(of_folder)
            .unwrap_or_default();
        let started = manifest
            .map(|manifest| manifest.started)
            .filter(|started| *started > 0.0);
        let started = to_millis(started.unwrap_or_else(|| epoch_seconds(SystemTime::now())));
        let tags: Vec<_> = self.documents.tags(&self.plan.settings).into_iter().collect();
        let tags = split_pairs(&tags).next().unwrap_or_default();
        self.client.persist(|api| {
            if !run_id.is_empty()
                && let Some(run) = api.run_with_tag(&experiment, RUN_TAG, run_id)?
            {
                return Ok(run);
            }
            api.create_run(&experiment, &name, started, tags)
        })
    }

    /// Returns the id of the experiment, which is created if the server has none of the name.
    fn find_experiment(&self) -> Result<String, DeliveryError> {
        self.client.persist(|api| {
            let (experiment, name) = match &self.plan.settings.experiment {
                Experiment::Named(name) => (api.experiment_named(name)?, name),
                Experiment::WithId(id) => (api.experiment_with_id(id)?, id),
            };
            match (experiment, &self.plan.settings.experiment) {
                (Some(experiment), _) if experiment.is_active() => Ok(experiment.id),
                (Some(_), _) => Err(DeliveryError::permanent(
                    DeliveryErrorKind::NotFound,
                    format!("the experiment `{name}` is deleted on the server; restore it, or choose another one"),
                )),
                // If another process is faster, the next try finds its experiment.
                (None, Experiment::Named(name)) => api.create_experiment(name).map_err(DeliveryError::into_temporary),
                (None, Experiment::WithId(id)) => Err(DeliveryError::permanent(
                    DeliveryErrorKind::NotFound,
                    format!("the server has no experiment with the id {id}; check MLFLOW_EXPERIMENT_ID"),
                )),
            }
        })
    }

    /// Waits until the run may be written: a user may have deleted it.
    pub(super) fn check_active(&mut self) -> Result<(), DeliveryError> {
        let id = self.remote.id.clone();
        if self.remote.is_active {
            return Ok(());
        }
        self.remote = self.client.persist(|api| match api.run(&id)? {
            Some(run) if run.is_active => Ok(run),
            _ => Err(DeliveryError::permanent(
                DeliveryErrorKind::NotFound,
                format!("the run {id} is deleted on the server; restore it"),
            )),
        })?;
        Ok(())
    }
}
