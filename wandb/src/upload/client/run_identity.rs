//! The names of a run in requests.

use serde_json::{Value, json};

/// The names under which the server has the run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RunIdentity {
    /// User or team that owns the project.
    pub(crate) entity: String,
    /// Name of the project.
    pub(crate) project: String,
    /// Id of the run.
    pub(crate) run_id: String,
}

impl RunIdentity {
    /// Returns the names as variables of a GraphQL request.
    pub(crate) fn variables(&self) -> Value {
        json!({"entityName": self.entity, "projectName": self.project, "runName": self.run_id})
    }
}
